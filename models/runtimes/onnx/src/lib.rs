//! ONNX Runtime (<https://onnxruntime.ai>), loaded from a shared library that is found at run time.
//!
//! A model's graph, `<model>.onnx`, lies beside its encoder's weights; `scripts/export_onnx.py` writes it.
//! Its inputs are padded, so a batch is sorted by length and cut into groups of nearly equal ones. Lengths
//! are rounded up to few different ones and nothing is kept per shape, so that memory does not grow with the
//! shapes that were seen.
//!
//! # Invariants
//! - Its numbers are the reference's, and a graph of other weights than the card's is refused.
//!   (`models/tests/onnx.rs`)

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use models_core::card::{CONFIG_FILE, Card, Sha256Digest, WEIGHTS_FILE};
use models_core::runtime::{check_batch, check_finite, check_plain, check_unpaired};
use models_core::weights::{EncoderWeights, HeadWeights};
use models_core::{
    Backend, Device, Dtype, EncoderSpec, HostTensor, ModelError, Runtime, RuntimeError, RuntimeKind,
    TokenBatch, Unsupported, Weights, files,
};
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{self, ExecutionProvider};
use ort::memory::MemoryInfo;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

const DTYPES: &[Dtype] = &[Dtype::Float32];
/// Where the library is looked for if the configuration does not say: as other programs that load it do.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Below the data folder: the virtual environment into which `make setup` installs the library.
const LIBRARY_FOLDER: &str = "venv-onnx/lib";
/// What [`GRAPH_VERSION_KEY`] must be; the same as in `scripts/export_onnx.py`.
const GRAPH_VERSION: &str = "1";
const GRAPH_VERSION_KEY: &str = "graph_version";
/// Lengths of padded sequences are multiples of this.
const LENGTH_STEP: usize = 16;
/// Tokens of one group, with padding. Larger groups are slower: their activations leave the caches.
const GROUP_TOKENS_MAX: usize = 1024;

/// How ONNX Runtime is found and used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnnxConfig {
    /// The shared library. If there is none, `ORT_DYLIB_PATH` says, or it is looked for where `make setup`
    /// installs it.
    pub library: Option<PathBuf>,
    pub provider: Provider,
    /// Threads that compute on the CPU, for all models together. 0: one for each core.
    pub threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    #[default]
    Cpu,
    Cuda {
        device: i32,
    },
}

/// Why ONNX Runtime cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OnnxError {
    /// No library was found.
    #[error(
        "no ONNX Runtime library: looked at the configuration (onnx.library), {LIBRARY_VARIABLE} and {folder}; \
         `make setup` installs it"
    )]
    NoLibrary {
        /// Where it was looked for last.
        folder: String,
    },
    /// A library was found, and cannot be loaded or is too old.
    #[error("ONNX Runtime library: {message}; version 1.{} or newer is needed", ort::MINOR_VERSION)]
    Library {
        /// What is wrong with it.
        message: String,
    },
    /// The execution provider is not in the library.
    #[error("ONNX Runtime's library has no provider {name}: {message}")]
    Provider { name: &'static str, message: String },
    /// The model's graph is not there.
    #[error("{file}: no such graph; `make onnx` writes it")]
    NoGraph { file: String },
    /// The graph was made from other files than the card's.
    #[error("{file}: was made from another {what}; `make onnx` writes it anew")]
    StaleGraph { file: String, what: String },
    /// The library refused the graph.
    #[error("{file}: {message}")]
    Graph { file: String, message: String },
}

pub struct Loader {
    config: OnnxConfig,
    data_dir: PathBuf,
}

/// The library allows one environment in a process, so the first configuration for which it loads decides.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A graph on disk. Each runtime has a session of its own.
struct OnnxModel {
    environment: Environment,
    graph: PathBuf,
    provider: Provider,
    spec: EncoderSpec,
    columns: usize,
    is_per_token: bool,
}

struct OnnxRuntime {
    session: Session,
    binding: IoBinding,
    /// Where results go: the host's.
    memory: MemoryInfo<'static>,
    spec: EncoderSpec,
    columns: usize,
    is_per_token: bool,
    /// Sequences of the batch, by length.
    order: Vec<usize>,
    ranges: Vec<Range<usize>>,
}

impl Loader {
    /// `data_dir` is where the library is looked for last.
    pub fn new(config: OnnxConfig, data_dir: &Path) -> Self {
        Self { config, data_dir: data_dir.to_path_buf() }
    }

