//! What a device runs next, and when.

use super::{Batch, BatchId, Entry, InFlight, ModelConfig, Scheduler};
use crate::scheduler::queue::ModelQueue;
use crate::units::{DeviceId, ModelId, Timestamp, Tokens};

/// What a device should do.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<P> {
    /// Run this.
    Dispatch(Batch<P>),
    /// Ask again at this moment, or when something arrives or completes.
    WaitUntil(Timestamp),
    /// Ask again when something arrives or completes.
    Idle,
}

/// What the scheduler knows of a device.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// Batches dispatched and not completed.
    pub(super) in_flight: usize,
    /// When it last completed one.
    pub(super) last_completion: Timestamp,
}

impl<P> Scheduler<P> {
    /// What `device` should run next. A device with nothing in flight is given work at once if there is any; one that
    /// computes is given its next batch when that is full, holds a critical request, or has waited long enough. Among the
    /// models that are due, the one whose oldest request is closest to its latency target goes first.
    ///
    /// Expired requests are not dispatched, but stay until [`expire`](Self::expire) takes them out.
    pub fn poll(&mut self, now: Timestamp, device: DeviceId) -> Decision<P> {
        let Some(state) = self.devices.get(usize::from(device.0)) else { return Decision::Idle };
        if state.in_flight >= self.config.batches_in_flight_max {
            return Decision::Idle;
        }
        let is_computing = state.in_flight > 0;
        let mut due: Option<(Timestamp, ModelId)> = None;
        let mut wake: Option<Timestamp> = None;
        for (index, (queue, bounds)) in self.queues.iter().zip(&self.config.models).enumerate() {
            let Some(oldest) = queue.oldest() else { continue };
            let at = if is_computing { release(queue, bounds, oldest) } else { now };
            if at <= now {
                let candidate = (oldest + bounds.latency_target, ModelId(index as u16));
                due = Some(due.map_or(candidate, |best| best.min(candidate)));
            } else {
                wake = Some(wake.map_or(at, |best| best.min(at)));
            }
        }
        let batch = due.and_then(|(_, model)| self.fill(now, device, model));
        match (batch, wake) {
            (Some(batch), _) => Decision::Dispatch(batch),
            (None, Some(at)) => Decision::WaitUntil(at),
            (None, None) => Decision::Idle,
        }
    }

    /// Takes a batch out of a model's queue; `None` if all that waits has expired.
    fn fill(&mut self, now: Timestamp, device: DeviceId, model: ModelId) -> Option<Batch<P>> {
        let bounds = self.config.models.get(usize::from(model.0))?.clone();
        let mut members: Vec<Entry<P>> = Vec::new();
        let mut tokens = Tokens(0);
        let mut expired = Vec::new();
        while members.len() < bounds.batch_sequences_max {
            let room = Tokens(bounds.batch_tokens_max.0 - tokens.0);
            let queue = &mut self.queues[usize::from(model.0)];
            let Some(id) = queue.next(room, bounds.batch_tokens_max) else { break };
            let Some(request) = self.entries.get(&id).map(|entry| &entry.request) else { break };
            let is_expired = request.deadline <= now;
            if !is_expired {
                tokens += request.tokens;
                queue.charge(request);
            }
            let Some(entry) = self.remove(id) else { break };
            if is_expired { expired.push(entry) } else { members.push(entry) }
        }
        self.put_back(expired);
        if members.is_empty() {
            return None;
        }
        Some(self.sent(now, device, model, tokens, members))
    }

    /// Queues entries again as they were; they keep their place by age and deadline.
    fn put_back(&mut self, entries: Vec<Entry<P>>) {
        for entry in entries {
            let Entry { id, enqueued_at, ref request } = entry;
            self.queues[usize::from(request.model.0)].insert(id, enqueued_at, request);
            self.deadlines.insert((request.deadline, id));
            self.entries.insert(id, entry);
        }
    }

    fn sent(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        model: ModelId,
        tokens: Tokens,
        members: Vec<Entry<P>>,
    ) -> Batch<P> {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        let requests = members.len();
        self.devices[usize::from(device.0)].in_flight += 1;
        self.queues[usize::from(model.0)].in_flight += requests;
        self.in_flight.insert(id, InFlight { model, device, tokens, requests, dispatched_at: now });
        Batch { id, model, device, tokens, members }
    }
}

/// When a model's next batch may go to a device that is still computing.
fn release(queue: &ModelQueue, bounds: &ModelConfig, oldest: Timestamp) -> Timestamp {
    let is_full = queue.tokens >= bounds.batch_tokens_max || queue.requests() >= bounds.batch_sequences_max;
    if is_full || queue.has_critical() { Timestamp::ZERO } else { oldest + bounds.queue_delay_max }
}
