//! The models of one process: cards, weights and tokenizers, numbered in the order of their names.
//!
//! One bad model does not take the others down: it stays in the catalog as unavailable, with the reason.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use units::ModelId;

use crate::card::{Card, CardError, Origin, Sha256Digest, Source, TOKENIZER_FILE, Task};
use crate::error::{LoadError, ModelError};
use crate::executor::{DeviceExecutor, DeviceModel};
use crate::files;
use crate::pool::{self, Pace};
use crate::progress::Progress;
use crate::runtimes::onnx::{self, OnnxConfig};
use crate::runtimes::{Device, Loader, RuntimeError, Weights};
use crate::source::{self, SourceError, Store};
use crate::tasks::{self, InputError, OnError, Parameters, Prepared};
use crate::tokenizer::TextTokenizer;

/// Name of a card's file in its folder.
const CARD_FILE: &str = "README.md";

/// Where a catalog comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogConfig {
    /// Holds one folder per model, with a card in it.
    pub cards_dir: PathBuf,
    /// Where fetched files are kept.
    pub data_dir: PathBuf,
    /// Fetch nothing: use only what the data folder holds.
    pub offline: bool,
    /// How ONNX Runtime is found and used, by models that name it.
    pub onnx: OnnxConfig,
    /// What differs from every card, unless the next says otherwise.
    pub all: CardOverride,
    /// What differs from the cards, by model.
    pub overrides: BTreeMap<String, CardOverride>,
    /// Which model answers where the caller names none, by task, whatever the cards say.
    pub defaults: BTreeMap<Task, String>,
}

/// What differs from a model's card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CardOverride {
    /// The runtime.
    pub runtime: Option<String>,
    /// The number format. With a runtime and without this it is [the runtime's](crate::runtimes::Loader::dtype).
    pub dtype: Option<String>,
    /// Whether the p99 target is a deadline.
    pub p99_target_is_deadline: Option<bool>,
    /// Whether the server is not ready without it.
    pub is_required: Option<bool>,
}

/// The models of one process.
pub struct Catalog {
    models: Vec<ModelEntry>,
    rejected: Vec<RejectedCard>,
    defaults: BTreeMap<Task, TaskDefault>,
}

/// The model that answers for a task where the caller names none. It is never replaced by another.
enum TaskDefault {
    Model(ModelId),
    /// Its card could not be read: an index into the rejected.
    Rejected(usize),
}

/// Why a call that names no model has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDefault {
    /// No model is stated to be the task's default.
    #[error("no default model is configured for {task}")]
    Unstated {
        /// The task.
        task: Task,
        /// Models that do it.
        candidates: Vec<String>,
    },
    /// The default's card could not be read.
    #[error("model {name} is not available: {reason}")]
    Rejected {
        /// The model.
        name: String,
        /// What is wrong with its card.
        reason: String,
    },
}

/// A required model that does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// The model, or the folder of a card that could not be read.
    pub name: String,
    /// Why not, for people.
    pub reason: String,
}

/// A model whose card could be read.
pub struct ModelEntry {
    /// Its number in this process.
    pub id: ModelId,
    /// Its card.
    pub card: Arc<Card>,
    /// Whether it can be used.
    pub state: ModelState,
    loaded: Option<Loaded>,
}

/// Whether a model can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// It can.
    Loaded {
        /// Stands for the content of all its files: encoder, tokenizer, configuration, adapter and head.
        digest: Sha256Digest,
    },
    /// It cannot.
    Unavailable {
        /// Why not, for people.
        reason: String,
    },
}

/// A folder whose card could not be read, so that not even its task is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCard {
    /// Name of the card's folder.
    pub name: String,
    /// What is wrong with the card, naming the file and the field.
    pub reason: String,
    /// Whether the server is not ready without it, as far as the configuration says: what the card says is not known.
    pub is_required: bool,
    /// What it does, as far as a line of the card says.
    pub task: Option<Task>,
    /// Whether a line of the card says that it is its task's default.
    pub is_default: bool,
}

struct Loaded {
    digest: Sha256Digest,
    tokenizer: TextTokenizer,
    weights: Box<dyn Weights>,
}

