//! The candle runtime: BERT encoders over ragged batches on the CPU.
//!
//! It is the reference against which other runtimes are held. Linear layers run on packed rows `[T, H]`, attention on
//! each sequence by itself, so that no padding is ever computed.

pub mod encoder;
pub mod heads;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device as TensorDevice;

use crate::batch::{HostTensor, TokenBatch};
use crate::card::Card;
use crate::error::ModelError;
use crate::runtimes::{Device, Runtime, RuntimeError, Weights, check_supported};
use crate::weights::{BertWeights, HeadWeights, LoraAdapter};
use encoder::{Embeddings, Encoder};
use heads::Head;

/// The name by which cards choose this runtime.
pub const NAME: &str = "candle";
const DTYPES: &[&str] = &["float32"];

/// An encoder and a head. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct CandleModel {
    encoder: Encoder,
    head: Head,
    columns: usize,
}

/// Loads models; cards over the same base encoder share its embedding layer, and those without an adapter all of it.
#[derive(Default)]
pub struct Loader {
    embeddings: HashMap<PathBuf, Embeddings>,
    encoders: HashMap<PathBuf, Encoder>,
}

impl CandleModel {
    /// Joins an encoder and a head of the same hidden size.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn new(encoder: Encoder, head: &HeadWeights) -> Result<Self, ModelError> {
        let columns = head.columns(encoder.config().hidden_size);
        Ok(Self { encoder, head: Head::new(head, &TensorDevice::Cpu)?, columns })
    }
}

impl Loader {
    /// Loads the model of a card over a base encoder from `folder`.
    ///
    /// # Errors
    /// When the number format is not supported, or the files do not fit one another or the card.
    pub fn load(
        &mut self,
        card: &Card,
        folder: &Path,
        base: &Arc<BertWeights>,
    ) -> Result<CandleModel, ModelError> {
        check_supported("dtype", &card.dtype, DTYPES)?;
        let encoder = match (self.encoders.get(folder), LoraAdapter::load(card, base.layers())?) {
            (Some(encoder), None) => encoder.clone(),
            (_, adapter) => {
                let embeddings = self.embeddings(folder, base)?;
                let encoder = Encoder::new(base, embeddings, adapter.as_ref(), &TensorDevice::Cpu)?;
                if adapter.is_none() {
                    self.encoders.insert(folder.to_path_buf(), encoder.clone());
                }
                encoder
            }
        };
        CandleModel::new(encoder, &HeadWeights::load(card, base.config.hidden_size)?)
    }

    fn embeddings(&mut self, folder: &Path, base: &BertWeights) -> Result<Embeddings, ModelError> {
        if let Some(embeddings) = self.embeddings.get(folder) {
            return Ok(embeddings.clone());
        }
        let embeddings = Embeddings::new(base, &TensorDevice::Cpu)?;
        self.embeddings.insert(folder.to_path_buf(), embeddings.clone());
        Ok(embeddings)
    }
}

impl Weights for CandleModel {
    fn runtime(&self, _device: &Device) -> Result<Box<dyn Runtime>, RuntimeError> {
        Ok(Box::new(self.clone()))
    }

    fn vocabulary_size(&self) -> usize {
        self.encoder.config().vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.encoder.config().hidden_size
    }

    fn columns(&self) -> usize {
        self.columns
    }
}

impl Runtime for CandleModel {
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError> {
        self.encoder.config().check(batch)?;
        let hidden = self.encoder.forward(batch).map_err(|error| backend(&error))?;
        let output = self.head.forward(&hidden, batch).map_err(|error| backend(&error))?;
        result.shape.clear();
        result.shape.extend_from_slice(output.dims());
        result.data =
            output.flatten_all().and_then(|flat| flat.to_vec1()).map_err(|error| backend(&error))?;
        result.check_finite()
    }
}

/// A failed computation on the CPU concerns one batch: the device is as good as before.
fn backend(error: &candle_core::Error) -> RuntimeError {
    let text = error.to_string();
    RuntimeError::Backend { message: text.lines().next().unwrap_or_default().to_owned(), is_fatal: false }
}
