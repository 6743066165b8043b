//! After Shen et al., "Nexus: A GPU Cluster Engine for Accelerating DNN-Based Video Analysis" (SOSP 2019):
//! models take turns in a duty cycle, each with the batch that its rate fills in one cycle, and requests at
//! the head of a queue that would make the batch smaller than that are dropped early.

use std::time::Duration;

use units::Timestamp;

use super::queues::Queues;
use super::{Policy, Step};
use crate::simulation::hardware::Hardware;
use crate::simulation::workload::{Arrival, Workload};

pub struct Nexus {
    queues: Queues,
    cycle: Duration,
    /// Smoothed arrivals a second, by model.
    rates: Vec<f64>,
    counted: Vec<u32>,
    counted_from: Timestamp,
    turn: usize,
    is_dropping: bool,
}

/// How often rates are taken anew.
const WINDOW: Duration = Duration::from_millis(200);

impl Nexus {
    /// `cycle`: the duty cycle; `is_dropping`: whether heads are dropped early.
    pub fn new(workload: &Workload, hardware: &Hardware, cycle: Duration, is_dropping: bool) -> Self {
        let models = workload.models.len();
        Self {
            queues: Queues::new(workload, hardware, 1.05),
            cycle,
            rates: vec![0.0; models],
            counted: vec![0; models],
            counted_from: Timestamp::ZERO,
            turn: 0,
            is_dropping,
        }
    }

    fn count(&mut self, now: Timestamp) {
        let elapsed = now.saturating_duration_since(self.counted_from);
        if elapsed >= WINDOW {
            for (rate, counted) in self.rates.iter_mut().zip(&mut self.counted) {
                let newest = f64::from(*counted) / elapsed.as_secs_f64();
                *rate = if *rate == 0.0 { newest } else { 0.7 * *rate + 0.3 * newest };
                *counted = 0;
            }
            self.counted_from = now;
        }
    }
}

impl Policy for Nexus {
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32) {
        self.counted[usize::from(arrival.model)] += 1;
        self.count(now);
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
            let wanted = ((self.rates[model] * self.cycle.as_secs_f64()).ceil() as usize).max(1);
            while self.is_dropping {
                let (count, _) = self.queues.feasible(now, model, wanted);
                if count == 0 || count >= wanted.min(self.queues.models[model].len()) {
                    break;
                }
                self.queues.models[model].pop_front();
            }
            let count = self.queues.feasible(now, model, wanted).0;
            if count > 0 {
                self.turn = model + 1;
                return Step::Dispatch { members: self.queues.take(device, model, count) };
            }
        }
        Step::Idle
    }

    fn complete(&mut self, _: Timestamp, device: u16, _: Duration) {
        self.queues.complete(device);
    }

    fn expire(&mut self, _: Timestamp) {}
}
