//! The models of one process: cards, weights and tokenizers, numbered in the order of their names.
//!
//! One bad model does not take the others down: it stays in the catalog as unavailable, with the reason.

mod candidacy;
mod cards;
mod change;
mod config;
mod defaults;
mod error;
mod infer;
mod inventory;
mod loader;
mod registry;
mod verifying;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;

use models_core::card::{Pooling, Task, ZeroShot};
use models_core::{Device, RuntimeError};
use units::ModelId;

use crate::executor::{Arrivals, DeviceExecutor, DeviceModel};
use crate::pool::{self, Pace};
use crate::progress::Progress;
use crate::tasks::{self, Input, InputError, OnError, Operation, Parameters, Prepared, TaskRequest};
use crate::tokenizer::TextTokenizer;
use defaults::TaskDefault;
use loader::LoadContext;

pub use cards::RejectedCard;
pub use change::{Candidate, ChangeError, Newcomer};
pub use config::{CardOverride, CatalogConfig};
pub use defaults::NoDefault;
pub use error::{LoadError, OutOfNumbers, UnavailableError};
pub use infer::Finding;
pub use inventory::{Described, Files, Inventory};
pub use loader::Loader;
pub use registry::{Departure, ModelEntry, ModelState, Registry};
pub use wanted::{Place, Wanted, WantedError};

/// The models of one process, at one moment: a change makes another catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    models: Registry,
    rejected: Vec<RejectedCard>,
    defaults: BTreeMap<Task, TaskDefault>,
    /// Those that are served without a card.
    wanted: Vec<Wanted>,
}

/// A required model that does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// The model, or the folder of a card that could not be read.
    pub name: String,
    /// Why not, for people.
    pub reason: String,
}

impl Catalog {
    /// Reads all cards, fetches what is missing, and loads every model that can be loaded.
    ///
    /// # Errors
    /// When the folder of cards cannot be read or holds none. What is wrong with one model is in its entry.
    pub fn load(config: &CatalogConfig, progress: &dyn Progress) -> Result<Self, LoadError> {
        let mut loading = LoadContext::new(config, progress);
        let (mut cards, mut rejected) = cards::of(config, |wanted| loading.inferred(wanted))?;
        cards::apply(&config.all, &config.overrides, &mut cards, &mut rejected)?;
        cards::keep(config.only.as_deref(), &mut cards, &mut rejected)?;
        let mut defaults = defaults::defaults(&config.defaults, &cards, &rejected)?;
        defaults::complete(&mut defaults, &config.wanted, &cards, &rejected);
        let results: Vec<_> = cards
            .iter()
            .map(|card| {
                let is_wanted = !config.unloaded.contains(&card.name);
                is_wanted.then(|| {
                    loader::check_zero_shot(card, &cards, &rejected)?;
                    loading.load_guarded(card)
                })
            })
            .collect();
        let mut models = Registry::default();
        let count = cards.len();
        for (card, result) in cards.into_iter().zip(results) {
            let too_many =
                |_| LoadError::TooManyModels { models: count, limit: Registry::MODELS_MAX as usize };
            models.add(card, result).map_err(too_many)?;
        }
        Ok(Self { models, rejected, defaults, wanted: config.wanted.clone() })
    }

    /// Fetches what is missing of all models, and loads nothing, so that a later start needs no network.
    ///
    /// # Errors
    /// When the cards cannot be read, or the files of one of them cannot be had. A card that is not usable is
    /// only mentioned.
    pub fn fetch(config: &CatalogConfig, progress: &dyn Progress) -> Result<(), LoadError> {
        let mut loading = LoadContext::new(config, progress);
        let (cards, rejected) = cards::of(config, |wanted| loading.inferred(wanted))?;
        rejected.iter().for_each(|card| progress.message(&card.reason));
        for card in cards {
            loading.folder(&card).map_err(|source| LoadError::Fetch { model: card.name.clone(), source })?;
        }
        Ok(())
    }

    /// All models whose card could be read, in the order of their numbers.
    pub fn models(&self) -> &[Arc<ModelEntry>] {
        self.models.entries()
    }

    /// The model of this number.
    pub fn get(&self, model: ModelId) -> Option<&Arc<ModelEntry>> {
        self.models.get(model)
    }

    /// Folders whose card could not be read.
    pub fn rejected(&self) -> &[RejectedCard] {
        &self.rejected
    }

    pub fn find(&self, name: &str) -> Option<&Arc<ModelEntry>> {
        self.models.find(name)
    }

    /// The card of this name, if it could not be read.
    pub fn find_rejected(&self, name: &str) -> Option<&RejectedCard> {
        self.rejected.iter().find(|card| card.name == name)
    }

    /// The model for a task when the caller names none, whether it is loaded or not.
    ///
    /// # Errors
    /// None is stated to be it, or its card could not be read.
    pub fn default_for(&self, task: Task) -> Result<&Arc<ModelEntry>, NoDefault> {
        let default = match self.defaults.get(&task) {
            Some(TaskDefault::Model(name)) => self.models.find(name),
            Some(TaskDefault::Rejected(index)) => {
                let RejectedCard { name, reason, .. } = &self.rejected[*index];
                return Err(NoDefault::Rejected { name: name.clone(), reason: reason.clone() });
            }
            None => None,
        };
        default.ok_or_else(|| {
            let candidates = self.models().iter().filter(|entry| entry.card.task == task);
            let candidates: Vec<_> = candidates.map(|entry| entry.card.name.clone()).collect();
            // Where nothing else does the task, a card that may do it is looked for first.
            match self
                .rejected
                .iter()
                .find(|card| candidates.is_empty() && card.candidacy.tasks.contains(&task))
            {
                Some(RejectedCard { name, reason, .. }) => {
                    NoDefault::Rejected { name: name.clone(), reason: reason.clone() }
                }
                None => NoDefault::Unstated { task, candidates },
            }
        })
    }

