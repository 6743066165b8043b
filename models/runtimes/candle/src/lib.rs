//! The candle runtime: transformer encoders over ragged batches on the CPU.
//!
//! It is the reference against which other runtimes are held. Linear layers run on packed rows `[T, H]`,
//! attention on each sequence by itself, so that no padding is ever computed.

mod attention;
pub mod encoder;
pub mod heads;
mod norm;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device as TensorDevice;
use models_core::runtime::{check_batch, check_finite};
use models_core::weights::{EncoderWeights, HeadWeights};
use models_core::{
    Backend, Card, Device, Dtype, EncoderSpec, HostTensor, ModelError, Runtime, RuntimeError, RuntimeKind,
    TokenBatch, Unsupported, Weights,
};

use encoder::{Embeddings, Encoder};
use heads::Head;

const DTYPES: &[Dtype] = &[Dtype::Float32];

/// An encoder and a head. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct CandleModel {
    encoder: Encoder,
    head: Head,
    columns: usize,
    gives_tokens: bool,
}

/// Loads models; cards over the same base encoder share its embedding layer, and those without an adapter all
/// of it.
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
        let columns = head.columns(encoder.spec().hidden_size);
        let gives_tokens = head.plain_pooling().is_some();
        let head = Head::new(head, &TensorDevice::Cpu).map_err(|error| encoder::backend(&error))?;
        Ok(Self { encoder, head, columns, gives_tokens })
    }
}

impl Backend for Loader {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Candle
    }

    fn supports(&self, spec: &EncoderSpec) -> Result<(), Unsupported> {
        // Computed whatever it says; a new field does not compile before it is computed here, or refused.
        let EncoderSpec {
            vocab_size: _,
            embedding_size: _,
            hidden_size: _,
            num_hidden_layers: _,
            num_attention_heads: _,
            num_key_value_heads: _,
            head_size: _,
            intermediate_size: _,
            feed_forward: _,
            hidden_act: _,
            norm: _,
            norm_place: _,
            layer_norm_eps: _,
            max_position_embeddings: _,
            positions: _,
            rotary: _,
            layers: _,
            is_causal: _,
            bias: _,
            is_shared: _,
        } = spec;
        Ok(())
    }

    fn load(
        &mut self,
        card: &Card,
        folder: &Path,
        base: &Arc<EncoderWeights>,
    ) -> Result<Box<dyn Weights>, ModelError> {
        Unsupported::unless("dtype", &card.dtype, DTYPES)?;
        let encoder = match (self.encoders.get(folder), base.adapter(card)?) {
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
        let head = HeadWeights::load(card, folder, base)?;
        Ok(Box::new(CandleModel::new(encoder, &head)?))
    }
}

impl Loader {
    fn embeddings(&mut self, folder: &Path, base: &EncoderWeights) -> Result<Embeddings, ModelError> {
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
        self.encoder.spec().vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.encoder.spec().hidden_size
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn gives_tokens(&self) -> bool {
        self.gives_tokens
    }
}

impl Runtime for CandleModel {
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError> {
        check_batch(self.encoder.spec(), batch)?;
        let hidden = self.encoder.forward(batch).map_err(|error| backend(&error))?;
        let output = self.head.forward(&hidden, batch).map_err(|error| backend(&error))?;
        result.shape.clear();
        result.shape.extend_from_slice(output.dims());
        result.data =
            output.flatten_all().and_then(|flat| flat.to_vec1()).map_err(|error| backend(&error))?;
        check_finite(result)
    }
}

/// A failed computation on the CPU concerns one batch: the device is as good as before.
fn backend(error: &candle_core::Error) -> RuntimeError {
    let text = error.to_string();
    RuntimeError::Backend { message: text.lines().next().unwrap_or_default().to_owned(), is_fatal: false }
}
