//! What all threads of an engine see.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use units::{Clock, ModelId, Priority, TenantId, Timestamp};

use super::sync::Mutex;
use super::sync::atomic::{AtomicBool, Ordering};
use crate::event::Observer;
use crate::scheduler::{RefusedWork, Scheduler, Snapshot};

/// Flags and the last snapshot.
pub(super) struct State {
    is_healthy: AtomicBool,
    is_draining: AtomicBool,
    is_overloaded: AtomicBool,
    snapshot: Mutex<Snapshot>,
    /// What was refused before it came here since the scheduler thread looked, by model and flow.
    refused: Mutex<HashMap<(ModelId, TenantId, Priority), RefusedWork>>,
}

/// What every thread of an engine is given.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) state: Arc<State>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            is_healthy: AtomicBool::new(true),
            is_draining: AtomicBool::new(false),
            is_overloaded: AtomicBool::new(false),
            snapshot: Mutex::new(Snapshot::default()),
            refused: Mutex::default(),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Acquire)
    }

    /// A device was lost, or a thread.
    pub(super) fn ail(&self) {
        self.is_healthy.store(false, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub(super) fn is_overloaded(&self) -> bool {
        self.is_overloaded.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, work: RefusedWork) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (work.model, work.tenant, work.priority);
        let sum = refused.entry(key).or_insert(RefusedWork { calls: 0, seconds: 0.0, ..work });
        sum.weight = work.weight;
        sum.calls += work.calls;
        sum.seconds += work.seconds;
    }

    /// Tells the scheduler what was refused since the last time.
    pub(super) fn tell_refused<P>(&self, now: Timestamp, scheduler: &mut Scheduler<P>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, work) in refused.drain() {
            scheduler.refused_before(now, &work);
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Surroundings {
    /// Publishes what waits and runs.
    pub(super) fn publish<P>(&self, scheduler: &Scheduler<P>) {
        self.state.is_overloaded.store(scheduler.is_overloaded(), Ordering::Relaxed);
        let mut snapshot = self.state.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        scheduler.snapshot(self.clock.now(), &mut snapshot);
    }

    /// Marks the engine as ailing if the thread that holds this unwinds.
    pub(super) fn sentinel(&self) -> Sentinel {
        Sentinel(Arc::clone(&self.state))
    }
}

pub(super) struct Sentinel(Arc<State>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ail();
        }
    }
}
