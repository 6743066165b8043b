//! Sums of usage records, by tenant, day, hour and model.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{MicroDollars, Outcome, UsageRecord};
use crate::store::StoreError;
use crate::wall_time::Day;

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
    /// Records that failed.
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

/// Records of one tenant and one journal, summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The tenant.
    pub tenant: String,
    /// How far the journal was contained in the tenant's sums before: number of the next record.
    pub from: u64,
    /// And after.
    pub to: u64,
    /// The sums.
    pub sums: BTreeMap<SumKey, Sum>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was added.
    Yes,
    /// It was not: the journal is contained up to this record.
    At(u64),
}

/// The sums that all servers share.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Adds batches of one server's journal, each as a whole and only if its `from` is where the store is.
    async fn apply(&self, journal: &str, batches: &[Batch]) -> Result<Vec<Applied>, StoreError>;

    /// The store's life: random, made with it, so that one that was emptied or made anew is known.
    async fn life(&self) -> Result<String, StoreError>;

    /// How far a journal is contained in the sums of tenants, each: number of the next record.
    async fn positions(&self, journal: &str, tenants: &[Arc<str>]) -> Result<Vec<u64>, StoreError>;

    /// No tenant's sums contain a record of the journal with this number or a higher one.
    async fn end(&self, journal: &str) -> Result<u64, StoreError>;

    /// Everybody who has sums, also tenants that are known by their JWTs alone.
    async fn tenants(&self) -> Result<BTreeSet<String>, StoreError>;

    /// A tenant's sums from one day to another, both included.
    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError>;
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
