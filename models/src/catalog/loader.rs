//! Loading a model: its files, its weights through the runtime that its card names, its tokenizer.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use models_core::card::{Card, Origin, Sha256Digest, Source, TOKENIZER_FILE, Task, ZeroShot};
use models_core::weights::EncoderWeights;
use models_core::{
    Architecture, Backend, GpuRuntime, ModelError, RuntimeKind, Unsupported, Weights, faithful, files,
};
use runtime_onnx::OnnxConfig;
use serde::Deserialize;

use super::cards::RejectedCard;
use super::config::CatalogConfig;
use super::error::UnavailableError;
use super::infer::{self, Finding, InferError, TOKENIZER_CONFIG_FILE};
use super::wanted::{Place, Wanted};
use crate::architectures;
use crate::progress::Progress;
use crate::source::{self, Pin, Reference, SourceError, Store};
use crate::tokenizer::{TextTokenizer, TokenizeError};

/// Loads weights through whichever runtime a card names, keeping base encoders that several cards share.
pub struct Loader {
    bases: HashMap<(Architecture, PathBuf), Arc<EncoderWeights>>,
    backends: Vec<Box<dyn Backend>>,
}

/// What a model is once it is loaded.
pub(super) struct LoadedParts {
    /// Stands for the content of all its files.
    pub(super) digest: Sha256Digest,
    pub(super) tokenizer: TextTokenizer,
    pub(super) weights: Box<dyn Weights>,
}

impl Loader {
    /// Loads nothing yet. ONNX Runtime's library is looked for below the data folder last.
    pub fn new(onnx: &OnnxConfig, data_dir: &Path, gpu: Option<&dyn GpuRuntime>) -> Self {
        let mut backends: Vec<Box<dyn Backend>> = vec![
            Box::new(runtime_candle::Loader::default()),
            Box::new(runtime_fused::Loader::default()),
            Box::new(runtime_onnx::Loader::new(onnx.clone(), data_dir)),
        ];
        backends.extend(gpu.map(GpuRuntime::backend));
        Self { bases: HashMap::new(), backends }
    }

    /// Loads the model of a card whose source files are in `folder`.
    ///
    /// # Errors
    /// When the card asks for what this build does not have, or its files do not fit together.
    pub fn load(&mut self, card: &Card, folder: &Path) -> Result<Box<dyn Weights>, ModelError> {
        let kinds: Vec<RuntimeKind> = self.backends.iter().map(|backend| backend.kind()).collect();
        Unsupported::unless("runtime", &card.runtime, &kinds)?;
        let base = self.base(card, folder)?;
        faithful::check(card, folder, &base)?;
        if card.limits.tokens_max > base.spec.max_position_embeddings {
            let (asked, available) = (card.limits.tokens_max, base.spec.max_position_embeddings);
            return Err(ModelError::Capacity { what: "limits.tokens_max", asked, available });
        }
        let backend = self.backends.iter_mut().find(|backend| backend.kind() == card.runtime);
        let backend = backend.ok_or_else(|| Unsupported::new("runtime", card.runtime, &kinds))?;
        backend.supports(&base.spec)?;
        backend.load(card, folder, &base)
    }

    fn base(&mut self, card: &Card, folder: &Path) -> Result<Arc<EncoderWeights>, ModelError> {
        let key = (card.architecture, folder.to_path_buf());
        if let Some(base) = self.bases.get(&key) {
            return Ok(Arc::clone(base));
        }
        let base = Arc::new(architectures::open(card.architecture, folder)?);
        self.bases.insert(key, Arc::clone(&base));
        Ok(base)
    }
}

/// What models share while they are loaded.
pub(super) struct LoadContext<'a> {
    store: Store,
    progress: &'a dyn Progress,
    loader: Loader,
    /// Where sources have been fetched and verified, or why not: none is tried twice.
    folders: HashMap<(Source, PathBuf), Result<PathBuf, Arc<SourceError>>>,
    tokenizers: HashMap<Sha256Digest, TextTokenizer>,
}

impl<'a> LoadContext<'a> {
    pub(super) fn new(config: &CatalogConfig, progress: &'a dyn Progress) -> Self {
        Self {
            store: Store { data_dir: config.data_dir.clone(), offline: config.offline },
            progress,
            loader: Loader::new(&config.onnx, &config.data_dir, config.gpu_runtime),
            folders: HashMap::new(),
            tokenizers: HashMap::new(),
        }
    }

    /// As [`load`](Self::load), whatever the files do.
    pub(super) fn load_guarded(&mut self, card: &Card) -> Result<LoadedParts, UnavailableError> {
        // Files are whatever somebody has put there, and libraries read them, too.
        let loaded = catch_unwind(AssertUnwindSafe(|| self.load(card)));
        loaded.unwrap_or(Err(UnavailableError::Panicked))
    }

    fn load(&mut self, card: &Card) -> Result<LoadedParts, UnavailableError> {
        let Card { name, version, runtime, dtype, .. } = card;
        self.progress.message(&format!("loading {name} {version}: {runtime}, {dtype}"));
        let folder = self.folder(card)?;
        let weights = self.loader.load(card, &folder)?;
        let tokenizer = self.tokenizer(card, &folder)?.telling_segments(tells_segments(&folder)?);
        let (asked, available) = (tokenizer.vocabulary_size(), weights.vocabulary_size());
        if asked > available {
            return Err(ModelError::Capacity { what: "vocabulary of the tokenizer", asked, available }.into());
        }
        Ok(LoadedParts { digest: digest(card)?, tokenizer, weights })
    }

