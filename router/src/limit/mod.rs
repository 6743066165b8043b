//! How much a tenant may use: so many inputs and tokens in any 60 s and in a UTC day.
//!
//! The counts are shared by all servers and live in a [`LimitStore`]. So that a request costs no round trip,
//! a server takes a small *share* of what is left at once, uses it for at most [`SHARE_TIME`], and gives back
//! what it did not use with its next call. What was taken counts as used, and the window is that much longer
//! than 60 s, so that all servers together never let through more than the limit in any 60 s: the bound is
//! the limit itself. The price is that a limit may be felt up to two seconds early. A share of a day may be
//! used up to [`SHARE_TIME`] into the next.
//!
//! While the store does not answer, each server either counts alone against its part of the limit (the limit
//! divided by the servers there may be), or refuses; what it let through is added to the shared count
//! afterwards. So that the limit holds over the beginning of an outage too, the part is one of what is known
//! to be left, until what was counted before has left the window: of what the store said last, and of the
//! limit less what this server took and less what the others let through, which all tell each other every
//! second over a [`Board`] in the store, with a reserve for what they take in the [`BOARD_AGE`] that such
//! news is old. **The bound**, for k servers of n (`servers_max`) and a limit L, in any 60 s: L, and beyond
//! it at most what the *others* took in the last [`BOARD_AGE`] before the store fell silent, and never more
//! than `(k - 1) / n` of L. Where only some servers lose the store, these have their parts and the others the
//! limit: L and a part for each that lost it.
//!
//! A store that comes back without its counts, or with older ones, gets them back: every server remembers
//! what it took in the minute and the day, and the store counts what each took. Where it has less of a
//! server's than that server knows, the server adds what is missing before it lets anything through. Who asks
//! for nothing finds out by the board, whose words are numbered, within a second, unless the store is no
//! older than its last word. What may be let through beyond the limit then is what was taken in the second
//! before the store was set back, and a share for each server that had one in hand when the copy was made.
//!
//! A minute is measured by clocks that nobody sets: the uptime of a server that counts alone, and where
//! servers share counts that of Redis, in whose script what was counted in the future moves to the present.
//! The calendar names days and nothing else.

mod board;
mod memory;
mod redis;
mod share;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use units::{TenantId, Timestamp};

pub use board::{Board, LimitUse};
pub use memory::MemoryLimits;

use crate::moment::Moment;
use crate::plan::Terms;
use crate::principal::Tenant;
use crate::store::StoreError;
use share::Meter;
use units::{Day, Period, Unit};

/// How long a share may be used.
pub const SHARE_TIME: Duration = Duration::from_secs(1);
/// A share is at most this part of a minute's limit.
const SHARE_DIVISOR: u64 = 60;
/// The shared window, in slots of a second: 60 s, the time of a share, and the slot that has begun.
pub(crate) const WINDOW_SLOTS: u64 = 62;
/// The same as a time.
const WINDOW: Duration = Duration::from_secs(WINDOW_SLOTS);
/// How old news of other servers are at most, if each tells and asks every second.
pub const BOARD_AGE: Duration = Duration::from_secs(2);
/// What is above this is no limit: numbers in Lua are exact to 2^53.
const LIMIT_MAX: u64 = 1 << 52;

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
    /// Name of the server that asks: of one start of it.
    pub server: Arc<str>,
    /// The least that helps.
    pub need: u64,
    /// The most that is wanted.
    pub wish: u64,
    /// What was taken earlier and not used: the store's slot in which it was taken, and how much.
    pub unused: Vec<(Slot, u64)>,
    /// What was let through while the store did not answer, or was counted before and lost.
    pub owed: u64,
    /// The same, of today and no longer of the minute.
    pub owed_day: u64,
    /// The life of the counts as it was when `unused` was taken; what was taken in another is not given back.
    pub life: Option<u64>,
    /// One for counts that have none: random, below 2^52, never used before.
    pub new_life: u64,
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
        /// What was taken by this server and not given back, of the slot's day.
        own_today: u64,
        /// The life of the counts: another one than before means that these were lost.
        life: u64,
    },
    /// There is less than needed.
    Refused {
        /// The limit that is reached.
        by: Period,
        /// When there may be enough.
        retry_after: Duration,
        /// What is left, too little as it is.
        left: Left,
    },
}

