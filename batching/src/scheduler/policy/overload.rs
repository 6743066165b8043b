//! Whether more is asked for than can be served, so that not everybody can be.
//!
//! Callers who wait for their answers ask for no more than they are given: they keep the backlog as it is,
//! and whoever stands in it is served in the end. Others let it grow without end. There are two signs of
//! them. In a *surge* so much more is asked for than served, time and again, that a second is enough to see
//! it: many callers who begin at once are none, however much they ask for. An overload
//! that is slighter *lasts*: the backlog grows second after second, whatever was given up counted as if it
//! still waited. That takes a while to see, and nobody is treated differently before the backlog is long
//! enough to matter.

use std::time::Duration;

use units::Timestamp;

use super::super::cost::{Rate, Seconds};
use super::rate::SmoothedRate;

/// Demand over capacity that is a flood: shares are enforced before anybody is late.
pub(super) const FLOOD: f64 = 1.2;
/// Time constant of what is asked for and served, in seconds: long enough that the calls of a few dozen
/// callers who wait are even.
const SMOOTHING: f64 = 1.0;
/// What is asked for over what is served in a surge.
const SURGE: f64 = 1.1;
/// Into how many parts, in all of this time, a second is cut, and in how many of them more must be asked for
/// than served: who begins at once is in two of them at most.
const PART: Duration = Duration::from_millis(250);
const PARTS: usize = 4;
const PARTS_MIN: usize = 3;
/// How often the change of the backlog is taken, how many changes are looked at, and the one, in seconds,
/// that is growth.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
const CHANGES: usize = 7;
const GROWTH: f64 = 0.02;
/// All these changes but the largest are growth only if they are this part of the backlog: calls of many
/// sequences come and go by as much.
const GROWTH_PART: f64 = 0.1;
/// How long the backlog must be before its growth is overload.
const BACKLOG_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Overload {
    asked: SmoothedRate,
    served: SmoothedRate,
    is_surge: bool,
    /// What was asked for and served in the part of a second that began at this moment, in device seconds.
    part: Part,
    part_at: Timestamp,
    /// Whether more was asked for in the parts before, as a ring.
    parts: [bool; PARTS],
    part_number: usize,
    /// Time that what was given up would have taken all devices.
    given_up: Duration,
    /// How long all that waits takes all devices, and with what was given up.
    backlog: Duration,
    asked_in_all: f64,
    at: Timestamp,
    /// The last changes, in seconds, as a ring.
    changes: [f64; CHANGES],
    next: usize,
    lasts: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    asked: f64,
    served: f64,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            asked: SmoothedRate::over(SMOOTHING),
            served: SmoothedRate::over(SMOOTHING),
            is_surge: false,
            part: Part::default(),
            part_at: Timestamp::ZERO,
            parts: [false; PARTS],
            part_number: 0,
            given_up: Duration::ZERO,
            backlog: Duration::ZERO,
            asked_in_all: 0.0,
            at: Timestamp::ZERO,
            changes: [0.0; CHANGES],
            next: 0,
            lasts: false,
        }
    }
}

impl Overload {
    /// Counts what is asked for. `capacity` is the fluid limit.
    pub(super) fn ask(&mut self, now: Timestamp, work: Seconds, capacity: Rate) {
        self.asked.add(now, work.0);
        self.end_part(now, capacity);
        self.part.asked += work.0;
        let asked = self.asked.last().0;
        let is_much = asked > FLOOD * capacity.0 && asked > SURGE * self.served.at(now).0;
        let is_steady = self.parts.iter().filter(|is_more| **is_more).count() >= PARTS_MIN;
        self.is_surge = is_much && is_steady;
    }

    fn end_part(&mut self, now: Timestamp, capacity: Rate) {
        let elapsed = now.saturating_duration_since(self.part_at);
        if elapsed < PART {
            return;
        }
        let Part { asked, served } = std::mem::take(&mut self.part);
        let is_more = asked > SURGE * served && asked > capacity.0 * PART.as_secs_f64();
        if elapsed < 2 * PART {
            self.parts[self.part_number % PARTS] = is_more;
            self.part_number += 1;
        } else {
            // Nobody asked for a while.
            self.parts = [false; PARTS];
        }
        self.part_at = now;
    }

