//! What the engine's threads say to each other.

use std::time::Duration;

use futures_channel::oneshot;
use units::{DeviceId, ModelId};

use super::answer::Answer;
use super::executor::ExecuteError;
use crate::scheduler::{Batch, BatchId, ConfigError, Entry, ModelConfig, Sequence, Work};

/// What callers ask of the scheduler thread.
pub(super) enum Command<I, O> {
    /// Sequences of one call, that are taken all or none.
    Submit(Vec<Sequence<Payload<I, O>>>),
    /// The caller of this job has left.
    Cancel(u64),
    /// Take sequences of one more model, and tell once every device knows what its batches cost.
    AddModel { model: ModelId, config: ModelConfig, added: oneshot::Sender<Result<(), ConfigError>> },
    /// Take nothing more for a model, and tell once nothing of it waits or runs.
    RemoveModel { model: ModelId, removed: oneshot::Sender<()> },
    /// Stop once everything accepted has been answered.
    Shutdown,
}

/// What travels through the scheduler with a sequence.
pub(super) struct Payload<I, O> {
    /// Number of the job, by which it is cancelled.
    pub(super) job: u64,
    pub(super) input: I,
    pub(super) answer: oneshot::Sender<Answer<O>>,
    /// Devices that were lost with it aboard.
    pub(super) losses: u8,
}

/// A batch whose members carry their way back.
pub(super) type DeviceBatch<I, O> = Batch<Payload<I, O>>;

/// What the scheduler thread asks of a device.
pub(super) enum Order<I, O> {
    Run(DeviceBatch<I, O>),
    /// Measure what batches of a model cost.
    Measure {
        model: ModelId,
        config: ModelConfig,
    },
    /// Give back what is held for a model that was removed.
    Forget {
        model: ModelId,
    },
}

/// What a device answers.
pub(super) enum DeviceReport<I, O> {
    /// Every member has its answer. `compute` is the time it took, if that is worth learning from.
    Done { batch: BatchId, compute: Option<Duration> },
    /// The device is gone, and these members have no answer.
    Lost { batch: BatchId, members: Vec<Entry<Payload<I, O>>>, error: ExecuteError },
    /// What batches of a model cost.
    Measured { device: DeviceId, model: ModelId, costs: Vec<Observation> },
    /// Nothing is held for a model any more.
    Forgotten { model: ModelId },
}

/// A batch that was computed to learn from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    pub(super) work: Work,
    pub(super) compute: Duration,
}
