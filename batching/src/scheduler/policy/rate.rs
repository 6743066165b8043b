//! Rates that are smoothed.

use units::Timestamp;

use super::super::cost::Rate;

/// Time constant of smoothed demand, in seconds, where none is given.
const SMOOTHING: f64 = 0.25;

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
