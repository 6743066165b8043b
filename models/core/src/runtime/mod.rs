//! What computes a batch: the traits that every runtime fulfils, and what it is given.
//!
//! Pooling and heads run inside the runtime, so that only results leave the device.

mod checks;
mod device;
mod error;

use std::path::Path;
use std::sync::Arc;

use crate::batch::{HostTensor, TokenBatch};
use crate::card::Card;
use crate::error::ModelError;
use crate::kinds::{RuntimeKind, Unsupported};
use crate::spec::EncoderSpec;
use crate::weights::EncoderWeights;

pub use checks::{check_batch, check_finite, check_plain, check_unpaired};
pub use device::{Accelerator, BatchLimits, Device, DeviceConfig, Footprint, GpuConfig, GpuRuntime};
pub use error::RuntimeError;

/// Batches that the models of a device have under way at most: one that is computed, and one that is given to
/// it.
pub const UNDER_WAY_MAX: usize = 2;

/// A way to compute models. What its models share on a device is put there by a function of its crate,
/// `open`, where there is any.
pub trait Backend: Send {
    /// The name by which cards choose it.
    fn kind(&self) -> RuntimeKind;

    /// Whether it can compute encoders such as this one.
    ///
    /// # Errors
    /// Names what it has no code for, and what it has.
    fn supports(&self, spec: &EncoderSpec) -> Result<(), Unsupported>;

    /// Loads the model of a card over a base encoder that it supports, from `folder`. Cards over the same
    /// folder share what they can.
    ///
    /// # Errors
    /// When the number format is not supported, or the files do not fit one another or the card.
    fn load(
        &mut self,
        card: &Card,
        folder: &Path,
        base: &Arc<EncoderWeights>,
    ) -> Result<Box<dyn Weights>, ModelError>;
}

/// One model on one device.
pub trait Runtime: Send {
    /// Computes a batch of `B` sequences and `T` tokens.
    ///
    /// The result, which replaces what is in `result`, is `[B, H]` for mean pooling (`[T, H]`, not pooled,
    /// where the [batch wants it](TokenBatch::wants_tokens) and the runtime [can](Weights::gives_tokens)),
    /// `[B, C]` for a sequence classifier and `[T, C]` for a token classifier; rows are in the order of the
    /// batch, and do not depend on what else is in it beyond rounding. A caller who passes the same tensor
    /// again spares an allocation.
    ///
    /// # Errors
    /// When the batch is not one this model can read, or the device fails; see [`RuntimeError::is_fatal`].
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError>;

    /// The same, if a device computes beside the thread that drives it. `None`: `run` is all there is.
    fn overlap(&mut self) -> Option<&mut dyn Overlap> {
        None
    }
}

/// A model whose device computes one batch while it is given the next. All models of a device together have
/// at most [`UNDER_WAY_MAX`] under way, which end in the order in which they began, and each must be
/// finished.
pub trait Overlap {
    /// Gives the device a batch. False: not while others are under way.
    ///
    /// # Errors
    /// As [`Runtime::run`]; the batch is not under way.
    fn begin(&mut self, batch: &TokenBatch) -> Result<bool, RuntimeError>;

    /// Whether the device is done with the first batch that it has, of whichever model.
    fn is_finished(&mut self) -> bool;

    /// Waits for the first batch under way, which is this model's, and takes its result.
    ///
    /// # Errors
    /// As [`Runtime::run`]; the batch is ended all the same.
    fn finish(&mut self, result: &mut HostTensor) -> Result<(), RuntimeError>;
}

/// The loaded weights of one model, from which each device replica gets its own [`Runtime`].
pub trait Weights: Send + Sync {
    /// A runtime over these weights on a device; the weights are shared, not copied.
    ///
    /// # Errors
    /// When the device refuses, or was not opened for this runtime.
    fn runtime(&self, device: &Device) -> Result<Box<dyn Runtime>, RuntimeError>;

    /// What [`runtime`](Self::runtime) takes of a GPU's memory.
    fn footprint(&self, _device: &Device) -> Footprint {
        Footprint::default()
    }

    /// Rows of the embedding table: token ids are below it.
    fn vocabulary_size(&self) -> usize;

    /// Numbers in a hidden state of the encoder.
    fn hidden_size(&self) -> usize;

    /// Columns of a result: hidden size `H` for mean pooling, classes `C` for a classifier.
    fn columns(&self) -> usize;

    /// Whether the runtime gives what a pooling model pools, for batches that want it.
    fn gives_tokens(&self) -> bool {
        false
    }
}
