//! How much a tenant may use: so many requests and tokens in any 60 s and in a UTC day.
//!
//! The counts are shared by all servers and live in a [`LimitStore`]. So that a request costs no round trip, a server takes a
//! small *share* of what is left at once, uses it for at most [`SHARE_TIME`], and gives back what it did not use with its next
//! call. What was taken counts as used, and the window is that much longer than 60 s, so that all servers together never let
//! through more than the limit in any 60 s: the bound is the limit itself. The price is that a limit may be felt up to two
//! seconds early. A share of a day may be used up to [`SHARE_TIME`] into the next.
//!
//! While the store does not answer, each server either counts alone against its part of the limit (the limit divided by the
//! servers there may be), or refuses; what it let through is added to the shared count afterwards. So that the limit holds over
//! the beginning of an outage too, the part is one of what the store said was left, until what the store counted has left the
//! window. (Who was not told within the last minute takes its part of the whole: the bound is then the limit and the parts of
//! such servers.)
//!
//! A minute is measured by clocks that nobody sets: the uptime of a server that counts alone, and where servers share counts
//! that of Redis, in whose script what was counted in the future moves to the present. The calendar names days and nothing else.

mod memory;
mod redis;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use units::{TenantId, Timestamp};

pub use memory::MemoryLimits;

use crate::moment::Moment;
use crate::plan::Terms;
use crate::principal::Tenant;
use crate::store::StoreError;
use crate::wall_time::Day;

/// How long a share may be used.
pub const SHARE_TIME: Duration = Duration::from_secs(1);
/// A share is at most this part of a minute's limit.
const SHARE_DIVISOR: u64 = 60;
/// The shared window, in slots of a second: 60 s, the time of a share, and the slot that has begun.
pub(crate) const WINDOW_SLOTS: u64 = 62;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Inputs.
    Requests,
    /// Their tokens.
    Tokens,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Any 60 s.
    Minute,
    /// A UTC day.
    Day,
}

/// How much of one unit a tenant may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In any 60 s.
    pub minute: u64,
    /// In a UTC day; none is unlimited.
    pub day: Option<u64>,
}

/// What a server asks of the store in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// The least that helps.
    pub need: u64,
    /// The most that is wanted.
    pub wish: u64,
    /// What was taken earlier and not used: the store's slot in which it was taken, and how much.
    pub unused: Vec<(Slot, u64)>,
    /// What was let through while the store did not answer.
    pub owed: u64,
}

/// A second of a store's, in which something was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Of the store's clock.
    pub number: u64,
    /// The day on which it was counted.
    pub day: Day,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// In the minute.
    pub minute: u64,
    /// In the day, if that is limited.
    pub day: Option<u64>,
}

/// What the store says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// So much was taken.
    Taken {
        /// Between need and wish.
        amount: u64,
        /// The slot in which it was counted, by which what is not used is given back.
        slot: Slot,
        /// What is left after that.
        left: Left,
    },
    /// There is less than needed.
    Refused {
        /// The limit that is reached.
        by: Window,
        /// When there may be enough.
        retry_after: Duration,
        /// What is left, too little as it is.
        left: Left,
    },
}

/// Counts that all servers share.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes from a tenant's limit, atomically. Refused takes count nothing; `unused` and `owed` are settled in any case.
    async fn take(
        &self,
        now: Moment,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError>;
}

/// What happens while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// Each server counts alone against its part of every limit.
    Open,
    /// Nobody with a limit is let in.
    Closed,
}

/// Why a request may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The plan's limit is reached.
    #[error("rate limit exceeded: the plan allows {limit} {} in {}, of which {left} are left", unit.name(), window.name())]
    Exceeded {
        /// What is limited.
        unit: Unit,
        /// In which time.
        window: Window,
        /// The limit.
        limit: u64,
        /// What is left of it, too little as it is.
        left: u64,
        /// When to come again.
        retry_after: Duration,
    },
    /// More at once than the plan allows in all that time: no waiting helps.
    #[error("the call alone needs {amount} {}, and the plan allows {limit} in {}", unit.name(), window.name())]
    TooMuch {
        /// What is limited.
        unit: Unit,
        /// In which time.
        window: Window,
        /// The limit.
        limit: u64,
        /// What was asked for.
        amount: u64,
    },
    /// The tenant has as many requests running as its plan allows.
    #[error("too many calls at once: the plan allows {limit}")]
    Concurrency {
        /// The limit.
        limit: u32,
    },
    /// The store does not answer, and the server is told to refuse then.
    #[error("limits cannot be checked at present")]
    Unavailable,
}

