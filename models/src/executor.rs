//! What an engine thread of `batching` drives: one device with one runtime for each loaded model.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use batching::{ExecuteError, Executor, Overlap};
use models_core::card::Pooling;
use models_core::{Device, HostTensor, Runtime, RuntimeError, Sequence, SequenceOutput, TokenBatch};
use units::{ModelId, Tokens};

use crate::catalog::ModelEntry;

/// What sequences for measuring consist of: every vocabulary has a first token.
const SAMPLE_TOKEN: u32 = 0;

// What a device is given at once is what its runtimes have room for.
const _: () = assert!(batching::UNDER_WAY_MAX == models_core::UNDER_WAY_MAX);

/// Packs sequences into a ragged batch, runs it, and cuts the result into one output per sequence.
pub struct DeviceExecutor {
    /// Nothing for a model that is unavailable.
    models: BTreeMap<ModelId, DeviceModel>,
    /// Where others come from, and the device that they are put on.
    growth: Option<(Arc<Device>, Arrivals)>,
    under_way: VecDeque<UnderWay>,
    /// Batches that have ended and the last result, kept for their memory.
    spare: Vec<TokenBatch>,
    result: HostTensor,
}

/// A batch that was begun.
struct UnderWay {
    model: ModelId,
    batch: TokenBatch,
    /// Its device has it; or it is run when its turn has come.
    is_on_device: bool,
}

pub(crate) struct DeviceModel {
    pub(crate) runtime: Box<dyn Runtime>,
    /// One row per token rather than one per sequence.
    pub(crate) is_per_token: bool,
    /// How what a runtime gives in full is pooled.
    pub(crate) pooling: Pooling,
}

/// Models that are to be put on a device, by the thread that drives it, when they are first asked for: while
/// one is put there nothing else is computed.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    models: BTreeMap<ModelId, Arc<ModelEntry>>,
    /// Why a model is not on the device.
    refusals: BTreeMap<ModelId, String>,
}

impl Arrivals {
    /// Lets the device have one more model.
    pub fn add(&self, entry: Arc<ModelEntry>) {
        self.lock().models.insert(entry.id, entry);
    }

    /// Why the device did not take a model, if so. Told once.
    pub fn refusal(&self, model: ModelId) -> Option<String> {
        self.lock().refusals.remove(&model)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a batch gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The runtime refused or failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// No such model on this device.
    #[error("model {0} is not loaded on this device")]
    NotLoaded(u16),
    /// The runtime's result does not have the rows that its head must give.
    #[error("the runtime returned {found:?}, expected {rows} rows")]
    Shape {
        /// The shape it returned.
        found: Vec<usize>,
        /// Rows that were expected.
        rows: usize,
    },
}

impl DeviceExecutor {
    pub(crate) fn new(models: BTreeMap<ModelId, DeviceModel>) -> Self {
        let (under_way, spare) = (VecDeque::new(), Vec::new());
        Self { models, growth: None, under_way, spare, result: HostTensor::default() }
    }

    /// The same, which takes in the models that arrive.
    pub(crate) fn growing(self, device: Arc<Device>) -> (Self, Arrivals) {
        let arrivals = Arrivals::default();
        (Self { growth: Some((device, arrivals.clone())), ..self }, arrivals)
    }

    /// Takes a model in that has arrived. Returns whether it is here.
    fn take_in(&mut self, model: ModelId) -> bool {
        if self.models.contains_key(&model) {
            return true;
        }
        let Some((device, arrivals)) = &self.growth else { return false };
        let Some(entry) = arrivals.lock().models.remove(&model) else { return false };
        match entry.on_device(device) {
            Ok(taken) => {
                self.models.extend(taken.map(|taken| (model, taken)));
                self.models.contains_key(&model)
            }
            Err(error) => {
                arrivals.lock().refusals.insert(model, error.to_string());
                false
            }
        }
    }

