//! What is between the journal and its writer.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use tokio::sync::oneshot;

use super::UsageRecord;
use super::error::JournalError;

/// A record on its way, and whom to tell when it is safe.
pub(super) type Pending = (UsageRecord, Option<oneshot::Sender<Result<(), JournalError>>>);

/// What the writer tells everybody.
pub(super) struct State {
    /// Names the records of this process.
    pub(super) epoch: String,
    /// Numbers of the records that other processes wrote, by segments.
    pub(super) before: Vec<Range<u64>>,
    /// Number of the first record of this process.
    pub(super) first: u64,
    /// Number of the next one.
    pub(super) next: AtomicU64,
    /// Damaged segments that were set aside.
    pub(super) set_aside: AtomicU64,
    /// Records of earlier processes that are missing.
    pub(super) missing: u64,
    /// Why nothing can be written at present.
    pub(super) problem: Mutex<Option<String>>,
}
