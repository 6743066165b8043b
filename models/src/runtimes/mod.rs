//! What computes a batch: the trait that every backend fulfils, and the choice of a backend by a card's `runtime`.
//!
//! Pooling and heads run inside the runtime, so that only results leave the device.

pub mod candle;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod fused;
pub mod onnx;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::batch::{HostTensor, TokenBatch};
use crate::card::{CONFIG_FILE, Card, WEIGHTS_FILE};
use crate::error::ModelError;
use crate::faithful;
use crate::weights::{BertConfig, BertWeights, TensorFile};

/// One model on one device.
pub trait Runtime: Send {
    /// Computes a batch of `B` sequences and `T` tokens.
    ///
    /// The result, which replaces what is in `result`, is `[B, H]` for mean pooling, `[B, C]` for a sequence classifier
    /// and `[T, C]` for a token classifier; rows are in the order of the batch, and do not depend on what else is in it
    /// beyond rounding. A caller who passes the same tensor again spares an allocation.
    ///
    /// # Errors
    /// When the batch is not one this model can read, or the device fails; see [`RuntimeError::is_fatal`].
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError>;

    /// The same, if a device computes beside the thread that drives it. `None`: `run` is all there is.
    fn overlap(&mut self) -> Option<&mut dyn Overlap> {
        None
    }
}

/// A model whose device computes one batch while it is given the next. All models of a device together have at most
/// [`batching::UNDER_WAY_MAX`] under way, which end in the order in which they began, and each must be finished.
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
    /// When the device refuses.
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
}

/// Bytes of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// A model's own, for its weights.
    pub own: usize,
    /// For a batch, shared by all models: the largest of theirs.
    pub shared: usize,
}

/// Why a batch was not computed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The models need more memory than the device has free.
    #[error("the models do not fit {device}: {needed} MiB are needed ({models}), {free} MiB are free")]
    DoesNotFit {
        /// The device.
        device: String,
        /// MiB.
        needed: usize,
        /// What needs how much.
        models: String,
        /// MiB.
        free: usize,
    },
    /// The device has no memory left for this batch: a smaller one may do.
    #[error("{message}")]
    OutOfMemory {
        /// What the device said.
        message: String,
    },
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

/// How a device is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceConfig {
    /// Threads that compute. 0: one for each core.
    pub threads: usize,
    /// Whether threads other than the engine's own stay on one core each.
    pub pin: bool,
    /// The GPU, for models whose runtime is `cuda`. None: the CPU alone.
    pub gpu: Option<GpuConfig>,
}

/// How a GPU is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuConfig {
    /// Its number.
    pub number: usize,
    /// Batches for which there is memory from the start.
    pub limits: BatchLimits,
    /// Batches of at most so many tokens are rounded up to few shapes and computed as CUDA graphs. 0: none.
    pub graph_tokens_max: usize,
    /// Whether GELU is computed by cublasLt with the product before it, by its approximation with tanh, instead of exactly in a pass of
    /// its own over memory. To be measured before it is anybody's default.
    pub fuses_gelu: bool,
}

/// How large batches are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchLimits {
    /// Tokens.
    pub tokens_max: usize,
    /// Sequences.
    pub sequences_max: usize,
}

impl GpuConfig {
    /// Tokens up to which kernels take less time than their launches, by a rough count: to be measured.
    pub const GRAPH_TOKENS_MAX: usize = 2048;

    /// A GPU by its number, with memory for no batch yet.
    pub fn new(number: usize) -> Self {
        Self {
            number,
            limits: BatchLimits::default(),
            graph_tokens_max: Self::GRAPH_TOKENS_MAX,
            fuses_gelu: false,
        }
    }
}

/// One device, and what the runtimes on it share.
pub struct Device {
    workspace: Arc<Mutex<fused::Workspace>>,
    #[cfg(feature = "cuda")]
    gpu: Option<(Arc<cuda::Gpu>, Arc<Mutex<cuda::Workspace>>)>,
    limits: BatchLimits,
}