    /// The model that does what is asked for when the caller names none, whether it is loaded or not: that of
    /// the first task, among those whose models do it, that has a default.
    ///
    /// # Errors
    /// None is stated to be it, or its card could not be read.
    pub fn default_of(&self, operation: Operation) -> Result<&Arc<ModelEntry>, NoDefault> {
        let mut unstated = None;
        for task in operation.tasks() {
            match self.default_for(*task) {
                Err(NoDefault::Unstated { task, candidates }) => {
                    let is_better =
                        |(_, known): &(Task, Vec<String>)| known.is_empty() && !candidates.is_empty();
                    if unstated.as_ref().is_none_or(is_better) {
                        unstated = Some((task, candidates));
                    }
                }
                found => return found,
            }
        }
        let (task, candidates) = unstated.unwrap_or((Task::Embed, Vec::new()));
        Err(NoDefault::Unstated { task, candidates })
    }

    /// Required models that do not serve: while there is one, the server is not ready.
    pub fn unready(&self) -> Vec<Unready> {
        let models = self.models().iter().filter_map(|entry| match &entry.state {
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
        inputs: &[Input],
        parameters: &Parameters,
    ) -> Result<Prepared, InputError> {
        let (inputs, parameters) = (inputs.to_vec(), parameters.clone());
        let request = TaskRequest { inputs, parameters, on_error: OnError::Fail, inputs_max: None };
        pool::complete(self.prepare_paced(model, &request, &Pace::at_once()))
    }

    /// Checks inputs and cuts them into jobs for the scheduler. Tokenises, so it belongs on a
    /// [`crate::WorkPool`].
    ///
    /// # Errors
    /// Names the input and the limit. A model that is not loaded is an error of the parameter `model`.
    pub async fn prepare_paced(
        &self,
        model: ModelId,
        request: &TaskRequest,
        pace: &Pace,
    ) -> Result<Prepared, InputError> {
        let entry = self.models.get(model);
        let Some((entry, loaded)) = entry.and_then(|entry| Some((entry, entry.loaded.as_ref()?))) else {
            return Err(InputError::Parameter { name: "model", message: "is not loaded".into() });
        };
        let zero_shot = entry.card.zero_shot.as_ref().and_then(ZeroShot::model);
        let zero_shot = zero_shot.and_then(|model| self.find(model));
        let zero_shot = zero_shot.and_then(|entry| {
            let loaded = entry.loaded.as_ref()?;
            Some((entry.id, entry.card.as_ref(), loaded.weights.columns()))
        });
        let context = tasks::Context {
            card: &entry.card,
            model,
            tokenizer: &loaded.tokenizer,
            columns: loaded.weights.columns(),
            gives_tokens: loaded.weights.gives_tokens(),
            zero_shot,
        };
        tasks::prepare(context, request, pace).await
    }

    /// The tokenizer of a loaded model.
    pub fn tokenizer(&self, model: ModelId) -> Option<&TextTokenizer> {
        self.models.get(model)?.loaded.as_ref().map(|loaded| &loaded.tokenizer)
    }

    /// An executor with a runtime for each loaded model, for one device replica. Weights are shared between
    /// replicas.
    ///
    /// # Errors
    /// When the models do not fit the device's memory together, or it refuses one of them.
    pub fn executor(&self, device: &Device) -> Result<DeviceExecutor, RuntimeError> {
        self.executor_for(device, |_| true)
    }

    /// The same for those that are wanted.
    fn executor_for(
        &self,
        device: &Device,
        is_wanted: impl Fn(&ModelEntry) -> bool,
    ) -> Result<DeviceExecutor, RuntimeError> {
        let wanted = self.models().iter().filter(|entry| is_wanted(entry));
        let loaded = wanted.filter_map(|entry| Some((entry, entry.loaded.as_ref()?)));
        let plan: Vec<_> = loaded
            .map(|(entry, loaded)| (entry.card.name.as_str(), loaded.weights.footprint(device)))
            .collect();
        device.plan(&plan)?;
        let mut models = BTreeMap::new();
        for entry in self.models().iter().filter(|entry| is_wanted(entry)) {
            models.extend(entry.on_device(device)?.map(|model| (entry.id, model)));
        }
        Ok(DeviceExecutor::new(models))
    }

    /// The same, which takes in more models later: those that arrive.
    ///
    /// # Errors
    /// The same.
    pub fn growing_executor(&self, device: Arc<Device>) -> Result<(DeviceExecutor, Arrivals), RuntimeError> {
        Ok(self.executor(&device)?.growing(device))
    }
}

impl ModelEntry {
    /// It on a device; none if it is not loaded.
    ///
    /// # Errors
    /// The device refuses it.
    pub(crate) fn on_device(&self, device: &Device) -> Result<Option<DeviceModel>, RuntimeError> {
        let Some(loaded) = &self.loaded else { return Ok(None) };
        let runtime = loaded.weights.runtime(device)?;
        let head = &self.card.head;
        let pooling = head.pooling().and_then(|head| head.pooling.first().copied());
        let pooling = pooling.unwrap_or(Pooling::Mean);
        Ok(Some(DeviceModel { runtime, is_per_token: head.is_per_token(), pooling }))
    }
}
