//! The fused CPU runtime: transformer encoders over ragged batches, in which no padding and no temporary is
//! ever computed.
//!
//! # Why it is fast
//!
//! A forward pass is bounded by its matrix products, so everything is arranged to keep the multipliers busy:
//!
//! - **Weights are packed once** (`packing`) into panels as wide as a register tile, in the order in which
//!   the kernel reads them. The queries' scale is folded in, and query, key and value are one product.
//! - **A register tile** (`kernels::linear`) of, with AVX-512, 12 rows and 32 columns holds its 24 sums in
//!   registers over the whole summed dimension. What follows a product (bias, activation, residual
//!   connection, rounding) is applied to the sums while they are at hand, so that no intermediate goes to
//!   memory and back.
//! - **Rows pass in blocks** of at most 96 from attention's output through the feed-forward block to the next
//!   layer's queries, keys and values; the widest intermediate, `[96, I]`, stays in the second cache.
//! - **Nothing is padded.** Linear layers work on packed rows, whatever sequence a row belongs to; attention
//!   works on one sequence and head at a time.
//! - **Attention streams** (`kernels::attention`) over blocks of 128 keys with an online softmax: its working
//!   set is the same for 16 tokens as for 8192. Keys that no query of a tile sees, behind it or outside its
//!   window, are not computed; biases are added to a block's scores while they are in the first cache.
//! - **A gate and what it opens** lie side by side in a panel, so that their product is taken from registers.
//! - **Buffers are kept** (`workspace`): a batch allocates nothing once they have grown.
//!
//! # How threads share a batch
//!
//! One pool a device (`threads`); the engine's own thread is one of them. A batch is a sequence of phases
//! with a wait behind each, two for a layer: attention, whose pieces are cut by estimated cost, and all the
//! rest, cut by rows. When the rows are so few that reading the weights is most of the work, the columns of
//! each product are shared instead, so that each weight is read by one thread only (`pieces`).
//!
//! # Number formats
//!
//! `float32` computes what the reference does, but for the order of additions. `bfloat16` rounds weights and
//! activations to 8 bits of mantissa before each product; sums, residual connections, normalisation, softmax
//! and heads stay float32; the table of words, often a quarter of all weights, is kept rounded too. On CPUs
//! with an instruction for products of bfloat16 pairs (`avx512bf16`) that doubles the rate; on others it
//! halves the memory and takes more than twice the time of `float32`, so that a card's `dtype` is followed
//! there only if the configuration says so ([`is_fast_in`]).
//!
//! # Adapters
//!
//! Low-rank adapters are merged into the weights at load. The alternative, computing their branches beside
//! one shared base, was weighed: see `docs/decisions/2026-11-21-merge-adapters.md`.
//!
//! # Invariants
//! Each names what holds it.
//!
//! - Its numbers are the reference's within the format's rounding, whatever is in a batch together.
//!   (`models/tests/encoder.rs`, `models/tests/number_formats.rs`; of every architecture
//!   `models/tests/checkpoints.rs`, of any encoder `models/tests/specs.rs`)
//! - A batch allocates nothing once buffers have grown. (`models/tests/allocations.rs`)
//! - Kernels for AVX-512, AVX2 and NEON give what plain loops give. (tests beside them; `make neon`)
//!
//! # Layers of the code
//!
//! `kernels` (inner loops, one file per instruction set) are called by `encoder` and `heads` with weights
//! from `packing` and buffers from `workspace`, cut by `pieces`, on `threads`. `unsafe` is confined to this
//! folder: kernels take raw pointers because threads write disjoint parts of one matrix; each says why it is
//! sound.
#![allow(unsafe_code, reason = "kernels and what feeds them; every block states why it is sound")]

mod buffer;
mod encoder;
mod heads;
pub(crate) mod kernels;
mod packing;
mod pieces;
pub mod standalone;
mod threads;
mod workspace;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;
use models_core::runtime::{check_batch, check_finite};
use models_core::spec::{AttentionBias, FeedForward, NormKind, NormPlace, Positions};
use models_core::weights::{EncoderWeights, HeadWeights, LoraAdapter};
use models_core::{
    Backend, Card, Device, DeviceConfig, Dtype, EncoderSpec, HiddenActivation, HostTensor, ModelError,
    Runtime, RuntimeError, RuntimeKind, TokenBatch, Unsupported, Weights,
};

use encoder::{Embeddings, Encoder, Pass};
use heads::Head;
use kernels::{Compiled, Kernels};
use pieces::Split;
pub use threads::{JobPanicked, Pool};
pub use workspace::Workspace;

const DTYPES: &[Dtype] = &[Dtype::Float32, Dtype::Bfloat16];

/// What the models of a device share.
type SharedWorkspace = Arc<Mutex<Workspace>>;

