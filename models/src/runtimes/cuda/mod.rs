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
mod layout;
mod products;
mod weights;
mod workspace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::{HostTensor, TokenBatch};
use crate::card::Card;
use crate::error::ModelError;
use crate::runtimes::{Device, Footprint, Overlap, Runtime, RuntimeError, Weights, unsupported};
use crate::weights::{BertWeights, HeadWeights, HiddenActivation, LoraAdapter};
use device::{Format, HEAD_SIZES, Kernels};
use layout::Widths;
use weights::DeviceWeights;
use workspace::Model;

pub(crate) use device::Gpu;
pub(crate) use workspace::Workspace;

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
    number: u64,
    weights: DeviceWeights,
    kernels: Kernels,
    widths: Widths,
    workspace: Arc<Mutex<Workspace>>,
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
    if !base.config.intermediate_size.is_multiple_of(8) {
        let size = base.config.intermediate_size.to_string();
        return Err(unsupported("intermediate_size", &size, &["multiples of 8"]));
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
    fn widths(&self) -> Widths {
        let config = &self.base.config;
        Widths::new(config, self.head.columns(config.hidden_size), self.head.is_per_token())
    }

    /// Tokens and sequences of the largest batch; there is room for the longest sequence in any case.
    fn largest(&self, device: &Device) -> (usize, usize) {
        let limits = device.limits();
        (limits.tokens_max.max(self.base.config.max_position_embeddings), limits.sequences_max.max(1))
    }
}

impl Weights for CudaModel {
    fn runtime(&self, device: &Device) -> Result<Box<dyn Runtime>, RuntimeError> {
        let Some((gpu, shared)) = device.gpu() else {
            let message = "the model's runtime is cuda, and the device is the CPU".to_owned();
            return Err(RuntimeError::Backend { message, is_fatal: false });
        };
        let config = &self.base.config;
        let kernels = gpu.kernels(self.format, config.hidden_size / config.num_attention_heads)?;
        let weights =
            weights::upload(&gpu.compute, self.format, &self.base, self.adapter.as_ref(), &self.head)?;
        let mut workspace = lock(shared);
        workspace.reserve(self.widths(), self.largest(device))?;
        let number = workspace.number();
        let (widths, workspace) = (self.widths(), Arc::clone(shared));
        Ok(Box::new(CudaRuntime { number, weights, kernels, widths, workspace }))
    }

    fn footprint(&self, device: &Device) -> Footprint {
        let Some((_, workspace)) = device.gpu() else { return Footprint::default() };
        let shared = lock(workspace).bytes(self.widths(), self.largest(device));
        Footprint { own: weights::bytes(&self.base.config, &self.head), shared }
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
        if !self.begin(batch)? {
            return Err(RuntimeError::MalformedBatch("it was run while others were under way"));
        }
        self.finish(result)
    }

    fn overlap(&mut self) -> Option<&mut dyn Overlap> {
        Some(self)
    }
}

impl Overlap for CudaRuntime {
    fn begin(&mut self, batch: &TokenBatch) -> Result<bool, RuntimeError> {
        let Self { number, weights, kernels, widths, workspace } = self;
        weights.config.check(batch)?;
        let model = Model { number: *number, weights, kernels, widths: *widths };
        Ok(lock(workspace).begin(&model, batch)?)
    }

    fn is_finished(&mut self) -> bool {
        lock(&self.workspace).is_finished()
    }

    fn finish(&mut self, result: &mut HostTensor) -> Result<(), RuntimeError> {
        lock(&self.workspace).finish(result)?;
        result.check_finite()
    }
}

impl Drop for CudaRuntime {
    fn drop(&mut self) {
        lock(&self.workspace).leave(self.number);
    }
}

fn lock(workspace: &Mutex<Workspace>) -> MutexGuard<'_, Workspace> {
    workspace.lock().unwrap_or_else(PoisonError::into_inner)
}
