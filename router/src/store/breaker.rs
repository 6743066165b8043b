//! A circuit breaker: a store that keeps failing is left alone for a while, so that nobody waits for its timeouts.
//!
//! Closed until so many calls in a row have failed; then open, when calls are refused at once; after a pause half open, when
//! calls are let through, closed again after so many successes in a row, open again after one failure (Nygard, "Release It!",
//! 2nd edition, section 5.2).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wall_time::WallTime;

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures_max: u32,
    /// How long it stays open before it lets calls through to try.
    pub pause: Duration,
    /// Successes in a row that close it again.
    pub successes_min: u32,
}

impl Default for BreakerConfig {
    /// The platform's: 5 failures, 30 s, 2 successes.
    fn default() -> Self {
        Self { failures_max: 5, pause: Duration::from_secs(30), successes_min: 2 }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: WallTime },
    HalfOpen { successes: u32 },
}

impl Breaker {
    /// A closed breaker.
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether calls are being refused, or only let through to try.
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Closed { .. })
    }

    /// Whether a call may be made now.
    pub(super) fn allows(&self, now: WallTime) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Open { until } if now < until => false,
            State::Open { .. } => {
                *state = State::HalfOpen { successes: 0 };
                true
            }
            State::Closed { .. } | State::HalfOpen { .. } => true,
        }
    }

    /// Tells how a call ended. Returns whether that opened or closed the breaker: whether it is open now.
    pub(super) fn ended(&self, now: WallTime, is_success: bool) -> Option<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let BreakerConfig { failures_max, pause, successes_min } = self.config;
        let next = match (*state, is_success) {
            (State::Closed { .. }, true) => State::Closed { failures: 0 },
            (State::Closed { failures }, false) if failures + 1 < failures_max => {
                State::Closed { failures: failures + 1 }
            }
            (State::HalfOpen { successes }, true) if successes + 1 < successes_min => {
                State::HalfOpen { successes: successes + 1 }
            }
            (State::HalfOpen { .. }, true) => State::Closed { failures: 0 },
            (State::Closed { .. } | State::HalfOpen { .. }, false) => State::Open { until: now.plus(pause) },
            // Of a call that was begun before it opened.
            (State::Open { until }, _) => State::Open { until },
        };
        let was_open = !matches!(*state, State::Closed { .. });
        *state = next;
        match (was_open, next) {
            (false, State::Open { .. }) => Some(true),
            (true, State::Closed { .. }) => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_pauses_tries_and_closes() {
        let breaker = Breaker::new(BreakerConfig::default());
        let at = |seconds: u64| WallTime(seconds * 1000);
        for second in 0..4 {
            assert_eq!(breaker.ended(at(second), false), None);
        }
        // A success between starts the count anew.
        assert_eq!(breaker.ended(at(4), true), None);
        for second in 5..9 {
            assert_eq!(breaker.ended(at(second), false), None);
            assert!(breaker.allows(at(second)));
        }
        assert_eq!(breaker.ended(at(9), false), Some(true));
        assert!(breaker.is_open() && !breaker.allows(at(10)) && !breaker.allows(at(38)));
        // Of a call that was begun before.
        assert_eq!(breaker.ended(at(10), true), None);
        assert!(!breaker.allows(at(38)));
        // Half open: one failure opens it again.
        assert!(breaker.allows(at(39)));
        assert_eq!(breaker.ended(at(39), false), None);
        assert!(!breaker.allows(at(68)));
        assert!(breaker.allows(at(69)));
        assert_eq!(breaker.ended(at(69), true), None);
        assert_eq!(breaker.ended(at(70), true), Some(false));
        assert!(breaker.allows(at(70)) && !breaker.is_open());
    }
}
