//! What the scheduler answers.

use std::time::Duration;

use units::{DeviceId, ModelId, Timestamp, Tokens};

use super::sequence::Entry;

/// A dispatched batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// What a device is to run next.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<P> {
    /// Its number, to be given to [`Scheduler::complete`](super::Scheduler::complete).
    pub id: BatchId,
    /// The model of every member.
    pub model: ModelId,
    /// The device.
    pub device: DeviceId,
    /// Sum of the members' tokens.
    pub tokens: Tokens,
    /// How long it is expected to take; zero while nothing is known of the model on this device.
    pub predicted: Duration,
    /// At least one.
    pub members: Vec<Entry<P>>,
}

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

/// Why a queued sequence was given back without having been dispatched or cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its deadline passed, or cannot be met any more.
    DeadlineExceeded,
    /// The queue was full, and a sequence with a better claim came.
    Shed,
}

/// Why a sequence was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The model's queue holds as many sequences or tokens as it may.
    QueueFull,
    /// Its deadline cannot be met with what is queued before it.
    Infeasible,
    /// The sequence has no tokens, or more than a batch may have.
    TooLarge,
    /// Its deadline is not in the future.
    DeadlinePassed,
    /// There is no such model (any more).
    UnknownModel,
    /// No new work is taken: the engine is being stopped.
    Draining,
}

impl RejectReason {
    /// Name with underscores, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Infeasible => "infeasible",
            Self::TooLarge => "too_large",
            Self::DeadlinePassed => "deadline_passed",
            Self::UnknownModel => "unknown_model",
            Self::Draining => "draining",
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refused: {}", .reason.name())]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// When to try again: about how long what is queued will take.
    pub retry_after: Duration,
}

/// A refused payload, handed back with the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct EnqueueError<P> {
    /// Why, and when to try again.
    pub rejection: Rejection,
    /// What was refused.
    pub payload: P,
}
