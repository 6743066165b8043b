//! What could be had at best.

use std::collections::HashMap;
use std::time::Duration;

use batching::Work;
use units::{Timestamp, Tokens};

use super::hardware::Hardware;
use super::workload::{Arrival, Workload};

/// The fluid limit of the load: each model's batches come at most as seldom as its target allows, and each
/// costs an overhead of some device: `1 - sum a / (D - a) / N`. No policy reaches it: it lets a batch take no
/// time for its work.
pub fn fluid_limit(workload: &Workload, hardware: &Hardware) -> f64 {
    let overhead = hardware.overhead.as_secs_f64();
    let spent: f64 =
        workload.models.iter().map(|model| overhead / (model.target.as_secs_f64() - overhead)).sum();
    1.0 - spent / f64::from(hardware.devices)
}

/// How many of a few requests one device could answer in time if it knew all arrivals beforehand: every order
/// of every batch is tried. `arrivals` has at most 16.
pub fn clairvoyant(workload: &Workload, hardware: &Hardware, arrivals: &[Arrival]) -> u32 {
    let search = Search { workload, hardware, arrivals };
    search.best((1 << arrivals.len()) - 1, Timestamp::ZERO, &mut HashMap::new())
}

struct Search<'a> {
    workload: &'a Workload,
    hardware: &'a Hardware,
    arrivals: &'a [Arrival],
}

impl Search<'_> {
    /// The most requests of the set `left` that can be in time if the device is free from `free`.
    fn best(&self, left: u32, free: Timestamp, known: &mut HashMap<(u32, Timestamp), u32>) -> u32 {
        if let Some(best) = known.get(&(left, free)) {
            return *best;
        }
        let mut best = 0;
        // Every non-empty subset of what is left, as the next batch.
        let mut batch = left;
        while batch > 0 {
            if let Some(end) = self.end_in_time(batch, free) {
                best = best.max(batch.count_ones() + self.best(left & !batch, end, known));
            }
            batch = (batch - 1) & left;
        }
        known.insert((left, free), best);
        best
    }

    /// When a batch ends that starts as early as it can, if it is of one model and all of it is in time.
    fn end_in_time(&self, batch: u32, free: Timestamp) -> Option<Timestamp> {
        let members =
            || (0..self.arrivals.len()).filter(|index| batch & (1 << index) != 0).map(|i| &self.arrivals[i]);
        let model = members().next()?.model;
        if members().any(|arrival| arrival.model != model) {
            return None;
        }
        let target = self.workload.models[usize::from(model)].target;
        let starts = members().map(|arrival| arrival.at).max()?.max(free);
        let due = members().map(|arrival| arrival.at + target).min()?;
        let work = members().map(|arrival| Work::of(Tokens(arrival.tokens), self.workload.attention));
        let time: Duration = self.hardware.time(work.fold(Work::default(), std::ops::Add::add));
        let end = starts + time;
        (end <= due).then_some(end)
    }
}
