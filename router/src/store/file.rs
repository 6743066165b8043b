//! The embedded store's file and its tables.
//!
//! After an input or output error, such as a full disk, the database takes no call until it is opened again:
//! it is then closed, and opened by the next call, at most once in [`REOPEN_PAUSE`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableHandle};
use units::{Clock, MonotonicClock, Timestamp};

use super::StoreError;

pub(super) const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
pub(super) const TENANTS: TableDefinition<&str, &str> = TableDefinition::new("tenants");
pub(super) const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");
/// Models that are to be otherwise than their cards say.
pub(super) const MODELS: TableDefinition<&str, &str> = TableDefinition::new("models");
pub(super) const AUDIT: TableDefinition<u64, &str> = TableDefinition::new("audit");
/// Versions that the accounts had: number and id.
pub(super) const LINEAGE: TableDefinition<(u64, &str), ()> = TableDefinition::new("lineage");
/// One row: the fingerprint of the secret that keys are hashed under.
pub(super) const SECRET: TableDefinition<&str, &str> = TableDefinition::new("key_secret");
/// By tenant and journal: number of the first record that is not in the sums, as an older version kept it.
pub(crate) const USAGE_APPLIED: TableDefinition<(&str, &str), u64> = TableDefinition::new("usage_applied");
/// By tenant, day and epoch: number of the first record that is not in the sums.
pub(crate) const USAGE_POSITIONS: TableDefinition<(&str, u32, &str), u64> =
    TableDefinition::new("usage_positions");
/// By tenant and day: records in the sums.
pub(crate) const USAGE_RECORDS: TableDefinition<(&str, u32), u64> = TableDefinition::new("usage_records");
/// By tenant, day, hour and model.
pub(crate) const USAGE_SUMS: TableDefinition<(&str, u32, u8, &str), [u64; 9]> =
    TableDefinition::new("usage_sums");

/// A request with an idempotency key: its hash, its owner, its end, and the answer if there is one.
pub(crate) type AnswerRow<'a> = (&'a [u8], &'a [u8], u64, Option<&'a [u8]>);
/// By tenant and key.
pub(crate) const ANSWERS: TableDefinition<&str, AnswerRow<'_>> = TableDefinition::new("answers");
/// The same by end.
pub(crate) const ANSWER_ENDS: TableDefinition<(u64, &str), ()> = TableDefinition::new("answer_ends");
/// What is owed for an answer, by tenant and key.
pub(crate) const OWED: TableDefinition<&str, &[u8]> = TableDefinition::new("answers_owed");

/// How long after the database was tried to be opened in vain it is not tried again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// The file and its database.
pub(crate) struct File {
    path: PathBuf,
    /// None while it is closed after an error.
    database: RwLock<Option<Database>>,
    fault: Mutex<Option<Fault>>,
    clock: MonotonicClock,
}

/// Why the database is closed.
#[derive(Debug, Clone)]
struct Fault {
    problem: String,
    /// When it may be opened again.
    again_at: Timestamp,
}

impl File {
    /// Opens the file, and makes it if there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or another process has it open.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = RwLock::new(Some(open(path)?));
        Ok(Self { path: path.to_owned(), database, fault: Mutex::default(), clock: MonotonicClock::new() })
    }

    /// Why it is closed at present, if so.
    pub(super) fn problem(&self) -> Option<String> {
        self.fault().as_ref().map(|fault| fault.problem.clone())
    }

    /// Does some work, and closes the database if that fails. Blocks.
    pub(crate) fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.reopen()?;
        let result = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref() {
                Some(database) => work(database),
                // Closed between the two.
                None => return Err(self.closed()),
            }
        };
        // Whatever redb fails with is of the file: our own mistakes are conflicts or corrupt records.
        if let Err(StoreError::Unavailable(problem)) = &result {
            self.close(problem);
        }
        result
    }

    fn close(&self, problem: &str) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.take().is_some() {
            tracing::error!(path = %self.path.display(), problem, "the store failed; it is closed and opened again");
            // At once: many an error does not stay.
            *self.fault() = Some(Fault { problem: problem.to_owned(), again_at: self.clock.now() });
        }
    }

    /// Opens the database if it is closed and it is time.
    fn reopen(&self) -> Result<(), StoreError> {
        if self.fault().is_none() {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return Ok(());
        }
        let now = self.clock.now();
        if self.fault().as_ref().is_some_and(|fault| now < fault.again_at) {
            return Err(self.closed());
        }
        // That may take long, and meanwhile anybody may ask for the fault, on the runtime too.
        match open(&self.path) {
            Ok(opened) => {
                tracing::info!(path = %self.path.display(), "the store is open again");
                *database = Some(opened);
                *self.fault() = None;
                Ok(())
            }
            Err(error) => {
                *self.fault() = Some(Fault { problem: error.to_string(), again_at: now + REOPEN_PAUSE });
                Err(error)
            }
        }
    }

    fn closed(&self) -> StoreError {
        unavailable(format!("closed after an error: {}", self.problem().unwrap_or_default()))
    }

    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the database; what is in it is for this user alone.
