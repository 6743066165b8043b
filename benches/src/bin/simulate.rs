//! Compares the scheduling policies in simulation and writes `benches/results/simulation.json`, of which
//! `benches/simulation/report.py` makes tables and plots.
//!
//! `simulate [--seeds 10] [--seconds 10] [--section NAME] [--case TEXT] [--out FILE]`

use std::time::Duration;

use batching::{DeadlinePolicy, Order, PreferredSize, TokenBudget};
use benches::parallel::{Result, in_parallel};
use benches::simulation::bounds::fluid_limit;
use benches::simulation::families::{Family, Variant, baselines, by_deadline, ours, refusing_nobody};
use benches::simulation::hardware::Hardware;
use benches::simulation::measures::{Setup, jain, mean_and_interval};
use benches::simulation::workload::{Arrivals, Workload};
use serde_json::{Value, json};
use units::Tokens;

/// Seeds by which the setting of a baseline is chosen, before the best is run with all seeds.
const GRID_SEEDS: u64 = 2;

/// Measures one section of the report.
type Section = fn(&Options) -> Result<Value>;

struct Options {
    seeds: u64,
    seconds: u64,
    out: String,
    /// Only this section, and of the first only cases with this in their name.
    section: String,
    case: String,
    /// Print a trace at this load instead, with what the simulator predicts for it.
    trace: Option<f64>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            seeds: 10,
            seconds: 10,
            out: "benches/results/simulation.json".to_owned(),
            section: String::new(),
            case: String::new(),
            trace: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--seeds" => options.seeds = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--out" => options.out = value,
                "--trace" => options.trace = Some(value.parse()?),
                "--section" => options.section = value,
                "--case" => options.case = value,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }

    fn setup(&self, workload: Workload, hardware: Hardware) -> Setup {
        // Many devices see many requests: less time will do.
        let seconds = (self.seconds / u64::from(hardware.devices).div_ceil(2)).max(4);
        Setup { workload, hardware, duration: Duration::from_secs(seconds), warm_up: Duration::from_secs(1) }
    }
}

fn main() -> Result<()> {
    let options = Options::parse()?;
    if let Some(load) = options.trace {
        return trace(&options, load);
    }
    let sections: [(&str, Section); 5] = [
        ("goodput", goodput),
        ("attainment", attainment),
        ("overload", overload),
        ("hog", hog),
        ("ablations", ablations),
    ];
    let mut report = json!({ "seeds": options.seeds, "seconds": options.seconds });
    for (name, section) in sections.into_iter().filter(|(name, _)| name.contains(&options.section)) {
        eprintln!("==> {name}");
        report[name] = section(&options)?;
    }
    std::fs::write(&options.out, serde_json::to_string_pretty(&report)? + "\n")?;
    eprintln!("wrote {}", options.out);
    Ok(())
}

/// Prints a trace of the five models on this project's CPU engine and what comes of it under each policy that
/// the server has. The seed is the number of `--seeds`.
#[expect(clippy::print_stdout, reason = "the trace is the output")]
fn trace(options: &Options, load: f64) -> Result<()> {
    let setup = options.setup(Workload::on_cpu(), Hardware::cpu());
    let preferred = PreferredSize { sequences: 16, queue_delay_max: Duration::from_millis(5) };
    let policies = [
        ("deadline", batching::Policy::Deadline(DeadlinePolicy::default())),
        ("preferred_size", batching::Policy::PreferredSize(preferred)),
        ("token_budget", batching::Policy::TokenBudget(TokenBudget { tokens: Tokens(1024) })),
    ];
    let mut predicted = serde_json::Map::new();
    let mut arrivals = Vec::new();
    for (name, policy) in policies {
        let run = setup.run(refusing_nobody(policy).make.as_ref(), load, options.seeds)?;
        let p99: Vec<_> = setup.p99_ms(&run, |_| true).into_iter().map(finite).collect();
        predicted.insert(name.to_owned(), json!({ "by_model": setup.attainment(&run), "p99_ms": p99 }));
        arrivals = run.arrivals;
    }
    let names: Vec<_> = setup.workload.models.iter().map(|model| model.name).collect();
    let arrivals = arrivals.iter().map(|arrival| {
        json!([arrival.at.as_nanos() as f64 / 1e9, names[usize::from(arrival.model)], arrival.tokens])
    });
    println!("{}", json!({ "arrivals": arrivals.collect::<Vec<_>>(), "predicted": predicted }));
    Ok(())
}

/// JSON has no infinity.
fn finite(number: f64) -> Value {
    if number.is_finite() { json!(number) } else { Value::Null }
}