impl Catalog {
    /// Reads all cards, fetches what is missing, and loads every model that can be loaded.
    ///
    /// # Errors
    /// When the folder of cards cannot be read or holds none. What is wrong with one model is in its entry.
    pub fn load(config: &CatalogConfig, progress: &dyn Progress) -> Result<Self, LoadError> {
        let (mut cards, mut rejected) = read_cards(&config.cards_dir)?;
        apply(&config.all, &config.overrides, &mut cards, &mut rejected)?;
        let defaults = defaults(&config.defaults, &cards, &rejected)?;
        let mut loading = Loading::new(config, progress);
        let results: Vec<_> = cards
            .iter()
            .map(|card| {
                check_zero_shot(card, &cards)?;
                loading.load(card)
            })
            .collect();
        let models = cards.into_iter().zip(results).enumerate();
        let models =
            models.map(|(index, (card, result))| ModelEntry::new(ModelId(index as u16), card, result));
        Ok(Self { models: models.collect(), rejected, defaults })
    }

    /// Fetches what is missing of all models, and loads nothing, so that a later start needs no network.
    ///
    /// # Errors
    /// When the cards cannot be read, or the files of one of them cannot be had. A card that is not usable is only
    /// mentioned.
    pub fn fetch(config: &CatalogConfig, progress: &dyn Progress) -> Result<(), LoadError> {
        let (cards, rejected) = read_cards(&config.cards_dir)?;
        rejected.iter().for_each(|card| progress.message(&card.reason));
        let mut loading = Loading::new(config, progress);
        for card in cards {
            loading.folder(&card).map_err(|source| LoadError::Fetch { model: card.name.clone(), source })?;
        }
        Ok(())
    }

    /// All models whose card could be read; a [`ModelId`] is an index into them.
    pub fn models(&self) -> &[ModelEntry] {
        &self.models
    }

    /// Folders whose card could not be read.
    pub fn rejected(&self) -> &[RejectedCard] {
        &self.rejected
    }

