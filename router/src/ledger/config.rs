//! How a journal is kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// When a record is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// On the disk before the answer: survives a power failure. An `fsync` for every group of records.
    Always,
    /// With the operating system before the answer, which survives the end of the process, and on the disk
    /// within so long.
    EveryMs(u64),
}

/// How a journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    pub folder: PathBuf,
    /// When a record is safe.
    pub flush: Flush,
    /// A segment that has so many bytes is followed by another.
    pub segment_bytes_max: u64,
    /// Records on their way to the disk; more wait.
    pub pending_max: usize,
    /// Whether records are kept at all. Without, nothing is metered: to measure what that costs.
    pub is_on: bool,
}