    /// The card of a checkpoint without one. A repository is fetched for it, and pinned.
    pub(super) fn inferred(&mut self, wanted: &Wanted) -> Result<Card, InferError> {
        let reference = match &wanted.place {
            Place::Folder(folder) => return infer::card(wanted, folder, None),
            Place::Repository(reference) => reference,
        };
        let (pin, folder) = self.pinned(reference)?;
        infer::card(wanted, &folder, Some(&pin))
    }

    /// What that card was inferred from, and the pin of a repository.
    pub(super) fn findings(&mut self, wanted: &Wanted) -> Result<(Vec<Finding>, Option<Pin>), InferError> {
        let reference = match &wanted.place {
            Place::Folder(folder) => return Ok((infer::findings(wanted, folder, None)?, None)),
            Place::Repository(reference) => reference,
        };
        let (pin, folder) = self.pinned(reference)?;
        Ok((infer::findings(wanted, &folder, Some(&pin))?, Some(pin)))
    }

    fn pinned(&mut self, reference: &Reference) -> Result<(Pin, PathBuf), Arc<SourceError>> {
        let pin = source::pinned(reference, false, &self.store, self.progress).map_err(Arc::new)?;
        let folder = self.files(&pin.source(), Path::new(""))?;
        Ok((pin, folder))
    }

    /// What each runtime of this build lacks to compute a model; nothing if it can.
    pub(super) fn supporting(
        &mut self,
        card: &Card,
        folder: &Path,
    ) -> Result<Vec<(RuntimeKind, Option<String>)>, ModelError> {
        let base = self.loader.base(card, folder)?;
        let lacking = |backend: &dyn Backend| {
            (backend.kind(), backend.supports(&base.spec).err().map(|lack| lack.to_string()))
        };
        Ok(self.loader.backends.iter().map(|backend| lacking(&**backend)).collect())
    }

    pub(super) fn folder(&mut self, card: &Card) -> Result<PathBuf, Arc<SourceError>> {
        self.files(&card.source, &card.folder)
    }

    /// The folder of a source's files, which are fetched if they are not there, and verified.
    fn files(&mut self, source: &Source, card_folder: &Path) -> Result<PathBuf, Arc<SourceError>> {
        // A repository is the same for every card; a folder is beside its card.
        let place = match &source.origin {
            Origin::Folder(_) => card_folder.to_path_buf(),
            Origin::Repository { .. } => PathBuf::new(),
        };
        let folder = self.folders.entry((source.clone(), place)).or_insert_with(|| {
            source::ensure(source, card_folder, &self.store, self.progress).map_err(Arc::new)
        });
        folder.clone()
    }

    fn tokenizer(&mut self, card: &Card, folder: &Path) -> Result<TextTokenizer, TokenizeError> {
        let digest = card.source.files.get(TOKENIZER_FILE).copied();
        if let Some(tokenizer) = digest.and_then(|digest| self.tokenizers.get(&digest)) {
            return Ok(tokenizer.clone());
        }
        let tokenizer = TextTokenizer::from_file(&folder.join(TOKENIZER_FILE))?;
        self.tokenizers.extend(digest.map(|digest| (digest, tokenizer.clone())));
        Ok(tokenizer)
    }
}

/// Whether a checkpoint's authors tell the model which text of a pair a token is of, as transformers has it:
/// by `model_input_names` of the tokenizer, which the class of version 5 that takes any file leaves out.
fn tells_segments(folder: &Path) -> Result<bool, ModelError> {
    #[derive(Deserialize)]
    struct TokenizerConfig {
        model_input_names: Option<Vec<String>>,
        tokenizer_class: Option<String>,
    }
    let path = folder.join(TOKENIZER_CONFIG_FILE);
    if !path.is_file() {
        return Ok(true);
    }
    let config: TokenizerConfig = serde_json::from_slice(&files::read(&path)?)
        .map_err(|error| ModelError::File { file: path.display().to_string(), message: error.to_string() })?;
    let is_any = config.tokenizer_class.as_deref() == Some("TokenizersBackend");
    let names = config.model_input_names;
    Ok(names.map_or(!is_any, |names| names.iter().any(|name| name == "token_type_ids")))
}

/// Zero-shot labels are tokenised once for both models, so they must have the same tokenizer. A model whose
/// card cannot be read takes the labels down alone, as one whose weights are damaged does.
pub(super) fn check_zero_shot(
    card: &Card,
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) -> Result<(), UnavailableError> {
    let Some(model) = card.zero_shot.as_ref().and_then(ZeroShot::model) else { return Ok(()) };
    let fault = |message| Err(UnavailableError::ZeroShot { model: model.to_owned(), message });
    match cards.iter().find(|other| other.name == model) {
        None if rejected.iter().any(|other| other.name == model) => Ok(()),
        None => fault("there is no such card"),
        Some(other) if other.task != Task::Embed => fault("its task is not embeddings"),
        Some(other) if other.source.files.get(TOKENIZER_FILE) != card.source.files.get(TOKENIZER_FILE) => {
            fault("it has another tokenizer")
        }
        Some(_) => Ok(()),
    }
}

/// Everything that decides the model's answers, in a fixed order.
pub(super) fn digest(card: &Card) -> Result<Sha256Digest, ModelError> {
    let mut digests: Vec<Sha256Digest> = card.source.files.values().copied().collect();
    if let Some(adapter) = &card.adapter {
        digests.push(adapter.sha256);
        digests.push(files::digest_of(&files::read(&card.folder.join(&adapter.config))?));
    }
    digests.extend(card.head.weights().map(|weights| weights.sha256));
    Ok(files::digest_of_all(&digests))
}
