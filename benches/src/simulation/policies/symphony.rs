//! After Chen et al., "Symphony: Optimized DNN Model Serving using Deferred Batch Scheduling" (2023, arXiv
//! 2308.07470): a model's batch is held until one more request would make it late, and then goes to the first
//! free device.

use std::time::Duration;

use batching::Work;
use units::Timestamp;

use super::queues::Queues;
use super::{Policy, Step};
use crate::simulation::hardware::Hardware;
use crate::simulation::workload::{Arrival, Workload};

pub struct Symphony {
    queues: Queues,
    /// Mean work of a request of each model, for the one more.
    one_more: Vec<Work>,
    requests_max: usize,
    /// By how much earlier than at the last moment a batch goes, since another model may be running just
    /// then.
    guard: Duration,
}

impl Symphony {
    /// `guard`: how much earlier than at the last moment a batch goes; `requests_max`: the largest batch.
    pub fn new(workload: &Workload, hardware: &Hardware, guard: Duration, requests_max: usize) -> Self {
        let one_more = (0..workload.models.len()).map(|model| Work(workload.mean_work_of(model))).collect();
        Self { queues: Queues::new(workload, hardware, 1.05), one_more, requests_max, guard }
    }
}

impl Policy for Symphony {
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32) {
        self.queues.arrive(now, arrival, index);
    }

    fn poll(&mut self, now: Timestamp, device: u16) -> Step {
        if self.queues.is_busy(device) {
            return Step::Idle;
        }
        let mut first: Option<(Timestamp, usize, usize)> = None;
        let mut wake: Option<Timestamp> = None;
        for model in 0..self.queues.models.len() {
            self.queues.drop_hopeless(now, model);
            let (count, work) = self.queues.feasible(now, model, self.requests_max);
            let Some(head) = self.queues.models[model].front() else { continue };
            let before = |time: Duration| {
                Timestamp::from_nanos(head.deadline.as_nanos().saturating_sub(time.as_nanos() as u64))
            };
            let opens = before(self.queues.time(work + self.one_more[model]) + self.guard);
            let closes = before(self.queues.time(work));
            let is_full = count < self.queues.models[model].len() || count == self.requests_max;
            if opens <= now || is_full {
                if first.is_none_or(|(least, _, _)| closes < least) {
                    first = Some((closes, model, count));
                }
            } else {
                wake = Some(wake.map_or(opens, |earlier| earlier.min(opens)));
            }
        }
        match (first, wake) {
            (Some((_, model, count)), _) => {
                Step::Dispatch { members: self.queues.take(device, model, count) }
            }
            (None, Some(at)) => Step::WaitUntil(at),
            (None, None) => Step::Idle,
        }
    }

    fn complete(&mut self, _: Timestamp, device: u16, _: Duration) {
        self.queues.complete(device);
    }

    fn expire(&mut self, _: Timestamp) {}
}
