//! What waits and what runs, at one moment.

use std::time::Duration;

use units::{ModelId, Timestamp, Tokens};

use super::Scheduler;
use super::cost::{CostModel, Work};

/// What waits for one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ModelSnapshot {
    /// Sequences waiting.
    pub queued_sequences: usize,
    /// Their tokens.
    pub queued_tokens: Tokens,
    /// How long the oldest has waited.
    pub oldest_wait: Duration,
    /// Device time that what waits will take, as predicted.
    pub queued_time: Duration,
    /// Sequences dispatched and not completed.
    pub in_flight_sequences: usize,
    /// What was asked for since the start.
    pub offered: OfferedLoad,
    /// Time of a batch beside its work, as predicted.
    pub batch_overhead: Duration,
    /// Seconds of a device that a token of a short sequence takes, as predicted.
    pub token_seconds: f64,
}

/// What was asked for, whether it was accepted or refused for want of capacity. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OfferedLoad {
    /// Sequences.
    pub sequences: u64,
    /// Of these, sequences that were refused, made to give way, or ended by their deadline.
    pub shed: u64,
    /// Seconds of a device that their work takes, beside the batches' overhead.
    pub seconds: f64,
}

/// What a device does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceSnapshot {
    /// Predicted time until the device finishes the batches it holds.
    pub busy_for: Duration,
    /// How long it has computed since the start.
    pub computed: Duration,
    /// Whether it is gone.
    pub is_lost: bool,
    /// Mean of |actual / predicted - 1| of late for batches of each model, indexed by [`ModelId`].
    pub prediction_errors: Vec<f64>,
}

/// What waits and what runs, at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Indexed by [`ModelId`]; all zero for a model that was removed.
    pub models: Vec<ModelSnapshot>,
    /// Indexed by [`DeviceId`](units::DeviceId).
    pub devices: Vec<DeviceSnapshot>,
    /// How long all that waits and runs is predicted to take all devices.
    pub drain: Duration,
}

impl<P> Scheduler<P> {
    /// What waits and runs at `now`, written over an earlier snapshot to use its memory again.
    pub fn snapshot(&self, now: Timestamp, into: &mut Snapshot) {
        let state = &self.state;
        into.models.clear();
        into.models
            .extend((0..state.models.len()).map(|index| self.model_snapshot(now, ModelId(index as u16))));
        into.devices.resize_with(state.fleet.devices.len(), DeviceSnapshot::default);
        for (device, into) in state.fleet.devices.iter().zip(&mut into.devices) {
            into.busy_for = device.free_at.saturating_duration_since(now);
            into.computed = device.computed;
            into.is_lost = device.is_lost;
            into.prediction_errors.clear();
            into.prediction_errors.extend(device.costs.iter().map(CostModel::error));
        }
        into.drain = state.drain();
    }

    /// What waits for one model; all zero for an unknown one.
    pub fn model_snapshot(&self, now: Timestamp, model: ModelId) -> ModelSnapshot {
        let state = &self.state;
        let Some(queue) = state.models.get(model) else { return ModelSnapshot::default() };
        let oldest = queue.arrivals.first().and_then(|id| state.slots.get(id));
        ModelSnapshot {
            queued_sequences: queue.sequences,
            queued_tokens: queue.tokens,
            oldest_wait: oldest
                .map(|oldest| now.saturating_duration_since(oldest.entry.enqueued_at))
                .unwrap_or_default(),
            queued_time: state.queued_time(model),
            in_flight_sequences: queue.in_flight,
            offered: queue.offered,
            batch_overhead: state
                .fleet
                .fastest(model)
                .map_or(Duration::ZERO, |cost| cost.predict(Work::default())),
            token_seconds: state.fleet.seconds(model, Work(1.0)).0,
        }
    }
}