    fn begin(&mut self, model: ModelId, sequences: &[Sequence]) -> Result<(), DeviceError> {
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.pack(sequences);
        // Batches end in their order: behind one that waits, all do.
        let is_behind = self.under_way.iter().any(|earlier| !earlier.is_on_device);
        let is_on_device = match slot(&mut self.models, model)?.runtime.overlap() {
            Some(overlap) if !is_behind && batch.sequences() > 0 => overlap.begin(&batch)?,
            _ => false,
        };
        self.under_way.push_back(UnderWay { model, batch, is_on_device });
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<SequenceOutput>, DeviceError> {
        let Some(UnderWay { model, batch, is_on_device }) = self.under_way.pop_front() else {
            return Ok(Vec::new());
        };
        let outputs = self.outputs(model, &batch, is_on_device);
        self.spare.push(batch);
        outputs
    }

    fn outputs(
        &mut self,
        model: ModelId,
        batch: &TokenBatch,
        is_on_device: bool,
    ) -> Result<Vec<SequenceOutput>, DeviceError> {
        let DeviceModel { runtime, is_per_token, pooling } = slot(&mut self.models, model)?;
        match runtime.overlap().filter(|_| is_on_device) {
            Some(overlap) => overlap.finish(&mut self.result)?,
            None if batch.sequences() == 0 => return Ok(Vec::new()),
            None => runtime.run(batch, &mut self.result)?,
        }
        split(&self.result, batch, *is_per_token, *pooling)
    }
}

fn slot(
    models: &mut BTreeMap<ModelId, DeviceModel>,
    model: ModelId,
) -> Result<&mut DeviceModel, DeviceError> {
    models.get_mut(&model).ok_or(DeviceError::NotLoaded(model.0))
}

impl From<DeviceError> for ExecuteError {
    fn from(error: DeviceError) -> Self {
        let is_fatal = matches!(&error, DeviceError::Runtime(error) if error.is_fatal());
        Self { source: Arc::new(error), is_fatal }
    }
}

impl Executor for DeviceExecutor {
    type Input = Sequence;
    type Output = SequenceOutput;

    fn execute(&mut self, model: ModelId, inputs: &[Sequence]) -> Result<Vec<SequenceOutput>, ExecuteError> {
        Overlap::begin(self, model, inputs)?;
        Overlap::finish(self)
    }

    fn sample(&mut self, model: ModelId, tokens: Tokens) -> Option<Sequence> {
        self.take_in(model).then(|| Sequence::new(vec![SAMPLE_TOKEN; tokens.0 as usize]))
    }

    fn forget(&mut self, model: ModelId) {
        self.models.remove(&model);
        if let Some((_, arrivals)) = &self.growth {
            let mut waiting = arrivals.lock();
            waiting.models.remove(&model);
            waiting.refusals.remove(&model);
        }
    }

    fn overlap(&mut self) -> Option<&mut dyn Overlap<Sequence, SequenceOutput>> {
        let mut models = self.models.values_mut();
        models.any(|model| model.runtime.overlap().is_some()).then_some(self)
    }
}

impl Overlap<Sequence, SequenceOutput> for DeviceExecutor {
    fn begin(&mut self, model: ModelId, inputs: &[Sequence]) -> Result<(), ExecuteError> {
        Ok(DeviceExecutor::begin(self, model, inputs)?)
    }

    fn is_finished(&mut self) -> bool {
        let Some(UnderWay { model, is_on_device: true, .. }) = self.under_way.front() else { return true };
        let overlap = slot(&mut self.models, *model).ok().and_then(|model| model.runtime.overlap());
        overlap.is_none_or(models_core::Overlap::is_finished)
    }