    /// What is asked for by the second.
    pub(super) fn asked(&self, now: Timestamp) -> Rate {
        self.asked.at(now)
    }

    /// Counts what a device is given.
    pub(super) fn serve(&mut self, now: Timestamp, work: Seconds) {
        self.served.add(now, work.0);
        self.part.served += work.0;
    }

    /// Counts what is refused after it has waited, as time of all devices.
    pub(super) fn give_up(&mut self, time: Duration) {
        self.given_up += time;
    }

    /// Tells how long all that waits takes all devices.
    pub(super) fn tell_backlog(&mut self, now: Timestamp, backlog: Duration) {
        self.backlog = backlog;
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed < CHANGE_EVERY {
            return;
        }
        let in_all = (backlog + self.given_up).as_secs_f64();
        if elapsed < 2 * CHANGE_EVERY {
            self.changes[self.next] = in_all - self.asked_in_all;
            self.next = (self.next + 1) % CHANGES;
        } else {
            self.changes = [0.0; CHANGES];
        }
        (self.at, self.asked_in_all) = (now, in_all);
        self.lasts = self.is_growing() && (self.lasts || backlog > BACKLOG_MIN);
    }

    /// Whether most changes are, and not one alone: many callers may begin at once.
    fn is_growing(&self) -> bool {
        let most = self.changes.iter().copied().fold(0.0, f64::max);
        let others = self.changes.iter().sum::<f64>() - most;
        let least = (GROWTH * CHANGES as f64).max(GROWTH_PART * self.backlog.as_secs_f64());
        self.changes.iter().filter(|change| **change > GROWTH).count() > CHANGES / 2 && others > least
    }

    /// Whether not everybody can be served.
    pub(super) fn is_on(&self) -> bool {
        self.is_surge || self.lasts
    }

    /// Whether that has been so for seconds, and the backlog grows.
    pub(super) fn lasts(&self) -> bool {
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells a backlog every 100 ms, and when the overload was first said to last, in seconds.
    fn lasts_after(backlog: impl Fn(f64) -> f64) -> Option<f64> {
        let mut overload = Overload::default();
        let told = (0..400).map(|step| f64::from(step) / 10.0);
        told.into_iter().find(|at| {
            let now = Timestamp::ZERO + Duration::from_secs_f64(*at);
            overload.tell_backlog(now, Duration::from_secs_f64(backlog(*at)));
            overload.lasts()
        })
    }

    #[test]
    fn only_a_backlog_that_grows_and_is_long_is_overload() {
        assert_eq!(lasts_after(|_| 6.0), None, "many callers who began at once");
        assert_eq!(lasts_after(|at| 6.0 + (at * 5.0).sin() * 0.3), None, "uneven calls");
        assert_eq!(lasts_after(|at| (0.1 * at).min(0.9)), None, "short");
        let after = lasts_after(|at| 0.2 * at).unwrap_or(f64::INFINITY);
        assert!((5.0..8.0).contains(&after), "a second of backlog is there after five: {after}");
    }

    #[test]
    fn what_is_given_up_is_asked_for_all_the_same() {
        let mut overload = Overload::default();
        for second in 0..20 {
            let now = Timestamp::ZERO + Duration::from_secs(second);
            overload.tell_backlog(now, Duration::from_secs_f64((0.5 * second as f64).min(3.0)));
            if second > 6 {
                overload.give_up(Duration::from_millis(500));
            }
        }
        assert!(overload.lasts() && overload.is_on());
    }

    #[test]
    fn a_surge_is_seen_within_a_second() {
        let check = |asked: f64, served: f64, expected: bool| {
            let mut overload = Overload::default();
            for step in 0..100_u64 {
                let now = Timestamp::from_nanos(step * 10_000_000);
                overload.serve(now, Seconds(served / 100.0));
                overload.ask(now, Seconds(asked / 100.0), Rate(0.9));
            }
            assert_eq!(overload.is_on(), expected, "{asked} asked for, {served} served");
        };
        check(2.5, 0.9, true);
        check(1.0, 0.9, false);
        // Callers who wait, on devices that do more than the fluid limit says.
        check(1.5, 1.5, false);
    }
}
