//! The one place that reads a clock.

use std::time::Instant;

use crate::Timestamp;

/// Tells the time. The engine asks it and tells the scheduler.
pub trait Clock: Send + Sync + 'static {
    /// The present. Never goes back.
    fn now(&self) -> Timestamp;
}

/// Time since its own creation, by the system's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    start: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the edge at which time comes in")]
impl MonotonicClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    fn elapsed(self) -> std::time::Duration {
        Instant::now().saturating_duration_since(self.start)
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.elapsed()
    }
}
