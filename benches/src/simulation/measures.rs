//! What is measured: goodput, attainment, fairness.

use std::time::Duration;

use super::hardware::Hardware;
use super::policies::Policy;
use super::replay::{End, Outcome, replay};
use super::workload::{Arrival, Workload};

/// Share of each model's requests that must be within its target.
pub const ATTAINMENT: f64 = 0.99;

/// Makes a policy anew for each run.
pub type Maker<'a> = &'a (dyn Fn(&Workload, &Hardware) -> Box<dyn Policy> + Sync);

/// Length and seeds of the runs.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    /// Virtual time of one run.
    pub duration: Duration,
    /// Its first part, not counted.
    pub warm_up: Duration,
}

/// Requests a second that are a load of 1: as much work as all devices could do without any overhead.
pub fn unit_rate(workload: &Workload, hardware: &Hardware) -> f64 {
    let speed: f64 = (0..usize::from(hardware.devices))
        .map(|device| hardware.speeds.get(device).copied().unwrap_or(1.0))
        .sum();
    speed / (workload.mean_work() * hardware.slope)
}

/// The least share of any model's requests within its target; whatever was refused or dropped was not.
pub fn attainment(workload: &Workload, arrivals: &[Arrival], outcome: &Outcome, runs: Runs) -> f64 {
    let by_model = attainment_by_model(workload, arrivals, outcome, runs);
    by_model.into_iter().fold(1.0, f64::min)
}

/// The share of each model's requests within its target.
pub fn attainment_by_model(
    workload: &Workload,
    arrivals: &[Arrival],
    outcome: &Outcome,
    runs: Runs,
) -> Vec<f64> {
    let mut counts = vec![(0u64, 0u64); workload.models.len()];
    for (arrival, end) in arrivals.iter().zip(&outcome.ends) {
        if arrival.at.as_nanos() < runs.warm_up.as_nanos() as u64 {
            continue;
        }
        let model = usize::from(arrival.model);
        counts[model].0 += 1;
        if matches!(end, End::Computed(latency) if *latency <= workload.models[model].target) {
            counts[model].1 += 1;
        }
    }
    counts.into_iter().map(|(all, met)| if all == 0 { 1.0 } else { met as f64 / all as f64 }).collect()
}

/// One run at a load.
pub fn run(
    workload: &Workload,
    hardware: &Hardware,
    maker: Maker<'_>,
    load: f64,
    seed: u64,
    runs: Runs,
) -> (Vec<Arrival>, Outcome) {
    let arrivals = workload.generate(seed, load * unit_rate(workload, hardware), runs.duration);
    let outcome = replay(workload, hardware, &arrivals, maker(workload, hardware).as_mut(), seed);
    (arrivals, outcome)
}

/// The highest load at which every model has [`ATTAINMENT`], to a hundredth, by bisection.
pub fn goodput(workload: &Workload, hardware: &Hardware, maker: Maker<'_>, seed: u64, runs: Runs) -> f64 {
    const STEP: f64 = 0.005;
    let holds = |steps: u32| {
        let load = f64::from(steps) * STEP;
        let (arrivals, outcome) = run(workload, hardware, maker, load, seed, runs);
        attainment(workload, &arrivals, &outcome, runs) >= ATTAINMENT
    };
    let (mut low, mut high) = (0u32, 200u32);
    while high - low > 1 {
        let middle = u32::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    f64::from(low) * STEP
}

/// The fluid limit of the load: each model's batches come at most as seldom as its target allows, and each costs an
/// overhead of some device: `1 - sum a / (D - a) / N`.
pub fn fluid_bound(workload: &Workload, hardware: &Hardware) -> f64 {
    let overhead = hardware.overhead.as_secs_f64();
    let spent: f64 =
        workload.models.iter().map(|model| overhead / (model.target.as_secs_f64() - overhead)).sum();
    1.0 - spent / f64::from(hardware.devices)
}

/// Ten equal tenants; the first asks for `factor` times as much.
pub fn hog(
    workload: &Workload,
    hardware: &Hardware,
    maker: Maker<'_>,
    load: f64,
    factor: f64,
    seed: u64,
    runs: Runs,
) -> (Vec<Arrival>, Outcome) {
    let rate = load * unit_rate(workload, hardware);
    let equal = Workload { tenants: 1, ..workload.clone() };
    let mut arrivals = equal.generate(seed, rate * 0.9, runs.duration);
    for (index, arrival) in arrivals.iter_mut().enumerate() {
        arrival.tenant = 1 + (index as u32).wrapping_mul(2_654_435_761) % 9;
    }
    arrivals.extend(equal.generate(seed + 1000, rate * 0.1 * factor, runs.duration));
    arrivals.sort_by_key(|arrival| arrival.at);
    let outcome = replay(workload, hardware, &arrivals, maker(workload, hardware).as_mut(), seed);
    (arrivals, outcome)
}

/// Work done in time by tenant, as a load: 1 is all devices without overhead.
pub fn timely_work(
    workload: &Workload,
    hardware: &Hardware,
    arrivals: &[Arrival],
    outcome: &Outcome,
    runs: Runs,
) -> Vec<(f64, f64)> {
    let unit = (runs.duration - runs.warm_up).as_secs_f64() * f64::from(hardware.devices) / hardware.slope;
    let mut work = vec![(0.0, 0.0); workload.tenants as usize];
    for (arrival, end) in arrivals.iter().zip(&outcome.ends) {
        if arrival.at.as_nanos() < runs.warm_up.as_nanos() as u64 {
            continue;
        }
        let cost = batching::Work::of(batching::Tokens(arrival.tokens), workload.attention).0 / unit;
        let tenant = &mut work[arrival.tenant as usize];
        tenant.0 += cost;
        if matches!(end, End::Computed(latency) if *latency <= workload.models[usize::from(arrival.model)].target)
        {
            tenant.1 += cost;
        }
    }
    work
}

/// Jain's index (DEC-TR-301, 1984) of what each tenant was given over what it is entitled to: the max-min fair division
/// of all that was given. `(asked, given)` by tenant.
pub fn jain(work: &[(f64, f64)]) -> f64 {
    let mut left: f64 = work.iter().map(|(_, given)| given).sum();
    let mut order: Vec<_> = work.iter().filter(|(asked, _)| *asked > 0.0).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut tenants = order.len() as f64;
    let (mut sum, mut squares, count) = (0.0, 0.0, tenants);
    for (asked, given) in order {
        let entitled = asked.min(left / tenants);
        left -= entitled;
        tenants -= 1.0;
        let share = given / entitled;
        sum += share;
        squares += share * share;
    }
    sum * sum / (count * squares)
}
