//! After Gujarati et al., "Serving DNNs like Clockwork" (OSDI 2020): a central controller starts, on each
//! free device, the model whose batch has to start first, with the largest batch size of powers of two that
//! is in time; what cannot be in time is cancelled.

use std::time::Duration;

use units::Timestamp;

use super::queues::Queues;
use super::{Policy, Step};
use crate::simulation::hardware::Hardware;
use crate::simulation::workload::{Arrival, Workload};

pub struct Clockwork {
    queues: Queues,
    /// Largest batch.
    requests_max: usize,
}

impl Clockwork {
    /// `margin`: planned over expected time; `requests_max`: the largest batch.
    pub fn new(workload: &Workload, hardware: &Hardware, margin: f64, requests_max: usize) -> Self {
        Self { queues: Queues::new(workload, hardware, margin), requests_max }
    }
}

impl Policy for Clockwork {
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32) {
        self.queues.arrive(now, arrival, index);
    }

    fn poll(&mut self, now: Timestamp, device: u16) -> Step {
        if self.queues.is_busy(device) {
            return Step::Idle;
        }
        let mut first: Option<(Duration, usize, usize)> = None;
        for model in 0..self.queues.models.len() {
            self.queues.drop_hopeless(now, model);
            let (count, _) = self.queues.feasible(now, model, self.requests_max);
            if count == 0 {
                continue;
            }
            let count = 1 << count.ilog2();
            let work = self.queues.models[model].iter().take(count).map(|waiting| waiting.work);
            let time = self.queues.time(work.fold(batching::Work::default(), std::ops::Add::add));
            let Some(head) = self.queues.models[model].front() else { continue };
            let slack = head.deadline.saturating_duration_since(now).saturating_sub(time);
            if first.is_none_or(|(least, _, _)| slack < least) {
                first = Some((slack, model, count));
            }
        }
        first.map_or(Step::Idle, |(_, model, count)| Step::Dispatch {
            members: self.queues.take(device, model, count),
        })
    }

    fn complete(&mut self, _: Timestamp, device: u16, _: Duration) {
        self.queues.complete(device);
    }

    fn expire(&mut self, _: Timestamp) {}
}
