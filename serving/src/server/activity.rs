//! What a connection does, and how long it may do nothing. Told the time; [`super::connection`] is the shell
//! around it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Connections;

/// How long a piece of an answer may wait for its peer while the server stops.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// How long each kind of waiting may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) header: Duration,
    pub(super) keep_alive: Duration,
    pub(super) write: Duration,
    pub(super) half_close: Duration,
}

impl From<&Connections> for Patience {
    fn from(config: &Connections) -> Self {
        Self {
            header: Duration::from_millis(config.header_timeout_ms),
            keep_alive: Duration::from_millis(config.keep_alive_timeout_ms),
            write: Duration::from_millis(config.write_timeout_ms),
            half_close: Duration::from_millis(config.half_close_timeout_ms),
        }
    }
}

impl Patience {
    /// What begins after a moment is not due before this has passed.
    fn least(&self) -> Duration {
        self.header.min(self.keep_alive).min(self.write).min(self.half_close).max(Duration::from_millis(5))
    }
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing before this time.
    Wait(Instant),
    /// It has been without a request for long enough: to be told so, and closed.
    Idle,
    Close(&'static str),
}

/// An answer that is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AnswerId(u64);

#[derive(Debug)]
struct State {
    requests: u64,
    in_flight: usize,
    /// When a request last began or ended, or the connection began.
    last_request: Instant,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// When the first byte of the next head came.
    head_since: Option<Instant>,
    /// When the peer closed its sending side.
    half_closed_since: Option<Instant>,
    /// Answers of which a piece was handed out, and no other one was asked for since.
    waiting: BTreeMap<AnswerId, Instant>,
    answers: u64,
    unread_bytes: usize,
    /// The server stops: whoever takes nothing does not hold it up.
    is_stopping: bool,
}

/// What a connection does.
#[derive(Debug)]
pub(super) struct Activity {
    patience: Patience,
    is_http1: bool,
    state: Mutex<State>,
}

impl Activity {
    /// A connection that began at `began` and whose version is known.
    pub(super) fn new(patience: Patience, is_http1: bool, began: Instant) -> Self {
        let state = State {
            requests: 0,
            in_flight: 0,
            last_request: began,
            idle_since: began,
            // Its first head has been awaited since then.
            head_since: is_http1.then_some(began),
            half_closed_since: None,
            waiting: BTreeMap::new(),
            answers: 0,
            unread_bytes: 0,
            is_stopping: false,
        };
        Self { patience, is_http1, state: Mutex::new(state) }
    }

    pub(super) fn stopping(&self) {
        self.state().is_stopping = true;
    }

    /// Bytes came.
    pub(super) fn read(&self, now: Instant) {
        let mut state = self.state();
        if self.is_http1 && state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(now);
        }
    }

    /// The peer closed its sending side.
    pub(super) fn half_closed(&self, now: Instant) {
        self.state().half_closed_since.get_or_insert(now);
    }

    /// The head of a request is there.
    pub(super) fn request_began(&self, now: Instant) {
        let mut state = self.state();
        state.requests += 1;
        state.last_request = now;
        state.in_flight += 1;
        state.head_since = None;
    }