/// An encoder and a head in one number format. Cheap to clone: weights are shared.
struct FusedModel<N: 'static> {
    encoder: Encoder<N>,
    head: Head,
}

/// A model on one device.
struct FusedRuntime<N: 'static> {
    model: FusedModel<N>,
    workspace: SharedWorkspace,
}

/// Loads models; cards over the same base encoder share its embedding layer, and those without an adapter all
/// of it.
#[derive(Default)]
pub struct Loader {
    float32: Shared<f32>,
    bfloat16: Shared<bf16>,
    /// The instruction set to use instead of the best one.
    instructions: Option<String>,
}

/// What models in one number format share, by the folder of their base encoder.
struct Shared<N: 'static> {
    embeddings: HashMap<PathBuf, Arc<Embeddings<N>>>,
    encoders: HashMap<PathBuf, Encoder<N>>,
}

impl<N> Default for Shared<N> {
    fn default() -> Self {
        Self { embeddings: HashMap::new(), encoders: HashMap::new() }
    }
}

impl Loader {
    /// Uses this instruction set instead of the best one: for tests and comparisons.
    pub fn with_instructions(name: &str) -> Self {
        Self { instructions: Some(name.to_owned()), ..Self::default() }
    }

    /// Names of the instruction sets that this CPU has kernels for in both number formats, best first.
    pub fn instructions() -> Vec<&'static str> {
        let in_bf16: Vec<_> = bf16::available().iter().map(|kernels| kernels.name).collect();
        f32::available().iter().map(|kernels| kernels.name).filter(|name| in_bf16.contains(name)).collect()
    }

    /// Builds a model in a number format out of its parts; `folder` stands for the base encoder.
    ///
    /// # Errors
    /// As [`Backend::load`].
    pub fn assemble(
        &mut self,
        dtype: Dtype,
        folder: &Path,
        base: &EncoderWeights,
        adapter: Option<&LoraAdapter>,
        head: &HeadWeights,
    ) -> Result<Box<dyn Weights>, ModelError> {
        let for_heads = self.kernels::<f32>()?;
        match dtype {
            Dtype::Float32 => {
                let kernels = self.kernels()?;
                let encoder = self.float32.encoder(folder, base, adapter, kernels)?;
                Ok(Box::new(FusedModel::new(encoder, head, for_heads)))
            }
            Dtype::Bfloat16 => {
                let kernels = self.kernels()?;
                let encoder = self.bfloat16.encoder(folder, base, adapter, kernels)?;
                Ok(Box::new(FusedModel::new(encoder, head, for_heads)))
            }
            other @ Dtype::Float16 => Err(Unsupported::new("dtype", other, DTYPES).into()),
        }
    }

    fn kernels<N: Compiled>(&self) -> Result<&'static Kernels<N>, ModelError> {
        let available = N::available();
        let is_wanted =
            |kernels: &&&Kernels<N>| self.instructions.as_ref().is_none_or(|name| name == kernels.name);
        available.iter().find(is_wanted).copied().ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|kernels| kernels.name).collect();
            Unsupported::new("instructions", self.instructions.as_deref().unwrap_or_default(), &names).into()
        })
    }
}

impl Backend for Loader {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Fused
    }

    fn supports(&self, spec: &EncoderSpec) -> Result<(), Unsupported> {
        // All are computed, whatever they say; a new field does not compile before it is named here.
        let EncoderSpec {
            vocab_size: _,
            embedding_size: _,
            hidden_size: _,
            num_hidden_layers: _,
            num_attention_heads: _,
            num_key_value_heads: _,
            head_size: _,
            intermediate_size: _,
            feed_forward: FeedForward::Plain | FeedForward::Gated,
            hidden_act:
                HiddenActivation::Gelu
                | HiddenActivation::GeluTanh
                | HiddenActivation::Relu
                | HiddenActivation::Silu,
            norm: NormKind::LayerNorm | NormKind::Rms,
            norm_place: NormPlace::Behind | NormPlace::Before,
            layer_norm_eps: _,
            max_position_embeddings: _,
            positions: Positions::Absolute | Positions::None,
            rotary: _,
            layers: _,
            is_causal: _,
            bias: AttentionBias::None | AttentionBias::Distance | AttentionBias::Disentangled(_),
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
        let head = HeadWeights::load(card, folder, base)?;
        let adapter = base.adapter(card)?;
        self.assemble(card.dtype, folder, base, adapter.as_ref(), &head)
    }
}

/// Whether this CPU has an instruction for products in a number format. Without one numbers are widened
/// before each product, which takes more time than float32 does.
pub fn is_fast_in(dtype: Dtype) -> bool {
    match dtype {
        Dtype::Float32 => true,
        Dtype::Bfloat16 => kernels::has_bf16_products(),
        Dtype::Float16 => false,
    }
}

