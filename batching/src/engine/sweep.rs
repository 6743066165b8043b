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

/// Runs batches of growing size, each twice, since the first is cold: what the second took. What fails is not
/// learned from: the first real batch will show it.
pub(super) fn measure<I: Send + 'static, O: Send + 'static>(
    executor: &mut dyn Executor<Input = I, Output = O>,
    model: ModelId,
    config: &ModelConfig,
    clock: &dyn Clock,
) -> Vec<Observation> {
    let tokens = TOKENS.min(config.batch_tokens_max);
    let sequences_max = config.batch_sequences_max.min((config.batch_tokens_max.0 / tokens.0) as usize);
    let mut observations = Vec::new();
    let mut sequences = 1;
    while sequences <= sequences_max {
        let mut run = || {
            let inputs =
                (0..sequences).map(|_| executor.sample(model, tokens)).collect::<Option<Vec<I>>>()?;
            let began = clock.now();
            let is_computed = executor.execute(model, &inputs).is_ok();
            is_computed.then(|| clock.now().saturating_duration_since(began))
        };
        // A panic is a failure like others: nothing of it is used again.
        let mut guarded = || catch_unwind(AssertUnwindSafe(&mut run)).ok().flatten();
        let (Some(_), Some(compute)) = (guarded(), guarded()) else { break };
        let work = Work(Work::of(tokens, config.attention).0 * sequences as f64);
        observations.push(Observation { work, compute });
        if compute >= ENOUGH {
            break;
        }
        sequences *= GROWTH;
    }
    observations
}
