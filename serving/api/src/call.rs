//! A call and its answer.

use std::sync::Arc;
use std::time::Duration;

use models_core::tasks::{Answer, Input, OnError, Parameters};
use units::{Priority, WallTime};

use crate::quota::Quota;

/// What is asked, in no protocol's terms.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// Name of the model; `None` is the default model of what is asked for.
    pub model: Option<String>,
    /// The texts.
    pub inputs: Vec<Input>,
    /// How many there may be; as the model's card says if `None`.
    pub inputs_max: Option<usize>,
    /// What to do with them.
    pub parameters: Parameters,
    /// What a fault of one text does to the others.
    pub on_error: OnError,
    /// Class of service.
    pub priority: Priority,
    /// Longest the caller will wait; capped by the server's request timeout.
    pub timeout: Option<Duration>,
}

/// How long a call took, and when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From its arrival to its answer.
    pub total: Duration,
    /// Making tokens of its texts.
    pub tokenize: Duration,
    /// The longest that any of its sequences waited for its batch.
    pub queue: Duration,
    /// The longest that a device took for a batch with a sequence of it.
    pub compute: Duration,
    /// When it was answered.
    pub answered_at: WallTime,
}

/// The answer, in no protocol's terms.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// Name of the model that answered.
    pub model: Arc<str>,
    /// Version of the model that answered.
    pub version: Arc<str>,
    /// One result per input, in order, or why there is none.
    pub answer: Answer,
    /// How long its parts took.
    pub timings: Timings,
    /// Inputs computed, which are those charged.
    pub inputs: usize,
    /// Tokens of these.
    pub tokens: usize,
    /// What is left of the tenant's limits.
    pub quotas: Vec<Quota>,
}
