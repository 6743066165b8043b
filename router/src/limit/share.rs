//! What one server holds of a tenant's limit, and what it remembers of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ulid::Ulid;
use units::Timestamp;

use super::{
    Allotment, BOARD_AGE, Grant, LIMIT_MAX, Left, LimitError, LimitUse, Limits, Quota, SHARE_DIVISOR,
    SHARE_TIME, Slot, Take, WINDOW, WINDOW_SLOTS,
};
use crate::moment::Moment;
use units::{Day, Period, Unit};

/// What this server holds of one tenant's limit.
pub(super) struct Meter {
    server: Arc<str>,
    pub(super) tenant: Arc<str>,
    pub(super) unit: Unit,
    share: Mutex<Share>,
    /// Held while the store is asked, so that one asks for all.
    pub(super) asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Share {
    left: u64,
    taken: u64,
    slot: Slot,
    expires_at: Timestamp,
    /// Taken earlier and not used, by slot.
    unused: BTreeMap<Slot, u64>,
    /// Let through without the store.
    owed: u64,
    /// Taken of the store.
    own: Own,
    /// The life of the store's counts.
    life: Option<u64>,
    /// What the store refused last.
    refused: Option<Refusal>,
    /// What was left in the store when last asked.
    store_left: Left,
    told_at: Option<Timestamp>,
    /// The day of the store's of which it told.
    told_day: Option<Day>,
    /// Since when the store does not answer, if so.
    silent_since: Option<Timestamp>,
    /// The limits of the last that was taken.
    limits: Option<Limits>,
}

/// For a moment after a refusal as much and more is refused without asking again, so that whoever is told to
/// wait and does not keeps nobody else waiting.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    least: u64,
    by: Period,
    ask_again_at: Timestamp,
    enough_at: Timestamp,
    left: Left,
}

/// What this server took of the store and did not give back: of the window, and of a day.
#[derive(Debug, Default)]
struct Own {
    slots: VecDeque<OwnSlot>,
    day: Day,
    today: u64,
}

/// What was taken in a slot of the store's, and when it was, by this server's clock.
#[derive(Debug, Clone, Copy)]
struct OwnSlot {
    number: u64,
    at: Timestamp,
    amount: u64,
}

