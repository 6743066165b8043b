//! The models that are there, by number. A number stands for one model as long as the process lives.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;
use models_core::card::{Card, Sha256Digest};
use models_core::{Device, RuntimeError, Verification};
use units::ModelId;

use super::error::{OutOfNumbers, UnavailableError};
use super::loader::LoadedParts;

/// Models that come and go. The number of one that has gone is never given again, so that what still names it
/// (a batch under way, a record of use) cannot mean another. A copy has the same models, and gives numbers
/// that no other copy gives.
#[derive(Default, Clone)]
pub struct Registry {
    /// In the order of their numbers.
    entries: Vec<Arc<ModelEntry>>,
    /// The next number, wider than one so that there is a last.
    next: Arc<AtomicU32>,
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
    presence: Presence,
}

/// Ends with what it is a part of: whoever waits for its end is woken by that.
struct Presence {
    /// Dropped with it.
    _held: oneshot::Sender<()>,
    end: Mutex<Option<oneshot::Receiver<()>>>,
}

/// The end of a model, once nothing refers to it any more: no catalog, and no call that took it out of one.
pub struct Departure(Option<oneshot::Receiver<()>>);

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
    /// It is not to be.
    Unloaded,
}

impl Registry {
    /// Models that a process can number in its life.
    pub const MODELS_MAX: u32 = u16::MAX as u32;

    /// Numbers a model and takes it in; without parts, it is not to be loaded.
    ///
    /// # Errors
    /// There is no number left; nothing is changed.
    pub(super) fn add(
        &mut self,
        card: Arc<Card>,
        loaded: Option<Result<LoadedParts, UnavailableError>>,
    ) -> Result<ModelId, OutOfNumbers> {
        let id = self.number()?;
        self.take_in(Arc::new(ModelEntry::new(id, card, loaded)));
        Ok(id)
    }

    /// A number that nobody had.
    pub(super) fn number(&self) -> Result<ModelId, OutOfNumbers> {
        let is_left = |next: u32| (next < Self::MODELS_MAX).then_some(next + 1);
        let id = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left).ok();
        Ok(ModelId(id.and_then(|id| u16::try_from(id).ok()).ok_or(OutOfNumbers)?))
    }

    /// Takes in a model with its number.
    pub(super) fn take_in(&mut self, entry: Arc<ModelEntry>) {
        let place = self.entries.partition_point(|other| other.id < entry.id);
        self.entries.insert(place, entry);
    }

    /// Takes a model out; none if it has gone already.
    pub fn remove(&mut self, id: ModelId) -> Option<Arc<ModelEntry>> {
        self.position(id).map(|index| self.entries.remove(index))
    }

    /// Takes down what comparing a model has shown.
    pub(super) fn verified(&mut self, id: ModelId, verification: Verification, reason: Option<String>) {
        // Nobody else has it before it serves.
        let entry = self.position(id).and_then(|index| Arc::get_mut(self.entries.get_mut(index)?));
        if let Some(entry) = entry {
            entry.verified(verification, reason);
        }
    }

    /// The model of this number, if it is there.
    pub fn get(&self, id: ModelId) -> Option<&Arc<ModelEntry>> {
        self.position(id).map(|index| &self.entries[index])
    }

    /// The newest model of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<ModelEntry>> {
        self.entries.iter().rev().find(|entry| entry.card.name == name)
    }

    /// All that are there, in the order of their numbers.
    pub fn entries(&self) -> &[Arc<ModelEntry>] {
        &self.entries
    }

    /// One more than the largest number given so far.
    pub fn numbers(&self) -> usize {
        self.next.load(Ordering::Relaxed) as usize
    }

    fn position(&self, id: ModelId) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }
}

