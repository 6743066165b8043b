//! Who is let in, and when to come back.

use std::time::Duration;

use units::{ModelId, Priority, TenantId, Timestamp, Tokens};

use super::Scheduler;
use super::cost::{Seconds, Work};
use super::decision::{RejectReason, Rejection};
use super::sequence::Sequence;
use super::standing::Claim;
use super::state::State;

/// Bounds of a retry hint, whatever the estimate says.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What a call asks for: one sequence or several, that are taken all or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallSize {
    pub(super) model: ModelId,
    pub(super) tenant: TenantId,
    pub(super) weight: u32,
    pub(super) priority: Priority,
    pub(super) sequences: usize,
    tokens: Tokens,
    /// Of all sequences, and of the longest.
    work: Work,
    longest: Work,
    /// Device time of its work, beside the overhead of batches.
    pub(super) seconds: Seconds,
    /// The earliest.
    pub(super) deadline: Timestamp,
}

impl CallSize {
    /// When the call could be done if only what the devices hold is before it.
    pub(super) fn earliest_end<P>(&self, state: &State<P>, now: Timestamp) -> Timestamp {
        let share = Work(self.work.0 / f64::from(state.fleet.count()));
        let work = if share > self.longest { share } else { self.longest };
        let alone = state.fleet.fastest(self.model).map_or(Duration::ZERO, |cost| cost.predict(work));
        state.fleet.free_at(now) + alone
    }

    /// Whether there is no room for it in its queue.
    pub(super) fn overfills<P>(&self, state: &State<P>) -> bool {
        let queue = &state.models[self.model];
        queue.sequences + self.sequences > queue.config.queue_sequences_max
            || queue.tokens + self.tokens > queue.config.queue_tokens_max
    }
}

impl<P> State<P> {
    /// Looks at what a call asks for, whose first sequence speaks for all. Makes the target the deadline
    /// where targets are hard.
    fn measure(&self, now: Timestamp, call: &mut [Sequence<P>]) -> Result<CallSize, RejectReason> {
        let Some(&Sequence { model, tenant, weight, priority, .. }) = call.first() else {
            return Err(RejectReason::TooLarge);
        };
        let config = &self.models.get_open(model).ok_or(RejectReason::UnknownModel)?.config;
        let (work, longest, deadline) = (Work::default(), Work::default(), Timestamp::MAX);
        let (sequences, tokens, seconds) = (call.len(), Tokens(0), Seconds::default());
        let mut size =
            CallSize { model, tenant, weight, priority, sequences, tokens, work, longest, seconds, deadline };
        for sequence in call {
            if sequence.tokens.0 == 0 || sequence.tokens > config.batch_tokens_max {
                return Err(RejectReason::TooLarge);
            }
            if sequence.deadline <= now {
                return Err(RejectReason::DeadlinePassed);
            }
            if config.is_target_hard {
                sequence.deadline = sequence.deadline.min(now + config.latency_target);
            }
            let work = Work::of(sequence.tokens, config.attention);
            size.tokens += sequence.tokens;
            size.work = size.work + work;
            size.longest = if work > size.longest { work } else { size.longest };
            size.deadline = size.deadline.min(sequence.deadline);
        }
        size.seconds = self.fleet.seconds(model, size.work);
        Ok(size)
    }
}

impl<P> Scheduler<P> {
    /// When a refused caller should come again: about when what is queued and running will be computed.
    pub fn retry_after(&self) -> Duration {
        self.state.drain().clamp(RETRY_MIN, RETRY_MAX)
    }

    /// Whether the sequences of a call may be queued, and with what claim.
    pub(super) fn admit(&mut self, now: Timestamp, call: &mut [Sequence<P>]) -> Result<Claim, Rejection> {
        let admitted = self.state.measure(now, call).and_then(|size| {
            let offered = &mut self.state.models[size.model].offered;
            offered.sequences += size.sequences as u64;
            offered.seconds += size.seconds.0;
            let admitted = self.policy.admit(&mut self.state, now, &size);
            if admitted.is_err() {
                self.state.models[size.model].offered.shed += size.sequences as u64;
            }
            admitted
        });
        admitted.map_err(|reason| Rejection { reason, retry_after: self.retry_after() })
    }
}
