//! Changes of a catalog while it is used: each makes another one, and what holds the one before keeps it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use models_core::Verification;
use models_core::card::{Card, Task};
use units::ModelId;

use super::config::CatalogConfig;
use super::error::{LoadError, OutOfNumbers, UnavailableError};
use super::loader::{self, LoadContext};
use super::registry::{ModelEntry, ModelState};
use super::wanted::Wanted;
use super::{Catalog, cards, defaults};
use crate::progress::{NoProgress, Progress};

/// Why a catalog was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no model of that name, and no card.
    #[error("there is no model and no card of the name {0:?}")]
    Unknown(String),
    /// There is a card of the name that a checkpoint was to have.
    #[error("there is a card of the name {0:?}: give the checkpoint another name")]
    Taken(String),
    /// Its card cannot be read, or none can be made of its files.
    #[error("{0}")]
    Card(String),
    /// It does not go with another model's card.
    #[error("{model} would not answer any more: {source}")]
    Dependent { model: String, source: UnavailableError },
    /// Its card does not go with those of the others.
    #[error(transparent)]
    Cards(#[from] LoadError),
    /// It cannot be loaded.
    #[error(transparent)]
    Unavailable(#[from] UnavailableError),
    /// No more models can be numbered.
    #[error(transparent)]
    Numbers(#[from] OutOfNumbers),
}

/// A model that is loaded and in no catalog yet.
pub struct Newcomer {
    entry: Arc<ModelEntry>,
    wanted: Option<Wanted>,
}

impl Newcomer {
    /// The model, with its number.
    pub fn entry(&self) -> &Arc<ModelEntry> {
        &self.entry
    }

    /// Takes down what comparing it has shown.
    pub(super) fn verified(&mut self, verification: Verification) {
        // Nobody else has it yet.
        if let Some(entry) = Arc::get_mut(&mut self.entry) {
            entry.verified(verification, None);
        }
    }
}

/// A card that is to be loaded.
pub struct Candidate {
    card: Arc<Card>,
    wanted: Option<Wanted>,
}

impl Candidate {
    pub fn card(&self) -> &Card {
        &self.card
    }
}

impl Catalog {
    /// Reads the card of a model as it is now; that of a checkpoint that is served without one is made anew
    /// of its files.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it does not go with those of the other models.
    pub fn candidate(
        &self,
        config: &CatalogConfig,
        name: &str,
        checkpoint: Option<Wanted>,
    ) -> Result<Candidate, ChangeError> {
        let written = if config.skips_cards { None } else { cards::named(&config.cards_dir, name) };
        let known = || self.wanted.iter().find(|wanted| wanted.name() == name).cloned();
        let (card, wanted) = match (written, checkpoint) {
            (Some(_), Some(_)) => return Err(ChangeError::Taken(name.to_owned())),
            (Some(card), None) => (card.map_err(|error| ChangeError::Card(error.to_string()))?, None),
            (None, checkpoint) => {
                let wanted =
                    checkpoint.or_else(known).ok_or_else(|| ChangeError::Unknown(name.to_owned()))?;
                let mut loading = LoadContext::new(config, &NoProgress);
                let card = catch_unwind(AssertUnwindSafe(|| loading.inferred(&wanted)));
                let card = card.map_err(|_| UnavailableError::Panicked)?;
                (card.map_err(|error| ChangeError::Card(error.to_string()))?, Some(wanted))
            }
        };
        let mut card = card;
        cards::apply_to(&mut card, &config.all, config.overrides.get(name));
        let candidate = Candidate { card: Arc::new(card), wanted };
        self.check(config, &candidate)?;
        Ok(candidate)
    }

    /// Loads a model, which takes time and belongs on a thread of its own. It is in no catalog yet.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn load_one(
        &self,
        config: &CatalogConfig,
        candidate: Candidate,
        progress: &dyn Progress,
    ) -> Result<Newcomer, ChangeError> {
        let Candidate { card, wanted } = candidate;
        let loaded = LoadContext::new(config, progress).load_guarded(&card)?;
        let entry = ModelEntry::new(self.models.number()?, card, Some(Ok(loaded)));
        Ok(Newcomer { entry: Arc::new(entry), wanted })
    }

    /// This catalog with a model that was loaded, in the place of the one of its name.
    ///
    /// # Errors
    /// Its card does not go with those of the others, which may have changed meanwhile.
    pub fn with(&self, config: &CatalogConfig, newcomer: &Newcomer) -> Result<Self, ChangeError> {
        let Newcomer { entry, wanted } = newcomer;
        let candidate = Candidate { card: Arc::clone(&entry.card), wanted: wanted.clone() };
        let mut changed = self.check(config, &candidate)?;
        if let Some(before) = self.find(&entry.card.name) {
            changed.models.remove(before.id);
        }
        changed.models.take_in(Arc::clone(entry));
        Ok(changed)
    }

    /// This catalog without what a model is loaded of; its card stays.
    pub fn without(&self, model: ModelId) -> Self {
        let mut changed = self.clone();
        if let Some(before) = changed.models.remove(model) {
            changed.models.take_in(Arc::new(ModelEntry::new(model, Arc::clone(&before.card), None)));
        }
        changed
    }

    /// This catalog as it will be with another card, but for its model.
    fn check(&self, config: &CatalogConfig, candidate: &Candidate) -> Result<Self, ChangeError> {
        let Candidate { card, wanted } = candidate;
        let name = &card.name;
        let mut changed = self.clone();
        changed.rejected.retain(|other| other.name != *name);
        changed.wanted.retain(|other| other.name() != *name);
        changed.wanted.extend(wanted.clone());
        let others = self.models().iter().map(|entry| &entry.card).filter(|other| other.name != *name);
        let mut cards: Vec<Arc<Card>> = others.cloned().chain([Arc::clone(card)]).collect();
        cards.sort_by(|left, right| left.name.cmp(&right.name));
        loader::check_zero_shot(card, &cards, &changed.rejected)?;
        for entry in self.models().iter().filter(|entry| entry.is_loaded() && entry.card.name != *name) {
            loader::check_zero_shot(&entry.card, &cards, &changed.rejected)
                .map_err(|source| ChangeError::Dependent { model: entry.card.name.clone(), source })?;
        }
        changed.defaults = changed.defaults_of(&config.defaults, &cards)?;
        Ok(changed)
    }

    fn defaults_of(
        &self,
        configured: &BTreeMap<Task, String>,
        cards: &[Arc<Card>],
    ) -> Result<BTreeMap<Task, defaults::TaskDefault>, LoadError> {
        let mut found = defaults::defaults(configured, cards, &self.rejected)?;
        defaults::complete(&mut found, &self.wanted, cards, &self.rejected);
        Ok(found)
    }
}

impl ModelState {
    /// In a word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loaded { .. } => "loaded",
            Self::Unavailable { .. } => "unavailable",
            Self::Unloaded => "unloaded",
        }
    }
}