/// Counts that all servers share.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes from a tenant's limit, atomically. Refused takes count nothing; `unused` and `owed` are settled
    /// in any case.
    async fn take(
        &self,
        now: Moment,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError>;

    /// Tells the other servers what this one let through, and says what they did. `number` grows by one from
    /// word to word of a server's, so that a board which has an older word is told from one that lost
    /// nothing.
    async fn exchange(&self, server: &str, number: u64, own: &[LimitUse]) -> Result<Board, StoreError>;
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
    #[error("rate limit exceeded: the plan allows {limit} {} in {}, of which {left} are left", unit.name(), period.span())]
    Exceeded {
        unit: Unit,
        /// The time that the limit is for.
        period: Period,
        limit: u64,
        /// What is left of it, too little as it is.
        left: u64,
        /// When to come again.
        retry_after: Duration,
    },
    /// More at once than the plan allows in all that time: no waiting helps.
    #[error("the call alone needs {amount} {}, and the plan allows {limit} in {}", unit.name(), period.span())]
    TooMuch {
        unit: Unit,
        /// The time that the limit is for.
        period: Period,
        limit: u64,
        /// What was asked for.
        amount: u64,
    },
    /// The tenant has as many calls running as its plan allows.
    #[error("too many calls at once: the plan allows {limit}")]
    Concurrency { limit: u32 },
    /// The store does not answer, and the server is told to refuse then.
    #[error("limits cannot be checked at present")]
    Unavailable,
}

/// What a request took of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allotment {
    pub unit: Unit,
    pub amount: u64,
    /// The slot of the store it was taken in; none if the store did not answer.
    slot: Option<Slot>,
    pub quota: Quota,
}

impl Allotment {
    /// Takes a part of it out, or all there is.
    #[must_use]
    pub fn split(&mut self, amount: u64) -> Self {
        let (all, amount) = (self.amount, amount.min(self.amount));
        self.amount -= amount;
        debug_assert_eq!(self.amount + amount, all, "nothing is lost or given back twice");
        self.quota.minute_left += amount;
        self.quota.day_left = self.quota.day_left.map(|left| left + amount);
        Self { amount, ..*self }
    }
}

/// What is left to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
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

/// Lets calls through as long as their tenants' limits allow.
pub struct Limiter {
    store: Arc<dyn LimitStore>,
    config: LimiterConfig,
    /// Name of this server among those that share the store: of this start.
    server: Arc<str>,
    /// Words that it told the others.
    words: AtomicU64,
    meters: RwLock<Meters>,
    /// What the others said last, and when.
    board: RwLock<Option<(Timestamp, Board)>>,
    /// Counts alone while the store does not answer.
    alone: MemoryLimits,
    /// How often it did.
    degraded: AtomicU64,
}

type Meters = HashMap<(TenantId, Unit), Arc<Meter>>;

