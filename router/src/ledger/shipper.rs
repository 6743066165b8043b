//! Moves records from the journal into the shared sums.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::journal::{self, JournalError, Reader};
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
    folder: PathBuf,
    reader: Reader,
    /// Records read and not yet in the store.
    held: Vec<(u64, UsageRecord)>,
    /// How far the journal is in each tenant's sums, as far as known.
    applied: HashMap<Arc<str>, u64>,
    segments_kept: usize,
}

impl Shipper {
    /// A shipper for the journal in `folder`, which the store knows by the name `journal`. The newest `segments_kept` segments
    /// stay after they are shipped. Blocks.
    pub fn new(store: Arc<dyn UsageStore>, journal: String, folder: &Path, segments_kept: usize) -> Self {
        let position = std::fs::read_to_string(folder.join(POSITION_FILE)).ok();
        let next = position.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let (folder, reader) = (folder.to_owned(), Reader::new(folder, next));
        Self { store, journal, folder, reader, held: Vec::new(), applied: HashMap::new(), segments_kept }
    }

    /// Moves records up to number `until`, at most some thousand. Returns how many were moved: none means all.
    ///
    /// # Errors
    /// See [`ShipError`]; nothing is lost or counted twice.
    pub async fn ship(&mut self, until: u64) -> Result<usize, ShipError> {
        if self.held.is_empty() {
            self.read(until).await?;
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
        self.keep_position()?;
        Ok(moved)
    }

    /// Number of the first record that is not in the store.
    pub fn position(&self) -> u64 {
        self.held.first().map_or(self.reader.next(), |(number, _)| *number)
    }

    async fn read(&mut self, until: u64) -> Result<(), ShipError> {
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(&self.folder, 0));
        let next = reader.next();
        let read = tokio::task::spawn_blocking(move || {
            let records = reader.read(until, RECORDS_MAX);
            (reader, records)
        });
        match read.await {
            Ok((reader, records)) => {
                self.reader = reader;
                self.held = records?;
                Ok(())
            }
            Err(error) => {
                self.reader = Reader::new(&self.folder, next);
                Err(JournalError::Io(std::io::Error::other(error)).into())
            }
        }
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

    fn keep_position(&self) -> Result<(), ShipError> {
        let next = self.reader.next();
        let path = self.folder.join(POSITION_FILE);
        let new = path.with_extension("new");
        std::fs::write(&new, next.to_string())?;
        std::fs::rename(&new, &path)?;
        journal::remove_shipped(&self.folder, next, self.segments_kept)?;
        Ok(())
    }
}