impl Meter {
    /// A meter of a tenant's limit.
    pub(super) fn new(server: &Arc<str>, tenant: &Arc<str>, unit: Unit) -> Self {
        let (share, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { server: Arc::clone(server), tenant: Arc::clone(tenant), unit, share, asking }
    }

    fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from the share; `None` if the store must be asked.
    pub(super) fn take(
        &self,
        now: Timestamp,
        amount: u64,
        limits: Limits,
    ) -> Option<Result<Allotment, LimitError>> {
        let (mut share, unit) = (self.share(), self.unit);
        if let Some(Refusal { least, by, ask_again_at, enough_at, left }) = share.refused
            && now < ask_again_at
            && amount >= least
        {
            let (retry_after, limit) = (enough_at.saturating_duration_since(now), limits.of(by));
            let left = left.of(by) + share.left;
            return Some(Err(LimitError::Exceeded { unit, period: by, limit, left, retry_after }));
        }
        if now >= share.expires_at || share.left < amount {
            return None;
        }
        share.left -= amount;
        Some(Ok(share.taken(unit, amount, limits)))
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&self, taken: Allotment) {
        let Some(slot) = taken.slot else { return };
        let mut share = self.share();
        if share.slot == slot {
            share.left += taken.amount;
        } else {
            *share.unused.entry(slot).or_default() += taken.amount;
        }
    }

    /// So much was let through without the store.
    pub(super) fn owe(&self, amount: u64) {
        self.share().owed += amount;
    }

    /// What to ask of the store: as much as was used of the last share and half as much again.
    pub(super) fn ask(&self, now: Timestamp, amount: u64, limits: Limits) -> Take {
        let mut share = self.share();
        let used = share.taken.saturating_sub(share.left);
        let most = (limits.minute / SHARE_DIVISOR).max(amount);
        let is_recent = now < share.expires_at + SHARE_TIME;
        let wish =
            if is_recent && amount > 0 { (used + used.div_ceil(2)).clamp(amount, most) } else { amount };
        share.put_aside();
        (share.taken, share.limits) = (0, Some(limits));
        let unused = std::mem::take(&mut share.unused).into_iter().collect();
        let (owed, life) = (std::mem::take(&mut share.owed), share.life);
        let server = Arc::clone(&self.server);
        Take { server, need: amount, wish, unused, owed, owed_day: 0, life, new_life: new_life() }
    }

    /// The store did not settle what it was told.
    pub(super) fn unsettled(&self, now: Timestamp, take: &Take) {
        let mut share = self.share();
        share.silent_since.get_or_insert(now);
        share.owed += take.owed;
        // If the store heard of it after all, it counts twice: too much rather than too little. For the same
        // reason what was not used is not told again; nor is it missed, should the store have heard of it.
        share.own.give_back(&take.unused);
    }

    /// The store settled what it was told. What to ask instead, if it has less of this server's than was
    /// taken. It gets that back with it.
    pub(super) fn settled(&self, now: Timestamp, take: &Take, grant: &Grant) -> Option<Take> {
        let mut share = self.share();
        share.own.give_back(&take.unused);
        let Grant::Taken { amount, slot, own_today, life, .. } = *grant else { return None };
        share.own.to(slot);
        let minute_before = share.own.minute();
        share.own.add(now, slot, amount + take.owed);
        share.life = Some(life);
        let lost_today = share.own.today.saturating_sub(own_today);
        if lost_today == 0 {
            return None;
        }
        // Which of it is of the minute, nobody knows: all that can be.
        let lost = minute_before.min(lost_today);
        tracing::warn!(
            tenant = %self.tenant,
            unit = self.unit.name(),
            minute = lost,
            day = lost_today,
            "limits: the store lost counts; this server's own are added again"
        );
        // They stand in the memory already, and come back as one with what was taken just now.
        share.own.forget(slot, lost);
        Some(Take {
            server: Arc::clone(&self.server),
            need: take.need,
            wish: take.wish,
            unused: vec![(slot, amount)],
            owed: lost,
            owed_day: lost_today - lost,
            life: Some(life),
            new_life: new_life(),
        })
    }

    /// What the store said of a question for `amount`.
    pub(super) fn answered(
        &self,
        now: Timestamp,
        amount: u64,
        limits: Limits,
        grant: Grant,
    ) -> Result<Allotment, LimitError> {
        let (mut share, unit) = (self.share(), self.unit);
        (share.told_at, share.silent_since) = (Some(now), None);
        match grant {
            Grant::Taken { amount: taken, slot, left, .. } => {
                // What was given back meanwhile is of the share before.
                share.put_aside();
                share.left = taken.saturating_sub(amount);
                (share.taken, share.slot, share.store_left, share.refused) = (taken, slot, left, None);
                share.told_day = Some(slot.day);
                // From before the store was asked, so that the share ends here before it ends there.
                share.expires_at = now + SHARE_TIME;
                Ok(share.taken(unit, amount, limits))
            }
            Grant::Refused { by, retry_after, left } => {
                share.store_left = left;
                share.refused = Some(Refusal {
                    least: amount,
                    by,
                    ask_again_at: now + retry_after.min(SHARE_TIME),
                    enough_at: now + retry_after,
                    left,
                });
                let (limit, left) = (limits.of(by), left.of(by));
                Err(LimitError::Exceeded { unit, period: by, limit, left, retry_after })
            }
        }
    }

    /// What this server took of the store within the window, if anything.
    pub(super) fn used(&self, now: Timestamp) -> Option<LimitUse> {
        let amount = self.share().own.since(now);
        (amount > 0).then(|| LimitUse { tenant: Arc::clone(&self.tenant), unit: self.unit, amount })
    }

    /// The limits of the last that was taken, if the store should have something of this server's: of the
    /// minute, or of the day where that is limited.
    pub(super) fn to_restore(&self, now: Timestamp) -> Option<Limits> {
        let share = self.share();
        let is_counted =
            |limits: &Limits| share.own.since(now) > 0 || limits.day.is_some() && share.own.today > 0;
        share.limits.filter(is_counted)
    }

    /// What this server may let through alone, while the store does not answer: its part of the limit, and
    /// for as long as what was counted before is in the window, no more than its part of what was left.
    /// `others` is what they let through, if they were heard of within the window.
    pub(super) fn part_alone(
        &self,
        now: Moment,
        limits: Limits,
        servers: u64,
        others: Option<u64>,
    ) -> Limits {
        let share = self.share();
        let part = limits.part(servers);
        let of_left = |part: u64, left: u64| part.min(left / servers.max(1));
        let mut minute = part.minute;
        if share.was_told_within(now.uptime) {
            minute = of_left(minute, share.store_left.minute);
        }
        if let Some(others) = others {
            // And they went on at their pace.
            let reserve = others.div_ceil((WINDOW_SLOTS / BOARD_AGE.as_secs()).max(1));
            let used = others.saturating_add(reserve).saturating_add(share.own.since(now.uptime));
            minute = of_left(minute, limits.minute.saturating_sub(used));
        }
        debug_assert!(minute <= part.minute, "{minute} of a part of {}", part.minute);
        // Of a day nothing comes back, so that the last word holds for all of it.
        let told = share.store_left.day.filter(|_| share.told_day == Some(now.wall.day()));
        let day = part.day.map(|day| told.map_or(day, |left| of_left(day, left)));
        Limits { minute, day }
    }
}

impl Share {
    /// Keeps what is left to be given back with the next call.
    fn put_aside(&mut self) {
        if self.left > 0 {
            *self.unused.entry(self.slot).or_default() += std::mem::take(&mut self.left);
        }
    }

