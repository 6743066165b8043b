//! The store in a file of this process.
//!
//! After an input or output error, such as a full disk, the database takes no call until it is opened again:
//! it is then closed, and opened by the next call, at most once in [`REOPEN_PAUSE`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition, TableError, TableHandle,
};
use units::{Clock, MonotonicClock, Timestamp};

use super::{AccountStore, Commit, LINEAGE_MAX, Loaded, StoreError, parse, to_text};
use crate::accounts::{Accounts, AuditEntry, Change, Version};
use crate::idempotency::Writer;

const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const TENANTS: TableDefinition<&str, &str> = TableDefinition::new("tenants");
const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");
const AUDIT: TableDefinition<u64, &str> = TableDefinition::new("audit");
/// Versions that the accounts had: number and id.
const LINEAGE: TableDefinition<(u64, &str), ()> = TableDefinition::new("lineage");
/// One row: the fingerprint of the secret that keys are hashed under.
const SECRET: TableDefinition<&str, &str> = TableDefinition::new("key_secret");
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

/// Number of the last change of accounts and of the last line of the audit log. The id of the version stands
/// in the lineage.
const VERSION: &str = "version";

/// How long after the database was tried to be opened in vain it is not tried again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// State in one file, which one process has open at a time. Every change is on the disk when it is confirmed.
#[derive(Clone)]
pub struct EmbeddedStore {
    file: Arc<File>,
    pub(crate) answers: Arc<Writer>,
}

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

impl EmbeddedStore {
    /// Opens the file, and makes it if there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = open(path)?;
        let file = Arc::new(File {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            fault: Mutex::default(),
            clock: MonotonicClock::new(),
        });
        let answers = Writer::start(Arc::clone(&file))?;
        Ok(Self { file, answers: Arc::new(answers) })
    }

    /// Why the store can do nothing at present, if so.
    pub fn fault(&self) -> Option<String> {
        self.file.fault().as_ref().map(|fault| fault.problem.clone())
    }

    /// Runs what blocks on a thread that may.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || file.run(work)).await.map_err(unavailable)?
    }
}

impl File {
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
        let problem = self.fault().as_ref().map(|fault| fault.problem.clone());
        unavailable(format!("closed after an error: {}", problem.unwrap_or_default()))
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

#[async_trait]
impl AccountStore for EmbeddedStore {
    async fn version(&self) -> Result<Version, StoreError> {
        self.run(version).await
    }

    async fn load(&self, known: &Version) -> Result<Loaded, StoreError> {
        let known = known.clone();
        self.run(move |database| load(database, &known)).await
    }

    async fn commit(&self, made: Commit<'_>) -> Result<(), StoreError> {
        let Commit { expected, next, restored, changes, audit } = made;
        let (expected, next, restored) = (expected.clone(), next.clone(), restored.cloned());
        let (changes, audit) = (changes.to_vec(), audit.clone());
        self.run(move |database| {
            let made = Commit {
                expected: &expected,
                next: &next,
                restored: restored.as_ref(),
                changes: &changes,
                audit: &audit,
            };
            commit(database, made)
        })
        .await
    }

    async fn key_secret(&self, own: &str, is_replaced: bool) -> Result<String, StoreError> {
        let own = own.to_owned();
        self.run(move |database| key_secret(database, &own, is_replaced)).await
    }