/// The mean goodput of a variant over seeds, and half of its 95 % interval.
fn mean_goodput(setup: &Setup, variant: &Variant, seeds: u64) -> Result<(f64, f64)> {
    let goodputs: std::result::Result<Vec<f64>, _> =
        (0..seeds).map(|seed| setup.goodput(variant.make.as_ref(), seed)).collect();
    Ok(mean_and_interval(&goodputs?))
}

/// The setting of a family with the best goodput over a few seeds.
fn best<'a>(setup: &Setup, family: &'a Family) -> Result<&'a Variant> {
    let mut best: Option<(f64, &Variant)> = None;
    for variant in &family.variants {
        let (mean, _) =
            if family.variants.len() > 1 { mean_goodput(setup, variant, GRID_SEEDS)? } else { (0.0, 0.0) };
        if best.is_none_or(|(most, _)| mean > most) {
            best = Some((mean, variant));
        }
    }
    best.map(|(_, variant)| variant).ok_or_else(|| "a family has no settings".into())
}

fn families() -> Vec<Family> {
    std::iter::once(ours()).chain(baselines()).collect()
}

fn accelerator(devices: u16, overhead_ms: f64) -> Hardware {
    Hardware::accelerator(devices, Duration::from_secs_f64(overhead_ms / 1e3))
}

fn cases() -> Vec<(String, Workload, Hardware)> {
    let mut cases = Vec::new();
    for overhead in [1.0, 2.0, 3.0] {
        let name = format!("five models, overhead {overhead} ms");
        cases.push((name, Workload::mixed(), accelerator(1, overhead)));
    }
    for devices in [2, 8] {
        cases.push((format!("five models, {devices} devices"), Workload::mixed(), accelerator(devices, 2.0)));
    }
    let arrivals = [
        ("gaps of variation 2", Arrivals::Gamma(2.0)),
        ("gaps of variation 4", Arrivals::Gamma(4.0)),
        ("gaps of variation 8", Arrivals::Gamma(8.0)),
        ("half and threefold rate in turns", Arrivals::Modulated),
        ("a flash of threefold rate", Arrivals::Flash),
        ("a day", Arrivals::Diurnal),
    ];
    for (name, arrivals) in arrivals {
        cases.push((
            format!("five models, {name}"),
            Workload::mixed().with(name, arrivals),
            accelerator(1, 2.0),
        ));
    }
    let tailed = Workload { long_share: 0.05, ..Workload::mixed() };
    cases.push(("five models, 5 % of 512 tokens".to_owned(), tailed, accelerator(1, 2.0)));
    let tenants = Workload { tenants: 500, ..Workload::mixed() };
    cases.push(("five models, 500 tenants".to_owned(), tenants, accelerator(1, 2.0)));
    for noise in [0.0, 0.2] {
        let hardware = Hardware { noise, ..accelerator(1, 2.0) };
        cases.push((format!("five models, noise {} %", noise * 100.0), Workload::mixed(), hardware));
    }
    let stalls = Hardware { stall_share: 0.01, ..accelerator(1, 2.0) };
    cases.push(("five models, 1 % stalls of 10 ms".to_owned(), Workload::mixed(), stalls));
    let uneven = Hardware { speeds: vec![1.0, 0.5], ..accelerator(2, 2.0) };
    cases.push(("five models, a device and one half as fast".to_owned(), Workload::mixed(), uneven));
    cases.push(("five models, two CPU cores, as measured".to_owned(), Workload::on_cpu(), Hardware::cpu()));
    for model in 0..5 {
        let workload = Workload::single(model);
        cases.push((workload.name.clone(), workload, accelerator(1, 2.0)));
    }
    cases
}

fn goodput(options: &Options) -> Result<Value> {
    let families = families();
    let cases: Vec<_> = cases().into_iter().filter(|(name, ..)| name.contains(&options.case)).collect();
    let cells = in_parallel(cases.len() * families.len(), |index| {
        let (case, workload, hardware) = &cases[index / families.len()];
        let setup = options.setup(workload.clone(), hardware.clone());
        let family = &families[index % families.len()];
        let variant = best(&setup, family)?;
        let (mean, interval) = mean_goodput(&setup, variant, options.seeds)?;
        eprintln!("{case}: {} {mean:.3} ({})", family.name, variant.setting);
        Ok(json!({ "family": family.name, "setting": variant.setting, "mean": mean, "interval": interval }))
    })?;
    let rows = cases.iter().zip(cells.chunks(families.len())).map(|((name, workload, hardware), cells)| {
        let setup = options.setup(workload.clone(), hardware.clone());
        json!({
            "name": name,
            "limit": fluid_limit(workload, hardware),
            "unit_rate": setup.unit_rate(),
            "cells": cells,
        })
    });
    Ok(rows.collect())
}

