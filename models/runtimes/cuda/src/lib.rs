//! The CUDA runtime: transformer encoders over ragged batches on a GPU.
//!
//! # How it is built
//!
//! Kernels (the folder `kernels`) are CUDA C++, compiled ahead by nvcc when the feature `cuda` is on, for the
//! architectures in `CUDA_ARCHITECTURES` (`80,90`: A100, H100 and H200). The driver and cublasLt are found at
//! run time, so one binary starts everywhere: without a GPU it computes on the CPU.
//!
//! # What computes
//!
//! - **Products** (`products`) are cublasLt's, in bfloat16 or float16 with sums in float32, over the packed
//!   rows of all sequences.
//! - **Attention** is our own: one pass over keys and values with an online softmax, on tensor cores, by 64
//!   queries of one sequence, so that nothing is padded and no score goes to memory. Keys that a window or a
//!   causal encoder hides from all 64 are not read; biases by distance and products with positions are added
//!   within it, from shared memory.
//! - **What is between** (embedding, biases, activations and gates, rotation, residual connections,
//!   normalisation, pooling, heads) is one pass over memory each; only results cross the bus. Where layers
//!   normalise before their blocks, what the blocks add up to stays in float32.
//!
//! Heads are filled up with zeros to a size that there is a kernel for (`arrangement`).
//!
//! The kernels' source also runs on a CPU (`kernels/emulation`), where every one is held against float64.
//! Nothing here has been timed on a chip.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - Every kernel gives what float64 gives within its format's rounding.
//!   (`models/runtimes/cuda/tests/kernels.rs`)
//! - Every architecture gives what its authors' classes give. (`models/runtimes/cuda/tests/architectures.rs`)
//! - Nothing is read before the stream that writes it has come so far, or beyond what was allocated, in any
//!   order of streams; a GPU that fails is lost and said to be. (`models/runtimes/cuda/tests/encoders.rs`, on
//!   the emulated GPU, which draws the order)
//!
//! Without its feature `cuda` this crate is empty, so that a workspace is built where there is no nvcc.
#![cfg(feature = "cuda")]
#![deny(clippy::print_stderr)]
#![allow(unsafe_code, reason = "kernels are launched; every block states why it is sound")]

mod arrangement;
mod device;
mod encoder;
mod heads;
mod layout;
mod memory;
mod products;
mod weights;
mod workspace;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use models_core::runtime::{Accelerator, check_batch, check_finite};
use models_core::spec::{AttentionBias, NormPlace};
use models_core::weights::{EncoderWeights, HeadWeights, LoraAdapter};
use models_core::{
    Backend, BatchLimits, Card, Device, Dtype, EncoderSpec, Footprint, GpuConfig, GpuRuntime, HostTensor,
    ModelError, Overlap, Runtime, RuntimeError, RuntimeKind, TokenBatch, Unsupported, Weights,
};

use arrangement::HEAD_SIZES;
use device::{Format, Gpu, Kernels, POSITIONS_HEAD_MAX, WIDTHS};
use layout::Widths;
use weights::DeviceWeights;
use workspace::{Model, Workspace};

const DTYPES: &[Dtype] = &[Dtype::Bfloat16, Dtype::Float16];

/// A model in host memory, to be put on each device.
struct CudaModel {
    base: Arc<EncoderWeights>,
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

/// What the models of a GPU share.
#[derive(Clone)]
struct GpuResources {
    gpu: Arc<Gpu>,
    workspace: Arc<Mutex<Workspace>>,
}

/// A GPU as it is shown to others.
struct OpenGpu {
    gpu: Arc<Gpu>,
    limits: BatchLimits,
}

/// The runtime. Each model that it loads keeps what it needs to be put on a device.
#[derive(Debug, Clone, Copy)]
pub struct Cuda;

impl GpuRuntime for Cuda {
    fn gpus(&self) -> usize {
        Gpu::count()
    }

    fn open(&self, device: &mut Device, config: &GpuConfig) -> Result<(), RuntimeError> {
        let gpu = Gpu::open(config.number)?;
        let workspace = Arc::new(Mutex::new(Workspace::new(Arc::clone(&gpu), config)?));
        device.set_accelerator(OpenGpu { gpu: Arc::clone(&gpu), limits: config.limits });
        device.insert(GpuResources { gpu, workspace });
        Ok(())
    }

    fn backend(&self) -> Box<dyn Backend> {
        Box::new(*self)
    }
}

impl Accelerator for OpenGpu {
    fn name(&self) -> &str {
        &self.gpu.name
    }

    fn uuid(&self) -> &str {
        &self.gpu.uuid
    }

    fn limits(&self) -> BatchLimits {
        self.limits
    }

    fn memory(&self) -> Result<(usize, usize), RuntimeError> {
        self.gpu.memory()
    }
}

impl Backend for Cuda {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Cuda
    }

    fn supports(&self, spec: &EncoderSpec) -> Result<(), Unsupported> {
        check_spec(spec)
    }

