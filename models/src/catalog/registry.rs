//! The models that are there, by number. A number stands for one model as long as the process lives.

use std::sync::Arc;

use models_core::Verification;
use models_core::card::{Card, Sha256Digest};
use units::ModelId;

use super::error::{OutOfNumbers, UnavailableError};
use super::loader::LoadedParts;

/// Models that come and go. The number of one that has gone is never given again, so that what still names it
/// (a batch under way, a record of use) cannot mean another.
#[derive(Default)]
pub struct Registry {
    /// In the order of their numbers.
    entries: Vec<ModelEntry>,
    /// The next number, wider than one so that there is a last.
    next: u32,
}

/// A model whose card could be read.
pub struct ModelEntry {
    /// Its number in this process.
    pub id: ModelId,
    pub card: Arc<Card>,
    /// Whether it can be used.
    pub state: ModelState,
    /// Whether it is known to compute what its authors' library computes.
    pub verification: Verification,
    pub(super) loaded: Option<LoadedParts>,
}

/// Whether a model can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// It can.
    Loaded {
        /// Stands for the content of all its files: encoder, tokenizer, configuration, adapter and head.
        digest: Sha256Digest,
        /// Columns of its results: hidden size or number of classes.
        columns: usize,
        /// Whether it gives vectors of single tokens too.
        gives_tokens: bool,
    },
    /// It cannot.
    Unavailable {
        /// Why not, for people.
        reason: String,
    },
}

impl Registry {
    /// Models that a process can number in its life.
    pub const MODELS_MAX: u32 = u16::MAX as u32;

    /// Numbers a model and takes it in.
    ///
    /// # Errors
    /// There is no number left; nothing is changed.
    pub(super) fn add(
        &mut self,
        card: Arc<Card>,
        result: Result<LoadedParts, UnavailableError>,
    ) -> Result<ModelId, OutOfNumbers> {
        let id = u16::try_from(self.next).ok().filter(|_| self.next < Self::MODELS_MAX);
        let id = ModelId(id.ok_or(OutOfNumbers)?);
        self.next += 1;
        self.entries.push(ModelEntry::new(id, card, result));
        Ok(id)
    }

    /// Takes a model out; none if it has gone already.
    pub fn remove(&mut self, id: ModelId) -> Option<ModelEntry> {
        self.position(id).map(|index| self.entries.remove(index))
    }

    /// Takes down what comparing a model has shown; one that has failed, for this reason, cannot be used.
    pub(super) fn verified(&mut self, id: ModelId, verification: Verification, reason: Option<String>) {
        let Some(entry) = self.position(id).and_then(|index| self.entries.get_mut(index)) else { return };
        entry.verification = verification;
        if let Some(reason) = reason {
            (entry.state, entry.loaded) = (ModelState::Unavailable { reason }, None);
        }
    }

    /// The model of this number, if it is there.
    pub fn get(&self, id: ModelId) -> Option<&ModelEntry> {
        self.position(id).map(|index| &self.entries[index])
    }

    /// The newest model of this name.
    pub fn find(&self, name: &str) -> Option<&ModelEntry> {
        self.entries.iter().rev().find(|entry| entry.card.name == name)
    }

    /// All that are there, in the order of their numbers.
    pub fn entries(&self) -> &[ModelEntry] {
        &self.entries
    }

    /// One more than the largest number given so far.
    pub fn numbers(&self) -> usize {
        self.next as usize
    }

    fn position(&self, id: ModelId) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }
}

impl ModelEntry {
    pub(super) fn new(id: ModelId, card: Arc<Card>, result: Result<LoadedParts, UnavailableError>) -> Self {
        let (state, loaded) = match result {
            Ok(loaded) => {
                let (columns, gives_tokens) = (loaded.weights.columns(), loaded.weights.gives_tokens());
                (ModelState::Loaded { digest: loaded.digest, columns, gives_tokens }, Some(loaded))
            }
            Err(error) => (ModelState::Unavailable { reason: error.to_string() }, None),
        };
        Self { id, card, state, verification: Verification::default(), loaded }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;

    const CARD: &str = include_str!("../../../model-cards/embeddings-v2/README.md");

    fn card(version: &str) -> Arc<Card> {
        let card = Card::parse(CARD, "embeddings-v2/README.md", PathBuf::from("embeddings-v2")).unwrap();
        Arc::new(Card { version: version.to_owned(), ..card })
    }

    fn missing() -> Result<LoadedParts, UnavailableError> {
        Err(UnavailableError::ZeroShot { model: "none".to_owned(), message: "for the test" })
    }

    #[test]
    fn numbers_are_never_given_again() {
        let mut registry = Registry::default();
        let add = |registry: &mut Registry, version| registry.add(card(version), missing()).unwrap();
        let (first, second) = (add(&mut registry, "1"), add(&mut registry, "2"));
        assert_eq!((first, second), (ModelId(0), ModelId(1)));
        assert_eq!(registry.find("embeddings-v2").unwrap().card.version, "2");
        assert_eq!(registry.remove(second).unwrap().id, second);
        assert!(registry.remove(second).is_none() && registry.get(second).is_none());
        assert_eq!(registry.find("embeddings-v2").unwrap().id, first);
        let third = add(&mut registry, "3");
        assert_eq!((third, registry.numbers()), (ModelId(2), 3));
        registry.remove(first).unwrap();
        assert_eq!(registry.get(third).unwrap().card.version, "3");
        let ids: Vec<_> = registry.entries().iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [third]);
    }

    #[test]
    fn the_last_number_is_the_last() {
        let mut registry = Registry { entries: Vec::new(), next: Registry::MODELS_MAX - 1 };
        assert_eq!(registry.add(card("1"), missing()), Ok(ModelId(u16::MAX - 1)));
        assert_eq!(registry.add(card("2"), missing()), Err(OutOfNumbers));
        registry.remove(ModelId(u16::MAX - 1)).unwrap();
        assert_eq!(registry.add(card("3"), missing()), Err(OutOfNumbers));
        assert!(registry.entries().is_empty());
    }
}
