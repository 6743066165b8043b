//! Followers of the journal: each reads all records in order and keeps, in a file beside them, up to which it
//! is done. What every follower is done with may be removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::JournalError;
use super::line::Entry;
use super::reader::Reader;
use super::{files, segments};

/// Where the followers of one journal are.
pub struct Followers {
    folder: PathBuf,
    /// The newest segments stay though everybody is done with them: so many, and of so many bytes.
    segments_kept: usize,
    bytes_kept: u64,
    /// By name.
    positions: Mutex<BTreeMap<String, Position>>,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    /// Number of the next record.
    next: u64,
    /// Records before this one are never needed again, whatever happens.
    done: u64,
}

/// One reader of the journal.
pub(super) struct Follower {
    name: String,
    reader: Reader,
    all: Arc<Followers>,
}

impl Followers {
    /// Nobody follows the journal in `folder` yet. So many segments stay though everybody is done with them.
    pub fn new(folder: &Path, segments_kept: usize) -> Arc<Self> {
        Self::keeping(folder, segments_kept, 0)
    }

    /// The same, and what stays has at least so many bytes: since every start begins a segment, there may be
    /// small ones.
    pub fn keeping(folder: &Path, segments_kept: usize, bytes_kept: u64) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), segments_kept, bytes_kept, positions: Mutex::default() })
    }

    /// Number of the first record that a follower is not done with, by its name.
    pub fn positions(&self) -> BTreeMap<String, u64> {
        let positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.iter().map(|(name, position)| (name.clone(), position.next)).collect()
    }

    /// All records before this one are with every follower.
    pub fn done(&self) -> u64 {
        self.positions().into_values().min().unwrap_or(0)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// One reads `next` next, and never needs again what is before `done`.
    fn advance(&self, name: &str, next: u64, done: u64) -> std::io::Result<()> {
        self.set(name, Position { next, done });
        let path = self.folder.join(name);
        let new = path.with_extension("new");
        std::io::Write::write_all(
            &mut files::private().create(true).write(true).truncate(true).open(&new)?,
            next.to_string().as_bytes(),
        )?;
        std::fs::rename(&new, &path)?;
        let positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let done = positions.values().map(|position| position.done).min().unwrap_or(0);
        segments::remove_read(&self.folder, done, self.segments_kept, self.bytes_kept)
    }

    fn set(&self, name: &str, position: Position) {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), position);
    }
}

impl Follower {
    /// A follower that keeps its position in a file of this name, or begins with the oldest record. Blocks.
    pub(super) fn new(all: Arc<Followers>, name: &str) -> Self {
        // A file that cannot be read is one that is not there: what was read is read again.
        let next = files::number_in(&all.folder.join(name)).ok().flatten().unwrap_or(0);
        all.set(name, Position { next, done: next });
        Self { name: name.to_owned(), reader: Reader::new(&all.folder, next), all }
    }

    /// Number of the next record that it reads.
    pub(super) fn next(&self) -> u64 {
        self.reader.next()
    }

    /// It reads from this record on; damage in what it had read before, up to `read`, is no error.
    pub(super) fn go_to(&mut self, next: u64, read: u64) {
        self.reader = Reader::new(&self.all.folder, next).pass_damage_below(read);
    }

    /// Damaged lines that were passed over since this was asked.
    pub(super) fn take_passed(&mut self) -> u64 {
        self.reader.take_passed()
    }

    pub(super) fn folder(&self) -> &Path {
        self.all.folder()
    }

    /// The next records with their numbers, up to `until`, at most so many.
    ///
    /// # Errors
    /// The disk refuses, or the journal is damaged.
    pub(super) async fn read(&mut self, until: u64, records_max: usize) -> Result<Vec<Entry>, JournalError> {
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

    /// It is done with all before `next`, and may need again what is from `needed` on.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) async fn keep(&self, next: u64, needed: u64) -> std::io::Result<()> {
        let (all, name) = (Arc::clone(&self.all), self.name.clone());
        let kept = tokio::task::spawn_blocking(move || all.advance(&name, next, needed.min(next)));
        kept.await.map_err(std::io::Error::other)?
    }
}