    fn environment(&self) -> Result<Environment, OnnxError> {
        let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = &*environment {
            return Ok(environment.clone());
        }
        let fault = |message: String| OnnxError::Library { message };
        let builder = ort::init_from(self.library()?).map_err(|error| fault(error.to_string()))?;
        let threads = GlobalThreadPoolOptions::default()
            .with_intra_threads(self.config.threads)
            // An idle core is somebody else's.
            .and_then(|options| options.with_spin_control(false))
            .map_err(|error| fault(error.to_string()))?;
        let builder = builder.with_name("ml-inference").with_global_thread_pool(threads);
        let built = builder.build().map_err(|error| fault(error.to_string()))?;
        Ok(environment.insert(built).clone())
    }

    fn library(&self) -> Result<PathBuf, OnnxError> {
        if let Some(library) = &self.config.library {
            return Ok(library.clone());
        }
        if let Some(library) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
            return Ok(PathBuf::from(library));
        }
        let folder = self.data_dir.join(LIBRARY_FOLDER);
        installed(&folder).ok_or_else(|| OnnxError::NoLibrary { folder: folder.display().to_string() })
    }
}

impl Backend for Loader {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Onnx
    }

    /// The graph is of this very encoder, whatever that is; what no graph was written of has none.
    fn supports(&self, _spec: &EncoderSpec) -> Result<(), Unsupported> {
        Ok(())
    }

    /// The model's graph is in `folder` too.
    fn load(
        &mut self,
        card: &Card,
        folder: &Path,
        base: &Arc<EncoderWeights>,
    ) -> Result<Box<dyn Weights>, ModelError> {
        Unsupported::unless("dtype", &card.dtype, DTYPES)?;
        let environment = self.environment()?;
        let spec = base.spec.clone();
        let head = HeadWeights::load(card, folder, base)?;
        check_plain(card, &head)?;
        let model = OnnxModel {
            environment,
            graph: folder.join(format!("{}.onnx", card.name)),
            provider: self.config.provider,
            columns: head.columns(spec.hidden_size),
            is_per_token: head.is_per_token(),
            spec,
        };
        let session = model.session()?;
        check_fresh(&session, card, &model.graph)?;
        Ok(Box::new(model))
    }
}

impl From<OnnxError> for ModelError {
    fn from(error: OnnxError) -> Self {
        ModelError::of_runtime(error)
    }
}

/// `python3.x/site-packages/onnxruntime/capi/libonnxruntime.so.1.y.z` below a folder.
fn installed(folder: &Path) -> Option<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).ok().map(Iterator::flatten);
    entries(folder)?.find_map(|python| {
        let capi = python.path().join("site-packages/onnxruntime/capi");
        let is_library = |name: &str| name.starts_with("libonnxruntime.so");
        entries(&capi)?
            .find(|entry| entry.file_name().to_str().is_some_and(is_library))
            .map(|entry| entry.path())
    })
}

/// Refuses a graph that was made from other files than the card's.
fn check_fresh(session: &Session, card: &Card, graph: &Path) -> Result<(), ModelError> {
    let file = || graph.display().to_string();
    let metadata =
        session.metadata().map_err(|error| OnnxError::Graph { file: file(), message: error.to_string() })?;
    let mut expected = vec![(GRAPH_VERSION_KEY, Some(GRAPH_VERSION.to_owned()))];
    let pinned = |name: &str| card.source.files.get(name).map(Sha256Digest::to_string);
    expected.push(("encoder_sha256", pinned(WEIGHTS_FILE)));
    expected.push(("config_sha256", pinned(CONFIG_FILE)));
    if let Some(adapter) = &card.adapter {
        let config = files::digest_of(&files::read(&card.folder.join(&adapter.config))?);
        expected.push(("adapter_sha256", Some(adapter.sha256.to_string())));
        expected.push(("adapter_config_sha256", Some(config.to_string())));
    }
    expected.push(("head_sha256", card.head.weights().map(|head| head.sha256.to_string())));
    match expected.into_iter().find(|(key, value)| metadata.custom(key) != *value) {
        Some((key, _)) => {
            let what = key.trim_end_matches("_sha256").replace('_', " ");
            Err(OnnxError::StaleGraph { file: file(), what }.into())
        }
        None => Ok(()),
    }
}

impl OnnxModel {
    fn session(&self) -> Result<Session, OnnxError> {
        let file = self.graph.display().to_string();
        if !self.graph.is_file() {
            return Err(OnnxError::NoGraph { file });
        }
        let fault = |message: String| OnnxError::Graph { file: file.clone(), message };
        let mut builder = Session::builder(&self.environment)
            .map_err(|error| fault(error.to_string()))?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(|error| fault(error.to_string()))?
            // A pattern would be kept for each shape.
            .with_memory_pattern(false)
            .map_err(|error| fault(error.to_string()))?;
        if let Provider::Cuda { device } = self.provider {
            let provider = ep::CUDA::default().with_device_id(device);
            let missing = |message: String| OnnxError::Provider { name: "CUDAExecutionProvider", message };
            if !ep::CUDA::is_available().map_err(|error| missing(error.to_string()))? {
                return Err(missing("it was built without; install the GPU flavour".to_owned()));
            }
            builder = builder
                .with_execution_providers([provider.build().error_on_failure()])
                .map_err(|error| missing(error.to_string()))?;
        }
        builder.commit_from_file(&self.graph).map_err(|error| fault(error.to_string()))
    }
}

