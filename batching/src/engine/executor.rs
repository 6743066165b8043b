//! What runs batches.

use std::error::Error;
use std::sync::Arc;

use units::{ModelId, Tokens};

/// A device that computes batches, driven by a thread of its own.
pub trait Executor: Send + 'static {
    /// One sequence.
    type Input: Send + 'static;
    /// Its result.
    type Output: Send + 'static;

    /// Computes one batch: one output for each input, in order.
    ///
    /// # Errors
    /// The whole batch failed; unless that is fatal, the engine tries its halves. A panic is taken as a fatal
    /// error.
    fn execute(&mut self, model: ModelId, inputs: &[Self::Input]) -> Result<Vec<Self::Output>, ExecuteError>;

    /// Some sequence of this length, by which the engine learns what batches of `model` cost before the first
    /// one comes. `None` if there is nothing to learn: the model is not on this device.
    fn sample(&mut self, model: ModelId, tokens: Tokens) -> Option<Self::Input>;

    /// Gives back what the device holds for a model: nothing of it comes any more. By default there is
    /// nothing.
    fn forget(&mut self, _model: ModelId) {}

    /// The same, if the device computes beside the thread that drives it. `None`: `execute` is all there is.
    fn overlap(&mut self) -> Option<&mut dyn Overlap<Self::Input, Self::Output>> {
        None
    }
}

/// Batches that an [`Overlap`] has at a time: one computes, and the input of the next is there when it ends.
pub const UNDER_WAY_MAX: usize = 2;

/// A device that computes while the next batch is given to it. Batches end in the order in which they began.
pub trait Overlap<I, O> {
    /// Gives the device a batch, of which it has fewer than [`UNDER_WAY_MAX`].
    ///
    /// # Errors
    /// The device does not take it, and has what it had before.
    fn begin(&mut self, model: ModelId, inputs: &[I]) -> Result<(), ExecuteError>;

    /// Whether the device is done with the first batch that it has.
    fn is_finished(&mut self) -> bool;

    /// Waits until it is, and takes the outputs: one for each input, in order.
    ///
    /// # Errors
    /// As [`Executor::execute`]; the batch is ended all the same.
    fn finish(&mut self) -> Result<Vec<O>, ExecuteError>;
}

/// Why a batch failed. Cheap to clone, since every member is told.
#[derive(Debug, Clone)]
pub struct ExecuteError {
    /// What went wrong.
    pub source: Arc<dyn Error + Send + Sync>,
    /// Whether the device is lost: nothing more is run on it.
    pub is_fatal: bool,
}

impl std::fmt::Display for ExecuteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "batch failed{}: {}", if self.is_fatal { " for good" } else { "" }, self.source)
    }
}

impl Error for ExecuteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
