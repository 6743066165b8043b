//! The candle runtime: BERT encoders over ragged batches on the CPU.
//!
//! It is the reference against which other runtimes are held. Linear layers run on packed rows `[T, H]`, attention on
//! each sequence by itself, so that no padding is ever computed.

pub mod encoder;
pub mod heads;
pub mod lora;
mod tensors;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_transformers::models::bert;

use crate::batch::{HostTensor, TokenBatch};
use crate::card::{CONFIG_FILE, Card, WEIGHTS_FILE};
use crate::error::ModelError;
use crate::files;
use crate::runtimes::{Runtime, RuntimeError, Weights, unsupported};
use encoder::Encoder;
use heads::Head;
use lora::LoraAdapter;
pub use tensors::TensorFile;

/// The name by which cards choose this runtime.
pub const NAME: &str = "candle";
const ARCHITECTURES: &[&str] = &["bert"];
const DTYPES: &[&str] = &["float32"];

/// An encoder and a head. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct CandleModel {
    encoder: Encoder,
    head: Head,
}

/// Loads models; cards over the same base encoder share its tensors, except those that an adapter changes.
#[derive(Default)]
pub struct Loader {
    encoders: HashMap<(PathBuf, String), Encoder>,
}

impl CandleModel {
    /// Joins an encoder and a head of the same hidden size.
    pub fn new(encoder: Encoder, head: Head) -> Self {
        Self { encoder, head }
    }
}

impl Loader {
    /// Loads the model of a card whose source files are in `folder`.
    ///
    /// # Errors
    /// When the architecture or number format is not supported, or the files do not fit one another or the card.
    pub fn load(&mut self, card: &Card, folder: &Path) -> Result<CandleModel, ModelError> {
        check_supported("architecture", &card.architecture, ARCHITECTURES)?;
        check_supported("dtype", &card.dtype, DTYPES)?;
        let base = self.base(card, folder)?;
        if card.limits.tokens_max > base.positions_max() {
            let (asked, available) = (card.limits.tokens_max, base.positions_max());
            return Err(ModelError::Capacity { what: "limits.tokens_max", asked, available });
        }
        let encoder = match &card.adapter {
            None => base,
            Some(adapter) => {
                let config = card.folder.join(&adapter.config);
                let file = card.folder.join(&adapter.file);
                let weights = TensorFile::parse(&file, &files::read_verified(&file, adapter.sha256)?)?;
                base.with_adapter(&LoraAdapter::new(&config, &files::read(&config)?, weights)?)?
            }
        };
        let head = Head::load(card, encoder.hidden_size())?;
        Ok(CandleModel { encoder, head })
    }

    fn base(&mut self, card: &Card, folder: &Path) -> Result<Encoder, ModelError> {
        let key = (folder.to_path_buf(), card.dtype.clone());
        if let Some(encoder) = self.encoders.get(&key) {
            return Ok(encoder.clone());
        }
        let config = read_config(&folder.join(CONFIG_FILE), &card.architecture)?;
        let encoder = Encoder::load(TensorFile::open(&folder.join(WEIGHTS_FILE))?, &config, &Device::Cpu)?;
        self.encoders.insert(key, encoder.clone());
        Ok(encoder)
    }
}

impl Weights for CandleModel {
    fn runtime(&self) -> Result<Box<dyn Runtime>, RuntimeError> {
        Ok(Box::new(self.clone()))
    }

    fn vocabulary_size(&self) -> usize {
        self.encoder.vocabulary_size()
    }

    fn columns(&self) -> usize {
        self.head.columns().unwrap_or(self.encoder.hidden_size())
    }
}

impl Runtime for CandleModel {
    fn run(&mut self, batch: &TokenBatch) -> Result<HostTensor, RuntimeError> {
        self.encoder.check(batch)?;
        let hidden = self.encoder.forward(batch).map_err(|error| backend(&error))?;
        let result = self.head.forward(&hidden, batch).map_err(|error| backend(&error))?;
        let shape = result.dims().to_vec();
        let data: Vec<f32> =
            result.flatten_all().and_then(|flat| flat.to_vec1()).map_err(|error| backend(&error))?;
        if data.iter().all(|value| value.is_finite()) {
            Ok(HostTensor { data, shape })
        } else {
            Err(RuntimeError::NotFinite)
        }
    }
}

/// A failed computation on the CPU concerns one batch: the device is as good as before.
fn backend(error: &candle_core::Error) -> RuntimeError {
    let text = error.to_string();
    RuntimeError::Backend { message: text.lines().next().unwrap_or_default().to_owned(), is_fatal: false }
}

fn check_supported(field: &'static str, value: &str, supported: &[&str]) -> Result<(), ModelError> {
    if supported.contains(&value) { Ok(()) } else { Err(unsupported(field, value, supported)) }
}

fn read_config(path: &Path, architecture: &str) -> Result<bert::Config, ModelError> {
    let file = || path.display().to_string();
    let config: bert::Config = serde_json::from_slice(&files::read(path)?)
        .map_err(|error| ModelError::File { file: file(), message: error.to_string() })?;
    match config.model_type.as_deref() {
        Some(model_type) if model_type != architecture => {
            let message = format!("model_type is {model_type:?}, the card says {architecture:?}");
            Err(ModelError::File { file: file(), message })
        }
        _ => Ok(config),
    }
}
