//! What is counted of the calls of this protocol, by who calls and by model: nobody is told of the calls of
//! others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use api::{Identity, InferResponse, ModelInfo, WallTime};
use tokio::time::Instant;

/// Counts of all models that were called, by whose calls they are. Those are few: calls of nobody that is
/// known and of models that there are not are not counted.
#[derive(Debug, Default)]
pub(super) struct Statistics(Mutex<HashMap<Counted, Counts>>);

/// Whose calls of which model.
type Counted = (Arc<str>, String);

/// Counts of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) success: Sum,
    pub(super) fail: Sum,
    pub(super) queue: Sum,
    pub(super) tokenize: Sum,
    pub(super) compute: Sum,
    /// Inputs computed.
    pub(super) inputs: u64,
    /// When the last call was answered.
    pub(super) last: WallTime,
}

/// How many there were, and how long they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
}

impl Counts {
    /// Making answers of what was computed, which is not measured by itself.
    pub(super) fn output(&self) -> Sum {
        Sum { count: self.success.count, nanoseconds: 0 }
    }
}

impl Sum {
    fn add(&mut self, duration: Duration) {
        self.count += 1;
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds = self.nanoseconds.saturating_add(nanoseconds);
    }
}

/// A call that is worked on. It has failed if it is dropped before it was answered.
pub(super) struct Tally {
    statistics: Arc<Statistics>,
    mark: Mark,
    begun: Instant,
    is_answered: bool,
}

/// Through which a call tells what it is of.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    statistics: Arc<Statistics>,
    whose: Identity,
    model: Arc<OnceLock<String>>,
}

impl Statistics {
    /// Begins a call of somebody, who is known by the time that it is answered.
    pub(super) fn begin(self: &Arc<Self>, whose: Identity) -> Tally {
        let mark = Mark { statistics: Arc::clone(self), whose, model: Arc::default() };
        Tally { statistics: Arc::clone(self), mark, begun: Instant::now(), is_answered: false }
    }

    /// What was counted of somebody's calls of a model.
    pub(super) fn of(&self, whose: &Identity, model: &ModelInfo) -> Counts {
        let counted = whose.known().map(|name| (name, model.name.clone()));
        counted.and_then(|counted| self.counts().get(&counted).copied()).unwrap_or_default()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Counted, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    /// The call is of this model.
    pub(super) fn is_of(&self, model: &ModelInfo) {
        // A call has one model.
        let _ = self.model.set(model.name.clone());
    }

    /// What the call counts for, once that is known.
    fn counted(&self) -> Option<Counted> {
        Some((self.whose.known()?, self.model.get()?.clone()))
    }

    /// The call was computed.
    pub(super) fn succeed(&self, response: &InferResponse) {
        let Some(counted) = self.counted() else { return };
        let (timings, last) = (response.timings, WallTime::now());
        let mut all = self.statistics.counts();
        let counts = all.entry(counted).or_default();
        counts.success.add(timings.total);
        counts.queue.add(timings.queue);
        counts.tokenize.add(timings.tokenize);
        counts.compute.add(timings.compute);
        counts.inputs += response.inputs as u64;
        counts.last = counts.last.max(last);
    }
}

impl Tally {
    /// For whoever reads and answers the call.
    pub(super) fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// The call was answered, or else it failed.
    pub(super) fn end(mut self, is_answered: bool) {
        self.is_answered = is_answered;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Some(counted) = self.mark.counted().filter(|_| !self.is_answered) else { return };
        self.statistics.counts().entry(counted).or_default().fail.add(self.begun.elapsed());
    }
}