    /// A request was answered or given up.
    pub(super) fn request_ended(&self, now: Instant) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.last_request = now;
        if state.in_flight == 0 {
            state.idle_since = now;
            state.head_since = None;
        }
    }

    /// When a request last began or ended, or the connection began.
    pub(super) fn last_request(&self) -> Instant {
        self.state().last_request
    }

    /// Whether nothing was asked yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.state().requests == 0
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.state().in_flight > 0
    }

    /// Whether nothing has been asked or answered for so long.
    pub(super) fn is_idle(&self, now: Instant, time: Duration) -> bool {
        let state = self.state();
        state.in_flight == 0 && state.waiting.is_empty() && state.idle_since + time <= now
    }

    /// A number for an answer.
    pub(super) fn answer(&self) -> AnswerId {
        let mut state = self.state();
        state.answers += 1;
        AnswerId(state.answers)
    }

    /// A piece of an answer was handed out to be sent.
    pub(super) fn piece_waits(&self, answer: AnswerId, now: Instant) {
        self.state().waiting.insert(answer, now);
    }

    /// The piece is on its way: the next one is asked for, or there is no other.
    pub(super) fn piece_left(&self, answer: AnswerId) {
        self.state().waiting.remove(&answer);
    }

    /// Adds to or takes from the bytes of answers that wait.
    pub(super) fn unread(&self, more: usize, less: usize) {
        let mut state = self.state();
        state.unread_bytes = (state.unread_bytes + more).saturating_sub(less);
    }

    /// Bytes of answers that wait.
    pub(super) fn unread_bytes(&self) -> usize {
        self.state().unread_bytes
    }

    /// What is to be done at `now`.
    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.state();
        let mut next = now + self.patience.least();
        let mut is_due = |since: Instant, patience: Duration| {
            let due = since + patience;
            next = next.min(due.max(now));
            due <= now
        };
        let write = if state.is_stopping { self.patience.write.min(LAST_WRITE) } else { self.patience.write };
        if state.waiting.values().any(|since| is_due(*since, write)) {
            return Verdict::Close("write_timeout");
        }
        if let Some(since) = state.half_closed_since
            && is_due(since, self.patience.half_close)
        {
            return Verdict::Close("half_closed");
        }
        if state.in_flight == 0 {
            match state.head_since {
                Some(since) if is_due(since, self.patience.header) => {
                    return Verdict::Close("header_timeout");
                }
                None if is_due(state.idle_since, self.patience.keep_alive) => return Verdict::Idle,
                _ => {}
            }
        }
        Verdict::Wait(next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        header: Duration::from_secs(10),
        keep_alive: Duration::from_secs(75),
        write: Duration::from_secs(30),
        half_close: Duration::from_secs(2),
    };

    /// What is said of a connection after steps at their seconds, and that it is not said sooner.
    #[test]
    fn how_long_a_connection_may_do_nothing() {
        type Step = (u64, fn(&Activity, Instant));
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let check = |name: &str, is_http1: bool, steps: &[Step], due: u64, expected: Option<Verdict>| {
            let activity = Activity::new(PATIENCE, is_http1, began);
            for (seconds, step) in steps {
                step(&activity, at(*seconds));
            }
            let early = activity.verdict(at(due) - Duration::from_millis(1));
            assert!(matches!(early, Verdict::Wait(_)), "{name}: {early:?}");
            let found = activity.verdict(at(due));
            match expected {
                Some(expected) => assert_eq!(found, expected, "{name}"),
                None => assert!(matches!(found, Verdict::Wait(_)), "{name}: {found:?}"),
            }
        };
        let request: fn(&Activity, Instant) = Activity::request_began;
        let answered: fn(&Activity, Instant) = Activity::request_ended;
        let header = Some(Verdict::Close("header_timeout"));
        let stalled = Some(Verdict::Close("write_timeout"));
        check("nothing sent", true, &[], 10, header);
        check("nothing asked over HTTP/2", false, &[], 75, Some(Verdict::Idle));
        check("bytes do not help", true, &[(9, Activity::read)], 10, header);
        check("at work", true, &[(1, request)], 1000, None);
        check("kept alive", true, &[(1, request), (5, answered)], 80, Some(Verdict::Idle));
        let second = [(1, request), (5, answered), (20, Activity::read as fn(&Activity, Instant))];
        check("a slow second head", true, &second, 30, header);
        check("a ping is no head", false, &second, 80, Some(Verdict::Idle));
        check("two at once", false, &[(1, request), (2, request), (3, answered)], 1000, None);
        let waits: fn(&Activity, Instant) = |activity, now| {
            activity.piece_waits(activity.answer(), now);
        };
        check("a peer that does not read", false, &[(1, request), (4, waits)], 34, stalled);
        let reads: fn(&Activity, Instant) = |activity, _| activity.piece_left(AnswerId(1));
        check("a peer that reads", false, &[(1, request), (4, waits), (20, reads)], 1000, None);
        let half: fn(&Activity, Instant) = Activity::half_closed;
        check("half-closed", true, &[(1, request), (2, half)], 4, Some(Verdict::Close("half_closed")));
    }

    /// Whatever begins after a look is looked at again before it is overdue by more than the shortest
    /// patience.
    #[test]
    fn the_next_look_is_in_time() {
        let began = Instant::now();
        let activity = Activity::new(PATIENCE, true, began);
        assert_eq!(activity.verdict(began), Verdict::Wait(began + PATIENCE.half_close));
        let late = began + Duration::from_secs(9);
        assert_eq!(activity.verdict(late), Verdict::Wait(began + PATIENCE.header));
    }

    #[test]
    fn bytes_that_wait() {
        let activity = Activity::new(PATIENCE, false, Instant::now());
        activity.unread(100, 0);
        activity.unread(10, 60);
        assert_eq!(activity.unread_bytes(), 50);
        activity.unread(0, 70);
        assert_eq!(activity.unread_bytes(), 0);
    }
}
