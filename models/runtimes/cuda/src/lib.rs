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
//!   queries of one sequence, so that nothing is padded and no score goes to memory.
//! - **What is between** (embedding, biases, GELU, residual connections, normalisation, pooling, heads) is
//!   fused into one pass over memory each; only results cross the bus.
//!
//! The kernels' source also runs on a CPU (`kernels/emulation`), where every one is held against float64.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - Every kernel gives what float64 gives within its format's rounding.
//!   (`models/runtimes/cuda/tests/kernels.rs`)
//! - Nothing is read before the stream that writes it has come so far, or beyond what was allocated, in any
//!   order of streams; a GPU that fails is lost and said to be. (`models/runtimes/cuda/tests/encoders.rs`, on
//!   the emulated GPU, which draws the order)
//!
//! Without its feature `cuda` this crate is empty, so that a workspace is built where there is no nvcc.
#![cfg(feature = "cuda")]
#![deny(clippy::print_stderr)]
#![allow(unsafe_code, reason = "kernels are launched; every block states why it is sound")]

mod device;
mod encoder;
mod layout;
mod memory;
mod products;
mod weights;
mod workspace;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use models_core::runtime::{Accelerator, check_batch, check_finite, check_plain, check_unpaired};
use models_core::spec::{AttentionBias, FeedForward, LayerSpec, NormKind, NormPlace, Positions};
use models_core::weights::{EncoderWeights, HeadWeights, LoraAdapter};
use models_core::{
    Backend, BatchLimits, Card, Device, Dtype, EncoderSpec, Footprint, GpuConfig, GpuRuntime,
    HiddenActivation, HostTensor, ModelError, Overlap, Runtime, RuntimeError, RuntimeKind, TokenBatch,
    Unsupported, Weights,
};

use device::{Format, Gpu, HEAD_SIZES, Kernels};
use layout::Widths;
use weights::DeviceWeights;
use workspace::{Model, Workspace};

const DTYPES: &[Dtype] = &[Dtype::Bfloat16, Dtype::Float16];
/// Hidden sizes that the row kernels hold in registers.
const HIDDEN_MAX: usize = 1024;

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
        check_plain(card, &head)?;
        assemble(card.dtype, Arc::clone(base), adapter, head)
    }
}

/// An activation, a hidden size or a head size that there are kernels for.
fn check_spec(spec: &EncoderSpec) -> Result<(), Unsupported> {
    // A new field does not compile before it is computed here, or refused.
    let EncoderSpec {
        vocab_size: _,
        embedding_size,
        hidden_size,
        num_hidden_layers: _,
        num_attention_heads,
        num_key_value_heads,
        head_size,
        intermediate_size,
        feed_forward,
        hidden_act,
        norm,
        norm_place,
        layer_norm_eps: _,
        max_position_embeddings: _,
        positions,
        rotary: _,
        layers,
        is_causal,
        bias,
        is_shared: _,
    } = spec;
    let has = |field, is_plain: bool, found: &dyn std::fmt::Debug, computed: &str| {
        if is_plain { Ok(()) } else { Err(Unsupported::new(field, format!("{found:?}"), &[computed])) }
    };
    let is_equal = *head_size * *num_attention_heads == *hidden_size;
    has("embedding_size", embedding_size == hidden_size, embedding_size, "hidden_size")?;
    has("head_size", is_equal, head_size, "hidden_size / num_attention_heads")?;
    let is_equal = num_key_value_heads == num_attention_heads;
    has("num_key_value_heads", is_equal, num_key_value_heads, "num_attention_heads")?;
    has("feed_forward", *feed_forward == FeedForward::Plain, feed_forward, "Plain")?;
    has("hidden_act", *hidden_act == HiddenActivation::Gelu, hidden_act, "Gelu")?;
    has("norm", *norm == NormKind::LayerNorm, norm, "LayerNorm")?;
    has("norm_place", *norm_place == NormPlace::Behind, norm_place, "Behind")?;
    has("positions", *positions == Positions::Absolute, positions, "Absolute")?;
    let plain = LayerSpec::default();
    has("layers", layers.iter().all(|layer| *layer == plain), layers, "without window and rotation")?;
    has("is_causal", !is_causal, is_causal, "false")?;
    has("bias", *bias == AttentionBias::None, bias, "None")?;
    let (hidden, intermediate_size) = (*hidden_size, *intermediate_size);
    if hidden > HIDDEN_MAX || !hidden.is_multiple_of(4) {
        let supported = format!("multiples of 4 up to {HIDDEN_MAX}");
        return Err(Unsupported::new("hidden_size", hidden, &[supported]));
    }
    if !intermediate_size.is_multiple_of(8) {
        return Err(Unsupported::new("intermediate_size", intermediate_size, &["multiples of 8"]));
    }
    Unsupported::unless("attention head size", head_size, &HEAD_SIZES)
}

/// Builds a model in a number format out of its parts.
///
/// # Errors
/// A number format, an activation, a hidden size, a head size or a head that there are no kernels for.
pub fn assemble(
    dtype: Dtype,
    base: Arc<EncoderWeights>,
    adapter: Option<LoraAdapter>,
    head: HeadWeights,
) -> Result<Box<dyn Weights>, ModelError> {
    let format = Format::of(dtype).ok_or_else(|| Unsupported::new("dtype", dtype, DTYPES))?;
    check_spec(&base.spec)?;
    if head.as_plain()?.dense.is_some() && head.is_per_token() {
        return Err(
            Unsupported::new("head", "a token classifier with a hidden layer", &["one without"]).into()
        );
    }
    Ok(Box::new(CudaModel { base, adapter, head, format }))
}

impl CudaModel {
    fn widths(&self) -> Widths {
        let spec = &self.base.spec;
        Widths::new(spec, self.head.columns(spec.hidden_size), self.head.is_per_token())
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
        let kernels = gpu.kernels(self.format, self.base.spec.head_size)?;
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
        check_unpaired(batch)?;
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
