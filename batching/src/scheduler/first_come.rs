//! First come, first served: the batchers of other servers, to be measured beside ours with everything else equal.

use super::config::{PreferredSize, TokenBudget};
use super::{Batch, Decision, Ended, Scheduler};
use crate::units::{DeviceId, ModelId, Timestamp, Tokens};

impl<P> Scheduler<P> {
    /// Triton's dynamic batcher (its user guide, "Model Configuration", "Dynamic Batcher"), one instance a model; of the
    /// models that are ready, the one that was ready first.
    pub(super) fn poll_preferred_size(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        policy: &PreferredSize,
    ) -> Decision<P> {
        let mut ready: Option<(Timestamp, ModelId)> = None;
        let mut wake: Option<Timestamp> = None;
        for (index, queue) in self.queues.iter().enumerate() {
            let Some(oldest) = queue.arrivals.first().and_then(|id| self.slots.get(id)) else { continue };
            let arrived = oldest.entry.enqueued_at;
            let is_full =
                queue.requests >= policy.sequences.min(self.config.models[index].batch_sequences_max);
            let at = if is_full { arrived } else { arrived + policy.queue_delay_max };
            if at <= now {
                let candidate = (at, ModelId(index as u16));
                ready = Some(ready.map_or(candidate, |first| first.min(candidate)));
            } else {
                wake = Some(wake.map_or(at, |first| first.min(at)));
            }
        }
        let batch = ready.and_then(|(_, model)| {
            let bounds = &self.config.models[usize::from(model.0)];
            let (sequences, tokens) =
                (policy.sequences.min(bounds.batch_sequences_max), bounds.batch_tokens_max);
            self.take_oldest(now, device, model, sequences, tokens)
        });
        match (batch, wake) {
            (Some(batch), _) => Decision::Dispatch(batch),
            (None, Some(at)) => Decision::WaitUntil(at),
            (None, None) => Decision::Idle,
        }
    }

    /// The batcher of text-embeddings-inference (`core/src/queue.rs` of its repository), one queue a model, in turns.
    pub(super) fn poll_token_budget(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        policy: &TokenBudget,
    ) -> Decision<P> {
        for step in 0..self.queues.len() {
            let index = (self.turn + step) % self.queues.len();
            let bounds = &self.config.models[index];
            let tokens = policy.tokens.min(bounds.batch_tokens_max);
            let requests = bounds.batch_sequences_max;
            if let Some(batch) = self.take_oldest(now, device, ModelId(index as u16), requests, tokens) {
                self.turn = index + 1;
                return Decision::Dispatch(batch);
            }
        }
        Decision::Idle
    }

    /// A batch of the oldest requests. One that is larger than a budget goes alone.
    fn take_oldest(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        model: ModelId,
        requests_max: usize,
        tokens_max: Tokens,
    ) -> Option<Batch<P>> {
        let mut members = Vec::new();
        let mut tokens = Tokens(0);
        while members.len() < requests_max {
            let Some(id) = self.queues[usize::from(model.0)].arrivals.first() else { break };
            let Some(waiting) = self.slots.get(id) else { break };
            let request = &waiting.entry.request;
            let is_expired = request.deadline <= now;
            if !is_expired && !members.is_empty() && tokens + request.tokens > tokens_max {
                break;
            }
            let length = request.tokens;
            if is_expired {
                self.end(id, Ended::DeadlineExceeded);
                continue;
            }
            tokens += length;
            members.extend(self.remove(id));
        }
        if members.is_empty() { None } else { Some(self.sent(now, device, model, members)) }
    }
}
