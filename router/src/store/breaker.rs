//! Whether a store is asked at all: one that does not answer is left alone, so that nobody waits for its
//! timeouts (Nygard, "Release It!", 2nd edition, section 5.2), and probed meanwhile, so that it is taken up
//! again as soon as it answers.
//!
//! No clock is read here: a store is taken up by a probe that it answers, never because a time has passed.

use std::time::Duration;

/// When a store is left alone, and how it is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Calls in a row that are not answered before it is left alone.
    pub failures_max: u32,
    /// How often it is probed while it is left alone.
    pub probe_every: Duration,
}

impl Default for BreakerConfig {
    /// 5 failures, as the platform has it; a probe every 500 ms.
    fn default() -> Self {
        Self { failures_max: 5, probe_every: Duration::from_millis(500) }
    }
}

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer in time: the connection may be good.
    Slow,
    /// The connection is broken, or what is at its end is not what it was: another connection may lead
    /// elsewhere.
    Gone,
}

/// The way to a store over a connection `C`.
#[derive(Debug)]
pub(super) struct Way<C> {
    state: State<C>,
    failures_max: u32,
    /// Failures in a row.
    failures: u32,
    /// Number of the newest connection.
    number: u64,
}

#[derive(Debug)]
enum State<C> {
    /// Calls are made.
    Open(C),
    /// There is no connection; calls wait for one.
    Connecting,
    /// Calls are refused.
    LeftAlone,
}

/// What to do with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn<C> {
    /// Make it over this connection, which has this number.
    Call(C, u64),
    /// Wait until there is a connection.
    Wait,
    Refuse,
}

impl<C: Clone> Way<C> {
    /// A way without a connection.
    pub(super) fn new(failures_max: u32) -> Self {
        Self { state: State::Connecting, failures_max, failures: 0, number: 0 }
    }

    /// What to do with a call now.
    pub(super) fn turn(&self) -> Turn<C> {
        match &self.state {
            State::Open(connection) => Turn::Call(connection.clone(), self.number),
            State::Connecting => Turn::Wait,
            State::LeftAlone => Turn::Refuse,
        }
    }

    /// Whether calls are refused.
    pub(super) fn is_left_alone(&self) -> bool {
        matches!(self.state, State::LeftAlone)
    }

    /// Whether the newest connection is the one of this number and is used.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.number == number && matches!(self.state, State::Open(_))
    }

    /// A call over a connection was answered.
    pub(super) fn succeeded(&mut self, number: u64) {
        if self.number == number {
            self.failures = 0;
        }
    }

    /// A call over a connection failed. Returns whether that was the failure from which on the store is left
    /// alone.
    pub(super) fn failed(&mut self, number: u64, failure: Failure) -> bool {
        if !self.is_current(number) {
            // Of a connection that was replaced meanwhile.
            return false;
        }
        self.failures += 1;
        if self.failures >= self.failures_max {
            self.state = State::LeftAlone;
            return true;
        }
        if failure == Failure::Gone {
            self.state = State::Connecting;
        }
        false
    }

    /// A new connection was made, and its probe answered. Returns whether the store was left alone until
    /// then.
    pub(super) fn connected(&mut self, connection: C) -> bool {
        let was_left_alone = self.is_left_alone();
        self.number += 1;
        self.state = State::Open(connection);
        if was_left_alone {
            self.failures = 0;
        }
        was_left_alone
    }

    /// No connection could be made, or its probe was not answered. Returns whether the store is left alone
    /// from now on. While there is a connection that calls are answered over, that says nothing.
    pub(super) fn unreachable(&mut self) -> bool {
        let is_waited_for = matches!(self.state, State::Connecting);
        if is_waited_for {
            self.state = State::LeftAlone;
        }
        is_waited_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_alone_after_failures_and_taken_up_by_a_probe() {
        let mut way = Way::new(3);
        assert_eq!(way.turn(), Turn::Wait);
        assert!(!way.connected("first"));
        assert_eq!(way.turn(), Turn::Call("first", 1));
        // A success between starts the count anew.
        assert!(!way.failed(1, Failure::Slow) && !way.failed(1, Failure::Slow));
        way.succeeded(1);
        assert!(!way.failed(1, Failure::Slow) && !way.failed(1, Failure::Slow));
        assert_eq!(way.turn(), Turn::Call("first", 1));
        assert!(way.failed(1, Failure::Slow));
        assert!(way.is_left_alone());
        assert_eq!(way.turn(), Turn::Refuse);
        // Calls that were begun before say nothing more, and a probe that fails changes nothing.
        assert!(!way.failed(1, Failure::Slow) && !way.unreachable());
        assert_eq!(way.turn(), Turn::Refuse);
        assert!(way.connected("second"));
        assert_eq!(way.turn(), Turn::Call("second", 2));
        // It has all its failures again.
        assert!(
            !way.failed(2, Failure::Slow) && !way.failed(2, Failure::Slow) && way.failed(2, Failure::Slow)
        );
    }

    #[test]
    fn a_connection_that_leads_nowhere_is_replaced_at_once() {
        let mut way = Way::new(3);
        way.connected("old");
        assert!(!way.failed(1, Failure::Gone));
        assert_eq!(way.turn(), Turn::Wait, "nobody uses it any more");
        assert!(!way.failed(1, Failure::Gone), "told twice");
        assert!(!way.connected("new"));
        assert_eq!(way.turn(), Turn::Call("new", 2));
        assert!(!way.failed(1, Failure::Gone), "of the old one");
        assert_eq!(way.turn(), Turn::Call("new", 2));
        // One that cannot be replaced is left alone at once; one that is only slow is kept.
        way.succeeded(2);
        assert!(!way.failed(2, Failure::Slow) && !way.unreachable());
        assert_eq!(way.turn(), Turn::Call("new", 2));
        assert!(!way.failed(2, Failure::Gone) && way.unreachable());
        assert_eq!(way.turn(), Turn::Refuse);
    }

    #[test]
    fn connections_that_break_again_and_again_are_left_alone() {
        let mut way = Way::new(3);
        way.connected("1");
        assert!(!way.failed(1, Failure::Gone));
        way.connected("2");
        assert!(!way.failed(2, Failure::Gone));
        way.connected("3");
        assert!(way.failed(3, Failure::Gone));
        assert_eq!(way.turn(), Turn::Refuse);
    }
}