/// What a request took of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// What is counted.
    pub unit: Unit,
    /// How much.
    pub amount: u64,
    /// In which of the store's slots; none if the store did not answer.
    slot: Option<Slot>,
    /// What is left.
    pub quota: Quota,
}

impl Taken {
    /// Takes a part of it out, or all there is.
    #[must_use]
    pub fn split(&mut self, amount: u64) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        self.quota.minute_left += amount;
        self.quota.day_left = self.quota.day_left.map(|left| left + amount);
        Self { amount, ..*self }
    }
}

/// What is left to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The limits.
    pub limits: Limits,
    /// What is left in the minute, at least.
    pub minute_left: u64,
    /// What is left in the day, at least, if it is limited.
    pub day_left: Option<u64>,
}

/// How a limiter is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimiterConfig {
    /// What happens while the store does not answer.
    pub outage: Outage,
    /// Servers that may share the store: by this the limits are divided while it does not answer.
    pub servers_max: u64,
}

/// Lets requests through as long as their tenants' limits allow.
pub struct Limiter {
    store: Arc<dyn LimitStore>,
    config: LimiterConfig,
    meters: RwLock<Meters>,
    /// Counts alone while the store does not answer.
    alone: MemoryLimits,
    /// How often it did.
    alone_takes: AtomicU64,
}

type Meters = HashMap<(TenantId, Unit), Arc<Meter>>;

/// What this server holds of one tenant's limit.
#[derive(Default)]
struct Meter {
    share: Mutex<Share>,
    /// Held while the store is asked, so that one asks for all.
    asking: tokio::sync::Mutex<()>,
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
    /// What the store refused last.
    refused: Option<Refusal>,
    /// What was left in the store when last asked.
    store_left: Left,
    /// When that was.
    told_at: Option<Timestamp>,
    /// Since when the store does not answer, if so.
    silent_since: Option<Timestamp>,
}

/// For a moment after a refusal as much and more is refused without asking again, so that whoever is told to wait and does
/// not keeps nobody else waiting.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    least: u64,
    by: Window,
    ask_again_at: Timestamp,
    enough_at: Timestamp,
    left: Left,
}

impl LimitError {
    /// Name of the limit, as in metrics.
    pub const fn limit(&self) -> &'static str {
        match self {
            Self::Exceeded { unit, window, .. } | Self::TooMuch { unit, window, .. } => {
                match (unit, window) {
                    (Unit::Requests, Window::Minute) => "requests_per_minute",
                    (Unit::Requests, Window::Day) => "requests_per_day",
                    (Unit::Tokens, Window::Minute) => "tokens_per_minute",
                    (Unit::Tokens, Window::Day) => "tokens_per_day",
                }
            }
            Self::Concurrency { .. } => "concurrency",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Unit {
    /// Plural, lower-case, as callers are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "inputs",
            Self::Tokens => "tokens",
        }
    }

    /// As in keys of the store.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }

    /// The limits of a plan in this unit, if it has any.
    pub fn limits(self, terms: &Terms) -> Option<Limits> {
        match self {
            Self::Requests => Some(Limits { minute: terms.requests_per_minute, day: terms.requests_per_day }),
            Self::Tokens => match (terms.tokens_per_minute, terms.tokens_per_day) {
                (None, None) => None,
                (minute, day) => Some(Limits { minute: minute.unwrap_or(u64::MAX / 4), day }),
            },
        }
    }
}

impl Window {
    /// For a person.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "60 s",
            Self::Day => "a day (UTC)",
        }
    }
}

impl Left {
    fn of(&self, window: Window) -> u64 {
        match window {
            Window::Minute => self.minute,
            Window::Day => self.day.unwrap_or(u64::MAX),
        }
    }
}

