//! What batches cost, measured before the first request comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::clock::Clock;
use super::executor::Executor;
use crate::scheduler::{ModelConfig, Scheduler, Work};
use crate::units::{DeviceId, ModelId, Tokens};

/// Length of the sequences, and how many of them make the first batch; each next one has four times as many.
const TOKENS: Tokens = Tokens(32);
const GROWTH: usize = 4;
/// A model's batches do not grow any more once one takes this long.
const ENOUGH: Duration = Duration::from_millis(10);

/// Runs batches of growing size of every model, each twice, since the first is cold, and teaches the scheduler what the
/// second took. What fails is not learned from: the first real batch will show it.
pub(super) fn learn_costs<I: Send + 'static, O: Send + 'static, P>(
    device: DeviceId,
    executor: &mut dyn Executor<Input = I, Output = O>,
    models: &[ModelConfig],
    clock: &dyn Clock,
    scheduler: &mut Scheduler<P>,
) {
    for (index, bounds) in models.iter().enumerate() {
        let model = ModelId(index as u16);
        let tokens = TOKENS.min(bounds.batch_tokens_max);
        let sequences_max = bounds.batch_sequences_max.min((bounds.batch_tokens_max.0 / tokens.0) as usize);
        let mut sequences = 1;
        while sequences <= sequences_max {
            let inputs: Option<Vec<I>> = (0..sequences).map(|_| executor.sample(model, tokens)).collect();
            let Some(inputs) = inputs else { break };
            let mut run = || {
                let began = clock.now();
                let result = catch_unwind(AssertUnwindSafe(|| executor.execute(model, &inputs)));
                let is_computed = matches!(result, Ok(Ok(_)));
                is_computed.then(|| clock.now().saturating_duration_since(began))
            };
            let (Some(_), Some(compute)) = (run(), run()) else { break };
            let work = Work(Work::of(tokens, bounds.attention).0 * sequences as f64);
            scheduler.calibrate(device, model, work, compute);
            if compute >= ENOUGH {
                break;
            }
            sequences *= GROWTH;
        }
    }
}
