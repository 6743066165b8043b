//! What is scheduled: sequences.

use units::{ModelId, Priority, TenantId, Timestamp, Tokens};

/// One sequence to compute: a window of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence<P> {
    /// The model that is to compute it.
    pub model: ModelId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The tenant's share of device time beside the others', at least 1.
    pub weight: u32,
    /// Its class of service.
    pub priority: Priority,
    /// Its length.
    pub tokens: Tokens,
    /// It is not dispatched at or after this moment.
    pub deadline: Timestamp,
    /// What the executor is given, or whatever else travels with it.
    pub payload: P,
}

/// Work that was refused for want of capacity before it was cut into sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefusedWork {
    /// The model that was to compute it.
    pub model: ModelId,
    /// Whose it was.
    pub tenant: TenantId,
    /// The tenant's share of device time beside the others', at least 1.
    pub weight: u32,
    /// Its class of service.
    pub priority: Priority,
    /// Calls.
    pub calls: u64,
    /// Seconds of a device that it would have taken.
    pub seconds: f64,
}

/// An accepted sequence; increasing in the order of arrival, and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    pub(super) number: u64,
    pub(super) slot: u32,
}

/// A sequence that the scheduler holds, or hands back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<P> {
    /// Its number.
    pub id: SequenceId,
    /// When it arrived.
    pub enqueued_at: Timestamp,
    /// What was asked.
    pub sequence: Sequence<P>,
}

impl<P> Sequence<P> {
    /// The same with another payload, and what was left of the one it had.
    pub(crate) fn map<Q, R>(self, change: impl FnOnce(P) -> (Q, R)) -> (Sequence<Q>, R) {
        let Self { model, tenant, weight, priority, tokens, deadline, payload } = self;
        let (payload, rest) = change(payload);
        (Sequence { model, tenant, weight, priority, tokens, deadline, payload }, rest)
    }
}

impl<P> Entry<P> {
    /// The same with another payload, and what was left of the one it had.
    pub(crate) fn map<Q, R>(self, change: impl FnOnce(P) -> (Q, R)) -> (Entry<Q>, R) {
        let Self { id, enqueued_at, sequence } = self;
        let (sequence, rest) = sequence.map(change);
        (Entry { id, enqueued_at, sequence }, rest)
    }
}