    /// The model of this name.
    pub fn find(&self, name: &str) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.card.name == name)
    }

    /// The model for a task when the caller names none, whether it is loaded or not.
    ///
    /// # Errors
    /// None is stated to be it, or its card could not be read.
    pub fn default_for(&self, task: Task) -> Result<&ModelEntry, NoDefault> {
        let default = match self.defaults.get(&task) {
            Some(TaskDefault::Model(id)) => self.models.get(usize::from(id.0)),
            Some(TaskDefault::Rejected(index)) => {
                let RejectedCard { name, reason, .. } = &self.rejected[*index];
                return Err(NoDefault::Rejected { name: name.clone(), reason: reason.clone() });
            }
            None => None,
        };
        default.ok_or_else(|| {
            let candidates = self.models.iter().filter(|entry| entry.card.task == task);
            let candidates: Vec<_> = candidates.map(|entry| entry.card.name.clone()).collect();
            // Where nothing else does the task, a card that does not even say what it does is looked for first.
            match self
                .rejected
                .iter()
                .find(|card| candidates.is_empty() && card.task.is_none_or(|its| its == task))
            {
                Some(RejectedCard { name, reason, .. }) => {
                    NoDefault::Rejected { name: name.clone(), reason: reason.clone() }
                }
                None => NoDefault::Unstated { task, candidates },
            }
        })
    }

    /// Required models that do not serve: while there is one, the server is not ready.
    pub fn unready(&self) -> Vec<Unready> {
        let models = self.models.iter().filter_map(|entry| match &entry.state {
            ModelState::Unavailable { reason } if entry.card.is_required => {
                Some(Unready { name: entry.card.name.clone(), reason: reason.clone() })
            }
            _ => None,
        });
        let rejected = self.rejected.iter().filter(|card| card.is_required);
        models
            .chain(rejected.map(|card| Unready { name: card.name.clone(), reason: card.reason.clone() }))
            .collect()
    }

    /// [`Self::prepare_paced`] at once, for callers of their own thread.
    ///
    /// # Errors
    /// The same.
    pub fn prepare(
        &self,
        model: ModelId,
        inputs: &[String],
        parameters: &Parameters,
    ) -> Result<Prepared, InputError> {
        pool::complete(self.prepare_paced(model, inputs, parameters, OnError::Fail, &Pace::at_once()))
    }

    /// Checks inputs and cuts them into jobs for the scheduler. Tokenises, so it belongs on a [`crate::WorkPool`].
    ///
    /// # Errors
    /// Names the input and the limit. A model that is not loaded is an error of the parameter `model`.
    pub async fn prepare_paced(
        &self,
        model: ModelId,
        inputs: &[String],
        parameters: &Parameters,
        on_error: OnError,
        pace: &Pace,
    ) -> Result<Prepared, InputError> {
        let entry = self.models.get(usize::from(model.0));
        let Some((entry, loaded)) = entry.and_then(|entry| Some((entry, entry.loaded.as_ref()?))) else {
            return Err(InputError::Parameter { name: "model", message: "is not loaded".into() });
        };
        let zero_shot = entry.card.zero_shot.as_ref().and_then(|zero_shot| self.find(&zero_shot.model));
        let zero_shot = zero_shot.and_then(|entry| {
            let loaded = entry.loaded.as_ref()?;
            Some((entry.id, entry.card.as_ref(), loaded.weights.columns()))
        });
        let context = tasks::Context {
            card: &entry.card,
            model,
            tokenizer: &loaded.tokenizer,
            columns: loaded.weights.columns(),
            zero_shot,
        };
        tasks::prepare(context, inputs, parameters, on_error, pace).await
    }

    /// The tokenizer of a loaded model.
    pub fn tokenizer(&self, model: ModelId) -> Option<&TextTokenizer> {
        self.models.get(usize::from(model.0))?.loaded.as_ref().map(|loaded| &loaded.tokenizer)
    }

    /// An executor with a runtime for each loaded model, for one device replica. Weights are shared between replicas.
    ///
    /// # Errors
    /// When the models do not fit the device's memory together, or it refuses one of them.
    pub fn executor(&self, device: &Device) -> Result<DeviceExecutor, RuntimeError> {
        let loaded = self.models.iter().filter_map(|entry| Some((entry, entry.loaded.as_ref()?)));
        let plan: Vec<_> = loaded
            .map(|(entry, loaded)| (entry.card.name.as_str(), loaded.weights.footprint(device)))
            .collect();
        device.plan(&plan)?;
        let on_device = |entry: &ModelEntry| {
            let Some(loaded) = &entry.loaded else { return Ok(None) };
            let runtime = loaded.weights.runtime(device)?;
            Ok(Some(DeviceModel { runtime, is_per_token: entry.card.head.is_per_token() }))
        };
        Ok(DeviceExecutor::new(self.models.iter().map(on_device).collect::<Result<_, RuntimeError>>()?))
    }
}

impl ModelEntry {
    fn new(id: ModelId, card: Arc<Card>, result: Result<Loaded, ModelError>) -> Self {
        let (state, loaded) = match result {
            Ok(loaded) => (ModelState::Loaded { digest: loaded.digest }, Some(loaded)),
            Err(error) => (ModelState::Unavailable { reason: error.to_string() }, None),
        };
        Self { id, card, state, loaded }
    }

    /// Numbers in a hidden state of its encoder, if it is loaded.
    pub fn hidden_size(&self) -> Option<usize> {
        self.loaded.as_ref().map(|loaded| loaded.weights.hidden_size())
    }

    /// Whether the model can be used.
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }
}

/// What models share while they are loaded.
struct Loading<'a> {
    store: Store,
    progress: &'a dyn Progress,
    loader: Loader,
    /// Where sources have been fetched and verified, or why not: none is tried twice.
    folders: HashMap<(Source, PathBuf), Result<PathBuf, Arc<SourceError>>>,
    tokenizers: HashMap<Sha256Digest, TextTokenizer>,
}

impl<'a> Loading<'a> {
    fn new(config: &CatalogConfig, progress: &'a dyn Progress) -> Self {
        Self {
            store: Store { data_dir: config.data_dir.clone(), offline: config.offline },
            progress,
            loader: Loader::new(onnx::Loader::new(config.onnx.clone(), &config.data_dir)),
            folders: HashMap::new(),
            tokenizers: HashMap::new(),
        }
    }