    fn load(
        &mut self,
        card: &Card,
        folder: &Path,
        base: &Arc<EncoderWeights>,
    ) -> Result<Box<dyn Weights>, ModelError> {
        let adapter = base.adapter(card)?;
        let head = HeadWeights::load(card, folder, base)?;
        assemble(card.dtype, Arc::clone(base), adapter, head)
    }
}

/// Sizes that there are kernels for.
fn check_spec(spec: &EncoderSpec) -> Result<(), Unsupported> {
    // A new field does not compile before it is computed, or refused here.
    let EncoderSpec {
        vocab_size: _,
        embedding_size,
        hidden_size,
        num_hidden_layers: _,
        num_attention_heads: _,
        num_key_value_heads: _,
        head_size,
        intermediate_size,
        feed_forward: _,
        hidden_act: _,
        norm: _,
        norm_place,
        layer_norm_eps: _,
        max_position_embeddings: _,
        positions: _,
        rotary: _,
        layers: _,
        is_causal: _,
        bias,
        is_shared: _,
    } = spec;
    let width_max = WIDTHS.into_iter().max().unwrap_or(0);
    for (field, width) in [("hidden_size", *hidden_size), ("embedding_size", *embedding_size)] {
        if width > width_max || !width.is_multiple_of(4) {
            let supported = format!("multiples of 4 up to {width_max}");
            return Err(Unsupported::new(field, width, &[supported]));
        }
    }
    if *norm_place == NormPlace::Before && embedding_size != hidden_size {
        return Err(Unsupported::new("embedding_size", embedding_size, &[hidden_size]));
    }
    if !intermediate_size.is_multiple_of(8) {
        return Err(Unsupported::new("intermediate_size", intermediate_size, &["multiples of 8"]));
    }
    let head_max = match bias {
        AttentionBias::None | AttentionBias::Distance => HEAD_SIZES.into_iter().max().unwrap_or(0),
        AttentionBias::Disentangled(_) => POSITIONS_HEAD_MAX,
    };
    if *head_size > head_max {
        return Err(Unsupported::new("head_size", head_size, &[format!("up to {head_max}")]));
    }
    Ok(())
}

/// Builds a model in a number format out of its parts.
///
/// # Errors
/// A number format, sizes or a head that there are no kernels for.
pub fn assemble(
    dtype: Dtype,
    base: Arc<EncoderWeights>,
    adapter: Option<LoraAdapter>,
    head: HeadWeights,
) -> Result<Box<dyn Weights>, ModelError> {
    let format = Format::of(dtype).ok_or_else(|| Unsupported::new("dtype", dtype, DTYPES))?;
    check_spec(&base.spec)?;
    if head.is_per_token() && head.layers.is_empty() {
        return Err(Unsupported::new("head", "hidden states as they are", &["a layer over them"]).into());
    }
    Ok(Box::new(CudaModel { base, adapter, head, format }))
}

impl CudaModel {
    fn widths(&self) -> Widths {
        Widths::new(&self.base.spec, &self.head)
    }

    /// Tokens and sequences of the largest batch; there is room for the longest sequence in any case.
    fn largest(&self, device: &Device) -> (usize, usize) {
        let limits = device.limits();
        (limits.tokens_max.max(self.base.spec.max_position_embeddings), limits.sequences_max.max(1))
    }
}

impl Weights for CudaModel {
    fn runtime(&self, device: &Device) -> Result<Box<dyn Runtime>, RuntimeError> {
        let Some(GpuResources { gpu, workspace: shared }) = device.get() else {
            let message = "the model's runtime is cuda, and the device is the CPU".to_owned();
            return Err(RuntimeError::Backend { message, is_fatal: false });
        };
        let kernels = gpu.kernels(self.format, &self.base.spec)?;
        let weights =
            weights::upload(&gpu.compute, self.format, &self.base, self.adapter.as_ref(), &self.head)?;
        let mut workspace = lock(shared);
        workspace.reserve(self.widths(), self.largest(device))?;
        let number = workspace.number();
        let (widths, workspace) = (self.widths(), Arc::clone(shared));
        Ok(Box::new(CudaRuntime { number, weights, kernels, widths, workspace }))
    }

    fn footprint(&self, device: &Device) -> Footprint {
        let Some(GpuResources { workspace, .. }) = device.get() else { return Footprint::default() };
        let shared = lock(workspace).bytes(self.widths(), self.largest(device));
        Footprint { own: weights::bytes(&self.base.spec, &self.head), shared }
    }

    fn vocabulary_size(&self) -> usize {
        self.base.spec.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.base.spec.hidden_size
    }

    fn columns(&self) -> usize {
        self.head.columns(self.base.spec.hidden_size)
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
        check_batch(&weights.spec, batch)?;
        let model = Model { number: *number, weights, kernels, widths: *widths };
        Ok(lock(workspace).begin(&model, batch)?)
    }

    fn is_finished(&mut self) -> bool {
        lock(&self.workspace).is_finished()
    }

    fn finish(&mut self, result: &mut HostTensor) -> Result<(), RuntimeError> {
        lock(&self.workspace).finish(result)?;
        check_finite(result)
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
