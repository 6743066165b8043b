//! What was used, exactly once, and what it costs.
//!
//! A record is in the `journal` on the local disk before its request is answered. The `shipper` reads the
//! journal and adds the records to sums in the shared [`UsageStore`], each record once, however often either
//! is killed: the store keeps with a tenant's sums of a day how far each start of a server is contained in
//! them, and moves both in one transaction. What the store says counts: where it turns out to be behind,
//! because it was restored, set back or emptied, the shipper goes back with it. A [`Pump`] delivers the same
//! records as events to another system, an [`EventSink`].

mod checkpoint;
mod config;
mod embedded;
mod error;
mod extents;
mod files;
mod follower;
mod inspection;
mod journal;
#[cfg(test)]
mod journal_tests;
mod line;
mod numbers;
mod presence;
mod reader;
mod redis;
mod redis_stream;
mod removed;
mod search;
mod segments;
mod shipper;
mod sink;
mod state;
mod sums;
mod writer;
mod written;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use config::{Flush, JournalConfig};
pub use error::JournalError;
pub use follower::Followers;
pub use inspection::{
    Inspection, InspectionError, JournalFinding, TenantFinding, UnsoundDay, home, inspect, repair,
};
pub use journal::Journal;
pub use numbers::{journal_name, known_name, number_by_clock};
pub use presence::Held;
pub use redis_stream::RedisStream;
pub use shipper::{ShipError, Shipper, ShipperState};
pub use sink::{EventSink, Pump, SinkError, UsageData, UsageEvent};
pub use sums::{Batch, BatchOutcome, DayState, Sum, SumKey, TenantDay, UsageStore};

use crate::principal::KeyId;
use units::{MicroDollars, WallTime};

/// How an admitted request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Answered. The only outcome that is charged.
    Completed,
    /// Refused after admission: bad input, or no capacity.
    Refused,
    /// Failed through a fault of the service.
    Failed,
    /// The caller left, or its deadline passed.
    Cancelled,
}

impl Outcome {
    /// Lower-case name, as in metrics and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One admitted request, after it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    pub at: WallTime,
    /// The request's id, `req_…` or the caller's own: not necessarily unique.
    pub request_id: Arc<str>,
    /// Name of the tenant.
    pub tenant: Arc<str>,
    /// The key that was used.
    pub key: KeyId,
    /// Name of the model.
    pub model: Arc<str>,
    /// Version of the model.
    pub version: Arc<str>,
    /// Inputs in the request; each is one priced request.
    pub inputs: u64,
    pub tokens: u64,
    /// Microseconds of a device: of every batch it was in, its part by sequences.
    pub device_us: u64,
    /// Whether the answer was there already and nothing was computed.
    pub is_cached: bool,
    pub outcome: Outcome,
    /// What it costs if completed, else nothing.
    pub price: MicroDollars,
    /// Names the attempt at answering a request that has an idempotency key, and no other attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Arc<str>>,
}

/// Where usage records are seen as well: metrics and logs. Called once for each admitted request, from
/// whichever thread ended it.
pub trait UsageObserver: Send + Sync {
    /// Sees a record. Must not block.
    fn on_usage(&self, record: &UsageRecord);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A completed request of so many inputs.
    pub(crate) fn record(tenant: &str, inputs: u64) -> UsageRecord {
        UsageRecord {
            at: WallTime(1_795_219_200_000 + inputs * 1_000_000),
            request_id: Arc::from(format!("req_{inputs}")),
            tenant: Arc::from(tenant),
            key: KeyId(Arc::from("key_1")),
            model: Arc::from(if inputs.is_multiple_of(2) { "sentiment-v3" } else { "ner-v2" }),
            version: Arc::from("3.0.0"),
            inputs,
            tokens: inputs * 7,
            device_us: inputs * 900,
            is_cached: false,
            outcome: if inputs % 5 == 4 { Outcome::Failed } else { Outcome::Completed },
            price: MicroDollars(if inputs % 5 == 4 { 0 } else { inputs * 50 }),
            attempt: None,
        }
    }
}