    fn finish(&mut self) -> Result<Vec<SequenceOutput>, ExecuteError> {
        Ok(DeviceExecutor::finish(self)?)
    }
}

/// Cuts `[B, n]` or `[T, n]` into one matrix per sequence. A batch may want rows per token for some of its
/// sequences and pooled ones for others: it has them per token, and the others are pooled here.
fn split(
    result: &HostTensor,
    batch: &TokenBatch,
    is_per_token: bool,
    pooling: Pooling,
) -> Result<Vec<SequenceOutput>, DeviceError> {
    let has_tokens = is_per_token || batch.wants_tokens();
    let rows = if has_tokens { batch.tokens() } else { batch.sequences() };
    let HostTensor { data, shape } = result;
    let columns = match shape[..] {
        [found, columns] if found == rows && rows * columns == data.len() => columns,
        _ => return Err(DeviceError::Shape { found: shape.clone(), rows }),
    };
    let output = |rows: std::ops::Range<usize>| SequenceOutput {
        values: data[rows.start * columns..rows.end * columns].to_vec(),
        columns,
    };
    let pooled = |rows: std::ops::Range<usize>, unpooled: u32| {
        let rows = &data[rows.start * columns..rows.end * columns];
        SequenceOutput { values: pooling.pool(rows, columns, unpooled as usize), columns }
    };
    Ok(if has_tokens {
        let wants = batch.per_token.iter().map(|wants_tokens| is_per_token || *wants_tokens);
        let sequences = batch.ranges().zip(wants).zip(&batch.unpooled);
        sequences
            .map(|((rows, wants), unpooled)| if wants { output(rows) } else { pooled(rows, *unpooled) })
            .collect()
    } else {
        (0..rows).map(|row| output(row..row + 1)).collect()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// Answers with the token ids, so that rows can be told apart, or with an error.
    struct Echo {
        is_per_token: bool,
        fails_fatally: bool,
    }

    impl Runtime for Echo {
        fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError> {
            if self.fails_fatally {
                return Err(RuntimeError::Backend { message: "gone".to_owned(), is_fatal: true });
            }
            let value = |id: u32| [id as f32, -(id as f32)];
            let data: Vec<f32> = match self.is_per_token {
                true => batch.input_ids.iter().flat_map(|&id| value(id)).collect(),
                false => batch.ranges().flat_map(|range| value(batch.input_ids[range.start])).collect(),
            };
            let rows = data.len() / 2;
            *result = HostTensor { data, shape: vec![rows, 2] };
            Ok(())
        }
    }

    fn executor(is_per_token: bool, fails_fatally: bool) -> DeviceExecutor {
        let runtime = Box::new(Echo { is_per_token, fails_fatally });
        let model = DeviceModel { runtime, is_per_token, pooling: Pooling::Mean };
        DeviceExecutor::new(BTreeMap::from([(ModelId(1), model)]))
    }

    fn sequences() -> Vec<Sequence> {
        [vec![1, 2], vec![3]].map(Sequence::new).to_vec()
    }

    #[test]
    fn each_sequence_gets_its_rows() {
        let check = |is_per_token, expected: [&[f32]; 2]| {
            let outputs = executor(is_per_token, false).execute(ModelId(1), &sequences()).unwrap();
            let values: Vec<_> = outputs.iter().map(|output| output.values.as_slice()).collect();
            assert_eq!(values, expected);
            assert!(outputs.iter().all(|output| output.columns == 2));
        };
        check(false, [&[1.0, -1.0], &[3.0, -3.0]]);
        check(true, [&[1.0, -1.0, 2.0, -2.0], &[3.0, -3.0]]);
    }

    /// Those who want vectors of tokens and those who want pooled ones may share a batch.
    #[test]
    fn pooled_and_not_pooled_in_one_batch() {
        let mut sequences = [vec![1, 2], vec![3, 5, 7], vec![9]].map(Sequence::new).to_vec();
        sequences[1].wants_tokens = true;
        let outputs = executor(true, false).execute(ModelId(1), &sequences).unwrap();
        assert_eq!(outputs.len(), 3);
        let (batch, columns) = (TokenBatch::from_sequences(&sequences), 2);
        let data: Vec<f32> = batch.input_ids.iter().flat_map(|id| [*id as f32, -(*id as f32)]).collect();
        let outputs =
            split(&HostTensor { data, shape: vec![6, columns] }, &batch, false, Pooling::Mean).unwrap();
        let values: Vec<_> = outputs.iter().map(|output| output.values.as_slice()).collect();
        assert_eq!(values, [&[1.5, -1.5][..], &[3.0, -3.0, 5.0, -5.0, 7.0, -7.0], &[9.0, -9.0]]);
        // A runtime that pools all the same is not believed.
        let pooled = HostTensor { data: vec![0.0; 6], shape: vec![3, columns] };
        assert!(matches!(
            split(&pooled, &batch, false, Pooling::Mean),
            Err(DeviceError::Shape { rows: 6, .. })
        ));
    }

    #[test]
    fn errors_say_whether_the_device_is_lost() {
        let check = |model: u16, fails_fatally, is_fatal| {
            let error = executor(false, fails_fatally).execute(ModelId(model), &sequences()).unwrap_err();
            assert_eq!(error.is_fatal, is_fatal, "model {model}");
        };
        check(0, false, false);
        check(7, false, false);
        check(1, true, true);
    }

    #[test]
    fn a_result_of_the_wrong_shape_is_refused() {
        let batch = TokenBatch::from_sequences(&sequences());
        for shape in [vec![3, 2], vec![2, 3], vec![4], vec![2, 2, 1]] {
            let result = HostTensor { data: vec![0.0; 4], shape };
            assert!(matches!(
                split(&result, &batch, false, Pooling::Mean),
                Err(DeviceError::Shape { rows: 2, .. })
            ));
        }
    }

    #[test]
    fn no_sequences_are_not_computed() {
        assert_eq!(executor(false, true).execute(ModelId(1), &[]).unwrap(), []);
    }
}
