//! The CUDA runtime: BERT encoders over ragged batches on a GPU.
//!
//! # How it is built
//!
//! Kernels (`models/kernels`) are CUDA C++, compiled ahead by nvcc when the feature `cuda` is on, for the architectures in
//! `CUDA_ARCHITECTURES` (`80,90`: A100, H100 and H200). The driver and cublasLt are found at run time, so one binary starts
//! everywhere: without a GPU it computes on the CPU.
//!
//! # What computes
//!
//! - **Products** (`products`) are cublasLt's, in bfloat16 or float16 with sums in float32, over the packed rows of all sequences.
//! - **Attention** is our own: one pass over keys and values with an online softmax, on tensor cores, by 64 queries of one
//!   sequence, so that nothing is padded and no score goes to memory.
//! - **What is between** (embedding, biases, GELU, residual connections, normalisation, pooling, heads) is fused into one pass
//!   over memory each; only results cross the bus.
//!
//! The kernels' source also runs on a CPU (`models/kernels/emulation`), where every one is held against float64.
#![allow(unsafe_code, reason = "kernels are launched; every block states why it is sound")]

mod device;
mod encoder;
mod products;

use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{HostTensor, TokenBatch};
use crate::card::Card;
use crate::error::ModelError;
use crate::runtimes::{Device, Runtime, RuntimeError, Weights, unsupported};
use crate::weights::{
    BertWeights, EmbeddingWeights, HeadWeights, HiddenActivation, LayerWeights, LoraAdapter,
};
use device::{Fault, Format, HEAD_SIZES, Kernels};
use encoder::{Buffers, DeviceHead, DeviceLayer, DeviceLinear, DeviceNorm, DeviceWeights, Pass};
use products::Products;

pub(crate) use device::Gpu;

/// The name by which cards choose this runtime.
pub const NAME: &str = "cuda";
const DTYPES: &[&str] = &["bfloat16", "float16"];
/// Hidden sizes that the row kernels hold in registers.
const HIDDEN_MAX: usize = 1024;

/// A model in host memory, to be put on each device.
struct CudaModel {
    base: Arc<BertWeights>,
    adapter: Option<LoraAdapter>,
    head: HeadWeights,
    format: Format,
}

/// A model on one GPU.
struct CudaRuntime {
    gpu: Arc<Gpu>,
    weights: DeviceWeights,
    kernels: Kernels,
    workspace: Arc<Mutex<Workspace>>,
}

/// What the models of one GPU share: its one stream, on which one of them computes at a time.
pub(crate) struct Workspace {
    products: Products,
    buffers: Option<Buffers>,
}

impl Workspace {
    /// An empty one.
    ///
    /// # Errors
    /// The device refuses.
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, RuntimeError> {
        let products = Products::new(Arc::clone(&gpu.stream))?;
        Ok(Self { products, buffers: None })
    }
}

/// Loads the model of a card over a base encoder.
///
/// # Errors
/// See [`assemble`]; or files that do not fit together.
pub(super) fn load(card: &Card, base: &Arc<BertWeights>) -> Result<Box<dyn Weights>, ModelError> {
    let adapter = LoraAdapter::load(card, base.layers())?;
    let head = HeadWeights::load(card, base.config.hidden_size)?;
    assemble(&card.dtype, Arc::clone(base), adapter, head)
}

/// Builds a model in a number format out of its parts.
///
/// # Errors
/// A number format, an activation, a hidden size, a head size or a head that there are no kernels for.
pub fn assemble(
    dtype: &str,
    base: Arc<BertWeights>,
    adapter: Option<LoraAdapter>,
    head: HeadWeights,
) -> Result<Box<dyn Weights>, ModelError> {
    let format = Format::of(dtype).ok_or_else(|| unsupported("dtype", dtype, DTYPES))?;
    let (hidden, heads) = (base.config.hidden_size, base.config.num_attention_heads);
    if base.config.hidden_act != HiddenActivation::Gelu {
        let activation = format!("{:?}", base.config.hidden_act);
        return Err(unsupported("hidden_act", &activation, &["Gelu"]));
    }
    if hidden > HIDDEN_MAX || !hidden.is_multiple_of(4) {
        return Err(ModelError::Capacity { what: "hidden_size", asked: hidden, available: HIDDEN_MAX });
    }
    if !HEAD_SIZES.contains(&(hidden / heads)) {
        let supported = HEAD_SIZES.map(|size| size.to_string());
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        return Err(unsupported("attention head size", &(hidden / heads).to_string(), &supported));
    }
    if head.is_per_token() && head.classifier().is_some_and(|classifier| classifier.dense.is_some()) {
        return Err(unsupported("head", "a token classifier with a hidden layer", &["one without"]));
    }
    Ok(Box::new(CudaModel { base, adapter, head, format }))
}

impl CudaModel {
    fn to_device(&self, gpu: &Gpu) -> Result<DeviceWeights, RuntimeError> {
        let (stream, format) = (&gpu.stream, self.format);
        let read = |error: ModelError| RuntimeError::Backend { message: error.to_string(), is_fatal: false };
        let EmbeddingWeights { words, positions, norm } = self.base.embeddings().map_err(read)?;
        let layer = |index| {
            let weights: LayerWeights = self.base.layer(index, self.adapter.as_ref()).map_err(read)?;
            let linear = |weights| DeviceLinear::new(stream, format, weights);
            Ok::<_, RuntimeError>(DeviceLayer {
                query_key_value: linear(&weights.query_key_value)?,
                attention_output: linear(&weights.attention_output)?,
                attention_norm: DeviceNorm::new(stream, format, &weights.attention_norm)?,
                intermediate: linear(&weights.intermediate)?,
                output: linear(&weights.output)?,
                output_norm: DeviceNorm::new(stream, format, &weights.output_norm)?,
            })
        };
        let head = DeviceHead::new(stream, &self.head)?;
        Ok(DeviceWeights {
            config: self.base.config.clone(),
            format,
            words: stream.clone_htod(&format.bits(&words)).map_err(Fault::from)?,
            positions: stream.clone_htod(&format.bits(&positions)).map_err(Fault::from)?,
            norm: DeviceNorm::new(stream, format, &norm)?,
            layers: (0..self.base.layers()).map(layer).collect::<Result<_, _>>()?,
            head,
        })
    }
}

impl Weights for CudaModel {
    fn runtime(&self, device: &Device) -> Result<Box<dyn Runtime>, RuntimeError> {
        let Some((gpu, workspace)) = device.gpu() else {
            let message = "the model's runtime is cuda, and the device is the CPU".to_owned();
            return Err(RuntimeError::Backend { message, is_fatal: false });
        };
        let config = &self.base.config;
        let kernels = gpu.kernels(self.format, config.hidden_size / config.num_attention_heads)?;
        let weights = self.to_device(gpu)?;
        Ok(Box::new(CudaRuntime { gpu: Arc::clone(gpu), weights, kernels, workspace: Arc::clone(workspace) }))
    }

    fn vocabulary_size(&self) -> usize {
        self.base.config.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.base.config.hidden_size
    }

    fn columns(&self) -> usize {
        self.head.columns(self.base.config.hidden_size)
    }
}

impl Runtime for CudaRuntime {
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError> {
        self.weights.config.check(batch)?;
        let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let Workspace { products, buffers } = &mut *workspace;
        let mut pass =
            Pass { gpu: &self.gpu, weights: &self.weights, kernels: &self.kernels, products, buffers };
        let shape = pass.run(batch, &mut result.data)?;
        result.shape.clear();
        result.shape.extend_from_slice(&shape);
        result.check_finite()
    }
}