/// What is kept free of a GPU's memory: for cublasLt, graphs and what the driver needs itself.
const HEADROOM_BYTES: usize = 256 << 20;

impl Device {
    /// Makes a device ready.
    ///
    /// # Errors
    /// When the system refuses its threads.
    pub fn new(config: DeviceConfig) -> Result<Self, RuntimeError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 { cores() } else { config.threads };
        let workspace = fused::Workspace::new(threads, config.pin).map_err(|error| {
            let message = format!("compute threads could not be started: {error}");
            RuntimeError::Backend { message, is_fatal: true }
        })?;
        #[cfg(feature = "cuda")]
        let gpu = config.gpu.map(open_gpu).transpose()?;
        #[cfg(not(feature = "cuda"))]
        if let Some(GpuConfig { number, .. }) = config.gpu {
            let message = format!("CUDA device {number}: this build has no CUDA; build with --features cuda");
            return Err(RuntimeError::Backend { message, is_fatal: true });
        }
        Ok(Self {
            workspace,
            #[cfg(feature = "cuda")]
            gpu,
            limits: config.gpu.map(|gpu| gpu.limits).unwrap_or_default(),
        })
    }

    /// Batches for which there is memory from the start, on a GPU.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// By which tools of its vendor know it; none for the CPU.
    pub fn uuid(&self) -> Option<&str> {
        #[cfg(feature = "cuda")]
        return self.gpu.as_ref().map(|(gpu, _)| gpu.uuid.as_str());
        #[cfg(not(feature = "cuda"))]
        return None;
    }

    /// Bytes of its memory that are free, and all of them; none for the CPU.
    ///
    /// # Errors
    /// It does not say.
    pub fn memory(&self) -> Result<Option<(usize, usize)>, RuntimeError> {
        #[cfg(feature = "cuda")]
        return self.gpu.as_ref().map(|(gpu, _)| gpu.memory()).transpose();
        #[cfg(not(feature = "cuda"))]
        return Ok(None);
    }

    /// Checks that models of these names fit into its memory together, before any of them is put there.
    ///
    /// # Errors
    /// They do not; or the device does not say.
    pub(crate) fn plan(&self, models: &[(&str, Footprint)]) -> Result<(), RuntimeError> {
        let Some((free, _)) = self.memory()? else { return Ok(()) };
        let own: usize = models.iter().map(|(_, footprint)| footprint.own).sum();
        let shared = models.iter().map(|(_, footprint)| footprint.shared).max().unwrap_or(0);
        let needed = own + shared + HEADROOM_BYTES;
        if needed <= free {
            return Ok(());
        }
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let mut parts: Vec<String> =
            models.iter().map(|(name, footprint)| format!("{name} {}", mib(footprint.own))).collect();
        parts.push(format!("batches {}", mib(shared)));
        parts.push(format!("headroom {}", mib(HEADROOM_BYTES)));
        let models = parts.join(", ");
        Err(RuntimeError::DoesNotFit { device: self.name(), needed: mib(needed), models, free: mib(free) })
    }

    /// What computes, for a person.
    pub fn name(&self) -> String {
        #[cfg(feature = "cuda")]
        if let Some((gpu, _)) = &self.gpu {
            return gpu.name.clone();
        }
        "CPU".to_owned()
    }

    /// Whether this build can use GPUs.
    pub const HAS_CUDA: bool = cfg!(feature = "cuda");

    /// GPUs that could be used: none without a driver, or in a build without the feature `cuda`.
    pub fn gpus() -> usize {
        #[cfg(feature = "cuda")]
        return cuda::Gpu::count();
        #[cfg(not(feature = "cuda"))]
        return 0;
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn gpu(&self) -> Option<&(Arc<cuda::Gpu>, Arc<Mutex<cuda::Workspace>>)> {
        self.gpu.as_ref()
    }

    pub(crate) fn workspace(&self) -> &Arc<Mutex<fused::Workspace>> {
        &self.workspace
    }
}

