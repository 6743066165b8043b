//! A call and its answer.

use std::sync::Arc;
use std::time::Duration;

use models_core::RuntimeKind;
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
    /// Waiting for its batch, of the sequence that took longest.
    pub queue: Duration,
    /// Computing that batch.
    pub compute: Duration,
    /// When it was answered.
    pub answered_at: WallTime,
}

impl Timings {
    /// Takes over how long a sequence waited and its batch was computed, if that was longer than of those
    /// before. Both are of one sequence, so that together they are no longer than the call.
    pub fn sequence(&mut self, queue: Duration, compute: Duration) {
        if queue + compute > self.queue + self.compute {
            (self.queue, self.compute) = (queue, compute);
        }
    }
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
    /// What computed them.
    pub processor: Processor,
    /// What is left of the tenant's limits.
    pub quotas: Vec<Quota>,
}

/// What computes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The processors that the server itself runs on.
    Cpu,
    /// A GPU.
    Gpu,
}

impl Processor {
    /// Its name, as callers are told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// What a runtime computes on.
    pub const fn of(runtime: RuntimeKind) -> Self {
        match runtime {
            RuntimeKind::Cuda => Self::Gpu,
            RuntimeKind::Candle | RuntimeKind::Fused | RuntimeKind::Onnx => Self::Cpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One waits long and the other is computed long: not both are told of a call in which they were at once.
    #[test]
    fn the_longest_sequence_is_told_of() {
        let ms = Duration::from_millis;
        let check = |sequences: &[(u64, u64)], expected: (u64, u64)| {
            let mut timings = Timings::default();
            sequences.iter().for_each(|(queue, compute)| timings.sequence(ms(*queue), ms(*compute)));
            assert_eq!((timings.queue, timings.compute), (ms(expected.0), ms(expected.1)), "{sequences:?}");
        };
        check(&[], (0, 0));
        check(&[(5, 2)], (5, 2));
        check(&[(50, 10), (1, 58)], (50, 10));
        check(&[(1, 58), (50, 10)], (50, 10));
    }
}
