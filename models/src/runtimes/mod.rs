//! What computes a batch: the trait that every backend fulfils, and the choice of a backend by a card's `runtime`.
//!
//! Pooling and heads run inside the runtime, so that only results leave the device.

pub mod candle;

use std::path::Path;

use crate::batch::{HostTensor, TokenBatch};
use crate::card::Card;
use crate::error::ModelError;

/// One model on one device.
pub trait Runtime: Send {
    /// Computes a batch of `B` sequences and `T` tokens.
    ///
    /// Returns `[B, H]` for mean pooling, `[B, C]` for a sequence classifier and `[T, C]` for a token classifier; rows
    /// are in the order of the batch, and do not depend on what else is in it beyond rounding.
    ///
    /// # Errors
    /// When the batch is not one this model can read, or the device fails; see [`RuntimeError::is_fatal`].
    fn run(&mut self, batch: &TokenBatch) -> Result<HostTensor, RuntimeError>;
}

/// The loaded weights of one model, from which each device replica gets its own [`Runtime`].
pub trait Weights: Send + Sync {
    /// A runtime over these weights; the weights are shared, not copied.
    ///
    /// # Errors
    /// When the device refuses.
    fn runtime(&self) -> Result<Box<dyn Runtime>, RuntimeError>;

    /// Rows of the embedding table: token ids are below it.
    fn vocabulary_size(&self) -> usize;

    /// Columns of a result: hidden size `H` for mean pooling, classes `C` for a classifier.
    fn columns(&self) -> usize;
}

/// Why a batch was not computed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A sequence without tokens.
    #[error("sequence {index} is empty")]
    EmptySequence {
        /// Its place in the batch.
        index: usize,
    },
    /// A sequence longer than the positions the model was trained with.
    #[error("sequence {index} has {length} tokens, the model has {limit} positions")]
    TooLong {
        /// Its place in the batch.
        index: usize,
        /// Its tokens.
        length: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A token id outside the embedding table.
    #[error("token id {id} is not among the model's {vocabulary}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Rows of the embedding table.
        vocabulary: usize,
    },
    /// The batch contradicts itself.
    #[error("malformed batch: {0}")]
    MalformedBatch(&'static str),
    /// The result holds a value that is not a number.
    #[error("the model produced a value that is not finite")]
    NotFinite,
    /// The backend failed.
    #[error("{message}")]
    Backend {
        /// What it said.
        message: String,
        /// Whether the device is beyond use.
        is_fatal: bool,
    },
}

impl RuntimeError {
    /// Whether the device is beyond use, so that the process must drain and be replaced. Other errors concern one batch.
    pub fn is_fatal(&self) -> bool {
        matches!(self, RuntimeError::Backend { is_fatal: true, .. })
    }
}

/// Loads weights through whichever backend a card names, keeping base encoders that several cards share.
#[derive(Default)]
pub struct Loader {
    candle: candle::Loader,
}

impl Loader {
    /// Names of the backends in this build.
    pub const RUNTIMES: &[&str] = &[candle::NAME];

    /// Loads the model of a card whose source files are in `folder`.
    ///
    /// # Errors
    /// When the card asks for what this build does not have, or its files do not fit together.
    pub fn load(&mut self, card: &Card, folder: &Path) -> Result<Box<dyn Weights>, ModelError> {
        match card.runtime.as_str() {
            candle::NAME => Ok(Box::new(self.candle.load(card, folder)?)),
            other => Err(unsupported("runtime", other, Self::RUNTIMES)),
        }
    }
}

/// The error for a field of a card that names something unknown.
pub(crate) fn unsupported(field: &'static str, value: &str, supported: &[&str]) -> ModelError {
    ModelError::Unsupported { field, value: value.to_owned(), supported: supported.join(", ") }
}
