//! Compares policies for the number of servers over days of 50 million requests, and writes
//! `benches/results/autoscaling.json`, of which `benches/autoscaling/report.py` makes a table and plots.
//!
//! `autoscale [--seeds 2] [--hours 24] [--case TEXT] [--out FILE]`

use std::time::Duration;

use batching::Work;
use benches::autoscaling::cluster::{Cluster, ClusterConfig, Outcome};
use benches::autoscaling::day::{Day, DayConfig};
use benches::autoscaling::sizing::{Fixed, Knative, Oracle, Ours, PodAutoscaler, Sizing};
use benches::parallel::{Result, in_parallel};
use benches::simulation::hardware::Hardware;
use benches::simulation::workload::Workload;
use mimalloc::MiMalloc;
use router::scaling::ScalingConfig;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Share of its devices' time that a server should be asked for, where a policy can be told.
const UTILIZATIONS: [f64; 3] = [0.5, 0.6, 0.7];

struct Options {
    seeds: u64,
    hours: f64,
    case: String,
    out: String,
}

/// Makes a policy for a day.
type Make = Box<dyn Fn(&Day) -> Box<dyn Sizing> + Sync>;

/// A policy at one setting.
struct Variant {
    family: &'static str,
    setting: String,
    make: Make,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            seeds: 2,
            hours: 24.0,
            case: String::new(),
            out: "benches/results/autoscaling.json".to_owned(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--seeds" => options.seeds = value.parse()?,
                "--hours" => options.hours = value.parse()?,
                "--case" => options.case = value,
                "--out" => options.out = value,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

fn variants() -> Vec<Variant> {
    let variant = |family, setting: String, make: Make| Variant { family, setting, make };
    let mut variants = Vec::new();
    for utilization in UTILIZATIONS {
        let config = ScalingConfig { utilization_target: utilization, ..ScalingConfig::default() };
        let setting = format!("{utilization} of a device");
        variants.push(variant(
            "ours",
            setting.clone(),
            Box::new(move |_| Box::new(Ours::new(config.clone()))),
        ));
        let busy = move |_: &Day| -> Box<dyn Sizing> { Box::new(PodAutoscaler::busy(utilization)) };
        variants.push(variant("HPA on utilization", setting.clone(), Box::new(busy)));
        let oracle =
            move |day: &Day| -> Box<dyn Sizing> { Box::new(Oracle::new(day.text_rates(), utilization)) };
        variants.push(variant("oracle", setting, Box::new(oracle)));
    }
    for target in [1.0, 2.0] {
        let make = move |_: &Day| -> Box<dyn Sizing> { Box::new(Knative::new(target)) };
        variants.push(variant("Knative-style", format!("{target} requests at once"), Box::new(make)));
    }
    for target in [0.5, 1.0, 2.0] {
        let make = move |_: &Day| -> Box<dyn Sizing> { Box::new(PodAutoscaler::queue(target)) };
        variants.push(variant("queue length", format!("{target} requests waiting"), Box::new(make)));
    }
    variants.push(variant("fixed", "8 servers".to_owned(), Box::new(|_| Box::new(Fixed(8)))));
    variants
}

fn main() -> Result<()> {
    let options = Options::parse()?;
    let (workload, hardware) = (Workload::on_cpu(), Hardware::cpu());
    let config = DayConfig {
        duration: Duration::from_secs_f64(options.hours * 3600.0),
        requests: 50e6 * options.hours / 24.0,
        ..DayConfig::default()
    };
    let variants: Vec<_> = variants()
        .into_iter()
        .filter(|variant| format!("{} {}", variant.family, variant.setting).contains(&options.case))
        .collect();
    let seeds = options.seeds as usize;
    let runs = in_parallel(variants.len() * seeds, |index| {
        let (variant, seed) = (&variants[index / seeds], (index % seeds) as u64);
        let day = Day::new(&workload, &config, seed);
        let cluster = Cluster::new(&workload, &hardware, ClusterConfig::default(), seed)?;
        let outcome = cluster.run(&day, (variant.make)(&day).as_mut());
        eprintln!("    {}, {}, day {seed}: {:.4}", variant.family, variant.setting, outcome.attainment());
        Ok((outcome, (seed == 0).then_some(day)))
    })?;
    let days = runs.iter().find_map(|(_, day)| day.as_ref()).map_or(Value::Null, |day| {
        json!(day.rates.chunks(60).map(|rates| rates.iter().sum::<f64>() / 60.0).collect::<Vec<_>>())
    });
    let cases: Vec<_> = variants
        .iter()
        .zip(runs.chunks(seeds))
        .map(|(variant, runs)| case(variant, runs.iter().map(|(outcome, _)| outcome), options.hours))
        .collect();
    let report = json!({
        "seeds": options.seeds, "hours": options.hours, "requests": config.requests,
        "device_rate": 1.0 / hardware.time(Work(workload.mean_work())).as_secs_f64(),
        "rates": days, "cases": cases,
    });
    std::fs::write(&options.out, serde_json::to_string(&report)? + "\n")?;
    eprintln!("wrote {}", options.out);
    Ok(())
}

fn case<'a>(variant: &Variant, runs: impl Iterator<Item = &'a Outcome>, hours: f64) -> Value {
    let runs: Vec<_> = runs.collect();
    let mean = |of: &dyn Fn(&Outcome) -> f64| runs.iter().map(|run| of(run)).sum::<f64>() / runs.len() as f64;
    json!({
        "family": variant.family,
        "setting": variant.setting,
        "attainment": mean(&Outcome::attainment),
        "worst_model": mean(&Outcome::worst_model),
        "bad_minutes": mean(&|run| run.bad_minutes() as f64),
        "server_hours": mean(&Outcome::server_hours),
        "reversals_per_hour": mean(&|run| run.reversals() as f64) / hours,
        "sizes": runs.first().map(|run| &run.sizes),
    })
}
