//! What all threads of an engine see.

use std::sync::{Arc, PoisonError};

use super::sync::Mutex;
use super::sync::atomic::{AtomicBool, Ordering};
use crate::event::Observer;
use crate::scheduler::{Scheduler, Snapshot};
use units::Clock;

/// Flags and the last snapshot.
pub(super) struct State {
    is_healthy: AtomicBool,
    is_draining: AtomicBool,
    snapshot: Mutex<Snapshot>,
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
            snapshot: Mutex::new(Snapshot::default()),
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

    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Surroundings {
    /// Publishes what waits and runs.
    pub(super) fn publish<P>(&self, scheduler: &Scheduler<P>) {
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
