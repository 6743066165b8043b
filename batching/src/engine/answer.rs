//! What a sequence resolves to.

use std::time::Duration;

use super::executor::ExecuteError;
use crate::scheduler::Rejection;

/// A computed sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion<O> {
    /// What the executor gave for it.
    pub output: O,
    /// From the engine's acceptance to its batch's start on the device.
    pub queue: Duration,
    /// Time the device took for its batch.
    pub compute: Duration,
    /// How many were computed with it, itself included.
    pub batch_sequences: usize,
}

/// Why a sequence has no output.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The scheduler refused it.
    #[error(transparent)]
    Rejected(Rejection),
    /// It waited until its deadline.
    #[error("the deadline passed before the request was computed")]
    DeadlineExceeded,
    /// Its batch failed.
    #[error(transparent)]
    Execution(ExecuteError),
    /// The engine ended first.
    #[error("the engine was shut down")]
    ShutDown,
}

/// What a sequence resolves to.
pub(super) type Answer<O> = Result<Completion<O>, Failure>;
