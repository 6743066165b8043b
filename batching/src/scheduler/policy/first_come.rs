//! First come, first served: the batchers of other servers, to be measured beside ours with everything else
//! equal.

use units::{DeviceId, ModelId, Timestamp, Tokens};

use super::super::config::{PreferredSize, TokenBudget};
use super::{Batch, CallSize, Claim, Decision, EndReason, RejectReason, State};

/// Triton's dynamic batcher (its user guide, "Model Configuration", "Dynamic Batcher"), one instance a model;
/// of the models that are ready, the one that was ready first.
#[derive(Debug)]
pub(in crate::scheduler) struct PreferredSizeState {
    policy: PreferredSize,
}

/// The batcher of text-embeddings-inference (`core/src/queue.rs` of its repository), one queue a model, in
/// turns.
#[derive(Debug)]
pub(in crate::scheduler) struct TokenBudgetState {
    policy: TokenBudget,
    /// Whose turn it is, as a place among the models that are there.
    turn: usize,
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    sequences: usize,
    tokens: Tokens,
}

/// Everything is taken for which there is room, and that can be in time if it goes next.
pub(super) fn admit<P>(state: &State<P>, now: Timestamp, call: &CallSize) -> Result<Claim, RejectReason> {
    if call.earliest_end(state, now) > call.deadline {
        return Err(RejectReason::Infeasible);
    }
    if call.overfills(state) { Err(RejectReason::QueueFull) } else { Ok(Claim::Entitled) }
}

impl PreferredSizeState {
    pub(super) fn new(policy: PreferredSize) -> Self {
        Self { policy }
    }

    pub(super) fn poll<P>(&mut self, state: &mut State<P>, now: Timestamp, device: DeviceId) -> Decision<P> {
        let policy = &self.policy;
        let mut ready: Option<(Timestamp, ModelId)> = None;
        let mut wake: Option<Timestamp> = None;
        for (model, queue) in state.models.iter() {
            let Some(oldest) = queue.arrivals.first().and_then(|id| state.slots.get(id)) else { continue };
            let arrived = oldest.entry.enqueued_at;
            let is_full = queue.sequences >= policy.sequences.min(queue.config.batch_sequences_max);
            let at = if is_full { arrived } else { arrived + policy.queue_delay_max };
            if at <= now {
                let candidate = (at, model);
                ready = Some(ready.map_or(candidate, |first| first.min(candidate)));
            } else {
                wake = Some(wake.map_or(at, |first| first.min(at)));
            }
        }
        let batch = ready.and_then(|(_, model)| {
            let config = &state.models[model].config;
            let sequences = policy.sequences.min(config.batch_sequences_max);
            let bounds = Bounds { sequences, tokens: config.batch_tokens_max };
            take_oldest(state, now, device, model, bounds)
        });
        match (batch, wake) {
            (Some(batch), _) => Decision::Dispatch(batch),
            (None, Some(at)) => Decision::WaitUntil(at),
            (None, None) => Decision::Idle,
        }
    }
}

impl TokenBudgetState {
    pub(super) fn new(policy: TokenBudget) -> Self {
        Self { policy, turn: 0 }
    }

    pub(super) fn poll<P>(&mut self, state: &mut State<P>, now: Timestamp, device: DeviceId) -> Decision<P> {
        let models = state.models.present().len();
        for step in 0..models {
            let place = (self.turn + step) % models;
            let model = state.models.present()[place];
            let config = &state.models[model].config;
            let tokens = self.policy.tokens.min(config.batch_tokens_max);
            let bounds = Bounds { sequences: config.batch_sequences_max, tokens };
            if let Some(batch) = take_oldest(state, now, device, model, bounds) {
                self.turn = place + 1;
                return Decision::Dispatch(batch);
            }
        }
        Decision::Idle
    }
}

/// A batch of the oldest sequences. One that is larger than the budget goes alone.
fn take_oldest<P>(
    state: &mut State<P>,
    now: Timestamp,
    device: DeviceId,
    model: ModelId,
    bounds: Bounds,
) -> Option<Batch<P>> {
    let mut members = Vec::new();
    let mut tokens = Tokens(0);
    while members.len() < bounds.sequences {
        let Some(id) = state.models[model].arrivals.first() else { break };
        let Some(sequence) = state.slots.get(id).map(|waiting| &waiting.entry.sequence) else { break };
        let (length, is_expired) = (sequence.tokens, sequence.deadline <= now);
        if !is_expired && !members.is_empty() && tokens + length > bounds.tokens {
            break;
        }
        let Some(waiting) = state.take(id) else { break };
        if is_expired {
            state.give_back(waiting.entry, EndReason::DeadlineExceeded);
        } else {
            tokens += length;
            members.push(waiting.entry);
        }
    }
    if members.is_empty() { None } else { Some(state.dispatch(now, device, model, members)) }
}