/// The five models on one device.
fn standard(options: &Options) -> Setup {
    options.setup(Workload::mixed(), accelerator(1, 2.0))
}

fn attainment(options: &Options) -> Result<Value> {
    const LOADS: [f64; 16] =
        [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0, 1.2];
    let setup = standard(options);
    let families = families();
    let curves = in_parallel(families.len(), |index| {
        let variant = best(&setup, &families[index])?;
        let mut points = Vec::new();
        for load in LOADS {
            let run = setup.run(variant.make.as_ref(), load, 0)?;
            let timely: f64 = setup.work_by_tenant(&run).iter().map(|(_, given)| given).sum();
            points.push(json!({ "load": load, "by_model": setup.attainment(&run), "timely": timely }));
        }
        Ok(json!({ "family": families[index].name, "setting": variant.setting, "points": points }))
    })?;
    Ok(json!(curves))
}

/// At twice the load that ours can bear: work done in time, and fairness.
fn overload(options: &Options) -> Result<Value> {
    let setup = standard(options);
    let peak = mean_goodput(&setup, &ours().variants[0], options.seeds)?.0;
    let unfair = DeadlinePolicy { feasible: f64::INFINITY, ..DeadlinePolicy::default() };
    let mut entries = vec![
        ("ours".to_owned(), ours().variants.remove(0)),
        (
            "ours, targets refuse nobody".to_owned(),
            refusing_nobody(batching::Policy::Deadline(DeadlinePolicy::default())),
        ),
    ];
    entries.push(("ours without shares".to_owned(), by_deadline("", unfair)));
    let baselines = baselines();
    for family in &baselines {
        let setting = best(&setup, family)?.setting.clone();
        let variant = families().into_iter().find(|other| other.name == family.name);
        let variant = variant.and_then(|family| family.variants.into_iter().find(|v| v.setting == setting));
        entries.extend(variant.map(|variant| (family.name.to_owned(), variant)));
    }
    let rows = in_parallel(entries.len(), |index| {
        let (name, variant) = &entries[index];
        let mut measured = vec![Vec::new(); 3];
        for seed in 0..options.seeds {
            let work = setup.work_by_tenant(&setup.run(variant.make.as_ref(), 2.0 * peak, seed)?);
            measured[0].push(work.iter().map(|(_, given)| given).sum());
            measured[1].push(jain(&work));
            measured[2].push(recovery_ms(&setup, variant, peak, seed)?);
        }
        let [timely, jain, recovery] = [0, 1, 2].map(|index| mean_and_interval(&measured[index]).0);
        Ok(
            json!({ "name": name, "timely": timely, "share_of_peak": timely / peak, "jain": jain, "recovery_ms": recovery }),
        )
    })?;
    Ok(json!({ "peak": peak, "rows": rows }))
}

/// How long after 2 s at 1.4 times the peak, followed by 0.7 times, until 99 % of a tenth of a second's
/// requests are in time again.
fn recovery_ms(setup: &Setup, variant: &Variant, peak: f64, seed: u64) -> Result<f64> {
    const TICK: u64 = 100_000_000;
    let flash = Workload { arrivals: Arrivals::Flash, ..setup.workload.clone() };
    let setup = Setup { workload: flash, ..setup.clone() };
    // The flash is three times the rate; it ends at 0.8 of the time.
    let run = setup.run(variant.make.as_ref(), 1.4 * peak / 3.0, seed)?;
    let calm = setup.duration.as_nanos() as u64 / 10 * 8;
    let mut ticks = vec![(0u32, 0u32); 1 + (setup.duration.as_nanos() as u64 - calm).div_ceil(TICK) as usize];
    for (arrival, end) in run.arrivals.iter().zip(&run.outcome.ends) {
        if let Some(after) = arrival.at.as_nanos().checked_sub(calm) {
            let target = setup.workload.models[usize::from(arrival.model)].target;
            let tick = &mut ticks[(after / TICK) as usize];
            tick.0 += 1;
            tick.1 += u32::from(matches!(end, benches::simulation::replay::End::Computed(l) if *l <= target));
        }
    }
    let bad = |(all, timely): &(u32, u32)| f64::from(*timely) < 0.99 * f64::from(*all);
    Ok(ticks.iter().rposition(bad).map_or(0.0, |last| (last as f64 + 1.0) * 100.0))
}

