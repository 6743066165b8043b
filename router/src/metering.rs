//! What was used, and what it costs.

use std::fmt;
use std::sync::Arc;

use crate::principal::KeyId;

/// An amount of money in millionths of a US dollar: integers, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MicroDollars(pub u64);

impl MicroDollars {
    /// The amount `count` times; saturates rather than wraps.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl fmt::Display for MicroDollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// How an admitted request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// The request's id, `req_…`.
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
    /// Tokens read.
    pub tokens: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What it costs: inputs times the model's price if completed, else nothing.
    pub price: MicroDollars,
}

/// Where usage records go. Called once for each admitted request, from whichever thread ended it.
pub trait UsageSink: Send + Sync {
    /// Takes a record. Must not block for long.
    fn record(&self, record: UsageRecord);
}
