//! What batches of a model cost, measured before its first sequence comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use units::{Clock, ModelId, Tokens};

use super::executor::Executor;
use super::message::Observation;
use crate::scheduler::{ModelConfig, Work};

/// Length of the sequences, and how many of them make the first batch; each next one has four times as many.
const TOKENS: Tokens = Tokens(32);
const GROWTH: usize = 4;
/// Batches do not grow any more once one takes this long.
const ENOUGH: Duration = Duration::from_millis(10);

/// Batches of growing size, each run twice, since the first is cold: what the second took. What fails is not
/// learned from: the first real batch will show it. Batches are run one by one, so that those of other models
/// can come between.
pub(super) struct Sweep {
    pub(super) model: ModelId,
    config: ModelConfig,
    tokens: Tokens,
    /// Of the next batch.
    sequences: usize,
    /// Whether a batch of this size was run before.
    is_warm: bool,
    observations: Vec<Observation>,
}

impl Sweep {
    pub(super) fn new(model: ModelId, config: ModelConfig) -> Self {
        let tokens = TOKENS.min(config.batch_tokens_max);
        Self { model, config, tokens, sequences: 1, is_warm: false, observations: Vec::new() }
    }

    /// Runs the next batch. Returns what was learned, once there is nothing more to learn.
    pub(super) fn step<I: Send + 'static, O: Send + 'static>(
        &mut self,
        executor: &mut dyn Executor<Input = I, Output = O>,
        clock: &dyn Clock,
    ) -> Option<Vec<Observation>> {
        let by_tokens = (self.config.batch_tokens_max.0 / self.tokens.0.max(1)) as usize;
        if self.sequences > self.config.batch_sequences_max.min(by_tokens) {
            return Some(std::mem::take(&mut self.observations));
        }
        let run = || {
            let inputs = (0..self.sequences)
                .map(|_| executor.sample(self.model, self.tokens))
                .collect::<Option<Vec<I>>>()?;
            let began = clock.now();
            let is_computed = executor.execute(self.model, &inputs).is_ok();
            is_computed.then(|| clock.now().saturating_duration_since(began))
        };
        // A panic is a failure like others: nothing of it is used again.
        let Some(compute) = catch_unwind(AssertUnwindSafe(run)).ok().flatten() else {
            return Some(std::mem::take(&mut self.observations));
        };
        if !self.is_warm {
            self.is_warm = true;
            return None;
        }
        let work = Work(Work::of(self.tokens, self.config.attention).0 * self.sequences as f64);
        self.observations.push(Observation { work, compute });
        self.is_warm = false;
        self.sequences *= GROWTH;
        (compute >= ENOUGH).then(|| std::mem::take(&mut self.observations))
    }
}

/// All of a sweep at once.
pub(super) fn measure<I: Send + 'static, O: Send + 'static>(
    executor: &mut dyn Executor<Input = I, Output = O>,
    model: ModelId,
    config: &ModelConfig,
    clock: &dyn Clock,
) -> Vec<Observation> {
    let mut sweep = Sweep::new(model, config.clone());
    loop {
        if let Some(observations) = sweep.step(executor, clock) {
            return observations;
        }
    }
}
