//! Counts of one process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Board, Grant, Left, LimitStore, LimitUse, Limits, Slot, Take, WINDOW_SLOTS};
use crate::moment::Moment;
use crate::store::StoreError;
use units::{Day, Period, Unit};

/// Days whose sums are remembered: today's, and those that the calendar showed before it was set to another
/// day.
const DAYS_MAX: usize = 4;
/// Slots before the first of this process, for what was used before it began.
const SLOTS_BEFORE: u64 = WINDOW_SLOTS;

/// Counts in memory. The minute is measured by the uptime, so it lasts a minute whatever the calendar is set
/// to; days are the calendar's.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    counts: Mutex<HashMap<(String, Unit), Count>>,
}

/// What was taken of one limit: a strict sliding window of slots of a second, and the sums of days.
#[derive(Debug, Default, Clone)]
struct Count {
    /// Slot, and what was taken in it; oldest first.
    slots: VecDeque<(u64, u64)>,
    minute: u64,
    days: BTreeMap<Day, u64>,
    /// What each server took of a day and did not give back.
    own: BTreeMap<(Day, Arc<str>), u64>,
    life: u64,
}

impl MemoryLimits {
    /// All that it counts, to be set back to.
    #[cfg(test)]
    pub(super) fn copy(&self) -> Self {
        Self { counts: Mutex::new(self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()) }
    }

    /// Tells of what was used before this process began, `age` ago and on `day`; nothing if it was used in
    /// the future, by a calendar that was set back since: then it counts as used now.
    pub fn restore(&self, now: Moment, (age, day): (Duration, Day), tenant: &str, unit: Unit, amount: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((tenant.to_owned(), unit)).or_default();
        count.advance(now);
        if let Some(number) = number(now).checked_sub(age.as_secs()) {
            count.add(Slot { number, day }, amount);
        } else {
            *count.days.entry(day).or_default() += amount;
        }
        count.advance(now);
    }
}

#[async_trait]
impl LimitStore for MemoryLimits {
    async fn take(
        &self,
        now: Moment,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.entry((tenant.to_owned(), unit)).or_default().take(now, limits, take))
    }

    async fn exchange(&self, _server: &str, _number: u64, _own: &[LimitUse]) -> Result<Board, StoreError> {
        // Nobody else counts here, and what is lost is lost with who would remember it.
        Ok(Board::new(true, []))
    }
}

fn number(now: Moment) -> u64 {
    now.uptime.as_nanos() / 1_000_000_000 + SLOTS_BEFORE
}

impl Count {
    /// The same in Lua is `limit/redis.rs`.
    fn take(&mut self, now: Moment, limits: Limits, take: &Take) -> Grant {
        let Take { need, wish, owed, owed_day, ref unused, life, new_life, .. } = *take;
        self.advance(now);
        if self.life == 0 {
            self.life = new_life;
        }
        let slot = Slot { number: number(now), day: now.wall.day() };
        let is_same = life == Some(self.life);
        let own = (slot.day, Arc::clone(&take.server));
        let mut own_today = self.own.remove(&own).unwrap_or(0);
        for (unused, amount) in unused.iter().filter(|_| is_same) {
            self.give_back(*unused, *amount);
            own_today = own_today.saturating_sub(if unused.day == slot.day { *amount } else { 0 });
        }
        self.add(slot, owed);
        *self.days.entry(slot.day).or_default() += owed_day;
        own_today += owed + owed_day;
        self.own.insert(own.clone(), own_today);
        let today = self.days.get(&slot.day).copied().unwrap_or(0);
        let minute_left = limits.minute.saturating_sub(self.minute);
        let day_left = limits.day.map(|day| day.saturating_sub(today));
        let left = Left { minute: minute_left, day: day_left };
        if day_left.is_some_and(|left| left < need) {
            let retry_after = slot.day.next().start().since(now.wall);
            return Grant::Refused { by: Period::Day, retry_after, left };
        }
        if minute_left < need {
            let retry_after = self.until_free(now, need - minute_left);
            return Grant::Refused { by: Period::Minute, retry_after, left };
        }
        let amount = wish.min(minute_left).min(day_left.unwrap_or(u64::MAX)).max(need);
        self.add(slot, amount);
        own_today += amount;
        self.own.insert(own, own_today);
        self.check();
        debug_assert!(need <= amount && amount <= wish.max(need), "{need} <= {amount} <= {wish}");
        let left = Left { minute: minute_left - amount, day: day_left.map(|left| left - amount) };
        Grant::Taken { amount, slot, left, own_today, life: self.life }
    }

    /// Forgets what has left the window, and the days furthest from today.
    fn advance(&mut self, now: Moment) {
        let oldest = number(now).saturating_sub(WINDOW_SLOTS - 1);
        while let Some((slot, amount)) = self.slots.front().copied()
            && slot < oldest
        {
            self.slots.pop_front();
            self.minute -= amount;
        }
        let today = now.wall.day();
        while self.days.len() > DAYS_MAX {
            let furthest = self.days.keys().copied().max_by_key(|day| day.0.abs_diff(today.0));
            furthest.and_then(|day| self.days.remove(&day));
        }
        self.check();
        let days = &self.days;
        self.own.retain(|(day, _), _| days.contains_key(day) || *day == today);
    }

    /// The minute is the sum of its slots, which are in order.
    fn check(&self) {
        debug_assert_eq!(self.minute, self.slots.iter().map(|(_, amount)| amount).sum::<u64>());
        debug_assert!(self.slots.iter().is_sorted_by(|a, b| a.0 < b.0), "{:?}", self.slots);
    }

    fn add(&mut self, slot: Slot, amount: u64) {
        match self.slots.back_mut() {
            // Records of a journal are in order, but for a calendar that was set back.
            Some((last, count)) if *last >= slot.number => *count += amount,
            _ => self.slots.push_back((slot.number, amount)),
        }
        self.minute += amount;
        *self.days.entry(slot.day).or_default() += amount;
    }

    fn give_back(&mut self, slot: Slot, amount: u64) {
        let found = self.slots.iter_mut().find(|(other, _)| *other == slot.number);
        if let Some((_, count)) = found {
            let amount = amount.min(*count);
            *count -= amount;
            self.minute -= amount;
        }
        if let Some(sum) = self.days.get_mut(&slot.day) {
            *sum = sum.saturating_sub(amount);
        }
    }

    /// How long until so much more has left the window.
    fn until_free(&self, now: Moment, mut amount: u64) -> Duration {
        for (slot, count) in &self.slots {
            amount = amount.saturating_sub(*count);
            if amount == 0 {
                let free_at = Duration::from_secs(slot + WINDOW_SLOTS - SLOTS_BEFORE);
                return free_at.saturating_sub(Duration::from_nanos(now.uptime.as_nanos()));
            }
        }
        Duration::from_secs(WINDOW_SLOTS)
    }
}
