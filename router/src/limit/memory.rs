//! Counts of one process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Grant, LimitStore, Limits, Take, Unit, WINDOW_SLOTS, Window};
use crate::store::StoreError;
use crate::wall_time::{Day, WallTime};

/// Counts in memory.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    counts: Mutex<HashMap<(String, Unit), Count>>,
}

/// What was taken of one limit: a strict sliding window of slots of a second, and the day's sum.
#[derive(Debug, Default)]
struct Count {
    /// Slot, and what was taken in it; oldest first.
    slots: VecDeque<(u64, u64)>,
    minute: u64,
    day: Day,
    today: u64,
}

impl MemoryLimits {
    /// Tells of what was used before this process began.
    pub fn restore(&self, at: WallTime, tenant: &str, unit: Unit, amount: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((tenant.to_owned(), unit)).or_default();
        count.advance(at);
        count.add(at.0 / 1000, amount);
    }
}

#[async_trait]
impl LimitStore for MemoryLimits {
    async fn take(
        &self,
        now: WallTime,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.entry((tenant.to_owned(), unit)).or_default().take(now, limits, take))
    }
}

impl Count {
    /// The same in Lua is `limit/redis.rs`.
    fn take(&mut self, now: WallTime, limits: Limits, take: &Take) -> Grant {
        let Take { need, wish, owed, ref unused } = *take;
        self.advance(now);
        let slot = now.0 / 1000;
        for (slot, amount) in unused {
            self.give_back(*slot, *amount);
        }
        self.add(slot, owed);
        let minute_left = limits.minute.saturating_sub(self.minute);
        let day_left = limits.day.map(|day| day.saturating_sub(self.today));
        if day_left.is_some_and(|left| left < need) {
            return Grant::Refused { by: Window::Day, retry_after: now.day().next().start().since(now) };
        }
        if minute_left < need {
            let retry_after = self.until_free(now, need - minute_left);
            return Grant::Refused { by: Window::Minute, retry_after };
        }
        let amount = wish.min(minute_left).min(day_left.unwrap_or(u64::MAX)).max(need);
        self.add(slot, amount);
        let left = (minute_left - amount, day_left.map(|left| left - amount));
        Grant::Taken { amount, slot, left }
    }

    /// Forgets what has left the windows. Time that goes back forgets nothing.
    fn advance(&mut self, now: WallTime) {
        let oldest = (now.0 / 1000).saturating_sub(WINDOW_SLOTS - 1);
        while let Some((slot, amount)) = self.slots.front().copied()
            && slot < oldest
        {
            self.slots.pop_front();
            self.minute -= amount;
        }
        if now.day() > self.day {
            (self.day, self.today) = (now.day(), 0);
        }
    }

    fn add(&mut self, slot: u64, amount: u64) {
        match self.slots.back_mut() {
            // If the clock went back, the newest slot is this one.
            Some((last, count)) if *last >= slot => *count += amount,
            _ => self.slots.push_back((slot, amount)),
        }
        self.minute += amount;
        self.today += amount;
    }

    fn give_back(&mut self, slot: u64, amount: u64) {
        let found = self.slots.iter_mut().find(|(other, _)| *other == slot);
        if let Some((_, count)) = found {
            let amount = amount.min(*count);
            *count -= amount;
            self.minute -= amount;
        }
        if WallTime(slot * 1000).day() == self.day {
            self.today = self.today.saturating_sub(amount);
        }
    }

    /// How long until so much more has left the window.
    fn until_free(&self, now: WallTime, mut amount: u64) -> Duration {
        for (slot, count) in &self.slots {
            amount = amount.saturating_sub(*count);
            if amount == 0 {
                return WallTime((slot + WINDOW_SLOTS) * 1000).since(now);
            }
        }
        Duration::from_secs(WINDOW_SLOTS)
    }
}