fn open(path: &Path) -> Result<Database, StoreError> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0) {
        make(path)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).open(path);
    let file = file.map_err(unavailable)?;
    let mode = file.metadata().map_err(unavailable)?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(unavailable)?;
    }
    drop(file);
    let database = Database::create(path).map_err(not_opened)?;
    make_tables(&database)?;
    Ok(database)
}

/// Makes a database: whole or not at all, whatever the disk has room for and whoever is killed meanwhile.
fn make(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("new");
    let made = (|| {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(unavailable)?;
        make_tables(&Database::create(&draft).map_err(not_opened)?)?;
        std::fs::rename(&draft, path).map_err(unavailable)?;
        let folder = path.parent().map(std::fs::File::open).transpose().map_err(unavailable)?;
        folder.map_or(Ok(()), |folder| folder.sync_all()).map_err(unavailable)
    })();
    if made.is_err() {
        // It takes room, and is made anew.
        let _ = std::fs::remove_file(&draft);
    }
    made
}

fn make_tables(database: &Database) -> Result<(), StoreError> {
    // Nothing is written where all is there: a disk may be full.
    if !has_tables(database)? {
        let write = database.begin_write().map_err(unavailable)?;
        // So that reading never meets a missing table.
        write.open_table(COUNTERS).map_err(unavailable)?;
        write.open_table(TENANTS).map_err(unavailable)?;
        write.open_table(KEYS).map_err(unavailable)?;
        write.open_table(MODELS).map_err(unavailable)?;
        write.open_table(AUDIT).map_err(unavailable)?;
        write.open_table(LINEAGE).map_err(unavailable)?;
        write.open_table(USAGE_APPLIED).map_err(unavailable)?;
        write.open_table(USAGE_POSITIONS).map_err(unavailable)?;
        write.open_table(USAGE_RECORDS).map_err(unavailable)?;
        write.open_table(USAGE_SUMS).map_err(unavailable)?;
        write.open_table(ANSWERS).map_err(unavailable)?;
        write.open_table(ANSWER_ENDS).map_err(unavailable)?;
        write.commit().map_err(unavailable)?;
    }
    Ok(())
}

/// Why the database was not opened: damaged, or not to be had.
fn not_opened(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(problem)) => StoreError::Corrupt(problem),
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            StoreError::Corrupt(error.to_string())
        }
        DatabaseError::RepairAborted | DatabaseError::UpgradeRequired(_) => {
            StoreError::Corrupt(error.to_string())
        }
        error => unavailable(error),
    }
}

fn has_tables(database: &Database) -> Result<bool, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let names = read.list_tables().map_err(unavailable)?;
    let names: Vec<String> = names.map(|table| table.name().to_owned()).collect();
    let all = [
        COUNTERS.name(),
        TENANTS.name(),
        KEYS.name(),
        MODELS.name(),
        AUDIT.name(),
        LINEAGE.name(),
        USAGE_APPLIED.name(),
        USAGE_POSITIONS.name(),
        USAGE_RECORDS.name(),
        USAGE_SUMS.name(),
        ANSWERS.name(),
        ANSWER_ENDS.name(),
    ];
    Ok(all.iter().all(|name| names.iter().any(|there| there == name)))
}

pub(crate) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