impl Weights for OnnxModel {
    fn runtime(&self, _device: &Device) -> Result<Box<dyn Runtime>, RuntimeError> {
        let session = self.session().map_err(backend)?;
        let binding = session.create_binding().map_err(backend)?;
        Ok(Box::new(OnnxRuntime {
            session,
            binding,
            memory: MemoryInfo::default(),
            spec: self.spec.clone(),
            columns: self.columns,
            is_per_token: self.is_per_token,
            order: Vec::new(),
            ranges: Vec::new(),
        }))
    }

    fn vocabulary_size(&self) -> usize {
        self.spec.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.spec.hidden_size
    }

    fn columns(&self) -> usize {
        self.columns
    }
}

impl Runtime for OnnxRuntime {
    fn run(&mut self, batch: &TokenBatch, result: &mut HostTensor) -> Result<(), RuntimeError> {
        check_batch(&self.spec, batch)?;
        check_unpaired(batch)?;
        let rows = if self.is_per_token { batch.tokens() } else { batch.sequences() };
        result.shape.clear();
        result.shape.extend([rows, self.columns]);
        result.data.clear();
        result.data.resize(rows * self.columns, 0.0);
        self.ranges.clear();
        self.ranges.extend(batch.ranges());
        self.order.clear();
        self.order.extend(0..batch.sequences());
        self.order.sort_unstable_by_key(|&sequence| self.ranges[sequence].len());
        let mut first = 0;
        while first < self.order.len() {
            let (end, length) = self.group(first);
            self.run_group(batch, first..end, length, result)?;
            first = end;
        }
        check_finite(result)
    }
}

impl OnnxRuntime {
    /// Where the group of sequences that starts at `first` ends, and the length to which it is padded.
    fn group(&self, first: usize) -> (usize, usize) {
        let padded = |sequence: usize| {
            let length = self.ranges[sequence].len().next_multiple_of(LENGTH_STEP);
            length.min(self.spec.max_position_embeddings)
        };
        let length = padded(self.order[first]);
        let fits = |end: &usize| {
            padded(self.order[*end]) == length && (end - first + 1) * length <= GROUP_TOKENS_MAX
        };
        let end = (first + 1..self.order.len()).take_while(fits).last().map_or(first + 1, |last| last + 1);
        (end, length)
    }

    fn run_group(
        &mut self,
        batch: &TokenBatch,
        group: Range<usize>,
        length: usize,
        result: &mut HostTensor,
    ) -> Result<(), RuntimeError> {
        let members = &self.order[group];
        let mut ids = vec![0_i64; members.len() * length];
        let mut mask = vec![0_i64; members.len() * length];
        for (row, &sequence) in members.iter().enumerate() {
            let tokens = &batch.input_ids[self.ranges[sequence].clone()];
            let row = row * length..row * length + tokens.len();
            ids[row.clone()].iter_mut().zip(tokens).for_each(|(to, &id)| *to = i64::from(id));
            mask[row].fill(1);
        }
        let shape = [members.len(), length];
        let (ids, mask) = (Tensor::from_array((shape, ids)), Tensor::from_array((shape, mask)));
        self.binding.bind_input("input_ids", &ids.map_err(backend)?).map_err(backend)?;
        self.binding.bind_input("attention_mask", &mask.map_err(backend)?).map_err(backend)?;
        // Anew for each shape: what a run has bound has the shape of that run.
        self.binding.bind_output_to_device("output", &self.memory).map_err(backend)?;
        let outputs = self.session.run_binding(&self.binding).map_err(backend)?;
        let (_, values) = outputs["output"].try_extract_tensor::<f32>().map_err(backend)?;
        let rows_each = if self.is_per_token { length } else { 1 };
        if values.len() != members.len() * rows_each * self.columns {
            return Err(backend(format!("the graph gave {} values", values.len())));
        }
        for (values, &sequence) in values.chunks_exact(rows_each * self.columns).zip(members) {
            let rows = if self.is_per_token { self.ranges[sequence].clone() } else { sequence..sequence + 1 };
            let to = &mut result.data[rows.start * self.columns..rows.end * self.columns];
            to.copy_from_slice(&values[..to.len()]);
        }
        Ok(())
    }
}

/// A failed computation concerns one batch, unless the device is lost, of which the library does not tell.
#[allow(clippy::needless_pass_by_value, reason = "so that it can be named where an error is mapped")]
fn backend(error: impl ToString) -> RuntimeError {
    RuntimeError::Backend { message: error.to_string(), is_fatal: false }
}
