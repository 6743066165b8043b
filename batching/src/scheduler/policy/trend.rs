//! Rates that are smoothed, and whether the backlog grows.

use std::time::Duration;

use units::Timestamp;

use super::super::cost::Rate;

/// Time constant of smoothed demand, in seconds, where none is given.
const SMOOTHING: f64 = 0.25;
/// How often the change of the backlog is taken, how many changes are looked at, and the one, in seconds,
/// that is growth.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
const CHANGES: usize = 7;
const GROWTH: f64 = 0.02;

/// A rate that decays with a time constant.
#[derive(Debug, Clone, Copy)]
pub(super) struct SmoothedRate {
    value: f64,
    at: Timestamp,
    /// In seconds.
    constant: f64,
}

impl Default for SmoothedRate {
    fn default() -> Self {
        Self::over(SMOOTHING)
    }
}

impl SmoothedRate {
    pub(super) fn over(constant: f64) -> Self {
        Self { value: 0.0, at: Timestamp::ZERO, constant }
    }

    pub(super) fn at(&self, now: Timestamp) -> Rate {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        Rate(self.value * (-elapsed / self.constant).exp())
    }

    /// As of the last [`add`](Self::add).
    pub(super) fn last(&self) -> Rate {
        Rate(self.value)
    }

    pub(super) fn add(&mut self, now: Timestamp, amount: f64) {
        self.value = self.at(now).0 + amount / self.constant;
        self.at = now;
    }
}

/// How the backlog changes by the second.
#[derive(Debug, Default)]
pub(super) struct BacklogTrend {
    seconds: f64,
    at: Timestamp,
    /// The last changes, as a ring.
    changes: [f64; CHANGES],
    next: usize,
}

impl BacklogTrend {
    /// Tells how long all that waits will take.
    pub(super) fn tell(&mut self, now: Timestamp, drain: Duration) {
        let seconds = drain.as_secs_f64();
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed < CHANGE_EVERY {
            return;
        }
        if elapsed < 2 * CHANGE_EVERY {
            self.changes[self.next] = seconds - self.seconds;
            self.next = (self.next + 1) % CHANGES;
        } else {
            self.changes = [0.0; CHANGES];
        }
        (self.at, self.seconds) = (now, seconds);
    }

    /// Whether most changes are: not whether one is large, since many callers may begin at once.
    pub(super) fn is_growing(&self) -> bool {
        self.changes.iter().filter(|change| **change > GROWTH).count() > CHANGES / 2
    }
}