    fn load(&mut self, card: &Card) -> Result<Loaded, ModelError> {
        let Card { name, version, runtime, dtype, .. } = card;
        self.progress.message(&format!("loading {name} {version}: {runtime}, {dtype}"));
        let folder = self.folder(card)?;
        let weights = self.loader.load(card, &folder)?;
        let tokenizer = self.tokenizer(card, &folder)?;
        let (asked, available) = (tokenizer.vocabulary_size(), weights.vocabulary_size());
        if asked > available {
            return Err(ModelError::Capacity { what: "vocabulary of the tokenizer", asked, available });
        }
        Ok(Loaded { digest: digest(card)?, tokenizer, weights })
    }

    fn folder(&mut self, card: &Card) -> Result<PathBuf, Arc<SourceError>> {
        // A repository is the same for every card; a folder is beside its card.
        let place = match &card.source.origin {
            Origin::Folder(_) => card.folder.clone(),
            Origin::Repository { .. } => PathBuf::new(),
        };
        let folder = self.folders.entry((card.source.clone(), place)).or_insert_with(|| {
            source::ensure(&card.source, &card.folder, &self.store, self.progress).map_err(Arc::new)
        });
        folder.clone()
    }

    fn tokenizer(&mut self, card: &Card, folder: &Path) -> Result<TextTokenizer, ModelError> {
        let digest = card.source.files.get(TOKENIZER_FILE).copied();
        if let Some(tokenizer) = digest.and_then(|digest| self.tokenizers.get(&digest)) {
            return Ok(tokenizer.clone());
        }
        let tokenizer = TextTokenizer::from_file(&folder.join(TOKENIZER_FILE))?;
        self.tokenizers.extend(digest.map(|digest| (digest, tokenizer.clone())));
        Ok(tokenizer)
    }
}

/// Cards in the order of their names, and folders whose card cannot be read. A folder without a card is no model.
fn read_cards(folder: &Path) -> Result<(Vec<Arc<Card>>, Vec<RejectedCard>), LoadError> {
    let name = || folder.display().to_string();
    let failed = |source| LoadError::Cards { folder: name(), source };
    let mut cards = Vec::new();
    let mut rejected = Vec::new();
    let mut has_card = false;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !is_of_model(&path) {
            continue;
        }
        let file = path.join(CARD_FILE);
        has_card |= file.symlink_metadata().is_ok();
        match Card::from_file(&file) {
            Ok(card) => cards.push(Arc::new(card)),
            // Also where there is none: a link to what is not mounted is a model that is missing.
            Err(error) => rejected.push(RejectedCard::new(&path, &error)),
        }
    }
    if !has_card {
        return Err(LoadError::NoCards { folder: name() });
    }
    let limit = usize::from(u16::MAX);
    if cards.len() > limit {
        return Err(LoadError::TooManyModels { models: cards.len(), limit });
    }
    cards.sort_by(|left, right| left.name.cmp(&right.name));
    rejected.sort_by(|left, right| left.name.cmp(&right.name));
    Ok((cards, rejected))
}

/// Whether an entry of the folder of cards stands for a model: a folder, or a link whose target is gone; not what orchestrators
/// (`..data` of a mounted ConfigMap) and file systems keep there.
fn is_of_model(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_kept_by_others = name.starts_with('.') || name == "lost+found";
    !is_kept_by_others && (path.is_dir() || !path.exists())
}

/// Changes cards as the overrides say: first what is for all, then what is for one.
fn apply(
    all: &CardOverride,
    overrides: &BTreeMap<String, CardOverride>,
    cards: &mut [Arc<Card>],
    rejected: &mut [RejectedCard],
) -> Result<(), LoadError> {
    let is_known = |name: &String| {
        cards.iter().any(|card| card.name == *name) || rejected.iter().any(|card| card.name == *name)
    };
    if let Some(model) = overrides.keys().find(|name| !is_known(name)) {
        return Err(LoadError::UnknownModel { model: model.clone(), known: names(cards) });
    }
    for card in rejected {
        let stated = overrides.get(&card.name).and_then(|card| card.is_required).or(all.is_required);
        card.is_required = stated.unwrap_or(true);
    }
    for card in cards {
        let of_card = overrides.get(&card.name);
        let card = Arc::make_mut(card);
        for CardOverride { runtime, dtype, p99_target_is_deadline, is_required } in
            [Some(all), of_card].into_iter().flatten()
        {
            if let Some(runtime) = runtime {
                card.runtime.clone_from(runtime);
                card.dtype = Loader::dtype(runtime).to_owned();
            }
            if let Some(dtype) = dtype {
                card.dtype.clone_from(dtype);
            }
            card.p99_target_is_deadline = p99_target_is_deadline.unwrap_or(card.p99_target_is_deadline);
            card.is_required = is_required.unwrap_or(card.is_required);
        }
    }
    Ok(())
}

