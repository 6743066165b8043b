//! What is measured: goodput, attainment, fairness.

use std::time::Duration;

use batching::{ConfigError, Work};
use units::Tokens;

use super::families::Make;
use super::hardware::Hardware;
use super::replay::{End, Outcome, replay};
use super::workload::{Arrival, Workload};

/// Share of each model's requests that must be within its target.
pub const ATTAINMENT: f64 = 0.99;
/// Loads are searched in steps of this.
const LOAD_STEP: f64 = 0.005;
/// And up to so many steps.
const LOAD_STEPS: u32 = 220;

/// What runs on what, for how long.
#[derive(Debug, Clone)]
pub struct Setup {
    pub workload: Workload,
    pub hardware: Hardware,
    /// Virtual time of one run.
    pub duration: Duration,
    /// Its first part, not counted.
    pub warm_up: Duration,
}

#[derive(Debug, Clone)]
pub struct Run {
    pub arrivals: Vec<Arrival>,
    /// What came of it.
    pub outcome: Outcome,
}

impl Setup {
    /// Requests a second that are a load of 1: as much work as all devices could do without any overhead.
    pub fn unit_rate(&self) -> f64 {
        let Hardware { devices, slope, ref speeds, .. } = self.hardware;
        let speed: f64 =
            (0..usize::from(devices)).map(|device| speeds.get(device).copied().unwrap_or(1.0)).sum();
        speed / (self.workload.mean_work() * slope)
    }

    /// Runs the workload at a load.
    ///
    /// # Errors
    /// The policy cannot be made.
    pub fn run(&self, make: &Make, load: f64, seed: u64) -> Result<Run, ConfigError> {
        self.replay(make, self.workload.generate(seed, load * self.unit_rate(), self.duration), seed)
    }

    /// Runs ten equal tenants, of which the first asks for `factor` times its share of the load.
    ///
    /// # Errors
    /// The policy cannot be made.
    pub fn run_beside_hog(&self, make: &Make, load: f64, factor: f64, seed: u64) -> Result<Run, ConfigError> {
        const TENANTS: u32 = 10;
        let rate = load * self.unit_rate() / f64::from(TENANTS);
        let one = Workload { tenants: 1, ..self.workload.clone() };
        let mut arrivals = one.generate(seed, rate * f64::from(TENANTS - 1), self.duration);
        for (index, arrival) in (0u32..).zip(&mut arrivals) {
            // Scattered, so that no tenant has a pattern in time.
            arrival.tenant = 1 + index.wrapping_mul(2_654_435_761) % (TENANTS - 1);
        }
        arrivals.extend(one.generate(seed + 1000, rate * factor, self.duration));
        arrivals.sort_by_key(|arrival| arrival.at);
        self.replay(make, arrivals, seed)
    }

    fn replay(&self, make: &Make, arrivals: Vec<Arrival>, seed: u64) -> Result<Run, ConfigError> {
        let mut policy = make(&self.workload, &self.hardware)?;
        let outcome = replay(&self.workload, &self.hardware, &arrivals, policy.as_mut(), seed);
        Ok(Run { arrivals, outcome })
    }

    /// The highest load, in steps of 0.005, at which every model has [`ATTAINMENT`], by bisection.
    ///
    /// # Errors
    /// The policy cannot be made.
    pub fn goodput(&self, make: &Make, seed: u64) -> Result<f64, ConfigError> {
        let (mut low, mut high) = (0, LOAD_STEPS);
        while high - low > 1 {
            let middle = u32::midpoint(low, high);
            let run = self.run(make, f64::from(middle) * LOAD_STEP, seed)?;
            let worst = self.attainment(&run).into_iter().fold(1.0, f64::min);
            if worst >= ATTAINMENT { low = middle } else { high = middle }
        }
        Ok(f64::from(low) * LOAD_STEP)
    }

    /// The share of each model's requests within its target; whatever was refused or dropped was not.
    pub fn attainment(&self, run: &Run) -> Vec<f64> {
        let mut counts = vec![(0u64, 0u64); self.workload.models.len()];
        for (arrival, is_timely) in self.counted(run) {
            let (all, timely) = &mut counts[usize::from(arrival.model)];
            *all += 1;
            *timely += u64::from(is_timely);
        }
        counts
            .into_iter()
            .map(|(all, timely)| if all == 0 { 1.0 } else { timely as f64 / all as f64 })
            .collect()
    }

    /// Work asked for and work done in time, by tenant, as a load.
    pub fn work_by_tenant(&self, run: &Run) -> Vec<(f64, f64)> {
        let span = (self.duration - self.warm_up).as_secs_f64();
        let unit = span * self.unit_rate() * self.workload.mean_work();
        let tenants = run.arrivals.iter().map(|arrival| arrival.tenant as usize + 1).max().unwrap_or(0);
        let mut work = vec![(0.0, 0.0); tenants];
        for (arrival, is_timely) in self.counted(run) {
            let load = Work::of(Tokens(arrival.tokens), self.workload.attention).0 / unit;
            let (asked, given) = &mut work[arrival.tenant as usize];
            *asked += load;
            *given += if is_timely { load } else { 0.0 };
        }
        work
    }

    /// The 99th percentile of the latency by model, in milliseconds, of tenants for which `is_meant` says so.
    /// What had no answer waited for ever.
    pub fn p99_ms(&self, run: &Run, is_meant: impl Fn(u32) -> bool) -> Vec<f64> {
        let mut latencies = vec![Vec::new(); self.workload.models.len()];
        let warm_up = self.warm_up.as_nanos() as u64;
        for (arrival, end) in run.arrivals.iter().zip(&run.outcome.ends) {
            if arrival.at.as_nanos() >= warm_up && is_meant(arrival.tenant) {
                latencies[usize::from(arrival.model)].push(match end {
                    End::Computed(latency) => latency.as_secs_f64() * 1e3,
                    End::Dropped => f64::INFINITY,
                });
            }
        }
        let p99 = |latencies: &mut Vec<f64>| {
            latencies.sort_unstable_by(f64::total_cmp);
            latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(0.0)
        };
        latencies.iter_mut().map(p99).collect()
    }

    /// Requests after the warm-up, and whether each was answered within its target.
    fn counted<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = (&'a Arrival, bool)> {
        let warm_up = self.warm_up.as_nanos() as u64;
        let requests = run.arrivals.iter().zip(&run.outcome.ends);
        requests.filter(move |(arrival, _)| arrival.at.as_nanos() >= warm_up).map(|(arrival, end)| {
            let target = self.workload.models[usize::from(arrival.model)].target;
            (arrival, matches!(end, End::Computed(latency) if *latency <= target))
        })
    }
}

/// Jain's index (Jain, Chiu and Hawe, DEC-TR-301, 1984) of what each tenant was given over what it is
/// entitled to: the max-min fair division of all that was given. `(asked, given)` by tenant.
pub fn jain(work: &[(f64, f64)]) -> f64 {
    let mut left: f64 = work.iter().map(|(_, given)| given).sum();
    let mut order: Vec<_> = work.iter().filter(|(asked, _)| *asked > 0.0).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = order.len() as f64;
    let mut tenants = count;
    let (mut sum, mut squares) = (0.0, 0.0);
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

/// Mean and half of the 95 % interval of the mean, by Student's distribution.
pub fn mean_and_interval(values: &[f64]) -> (f64, f64) {
    /// Two-sided 95 % quantiles for 1 to 9 degrees of freedom.
    const T: [f64; 9] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26];
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let t = T[(values.len() - 2).min(T.len() - 1)];
    (mean, t * (variance / count).sqrt())
}