impl ModelEntry {
    pub(super) fn new(
        id: ModelId,
        card: Arc<Card>,
        loaded: Option<Result<LoadedParts, UnavailableError>>,
    ) -> Self {
        let (state, loaded) = match loaded {
            Some(Ok(loaded)) => {
                let (columns, gives_tokens) = (loaded.weights.columns(), loaded.weights.gives_tokens());
                (ModelState::Loaded { digest: loaded.digest, columns, gives_tokens }, Some(loaded))
            }
            Some(Err(error)) => (ModelState::Unavailable { reason: error.to_string() }, None),
            None => (ModelState::Unloaded, None),
        };
        let verification = Verification::default();
        Self { id, card, state, verification, loaded, presence: Presence::new() }
    }

    /// Takes down what comparing it has shown; one that has failed, for this reason, cannot be used.
    pub(super) fn verified(&mut self, verification: Verification, reason: Option<String>) {
        self.verification = verification;
        if let Some(reason) = reason {
            (self.state, self.loaded) = (ModelState::Unavailable { reason }, None);
        }
    }

    /// Waits for its end. To be asked for once, and before whoever asks lets go of it.
    pub fn departure(&self) -> Departure {
        Departure(self.presence.end.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Checks that a device has room for it beside what it has now.
    ///
    /// # Errors
    /// It has not; or it does not say.
    pub fn plan(&self, device: &Device) -> Result<(), RuntimeError> {
        let Some(loaded) = &self.loaded else { return Ok(()) };
        device.plan(&[(self.card.name.as_str(), loaded.weights.footprint(device))])
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

impl Presence {
    fn new() -> Self {
        let (_held, end) = oneshot::channel();
        Self { _held, end: Mutex::new(Some(end)) }
    }
}

impl Departure {
    /// Resolves when it has come.
    pub async fn wait(self) {
        if let Some(end) = self.0 {
            // Nobody sends: it ends with the sender.
            let _ = end.await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;
    use std::task::{Context, Waker};

    use super::*;

    const CARD: &str = include_str!("../../../model-cards/embeddings-v2/README.md");

    fn card(version: &str) -> Arc<Card> {
        let card = Card::parse(CARD, "embeddings-v2/README.md", PathBuf::from("embeddings-v2")).unwrap();
        Arc::new(Card { version: version.to_owned(), ..card })
    }

    fn missing() -> Option<Result<LoadedParts, UnavailableError>> {
        None
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
    fn copies_give_different_numbers() {
        let mut first = Registry::default();
        let mut second = first.clone();
        let numbers = [&mut first, &mut second].map(|registry| registry.add(card("1"), missing()).unwrap());
        assert_eq!(numbers, [ModelId(0), ModelId(1)]);
        assert_eq!((first.entries().len(), second.entries().len()), (1, 1));
    }

    #[test]
    fn a_model_departs_with_the_last_who_has_it() {
        let mut registry = Registry::default();
        let id = registry.add(card("1"), missing()).unwrap();
        let taken_by_a_call = registry.clone();
        let entry = registry.remove(id).unwrap();
        let mut departure = std::pin::pin!(entry.departure().wait());
        let is_over = |departure: std::pin::Pin<&mut _>| {
            Future::poll(departure, &mut Context::from_waker(Waker::noop())).is_ready()
        };
        drop(entry);
        assert!(!is_over(departure.as_mut()));
        drop(taken_by_a_call);
        assert!(is_over(departure.as_mut()));
    }

    #[test]
    fn the_last_number_is_the_last() {
        let next = Arc::new(AtomicU32::new(Registry::MODELS_MAX - 1));
        let mut registry = Registry { entries: Vec::new(), next };
        assert_eq!(registry.add(card("1"), missing()), Ok(ModelId(u16::MAX - 1)));
        assert_eq!(registry.add(card("2"), missing()), Err(OutOfNumbers));
        registry.remove(ModelId(u16::MAX - 1)).unwrap();
        assert_eq!(registry.add(card("3"), missing()), Err(OutOfNumbers));
        assert!(registry.entries().is_empty());
    }
}
