//! What a caller is told of its tenant's limits.

use std::time::Duration;

use units::{Period, Unit};

/// One limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Inputs or tokens.
    pub unit: Unit,
    /// The time that it is for.
    pub period: Period,
    /// How many of them in that time.
    pub limit: u64,
    /// What is left, at least.
    pub left: u64,
    /// When it is whole again, at the latest.
    pub resets_in: Duration,
}

/// Less is left of a limit than a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Inputs or tokens.
    pub unit: Unit,
    /// The time that it is for.
    pub period: Period,
    /// How many of them in that time.
    pub limit: u64,
    /// What is left of it, too little as it is.
    pub left: u64,
    /// When there may be enough.
    pub retry_after: Duration,
}
