//! After Crankshaw et al., "Clipper: A Low-Latency Online Prediction Serving System" (NSDI 2017): each
//! model's largest batch grows by a constant while batches stay within their latency objective and shrinks by
//! a tenth when one does not. Models take turns.

use std::collections::VecDeque;
use std::time::Duration;

use units::Timestamp;

use super::queues::Queues;
use super::{Policy, Step};
use crate::simulation::hardware::Hardware;
use crate::simulation::workload::{Arrival, Workload};

pub struct Clipper {
    queues: Queues,
    /// Largest batch of each model.
    requests_max: Vec<f64>,
    increase: f64,
    /// A batch's latency objective over the model's target.
    objective: f64,
    /// Model and size of the batches at each device.
    running: Vec<VecDeque<(usize, usize)>>,
    turn: usize,
}

const DECREASE: f64 = 0.9;

impl Clipper {
    /// `increase`: requests by which a largest batch grows; `objective`: the batch's latency objective over
    /// the target.
    pub fn new(workload: &Workload, hardware: &Hardware, increase: f64, objective: f64) -> Self {
        Self {
            queues: Queues::new(workload, hardware, 1.0),
            requests_max: vec![1.0; workload.models.len()],
            increase,
            objective,
            running: (0..hardware.devices).map(|_| VecDeque::new()).collect(),
            turn: 0,
        }
    }
}

impl Policy for Clipper {
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32) {
        self.queues.arrive(now, arrival, index);
    }

    fn poll(&mut self, now: Timestamp, device: u16) -> Step {
        if self.queues.is_busy(device) {
            return Step::Idle;
        }
        let models = self.queues.models.len();
        for step in 0..models {
            let model = (self.turn + step) % models;
            self.queues.drop_hopeless(now, model);
            let count = self.queues.models[model].len().min(self.requests_max[model] as usize);
            if count > 0 {
                self.turn = model + 1;
                self.running[usize::from(device)].push_back((model, count));
                return Step::Dispatch { members: self.queues.take(device, model, count) };
            }
        }
        Step::Idle
    }

    fn complete(&mut self, _: Timestamp, device: u16, compute: Duration) {
        self.queues.complete(device);
        let Some((model, count)) = self.running[usize::from(device)].pop_front() else { return };
        let objective = self.queues.targets[model].mul_f64(self.objective);
        let max = &mut self.requests_max[model];
        if compute > objective {
            *max = (*max * DECREASE).max(1.0);
        } else if count >= *max as usize {
            *max += self.increase;
        }
    }

    fn expire(&mut self, _: Timestamp) {}
}