/// Which model answers for which task where the caller names none: as configured, else as the cards say.
fn defaults(
    configured: &BTreeMap<Task, String>,
    cards: &[Arc<Card>],
    rejected: &[RejectedCard],
) -> Result<BTreeMap<Task, TaskDefault>, LoadError> {
    let mut defaults = BTreeMap::new();
    for task in Task::ALL {
        if let Some(name) = configured.get(&task) {
            let default = match cards.iter().position(|card| card.name == *name) {
                Some(index) if cards[index].task != task => {
                    let (model, offers) = (name.clone(), cards[index].task);
                    return Err(LoadError::DefaultTask { task, model, offers });
                }
                Some(index) => TaskDefault::Model(ModelId(index as u16)),
                None => match rejected.iter().position(|card| card.name == *name) {
                    Some(index) => TaskDefault::Rejected(index),
                    None => {
                        let (model, known) = (name.clone(), names(cards));
                        return Err(LoadError::UnknownDefault { task, model, known });
                    }
                },
            };
            defaults.insert(task, default);
            continue;
        }
        let mut stated = cards.iter().enumerate().filter(|(_, card)| card.task == task && card.is_default);
        if let Some((index, first)) = stated.next() {
            if let Some((_, second)) = stated.next() {
                let (first, second) = (first.name.clone(), second.name.clone());
                return Err(LoadError::TwoDefaults { task, first, second });
            }
            defaults.insert(task, TaskDefault::Model(ModelId(index as u16)));
        } else if let Some(index) =
            rejected.iter().position(|card| card.is_default && card.task == Some(task))
        {
            defaults.insert(task, TaskDefault::Rejected(index));
        }
    }
    Ok(defaults)
}

fn names(cards: &[Arc<Card>]) -> String {
    cards.iter().map(|card| card.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl RejectedCard {
    fn new(folder: &Path, error: &CardError) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Whatever keeps it from being read as a whole, these lines may be as they should.
        let text = std::fs::read(folder.join(CARD_FILE)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = |field: &str| {
            let value =
                text.lines().find_map(|line| line.trim_start().strip_prefix(field)?.strip_prefix(':'));
            value.map(|value| value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']))
        };
        let task = said("task").and_then(|name| Task::ALL.into_iter().find(|task| task.as_str() == name));
        let is_default = said("default") == Some("true");
        Self { name, reason: error.to_string(), is_required: true, task, is_default }
    }
}

/// Zero-shot labels are tokenised once for both models, so they must have the same tokenizer.
fn check_zero_shot(card: &Card, cards: &[Arc<Card>]) -> Result<(), ModelError> {
    let Some(zero_shot) = &card.zero_shot else { return Ok(()) };
    let fault = |message| Err(ModelError::ZeroShot { model: zero_shot.model.clone(), message });
    match cards.iter().find(|other| other.name == zero_shot.model) {
        None => fault("there is no such card"),
        Some(other) if other.task != Task::Embed => fault("its task is not embeddings"),
        Some(other) if other.source.files.get(TOKENIZER_FILE) != card.source.files.get(TOKENIZER_FILE) => {
            fault("it has another tokenizer")
        }
        Some(_) => Ok(()),
    }
}

/// Everything that decides the model's answers, in a fixed order.
fn digest(card: &Card) -> Result<Sha256Digest, ModelError> {
    let mut digests: Vec<Sha256Digest> = card.source.files.values().copied().collect();
    if let Some(adapter) = &card.adapter {
        digests.push(adapter.sha256);
        digests.push(files::digest_of(&files::read(&card.folder.join(&adapter.config))?));
    }
    digests.extend(card.head.weights().map(|weights| weights.sha256));
    Ok(files::digest_of_all(&digests))
}