/// Gives a device the threads and buffers that its models share.
///
/// # Errors
/// When the system refuses a thread.
pub fn open(device: &mut Device, config: &DeviceConfig) -> Result<(), RuntimeError> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { cores() } else { config.threads };
    let workspace = Workspace::new(threads, config.pin).map_err(|error| {
        let message = format!("compute threads could not be started: {error}");
        RuntimeError::Backend { message, is_fatal: true }
    })?;
    device.insert::<SharedWorkspace>(workspace);
    Ok(())
}

fn shared(device: &Device) -> Result<&SharedWorkspace, RuntimeError> {
    device.get().ok_or_else(|| {
        let message = "the device was not opened for the runtime fused".to_owned();
        RuntimeError::Backend { message, is_fatal: false }
    })
}

/// Runs a loop of products in registers on each thread of a device, and returns the multiplications and
/// additions done: what share of this rate a model reaches says how good its kernels are.
///
/// # Errors
/// When there are no kernels for the number format.
pub fn multiply_in_registers(device: &Device, dtype: Dtype, rounds: usize) -> Result<usize, ModelError> {
    let run = match dtype {
        Dtype::Float32 => f32::available()[0].peak,
        Dtype::Bfloat16 => bf16::available()[0].peak,
        other @ Dtype::Float16 => return Err(Unsupported::new("dtype", other, DTYPES).into()),
    };
    let total = AtomicUsize::new(0);
    let shared = shared(device).map_err(ModelError::of_runtime)?;
    let workspace = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let done = workspace.pool.run(&|_| {
        // SAFETY: the CPU has the instruction set, or `available` had not given it.
        let operations = unsafe { run(rounds) };
        total.fetch_add(operations, Ordering::Relaxed);
    });
    done.map_err(|error| ModelError::Backend { message: error.to_string() })?;
    Ok(total.into_inner())
}

impl<N: Compiled> Shared<N> {
    /// The encoder of a card: one that is there already, if no adapter changes it.
    fn encoder(
        &mut self,
        folder: &Path,
        base: &EncoderWeights,
        adapter: Option<&LoraAdapter>,
        kernels: &'static Kernels<N>,
    ) -> Result<Encoder<N>, ModelError> {
        if let (Some(encoder), None) = (self.encoders.get(folder), adapter) {
            return Ok(encoder.clone());
        }
        let embeddings = match self.embeddings.get(folder) {
            Some(embeddings) => Arc::clone(embeddings),
            None => Arc::new(Embeddings::new(base.embeddings()?, kernels)),
        };
        self.embeddings.insert(folder.to_path_buf(), Arc::clone(&embeddings));
        let encoder = Encoder::new(base, embeddings, adapter, kernels)?;
        if adapter.is_none() {
            self.encoders.insert(folder.to_path_buf(), encoder.clone());
        }
        Ok(encoder)
    }
}

impl<N: Compiled> FusedModel<N> {
    fn new(encoder: Encoder<N>, head: &HeadWeights, kernels: &'static Kernels<f32>) -> Self {
        let head = Head::new(head, encoder.spec.hidden_size, encoder.width(), kernels);
        Self { encoder, head }
    }
}

impl<N: Compiled> Weights for FusedModel<N> {
    fn runtime(&self, device: &Device) -> Result<Box<dyn Runtime>, RuntimeError> {
        let model = Self { encoder: self.encoder.clone(), head: self.head.clone() };
        Ok(Box::new(FusedRuntime { model, workspace: Arc::clone(shared(device)?) }))
    }

    fn vocabulary_size(&self) -> usize {
        self.encoder.spec.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.encoder.spec.hidden_size
    }

    fn columns(&self) -> usize {
        self.head.columns()
    }

    fn gives_tokens(&self) -> bool {
        self.head.gives_tokens()
    }
}

impl<N: Compiled> Runtime for FusedRuntime<N> {
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError> {
        let FusedModel { encoder, head } = &self.model;
        check_batch(&encoder.spec, batch)?;
        // A panic while it was held left nothing but numbers, which every batch overwrites.
        let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let Workspace { pool, pieces, buffers } = &mut *workspace;
        let split = Split::new(batch.tokens(), pool.threads());
        let EncoderSpec { num_attention_heads: heads, num_key_value_heads, .. } = *encoder.spec;
        pieces.cut(batch, heads, heads / num_key_value_heads, pool.threads());
        encoder.grow(buffers, batch, split);
        head.grow(buffers, batch);
        let pass = Pass { batch, attention: &pieces.attention, buffers, split };
        let done = pool.run(&|worker| {
            encoder.work(worker, &pass);
            head.work(worker, &pass);
        });
        done.map_err(|error| RuntimeError::Backend { message: error.to_string(), is_fatal: false })?;
        head.copy(buffers, batch, result);
        check_finite(result)
    }
}