    async fn audit(&self, entries_max: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.run(move |database| {
            let read = database.begin_read().map_err(unavailable)?;
            let log = read.open_table(AUDIT).map_err(unavailable)?;
            let newest = log.iter().map_err(unavailable)?.rev().take(entries_max);
            newest.map(|line| parse(line.map_err(unavailable)?.1.value())).collect()
        })
        .await
    }
}

fn key_secret(database: &Database, own: &str, is_replaced: bool) -> Result<String, StoreError> {
    const ROW: &str = "fingerprint";
    let read = database.begin_read().map_err(unavailable)?;
    let kept = match read.open_table(SECRET) {
        Ok(table) => table.get(ROW).map_err(unavailable)?.map(|kept| kept.value().to_owned()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(unavailable(error)),
    };
    if let Some(kept) = kept.filter(|kept| kept == own || !is_replaced) {
        return Ok(kept);
    }
    let write = database.begin_write().map_err(unavailable)?;
    write.open_table(SECRET).map_err(unavailable)?.insert(ROW, own).map_err(unavailable)?;
    write.commit().map_err(unavailable)?;
    Ok(own.to_owned())
}

fn version(database: &Database) -> Result<Version, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let (counters, lineage) = (read.open_table(COUNTERS), read.open_table(LINEAGE));
    version_in(&counters.map_err(unavailable)?, &lineage.map_err(unavailable)?)
}

fn version_in(
    counters: &impl ReadableTable<&'static str, u64>,
    lineage: &impl ReadableTable<(u64, &'static str), ()>,
) -> Result<Version, StoreError> {
    let number = counters.get(VERSION).map_err(unavailable)?.map_or(0, |value| value.value());
    // Of one number there is one, but for versions that were restored, whose numbers are lower.
    let mut at_number = lineage.range((number, "")..(number.saturating_add(1), "")).map_err(unavailable)?;
    let id = at_number.next().transpose().map_err(unavailable)?;
    let id = id.map(|(key, _)| Arc::from(key.value().1)).filter(|id: &Arc<str>| !id.is_empty());
    Ok(Version { number, id })
}

fn load(database: &Database, known: &Version) -> Result<Loaded, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let counters = read.open_table(COUNTERS).map_err(unavailable)?;
    let lineage = read.open_table(LINEAGE).map_err(unavailable)?;
    let version = version_in(&counters, &lineage)?;
    let is_descendant = *known == Version::default()
        || *known == version
        || lineage.get(row(known)).map_err(unavailable)?.is_some();
    let mut accounts = Accounts { version, ..Accounts::default() };
    for row in read.open_table(TENANTS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let tenant: crate::accounts::TenantRecord = parse(row.map_err(unavailable)?.1.value())?;
        accounts.tenants.insert(tenant.name.clone(), tenant);
    }
    for row in read.open_table(KEYS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let key: crate::accounts::KeyRecord = parse(row.map_err(unavailable)?.1.value())?;
        accounts.keys.insert(key.id.clone(), key);
    }
    Ok(Loaded { accounts, is_descendant })
}

fn row(version: &Version) -> (u64, &str) {
    (version.number, version.id.as_deref().unwrap_or_default())
}

fn commit(database: &Database, made: Commit<'_>) -> Result<(), StoreError> {
    let Commit { expected, next, restored, changes, audit } = made;
    let write = database.begin_write().map_err(unavailable)?;
    {
        let mut counters = write.open_table(COUNTERS).map_err(unavailable)?;
        let mut lineage = write.open_table(LINEAGE).map_err(unavailable)?;
        let version = version_in(&counters, &lineage)?;
        if version != *expected {
            return Err(StoreError::Conflict);
        }
        counters.insert(VERSION, next.number).map_err(unavailable)?;
        for had in [Some(&version), restored, Some(next)].into_iter().flatten() {
            lineage.insert(row(had), ()).map_err(unavailable)?;
        }
        while lineage.len().map_err(unavailable)? > LINEAGE_MAX as u64 {
            lineage.pop_first().map_err(unavailable)?;
        }
        let mut tenants = write.open_table(TENANTS).map_err(unavailable)?;
        let mut keys = write.open_table(KEYS).map_err(unavailable)?;
        for change in changes {
            match change {
                Change::Tenant(tenant) => tenants.insert(tenant.name.as_str(), to_text(tenant)?.as_str()),
                Change::Key(key) => keys.insert(key.id.as_str(), to_text(key)?.as_str()),
            }
            .map_err(unavailable)?;
        }
        let mut log = write.open_table(AUDIT).map_err(unavailable)?;
        log.insert(next.number, to_text(audit)?.as_str()).map_err(unavailable)?;
    }
    write.commit().map_err(unavailable)
}

pub(crate) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
