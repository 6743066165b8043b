//! Sums of usage records, by tenant, day, hour and model.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use units::MicroDollars;

use super::{Outcome, UsageRecord};
use crate::store::StoreError;
use units::Day;

/// What a tenant's records are summed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SumKey {
    /// UTC day.
    pub day: Day,
    /// Hour of it, 0 to 23.
    pub hour: u8,
    /// Name of the model.
    pub model: String,
}

/// A sum of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Records that were completed.
    pub completed: u64,
    /// Records that were refused.
    pub refused: u64,
    pub failed: u64,
    /// Records that were cancelled.
    pub cancelled: u64,
    /// Inputs of completed records: what is priced.
    pub inputs: u64,
    /// Tokens of completed records.
    pub tokens: u64,
    /// Microseconds of devices, of all records.
    pub device_us: u64,
    /// Completed records that were answered from a cache.
    pub cached: u64,
    /// What is to be paid.
    pub price: MicroDollars,
}

/// What sums are kept by: whatever is lost of a store, a tenant's day is lost or kept as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantDay {
    pub tenant: Arc<str>,
    pub day: Day,
}

/// Records of one epoch, tenant and day, summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The epoch: one start of a server. Of records without one, the journal's name.
    pub epoch: Arc<str>,
    pub place: TenantDay,
    /// How far the epoch was contained in the place's sums before: number of the next record.
    pub from: u64,
    /// And after.
    pub to: u64,
    /// Number of the first record.
    pub first: u64,
    pub records: u64,
    pub sums: BTreeMap<SumKey, Sum>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchOutcome {
    /// It was added.
    Yes,
    /// It was not: the epoch is contained up to this record.
    At(u64),
}

/// What a store has of a tenant's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayState {
    /// How far the epochs that were asked for are contained, each: number of the next record.
    pub positions: Vec<u64>,
    /// Records of all epochs and servers in the sums. None: sums of an older version, which did not count
    /// them.
    pub records: Option<u64>,
    /// Whether the sums are what was added, as far as the store can tell by itself.
    pub is_sound: bool,
}

/// The sums that all servers share.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Adds batches, each as a whole and only if its `from` is where the store is.
    async fn apply(&self, batches: &[Batch]) -> Result<Vec<BatchOutcome>, StoreError>;

    /// The store's life: random, made with it, so that one that was emptied or made anew is known.
    async fn life(&self) -> Result<String, StoreError>;

    /// What kind of store it is: `embedded` or `redis`.
    fn home(&self) -> &'static str;

    /// What the store has of a tenant's days, each with the epochs to be told of. Whether sums are sound is
    /// looked at where `is_thorough`, and costs as much as reading them.
    async fn days(
        &self,
        asked: &[(TenantDay, Vec<Arc<str>>)],
        is_thorough: bool,
    ) -> Result<Vec<DayState>, StoreError>;

    /// Forgets the sums of a tenant's day and how far epochs were in them, if they are of so many records.
    /// Returns whether.
    async fn forget(&self, place: &TenantDay, records: u64) -> Result<bool, StoreError>;

    /// Everybody who has sums, also tenants that are known by their JWTs alone.
    async fn tenants(&self) -> Result<BTreeSet<String>, StoreError>;

    /// A tenant's sums from one day to another, both included.
    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError>;
}

impl TenantDay {
    /// Where a record belongs.
    pub fn of(record: &UsageRecord) -> Self {
        Self { tenant: Arc::clone(&record.tenant), day: record.at.day() }
    }
}

impl SumKey {
    /// Where a record belongs.
    pub fn of(record: &UsageRecord) -> Self {
        Self { day: record.at.day(), hour: record.at.hour(), model: record.model.to_string() }
    }
}

impl Sum {
    /// The sum of one record.
    pub fn of(record: &UsageRecord) -> Self {
        let mut sum = Self { device_us: record.device_us, price: record.price, ..Self::default() };
        match record.outcome {
            Outcome::Completed => {
                sum.completed = 1;
                (sum.inputs, sum.tokens) = (record.inputs, record.tokens);
                sum.cached = u64::from(record.is_cached);
            }
            Outcome::Refused => sum.refused = 1,
            Outcome::Failed => sum.failed = 1,
            Outcome::Cancelled => sum.cancelled = 1,
        }
        sum
    }

    /// Whether no number is above the other's.
    pub fn is_within(&self, other: &Self) -> bool {
        self.numbers().iter().zip(other.numbers()).all(|(own, other)| *own <= other)
    }

    /// The numbers, in a fixed order.
    pub(super) fn numbers(&self) -> [u64; 9] {
        let Self { completed, refused, failed, cancelled, inputs, tokens, device_us, cached, price } = *self;
        [completed, refused, failed, cancelled, inputs, tokens, device_us, cached, price.0]
    }

    /// Undoes [`numbers`](Self::numbers).
    pub(super) fn from_numbers(numbers: [u64; 9]) -> Self {
        let [completed, refused, failed, cancelled, inputs, tokens, device_us, cached, price] = numbers;
        let price = MicroDollars(price);
        Self { completed, refused, failed, cancelled, inputs, tokens, device_us, cached, price }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        let (mut numbers, others) = (self.numbers(), other.numbers());
        for (number, other) in numbers.iter_mut().zip(others) {
            *number = number.saturating_add(other);
        }
        *self = Self::from_numbers(numbers);
    }
}
