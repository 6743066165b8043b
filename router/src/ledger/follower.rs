//! Followers of the journal: each reads all records in order and keeps, in a file beside them, up to which it is done. What every
//! follower is done with may be removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::UsageRecord;
use super::journal::{self, JournalError, Reader};

/// Where the followers of one journal are.
pub struct Followers {
    folder: PathBuf,
    /// The newest segments stay though everybody is done with them.
    segments_kept: usize,
    /// By name, the number of the next record.
    next: Mutex<BTreeMap<String, u64>>,
}

/// One reader of the journal.
pub(super) struct Follower {
    name: String,
    reader: Reader,
    all: Arc<Followers>,
}

impl Followers {
    /// Nobody follows the journal in `folder` yet.
    pub fn new(folder: &Path, segments_kept: usize) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), segments_kept, next: Mutex::default() })
    }

    /// Number of the first record that a follower is not done with, by its name.
    pub fn positions(&self) -> BTreeMap<String, u64> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One is done with all before `next`.
    fn advance(&self, name: &str, next: u64) -> std::io::Result<()> {
        let path = self.path(name);
        let new = path.with_extension("new");
        std::fs::write(&new, next.to_string())?;
        std::fs::rename(&new, &path)?;
        let mut positions = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        positions.insert(name.to_owned(), next);
        let done = positions.values().copied().min().unwrap_or(0);
        journal::remove_read(&self.folder, done, self.segments_kept)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Follower {
    /// A follower that keeps its position in a file of this name, or begins with the oldest record. Blocks.
    pub(super) fn new(all: Arc<Followers>, name: &str) -> Self {
        let position = std::fs::read_to_string(all.path(name)).ok();
        let next = position.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        all.next.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), next);
        Self { name: name.to_owned(), reader: Reader::new(&all.folder, next), all }
    }

    /// Number of the next record that it reads.
    pub(super) fn next(&self) -> u64 {
        self.reader.next()
    }

    /// The next records with their numbers, up to `until`, at most so many.
    ///
    /// # Errors
    /// The disk refuses, or the journal is damaged.
    pub(super) async fn read(
        &mut self,
        until: u64,
        records_max: usize,
    ) -> Result<Vec<(u64, UsageRecord)>, JournalError> {
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(&self.all.folder, 0));
        let next = reader.next();
        let read = tokio::task::spawn_blocking(move || {
            let records = reader.read(until, records_max);
            (reader, records)
        });
        match read.await {
            Ok((reader, records)) => {
                self.reader = reader;
                records
            }
            Err(error) => {
                self.reader = Reader::new(&self.all.folder, next);
                Err(JournalError::Io(std::io::Error::other(error)))
            }
        }
    }

    /// It is done with all that it has read.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        self.all.advance(&self.name, self.reader.next())
    }
}