impl LimitError {
    /// Name of the limit, as in metrics.
    pub const fn limit(&self) -> &'static str {
        match self {
            Self::Exceeded { unit, period, .. } | Self::TooMuch { unit, period, .. } => {
                match (unit, period) {
                    (Unit::Inputs, Period::Minute) => "requests_per_minute",
                    (Unit::Inputs, Period::Day) => "requests_per_day",
                    (Unit::Tokens, Period::Minute) => "tokens_per_minute",
                    (Unit::Tokens, Period::Day) => "tokens_per_day",
                }
            }
            Self::Concurrency { .. } => "concurrency",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The limits of a plan in a unit, if it has any.
pub fn limits(unit: Unit, terms: &Terms) -> Option<Limits> {
    let (minute, day) = match unit {
        Unit::Inputs => (Some(terms.requests_per_minute), terms.requests_per_day),
        Unit::Tokens => (terms.tokens_per_minute, terms.tokens_per_day),
    };
    let bounded = |limit: u64| limit.min(LIMIT_MAX);
    let is_limited = minute.is_some() || day.is_some();
    is_limited.then(|| Limits { minute: bounded(minute.unwrap_or(LIMIT_MAX)), day: day.map(bounded) })
}

/// A unit as it is written in keys of the store: as the plan's limits are called.
pub(crate) const fn key(unit: Unit) -> &'static str {
    match unit {
        Unit::Inputs => "requests",
        Unit::Tokens => "tokens",
    }
}

impl Left {
    fn of(&self, period: Period) -> u64 {
        match period {
            Period::Minute => self.minute,
            Period::Day => self.day.unwrap_or(u64::MAX),
        }
    }
}

impl Limits {
    fn of(&self, period: Period) -> u64 {
        match period {
            Period::Minute => self.minute,
            Period::Day => self.day.unwrap_or(u64::MAX),
        }
    }

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
            server: Arc::from(Ulid::new().to_string()),
            words: AtomicU64::new(0),
            meters: RwLock::default(),
            board: RwLock::default(),
            alone: MemoryLimits::default(),
            degraded: AtomicU64::new(0),
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
    ) -> Result<Option<Allotment>, LimitError> {
        let Some(limits) = limits(unit, &tenant.plan.terms()) else { return Ok(None) };
        for period in [Period::Minute, Period::Day] {
            let limit = limits.of(period);
            if amount > limit {
                return Err(LimitError::TooMuch { unit, period, limit, amount });
            }
        }
        let meter = self.meter(tenant, unit);
        if let Some(known) = meter.take(now.uptime, amount, limits) {
            return known.map(Some);
        }
        let _asking = meter.asking.lock().await;
        // Whoever asked before may have brought enough for this one.
        if let Some(known) = meter.take(now.uptime, amount, limits) {
            return known.map(Some);
        }
        match self.ask(now, &meter, amount, limits).await {
            Ok(grant) => meter.answered(now.uptime, amount, limits, grant).map(Some),
            Err(error) => {
                self.degraded.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "limits: the store does not answer");
                self.take_alone(now, &meter, amount, limits).await.map(Some)
            }
        }
    }

    /// Asks the store, and gives it back what it lost.
    async fn ask(
        &self,
        now: Moment,
        meter: &Meter,
        amount: u64,
        limits: Limits,
    ) -> Result<Grant, StoreError> {
        let take = meter.ask(now.uptime, amount, limits);
        let grant = self.tell(now, meter, limits, &take).await?;
        let Some(again) = meter.settled(now.uptime, &take, &grant) else { return Ok(grant) };
        let grant = self.tell(now, meter, limits, &again).await?;
        if let Some(again) = meter.settled(now.uptime, &again, &grant) {
            // Lost once more in between: the next one who asks brings it.
            meter.owe(again.owed);
        }
        Ok(grant)
    }

    async fn tell(
        &self,
        now: Moment,
        meter: &Meter,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError> {
        let answer = self.store.take(now, &meter.tenant, meter.unit, limits, take).await;
        answer.inspect_err(|_| meter.unsettled(now.uptime, take))
    }

    /// Tells the other servers what this one let through, asks what they did, and if the store lost its
    /// counts gives it back this server's own. To be called every second; while the store does not answer,
    /// nothing changes.
    pub async fn exchange(&self, now: Moment) {
        let meters: Vec<Arc<Meter>> =
            self.meters.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        let used = |meter: &Arc<Meter>| meter.used(now.uptime);
        let own = board::own(meters.iter().filter_map(used).collect());
        let number = self.words.fetch_add(1, Ordering::Relaxed) + 1;
        let board = match self.store.exchange(&self.server, number, &own).await {
            Ok(board) => board,
            Err(error) => return tracing::debug!(%error, "limits: other servers are not heard of"),
        };
        let was_told = {
            let mut known = self.board.write().unwrap_or_else(PoisonError::into_inner);
            let was_told =
                known.as_ref().is_some_and(|(at, _)| now.uptime.saturating_duration_since(*at) < WINDOW);
            *known = Some((now.uptime, board.clone()));
            was_told
        };
        if board.has_own || !was_told {
            return;
        }
        // The counts went the same way, and whoever is elsewhere must not find them at nothing.
        for meter in &meters {
            let Some(limits) = meter.to_restore(now.uptime) else { continue };
            let _asking = meter.asking.lock().await;
            match self.ask(now, meter, 0, limits).await {
                Ok(grant) => _ = meter.answered(now.uptime, 0, limits, grant),
                Err(error) => return tracing::debug!(%error, "limits: what was lost is not given back yet"),
            }
        }
    }

    /// Takes that this server decided by its part of the limit, because the store did not answer.
    pub fn limits_degraded(&self) -> u64 {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, tenant: &Tenant, taken: Allotment) {
        self.meter(tenant, taken.unit).give_back(taken);
    }

    async fn take_alone(
        &self,
        now: Moment,
        meter: &Meter,
        amount: u64,
        limits: Limits,
    ) -> Result<Allotment, LimitError> {
        if self.config.outage == Outage::Closed {
            return Err(LimitError::Unavailable);
        }
        let others =
            self.board.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|(at, board)| {
                let is_within = now.uptime.saturating_duration_since(*at) < WINDOW;
                is_within.then(|| board.used(&meter.tenant, meter.unit))
            });
        let part = meter.part_alone(now, limits, self.config.servers_max, others);
        let (need, wish) = (amount, amount);
        let server = Arc::clone(&self.server);
        let take =
            Take { server, need, wish, unused: Vec::new(), owed: 0, owed_day: 0, life: None, new_life: 0 };
        let unit = meter.unit;
        match self.alone.take(now, &meter.tenant, unit, part, &take).await {
            Ok(Grant::Taken { amount, left, .. }) => {
                meter.owe(amount);
                let quota = Quota { limits, minute_left: left.minute, day_left: left.day };
                Ok(Allotment { unit, amount, slot: None, quota })
            }
            Ok(Grant::Refused { by, retry_after, left }) => {
                let (limit, left) = (limits.of(by), left.of(by));
                Err(LimitError::Exceeded { unit, period: by, limit, left, retry_after })
            }
            Err(_) => Err(LimitError::Unavailable),
        }
    }

    fn meter(&self, tenant: &Tenant, unit: Unit) -> Arc<Meter> {
        let key = (tenant.id, unit);
        if let Some(meter) = self.meters.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(meter);
        }
        let mut meters = self.meters.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            meters.entry(key).or_insert_with(|| Arc::new(Meter::new(&self.server, &tenant.name, unit))),
        )
    }
}

#[cfg(test)]
mod tests;
