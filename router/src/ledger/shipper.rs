//! Moves records from the journal into the shared sums.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::follower::{Follower, Followers};
use super::journal::JournalError;
use super::{Applied, Batch, Sum, SumKey, UsageRecord, UsageStore};
use crate::store::StoreError;

/// Records moved at once.
const RECORDS_MAX: usize = 10_000;
/// Name of the file that says up to which record everything is shipped. Only saves work: if it is old or missing, records
/// are looked at again, and the store knows that it has them.
const POSITION_FILE: &str = "shipped";

/// Why records were not moved; they will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The position cannot be kept.
    #[error("cannot keep the shipping position: {0}")]
    Position(#[from] std::io::Error),
}

/// Moves one journal's records.
pub struct Shipper {
    store: Arc<dyn UsageStore>,
    /// Name of the journal, unique among the servers.
    journal: String,
    follower: Follower,
    /// Records read and not yet in the store.
    held: Vec<(u64, UsageRecord)>,
    /// How far the journal is in each tenant's sums, as far as known.
    applied: HashMap<Arc<str>, u64>,
}

impl Shipper {
    /// A shipper of the journal's records, which the store knows by the name `journal`. Blocks.
    pub fn new(store: Arc<dyn UsageStore>, journal: String, followers: Arc<Followers>) -> Self {
        let follower = Follower::new(followers, POSITION_FILE);
        Self { store, journal, follower, held: Vec::new(), applied: HashMap::new() }
    }

    /// Moves records up to number `until`, at most some thousand. Returns how many were moved: none means all.
    ///
    /// # Errors
    /// See [`ShipError`]; nothing is lost or counted twice.
    pub async fn ship(&mut self, until: u64) -> Result<usize, ShipError> {
        if self.held.is_empty() {
            self.held = self.follower.read(until, RECORDS_MAX).await?;
        }
        if self.held.is_empty() {
            return Ok(0);
        }
        // Twice where the store is not where it was thought to be.
        loop {
            let batches = self.batches();
            let results = self.store.apply(&self.journal, &batches).await?;
            for (batch, result) in batches.iter().zip(&results) {
                let at = match result {
                    Applied::Yes => batch.to,
                    Applied::At(at) => *at,
                };
                self.applied.insert(Arc::from(batch.tenant.as_str()), at);
            }
            if results.iter().all(|result| *result == Applied::Yes) {
                break;
            }
        }
        let moved = self.held.len();
        self.held.clear();
        self.follower.keep()?;
        Ok(moved)
    }

    /// Number of the first record that is not in the store.
    pub fn position(&self) -> u64 {
        self.held.first().map_or(self.follower.next(), |(number, _)| *number)
    }

    /// What is held and not in the store yet, by tenant.
    fn batches(&self) -> Vec<Batch> {
        let mut batches: BTreeMap<&Arc<str>, Batch> = BTreeMap::new();
        for (number, record) in &self.held {
            let from = self.applied.get(&record.tenant).copied().unwrap_or(0);
            if *number < from {
                continue;
            }
            let batch = batches.entry(&record.tenant).or_insert_with(|| Batch {
                tenant: record.tenant.to_string(),
                from,
                to: from,
                sums: BTreeMap::new(),
            });
            batch.to = number + 1;
            *batch.sums.entry(SumKey::of(record)).or_default() += Sum::of(record);
        }
        batches.into_values().collect()
    }
}
