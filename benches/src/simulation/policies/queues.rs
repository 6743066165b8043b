//! What the published policies share: one queue a model in the order of arrival, and exact knowledge of the
//! costs.

use std::collections::VecDeque;
use std::time::Duration;

use batching::Work;
use units::{Timestamp, Tokens};

use crate::simulation::hardware::Hardware;
use crate::simulation::workload::{Arrival, Workload};

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) index: u32,
    pub(super) deadline: Timestamp,
    pub(super) work: Work,
}

/// Queues by model. The costs are told, not learned: with noise they are the means.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) models: Vec<VecDeque<Waiting>>,
    pub(super) targets: Vec<Duration>,
    hardware: Hardware,
    attention: f64,
    /// Batches at each device.
    pub(super) busy: Vec<usize>,
    /// Longer by this factor than expected is how batches are planned.
    margin: f64,
}

impl Queues {
    pub(super) fn new(workload: &Workload, hardware: &Hardware, margin: f64) -> Self {
        Self {
            models: workload.models.iter().map(|_| VecDeque::new()).collect(),
            targets: workload.models.iter().map(|model| model.target).collect(),
            hardware: hardware.clone(),
            attention: workload.attention,
            busy: vec![0; usize::from(hardware.devices)],
            margin,
        }
    }

    pub(super) fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32) {
        let model = usize::from(arrival.model);
        let work = Work::of(Tokens(arrival.tokens), self.attention);
        let deadline = now + self.targets[model];
        self.models[model].push_back(Waiting { index, deadline, work });
    }

    /// Planned time of a batch.
    pub(super) fn time(&self, work: Work) -> Duration {
        self.hardware.time(work).mul_f64(self.margin)
    }

    /// Drops the first requests of a model that could not be in time even alone.
    pub(super) fn drop_hopeless(&mut self, now: Timestamp, model: usize) {
        while let Some(first) = self.models[model].front() {
            if now + self.time(first.work) <= first.deadline {
                break;
            }
            self.models[model].pop_front();
        }
    }

    /// How many of a model's first requests can go together and all be in time; and the work of these.
    pub(super) fn feasible(&self, now: Timestamp, model: usize, requests_max: usize) -> (usize, Work) {
        let Some(deadline) = self.models[model].front().map(|first| first.deadline) else {
            return (0, Work::default());
        };
        let mut work = Work::default();
        for (count, waiting) in self.models[model].iter().enumerate() {
            let more = work + waiting.work;
            if count >= requests_max || (count > 0 && now + self.time(more) > deadline) {
                return (count, work);
            }
            work = more;
        }
        (self.models[model].len(), work)
    }

    /// Takes a model's first requests.
    pub(super) fn take(&mut self, device: u16, model: usize, count: usize) -> Vec<u32> {
        self.busy[usize::from(device)] += 1;
        self.models[model].drain(..count).map(|waiting| waiting.index).collect()
    }

    pub(super) fn is_busy(&self, device: u16) -> bool {
        self.busy[usize::from(device)] > 0
    }

    pub(super) fn complete(&mut self, device: u16) {
        self.busy[usize::from(device)] -= 1;
    }
}
