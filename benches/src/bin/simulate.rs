//! Experiments.
use batching::{DeadlinePolicy, PreferredSize, TokenBudget, Tokens};
use benches::simulation::hardware::Hardware;
use benches::simulation::measures::*;
use benches::simulation::policies::*;
use benches::simulation::workload::*;
use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let devices: u16 = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let ms: f64 = args.get(2).and_then(|a| a.parse().ok()).unwrap_or(2.0);
    let which = args.get(3).cloned().unwrap_or_default();
    let secs: u64 = args.get(4).and_then(|a| a.parse().ok()).unwrap_or(10);
    let seeds: u64 = args.get(5).and_then(|a| a.parse().ok()).unwrap_or(2);
    let wl = args.get(6).cloned().unwrap_or_else(|| "mixed".into());
    let hardware = Hardware::accelerator(devices, Duration::from_secs_f64(ms / 1e3));
    let workload = match wl.as_str() {
        "mixed" => Workload::mixed(),
        "gamma4" => Workload::mixed().with("gamma4", Arrivals::Gamma(4.0)),
        "mod" => Workload::mixed().with("mod", Arrivals::Modulated),
        n => Workload::single(n.parse().unwrap()),
    };
    let runs = Runs { duration: Duration::from_secs(secs), warm_up: Duration::from_secs(1) };
    println!("bound {:.3} unit {:.0}/s", fluid_bound(&workload, &hardware), unit_rate(&workload, &hardware));
    let mut makers: Vec<(String, Box<dyn Fn(&Workload, &Hardware) -> Box<dyn Policy> + Sync>)> = Vec::new();
    let hard = std::env::var_os("SOFT").is_none();
    let ours = |p: DeadlinePolicy| -> Box<dyn Fn(&Workload, &Hardware) -> Box<dyn Policy> + Sync> {
        Box::new(move |w: &Workload, h: &Hardware| {
            Box::new(Production::new(w, h, batching::Policy::Deadline(p.clone()), hard).unwrap())
        })
    };
    for (feasible, promised) in [(0.95, 0.8), (0.95, 0.85)] {
        for spread in [2u64] {
            makers.push((
                format!("ours feasible={feasible} promised={promised} spread={spread}"),
                ours(DeadlinePolicy {
                    feasible,
                    promised,
                    spread: Duration::from_millis(spread),
                    turns: std::env::var("TURNS").map_or(0.1, |t| t.parse().unwrap()),
                    ..DeadlinePolicy::default()
                }),
            ));
        }
    }
    for requests in [8, 16, 32, 64, 128] {
        for delay in [0u64, 1, 2, 5, 10] {
            makers.push((
                format!("triton {requests} {delay}"),
                Box::new(move |w, h| {
                    Box::new(
                        Production::new(
                            w,
                            h,
                            batching::Policy::PreferredSize(PreferredSize {
                                sequences: requests,
                                queue_delay_max: Duration::from_millis(delay),
                            }),
                            true,
                        )
                        .unwrap(),
                    )
                }),
            ));
        }
    }
    for tokens in [4096, 8192, 16384] {
        makers.push((
            format!("tei {tokens}"),
            Box::new(move |w, h| {
                Box::new(
                    Production::new(
                        w,
                        h,
                        batching::Policy::TokenBudget(TokenBudget { tokens: Tokens(tokens) }),
                        true,
                    )
                    .unwrap(),
                )
            }),
        ));
    }
    for margin in [1.0, 1.1] {
        for max in [64, 1024] {
            makers.push((
                format!("clockwork {margin} {max}"),
                Box::new(move |w, h| Box::new(Clockwork::new(w, h, margin, max))),
            ));
            makers.push((
                format!("symphony {margin} {max}"),
                Box::new(move |w, h| Box::new(Symphony::new(w, h, margin, max))),
            ));
        }
    }
    for cycle in [5, 10, 20, 40, 80] {
        for drop in [true, false] {
            makers.push((
                format!("nexus {cycle} {drop}"),
                Box::new(move |w, h| Box::new(Nexus::new(w, h, Duration::from_millis(cycle), drop))),
            ));
        }
    }
    for inc in [1.0, 4.0] {
        for objective in [0.25, 0.5, 1.0] {
            makers.push((
                format!("clipper {inc} {objective}"),
                Box::new(move |w, h| Box::new(Clipper::new(w, h, inc, objective))),
            ));
        }
    }
    if let Some(load) = std::env::var("LOAD").ok().and_then(|l| l.parse::<f64>().ok()) {
        for (name, maker) in makers.iter().filter(|(name, _)| name.contains(&which)) {
            let (arrivals, outcome) = run(&workload, &hardware, maker.as_ref(), load, 0, runs);
            let a = attainment_by_model(&workload, &arrivals, &outcome, runs);
            let dropped = outcome
                .ends
                .iter()
                .filter(|e| matches!(e, benches::simulation::replay::End::Dropped))
                .count();
            println!(
                "{name} {a:.3?} busy {:.2} batches/s {:.0} n {} dropped {dropped}",
                outcome.busy.as_secs_f64() / outcome.span.as_secs_f64() / f64::from(devices),
                outcome.batches as f64 / outcome.span.as_secs_f64(),
                arrivals.len()
            );
        }
        return;
    }
    if let Some(base) = std::env::var("HOG").ok().and_then(|l| l.parse::<f64>().ok()) {
        // Ten equal tenants; one of them asks for ten times as much.
        for (name, maker) in makers.iter().filter(|(name, _)| name.contains(&which)) {
            for factor in [1.0, 10.0] {
                let (arrivals, outcome) = hog(&workload, &hardware, maker.as_ref(), base, factor, 0, runs);
                let mut lat: Vec<Vec<f64>> = vec![vec![]; workload.models.len()];
                let mut miss = [0usize; 2];
                let mut all = [0usize; 2];
                for (a, e) in arrivals.iter().zip(&outcome.ends) {
                    if a.at.as_nanos() < 2_000_000_000 {
                        continue;
                    }
                    let h = usize::from(a.tenant == 0);
                    all[h] += 1;
                    let target = workload.models[usize::from(a.model)].target;
                    match e {
                        benches::simulation::replay::End::Computed(l) => {
                            if *l > target {
                                miss[h] += 1;
                            }
                            if h == 0 {
                                lat[usize::from(a.model)].push(l.as_secs_f64() * 1e3);
                            }
                        }
                        _ => {
                            miss[h] += 1;
                            if h == 0 {
                                lat[usize::from(a.model)].push(1e3);
                            }
                        }
                    }
                }
                let p99: Vec<f64> = lat
                    .iter_mut()
                    .map(|l| {
                        l.sort_by(f64::total_cmp);
                        l[l.len() * 99 / 100]
                    })
                    .collect();
                println!(
                    "{name} x{factor} victims' p99 {p99:.1?} ms, missed victims {:.4} hog {:.4} good {:.3} busy {:.2}",
                    miss[0] as f64 / all[0] as f64,
                    miss[1] as f64 / all[1] as f64,
                    (all[0] + all[1] - miss[0] - miss[1]) as f64
                        / (secs as f64 - 2.0)
                        / unit_rate(&workload, &hardware),
                    outcome.busy.as_secs_f64() / outcome.span.as_secs_f64()
                );
            }
        }
        return;
    }
    if let Some(load) = std::env::var("OVER").ok().and_then(|l| l.parse::<f64>().ok()) {
        for (name, maker) in makers.iter().filter(|(name, _)| name.contains(&which)) {
            let (arrivals, outcome) = run(&workload, &hardware, maker.as_ref(), load, 0, runs);
            let work = timely_work(&workload, &hardware, &arrivals, &outcome, runs);
            let a = attainment_by_model(&workload, &arrivals, &outcome, runs);
            println!(
                "{name} timely {:.3} jain {:.4} {a:.2?}",
                work.iter().map(|w| w.1).sum::<f64>(),
                jain(&work)
            );
        }
        return;
    }
    let selected: Vec<_> = makers.iter().filter(|(name, _)| name.contains(&which)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::sync::Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((name, maker)) = selected.get(i) else { break };
                    let started = std::time::Instant::now();
                    let g: Vec<f64> = (0..seeds)
                        .map(|seed| goodput(&workload, &hardware, maker.as_ref(), seed, runs))
                        .collect();
                    let mean = g.iter().sum::<f64>() / g.len() as f64;
                    results.lock().unwrap().push((mean, name.clone(), started.elapsed().as_secs_f64()));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (g, n, t) in results {
        println!("{g:.3} {:.2} {n} ({t:.1} s)", g / fluid_bound(&workload, &hardware));
    }
}