/// A tenant that asks for ten times its share beside nine that do not.
fn hog(options: &Options) -> Result<Value> {
    let mut rows = Vec::new();
    for devices in [1, 8] {
        // Once the hog has been noticed.
        let (duration, warm_up) = (Duration::from_secs(10), Duration::from_secs(3));
        let setup = options.setup(Workload::mixed(), accelerator(devices, 2.0));
        let setup = Setup { duration, warm_up, ..setup };
        let peak = mean_goodput(&setup, &ours().variants[0], GRID_SEEDS)?.0;
        let triton = baselines().remove(0);
        let triton = best(&setup, &triton)?.setting.clone();
        for share in [0.7, 0.8, 0.9] {
            for family in [ours(), baselines().remove(0)] {
                let variants = family.variants.into_iter();
                let Some(variant) =
                    variants.into_iter().find(|v| family.name == "ours" || v.setting == triton)
                else {
                    continue;
                };
                let measure = |factor: f64| -> Result<(Vec<f64>, f64)> {
                    let run = setup.run_beside_hog(variant.make.as_ref(), share * peak, factor, 0)?;
                    let p99 = setup.p99_ms(&run, |tenant| tenant > 0);
                    let (mut asked, mut given) = (0.0, 0.0);
                    for work in setup.work_by_tenant(&run).iter().skip(1) {
                        (asked, given) = (asked + work.0, given + work.1);
                    }
                    Ok((p99, given / asked))
                };
                let ((alone, _), (beside, timely)) = (measure(1.0)?, measure(10.0)?);
                rows.push(json!({
                    "name": family.name, "devices": devices, "share_of_peak": share,
                    "alone_ms": alone.into_iter().map(finite).collect::<Vec<_>>(),
                    "beside_ms": beside.into_iter().map(finite).collect::<Vec<_>>(), "timely": timely,
                }));
            }
        }
    }
    Ok(json!(rows))
}

fn ablations(options: &Options) -> Result<Value> {
    let base = DeadlinePolicy::default;
    let variants = [
        by_deadline("as shipped", base()),
        by_deadline("earliest due model first", DeadlinePolicy { order: Order::EarliestDue, ..base() }),
        by_deadline("quantum 0.2 of the shortest target", DeadlinePolicy { quantum: 0.2, ..base() }),
        by_deadline("quantum 0.9 of the shortest target", DeadlinePolicy { quantum: 0.9, ..base() }),
        by_deadline("no shares", DeadlinePolicy { feasible: f64::INFINITY, ..base() }),
        by_deadline("no riders", DeadlinePolicy { riders: 0.0, ..base() }),
        by_deadline("riders as they fit", DeadlinePolicy { riders: 100.0, ..base() }),
        by_deadline("no turns for late work", DeadlinePolicy { turns: 0.0, ..base() }),
        by_deadline("turns of 10 %", DeadlinePolicy { turns: 0.1, ..base() }),
        by_deadline(
            "no fair order of late work",
            DeadlinePolicy { spread: Duration::from_secs(3600), ..base() },
        ),
    ];
    let setups = [
        ("five models", standard(options)),
        (
            "gaps of variation 4",
            options.setup(Workload::mixed().with("", Arrivals::Gamma(4.0)), accelerator(1, 2.0)),
        ),
        ("8 devices", options.setup(Workload::mixed(), accelerator(8, 2.0))),
        ("classifier alone", options.setup(Workload::single(2), accelerator(1, 2.0))),
    ];
    let seeds = options.seeds.min(5);
    let cells = in_parallel(variants.len() * (setups.len() + 1), |index| {
        let variant = &variants[index / (setups.len() + 1)];
        if let Some((_, setup)) = setups.get(index % (setups.len() + 1)) {
            let (mean, interval) = mean_goodput(setup, variant, seeds)?;
            return Ok(json!({ "mean": mean, "interval": interval }));
        }
        let run = setups[0].1.run(variant.make.as_ref(), 1.2, 0)?;
        let work = setups[0].1.work_by_tenant(&run);
        Ok(json!({ "jain": jain(&work), "timely": work.iter().map(|(_, given)| given).sum::<f64>() }))
    })?;
    let rows = variants.iter().zip(cells.chunks(setups.len() + 1));
    Ok(json!({
        "columns": setups.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "rows": rows.map(|(variant, cells)| json!({ "name": variant.setting, "cells": cells })).collect::<Vec<_>>(),
    }))
}
