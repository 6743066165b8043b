//! The scheduler of the server itself, with any of its policies.

use std::collections::VecDeque;
use std::time::Duration;

use batching::{BatchId, Config, ConfigError, Decision, ModelConfig, Scheduler, Sequence, Work};
use units::{DeviceId, ModelId, TenantId, Timestamp, Tokens};

use super::{Policy, Step};
use crate::simulation::hardware::{Hardware, Noise};
use crate::simulation::workload::{Arrival, Workload};

pub struct Production {
    scheduler: Scheduler<u32>,
    in_flight: Vec<VecDeque<BatchId>>,
    targets_are_hard: bool,
    targets: Vec<Duration>,
}

/// Longest a caller waits where targets are not hard.
const CALLERS_TIMEOUT: Duration = Duration::from_secs(30);
/// Work of the batches of the sweep by which the cost model is warm-started.
const SWEEP: [f64; 4] = [16.0, 256.0, 1024.0, 4096.0];

impl Production {
    /// A scheduler with this policy for these models and devices, its cost models warm.
    ///
    /// # Errors
    /// A configuration that the scheduler refuses.
    pub fn new(
        workload: &Workload,
        hardware: &Hardware,
        policy: batching::Policy,
        targets_are_hard: bool,
    ) -> Result<Self, ConfigError> {
        let model = |traffic: &crate::simulation::workload::ModelTraffic| ModelConfig {
            batch_tokens_max: Tokens(65_536),
            batch_sequences_max: 4096,
            queue_sequences_max: 1 << 20,
            queue_tokens_max: Tokens(1 << 30),
            latency_target: traffic.target,
            is_target_hard: targets_are_hard,
            attention: workload.attention,
        };
        let config = Config {
            models: workload.models.iter().map(model).collect(),
            devices: hardware.devices,
            batches_in_flight_max: 1,
            policy,
        };
        let mut scheduler = Scheduler::new(config)?;
        let mut noise = Noise::new(hardware, 1);
        for device in 0..hardware.devices {
            for model in 0..workload.models.len() {
                for work in SWEEP.map(Work) {
                    let time = noise.time(hardware, device, work);
                    scheduler.calibrate(DeviceId(device), ModelId(model as u16), work, time);
                }
            }
        }
        let in_flight = (0..hardware.devices).map(|_| VecDeque::new()).collect();
        let targets = workload.models.iter().map(|model| model.target).collect();
        Ok(Self { scheduler, in_flight, targets_are_hard, targets })
    }
}

impl Policy for Production {
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival, index: u32) {
        let timeout =
            if self.targets_are_hard { self.targets[usize::from(arrival.model)] } else { CALLERS_TIMEOUT };
        let request = Sequence {
            model: ModelId(arrival.model),
            tenant: TenantId(arrival.tenant),
            weight: 1,
            priority: arrival.priority,
            tokens: Tokens(arrival.tokens),
            deadline: now + timeout,
            payload: index,
        };
        let _ = self.scheduler.enqueue(now, request);
    }

    fn poll(&mut self, now: Timestamp, device: u16) -> Step {
        match self.scheduler.poll(now, DeviceId(device)) {
            Decision::Dispatch(batch) => {
                self.in_flight[usize::from(device)].push_back(batch.id);
                Step::Dispatch {
                    members: batch.members.into_iter().map(|entry| entry.sequence.payload).collect(),
                }
            }
            Decision::WaitUntil(at) => Step::WaitUntil(at),
            Decision::Idle => Step::Idle,
        }
    }

    fn complete(&mut self, now: Timestamp, device: u16, compute: Duration) {
        if let Some(batch) = self.in_flight[usize::from(device)].pop_front() {
            self.scheduler.complete(now, batch, Some(compute));
        }
    }

    fn expire(&mut self, now: Timestamp) {
        self.scheduler.ended(now);
    }
}