impl Limits {
    fn of(&self, window: Window) -> u64 {
        match window {
            Window::Minute => self.minute,
            Window::Day => self.day.unwrap_or(u64::MAX),
        }
    }

    /// One server's part.
    fn part(&self, servers: u64) -> Self {
        let part = |limit: u64| (limit / servers.max(1)).max(1);
        Self { minute: part(self.minute), day: self.day.map(part) }
    }
}

impl Limiter {
    /// A limiter over counts in `store`.
    pub fn new(store: Arc<dyn LimitStore>, config: LimiterConfig) -> Self {
        Self {
            store,
            config,
            meters: RwLock::default(),
            alone: MemoryLimits::default(),
            alone_takes: AtomicU64::new(0),
        }
    }

    /// Takes `amount` of a tenant's limit in one unit, or nothing. `None` if the plan has no such limit.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn take(
        &self,
        now: Moment,
        tenant: &Tenant,
        unit: Unit,
        amount: u64,
    ) -> Result<Option<Taken>, LimitError> {
        let Some(limits) = unit.limits(&tenant.plan.terms()) else { return Ok(None) };
        for window in [Window::Minute, Window::Day] {
            let limit = limits.of(window);
            if amount > limit {
                return Err(LimitError::TooMuch { unit, window, limit, amount });
            }
        }
        let meter = self.meter(tenant.id, unit);
        if let Some(known) = meter.take(now.uptime, amount, limits, unit) {
            return known.map(Some);
        }
        let _asking = meter.asking.lock().await;
        // Whoever asked before may have brought enough for this one.
        if let Some(known) = meter.take(now.uptime, amount, limits, unit) {
            return known.map(Some);
        }
        let take = meter.ask(now.uptime, amount, limits);
        match self.store.take(now, &tenant.name, unit, limits, &take).await {
            Ok(grant) => meter.answered(now.uptime, amount, limits, unit, grant).map(Some),
            Err(error) => {
                meter.unsettled(now.uptime, &take);
                self.alone_takes.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "limits: the store does not answer");
                self.take_alone(now, &meter, &tenant.name, unit, (amount, limits)).await.map(Some)
            }
        }
    }

    /// How often the store did not answer, and this server decided alone.
    pub fn decided_alone(&self) -> u64 {
        self.alone_takes.load(Ordering::Relaxed)
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, tenant: &Tenant, taken: Taken) {
        let Taken { unit, amount, slot, .. } = taken;
        let Some(slot) = slot else { return };
        let meter = self.meter(tenant.id, unit);
        let mut share = meter.share();
        if share.slot == slot {
            share.left += amount;
        } else {
            *share.unused.entry(slot).or_default() += amount;
        }
    }

    async fn take_alone(
        &self,
        now: Moment,
        meter: &Meter,
        tenant: &str,
        unit: Unit,
        (amount, limits): (u64, Limits),
    ) -> Result<Taken, LimitError> {
        if self.config.outage == Outage::Closed {
            return Err(LimitError::Unavailable);
        }
        let part = meter.share().part_alone(now.uptime, limits, self.config.servers_max);
        let take = Take { need: amount, wish: amount, unused: Vec::new(), owed: 0 };
        match self.alone.take(now, tenant, unit, part, &take).await {
            Ok(Grant::Taken { amount, left, .. }) => {
                meter.share().owed += amount;
                let quota = Quota { limits, minute_left: left.minute, day_left: left.day };
                Ok(Taken { unit, amount, slot: None, quota })
            }
            Ok(Grant::Refused { by, retry_after, left }) => {
                let (limit, left) = (limits.of(by), left.of(by));
                Err(LimitError::Exceeded { unit, window: by, limit, left, retry_after })
            }
            Err(_) => Err(LimitError::Unavailable),
        }
    }

    fn meter(&self, tenant: TenantId, unit: Unit) -> Arc<Meter> {
        let key = (tenant, unit);
        if let Some(meter) = self.meters.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(meter);
        }
        let mut meters = self.meters.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(meters.entry(key).or_default())
    }
}

