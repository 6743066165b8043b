//! What a caller is told of its tenant's limits.

use std::time::Duration;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Inputs.
    Requests,
    /// Their tokens.
    Tokens,
}

impl Unit {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "inputs",
            Self::Tokens => "tokens",
        }
    }
}

/// The time that a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Any 60 s.
    Minute,
    /// A UTC day.
    Day,
}

impl Window {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
        }
    }
}

/// One limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// What is counted.
    pub unit: Unit,
    /// In which time.
    pub window: Window,
    /// The limit.
    pub limit: u64,
    /// What is left, at least.
    pub left: u64,
    /// When it is whole again, at the latest.
    pub resets_in: Duration,
}

/// Less is left of a limit than a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// What is counted.
    pub unit: Unit,
    /// In which time.
    pub window: Window,
    /// The limit.
    pub limit: u64,
    /// What is left of it, too little as it is.
    pub left: u64,
    /// When there may be enough.
    pub retry_after: Duration,
}