#[cfg(feature = "cuda")]
fn open_gpu(config: GpuConfig) -> Result<(Arc<cuda::Gpu>, Arc<Mutex<cuda::Workspace>>), RuntimeError> {
    let gpu = cuda::Gpu::open(config.number)?;
    let workspace = Arc::new(Mutex::new(cuda::Workspace::new(Arc::clone(&gpu), &config)?));
    Ok((gpu, workspace))
}

/// Loads weights through whichever backend a card names, keeping base encoders that several cards share.
pub struct Loader {
    bases: HashMap<PathBuf, Arc<BertWeights>>,
    candle: candle::Loader,
    fused: fused::Loader,
    onnx: onnx::Loader,
}

impl Loader {
    /// Names of the backends in this build.
    pub const RUNTIMES: &[&str] = &[
        candle::NAME,
        fused::NAME,
        onnx::NAME,
        #[cfg(feature = "cuda")]
        cuda::NAME,
    ];
    const ARCHITECTURES: &[&str] = &["bert"];

    /// The number format of a runtime that is named without one: float32, which every runtime computes in but `cuda`; there float16,
    /// whose products are as fast as bfloat16's and round eight times less. What is too large for it is refused
    /// ([`RuntimeError::NotFinite`]), and such a model wants bfloat16.
    pub fn dtype(runtime: &str) -> &'static str {
        match runtime {
            "cuda" => "float16",
            _ => "float32",
        }
    }

    /// Loads nothing yet.
    pub fn new(onnx: onnx::Loader) -> Self {
        Self {
            bases: HashMap::new(),
            candle: candle::Loader::default(),
            fused: fused::Loader::default(),
            onnx,
        }
    }

    /// Loads the model of a card whose source files are in `folder`.
    ///
    /// # Errors
    /// When the card asks for what this build does not have, or its files do not fit together.
    pub fn load(&mut self, card: &Card, folder: &Path) -> Result<Box<dyn Weights>, ModelError> {
        check_supported("runtime", &card.runtime, Self::RUNTIMES)?;
        check_supported("architecture", &card.architecture, Self::ARCHITECTURES)?;
        let base = self.base(card, folder)?;
        faithful::check(card, folder, &base)?;
        if card.limits.tokens_max > base.config.max_position_embeddings {
            let (asked, available) = (card.limits.tokens_max, base.config.max_position_embeddings);
            return Err(ModelError::Capacity { what: "limits.tokens_max", asked, available });
        }
        match card.runtime.as_str() {
            fused::NAME => self.fused.load(card, folder, &base),
            onnx::NAME => self.onnx.load(card, folder),
            #[cfg(feature = "cuda")]
            cuda::NAME => cuda::load(card, &base),
            _ => Ok(Box::new(self.candle.load(card, folder, &base)?)),
        }
    }

    fn base(&mut self, card: &Card, folder: &Path) -> Result<Arc<BertWeights>, ModelError> {
        if let Some(base) = self.bases.get(folder) {
            return Ok(Arc::clone(base));
        }
        let config = BertConfig::from_file(&folder.join(CONFIG_FILE), &card.architecture)?;
        let base = Arc::new(BertWeights::new(TensorFile::open(&folder.join(WEIGHTS_FILE))?, config)?);
        self.bases.insert(folder.to_path_buf(), Arc::clone(&base));
        Ok(base)
    }
}

/// Refuses what is not among the supported.
pub(crate) fn check_supported(
    field: &'static str,
    value: &str,
    supported: &[&str],
) -> Result<(), ModelError> {
    if supported.contains(&value) { Ok(()) } else { Err(unsupported(field, value, supported)) }
}

/// The error for a field of a card that names something unknown.
pub(crate) fn unsupported(field: &'static str, value: &str, supported: &[&str]) -> ModelError {
    ModelError::Unsupported { field, value: value.to_owned(), supported: supported.join(", ") }
}