impl Meter {
    fn share(&self) -> std::sync::MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from the share; `None` if the store must be asked.
    fn take(
        &self,
        now: Timestamp,
        amount: u64,
        limits: Limits,
        unit: Unit,
    ) -> Option<Result<Taken, LimitError>> {
        let mut share = self.share();
        if let Some(Refusal { least, by, ask_again_at, enough_at, left }) = share.refused
            && now < ask_again_at
            && amount >= least
        {
            let (retry_after, limit) = (enough_at.saturating_duration_since(now), limits.of(by));
            let left = left.of(by) + share.left;
            return Some(Err(LimitError::Exceeded { unit, window: by, limit, left, retry_after }));
        }
        if now >= share.expires_at || share.left < amount {
            return None;
        }
        share.left -= amount;
        Some(Ok(share.taken(unit, amount, limits)))
    }

    /// What to ask of the store: as much as was used of the last share and half as much again.
    fn ask(&self, now: Timestamp, amount: u64, limits: Limits) -> Take {
        let mut share = self.share();
        let used = share.taken.saturating_sub(share.left);
        let most = (limits.minute / SHARE_DIVISOR).max(amount);
        let is_recent = now < share.expires_at + SHARE_TIME;
        let wish = if is_recent { (used + used.div_ceil(2)).clamp(amount, most) } else { amount };
        share.put_aside();
        share.taken = 0;
        let unused = std::mem::take(&mut share.unused).into_iter().collect();
        Take { need: amount, wish, unused, owed: std::mem::take(&mut share.owed) }
    }

    /// The store did not settle what it was told.
    fn unsettled(&self, now: Timestamp, take: &Take) {
        let mut share = self.share();
        share.silent_since.get_or_insert(now);
        share.owed += take.owed;
        // If the store heard of it after all, it counts twice: too much rather than too little. For the same reason what was
        // not used is not told again.
    }

    fn answered(
        &self,
        now: Timestamp,
        amount: u64,
        limits: Limits,
        unit: Unit,
        grant: Grant,
    ) -> Result<Taken, LimitError> {
        let mut share = self.share();
        (share.told_at, share.silent_since) = (Some(now), None);
        match grant {
            Grant::Taken { amount: taken, slot, left } => {
                // What was given back meanwhile is of the share before.
                share.put_aside();
                share.left = taken.saturating_sub(amount);
                (share.taken, share.slot, share.store_left, share.refused) = (taken, slot, left, None);
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
                Err(LimitError::Exceeded { unit, window: by, limit, left, retry_after })
            }
        }
    }
}

impl Share {
    /// Keeps what is left to be given back with the next call.
    fn put_aside(&mut self) {
        if self.left > 0 {
            *self.unused.entry(self.slot).or_default() += std::mem::take(&mut self.left);
        }
    }

    /// What this server may let through alone, while the store does not answer: its part of the limit, and for as long as the
    /// store's counts are in the window, no more than its part of what was left.
    fn part_alone(&self, now: Timestamp, limits: Limits, servers: u64) -> Limits {
        let part = limits.part(servers);
        let window = Duration::from_secs(WINDOW_SLOTS);
        let is_within = |at: Timestamp| now.saturating_duration_since(at) < window;
        let was_told = self.told_at.zip(self.silent_since).filter(|(told, silent)| {
            // What the store counted until it fell silent is in the window.
            is_within(*silent) && silent.saturating_duration_since(*told) < window
        });
        if was_told.is_none() {
            return part;
        }
        let of_left = |part: u64, left: u64| part.min(left / servers.max(1));
        let day = part.day.zip(self.store_left.day).map(|(part, left)| of_left(part, left));
        Limits { minute: of_left(part.minute, self.store_left.minute), day: day.or(part.day) }
    }

    fn taken(&self, unit: Unit, amount: u64, limits: Limits) -> Taken {
        let Left { minute, day } = self.store_left;
        let quota =
            Quota { limits, minute_left: minute + self.left, day_left: day.map(|day| day + self.left) };
        Taken { unit, amount, slot: Some(self.slot), quota }
    }
}

#[cfg(test)]
mod tests;