    /// Whether what the store said last is of use: what it counted until it fell silent is in the window.
    fn was_told_within(&self, now: Timestamp) -> bool {
        let is_within = |at: Timestamp, now: Timestamp| now.saturating_duration_since(at) < WINDOW;
        let told = self.told_at.zip(self.silent_since);
        told.is_some_and(|(told, silent)| is_within(silent, now) && is_within(told, silent))
    }

    fn taken(&self, unit: Unit, amount: u64, limits: Limits) -> Allotment {
        let Left { minute, day } = self.store_left;
        let quota =
            Quota { limits, minute_left: minute + self.left, day_left: day.map(|day| day + self.left) };
        Allotment { unit, amount, slot: Some(self.slot), quota }
    }
}

/// A life that no counts had before.
fn new_life() -> u64 {
    (Ulid::new().random() as u64 % (LIMIT_MAX - 1)) + 1
}

impl Own {
    fn add(&mut self, now: Timestamp, slot: Slot, amount: u64) {
        self.to(slot);
        self.today += amount;
        match self.slots.back_mut() {
            Some(last) if last.number == slot.number => (last.amount, last.at) = (last.amount + amount, now),
            _ if amount > 0 => self.slots.push_back(OwnSlot { number: slot.number, at: now, amount }),
            _ => {}
        }
    }

    /// Moves to a slot, as the store does: what has left the window goes, and what is in the future, by a
    /// clock that was set back, is of the present.
    fn to(&mut self, slot: Slot) {
        for own in self.slots.iter_mut().rev().take_while(|own| own.number > slot.number) {
            own.number = slot.number;
        }
        self.slots.retain(|own| own.number + WINDOW_SLOTS > slot.number && own.amount > 0);
        if self.day != slot.day {
            (self.day, self.today) = (slot.day, 0);
        }
        debug_assert!(self.slots.iter().is_sorted_by_key(|own| own.number), "{:?}", self.slots);
    }

    /// What the store must have counted of this server's in the window.
    fn minute(&self) -> u64 {
        self.slots.iter().map(|own| own.amount).sum()
    }

    /// What was taken within the window by this server's clock.
    fn since(&self, now: Timestamp) -> u64 {
        let is_within = |own: &&OwnSlot| now.saturating_duration_since(own.at) < WINDOW;
        self.slots.iter().filter(is_within).map(|own| own.amount).sum()
    }

    fn give_back(&mut self, unused: &[(Slot, u64)]) {
        for (slot, amount) in unused {
            let newest = self.slots.back().map_or(0, |own| own.number);
            // One of the future was moved to the newest.
            let number = slot.number.min(newest);
            if let Some(own) = self.slots.iter_mut().find(|own| own.number == number) {
                own.amount = own.amount.saturating_sub(*amount);
            }
            if self.day == slot.day {
                self.today = self.today.saturating_sub(*amount);
            }
        }
    }

    /// Forgets so much, which is going to be added anew.
    fn forget(&mut self, slot: Slot, mut amount: u64) {
        self.today = if self.day == slot.day { self.today.saturating_sub(amount) } else { self.today };
        for own in &mut self.slots {
            let part = amount.min(own.amount);
            own.amount -= part;
            amount -= part;
        }
    }
}
