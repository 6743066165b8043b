//! The store in a file of this process.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{AccountStore, StoreError, parse, to_text};
use crate::accounts::{Accounts, AuditEntry, Change};

const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const TENANTS: TableDefinition<&str, &str> = TableDefinition::new("tenants");
const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");
const AUDIT: TableDefinition<u64, &str> = TableDefinition::new("audit");
/// By tenant and journal: number of the first record that is not in the sums.
pub(crate) const USAGE_APPLIED: TableDefinition<(&str, &str), u64> = TableDefinition::new("usage_applied");
/// By tenant, day, hour and model.
pub(crate) const USAGE_SUMS: TableDefinition<(&str, u32, u8, &str), [u64; 9]> =
    TableDefinition::new("usage_sums");

/// A request with an idempotency key: its hash, its owner, its end, and the answer if there is one.
pub(crate) type AnswerRow<'a> = (&'a [u8], &'a [u8], u64, Option<&'a [u8]>);
/// By tenant and key.
pub(crate) const ANSWERS: TableDefinition<&str, AnswerRow<'_>> = TableDefinition::new("answers");
/// The same by end.
pub(crate) const ANSWER_ENDS: TableDefinition<(u64, &str), ()> = TableDefinition::new("answer_ends");

/// Counts changes of accounts; also the number of the last line of the audit log.
const VERSION: &str = "version";

/// State in one file, which one process has open at a time. Every change is on the disk when it is confirmed.
#[derive(Clone)]
pub struct EmbeddedStore {
    database: Arc<Database>,
}

impl EmbeddedStore {
    /// Opens the file, and makes it if there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| match error {
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
        })?;
        let write = database.begin_write().map_err(unavailable)?;
        // So that reading never meets a missing table.
        write.open_table(COUNTERS).map_err(unavailable)?;
        write.open_table(TENANTS).map_err(unavailable)?;
        write.open_table(KEYS).map_err(unavailable)?;
        write.open_table(AUDIT).map_err(unavailable)?;
        write.open_table(USAGE_APPLIED).map_err(unavailable)?;
        write.open_table(USAGE_SUMS).map_err(unavailable)?;
        write.open_table(ANSWERS).map_err(unavailable)?;
        write.open_table(ANSWER_ENDS).map_err(unavailable)?;
        write.commit().map_err(unavailable)?;
        Ok(Self { database: Arc::new(database) })
    }

    /// Runs what blocks on a thread that may.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || work(&database)).await.map_err(unavailable)?
    }
}

#[async_trait]
impl AccountStore for EmbeddedStore {
    async fn version(&self) -> Result<u64, StoreError> {
        self.run(version).await
    }

    async fn load(&self) -> Result<Accounts, StoreError> {
        self.run(load).await
    }

    async fn commit(&self, version: u64, changes: &[Change], audit: &AuditEntry) -> Result<u64, StoreError> {
        let (changes, audit) = (changes.to_vec(), audit.clone());
        self.run(move |database| commit(database, version, &changes, &audit)).await
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

fn version(database: &Database) -> Result<u64, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let counters = read.open_table(COUNTERS).map_err(unavailable)?;
    Ok(counters.get(VERSION).map_err(unavailable)?.map_or(0, |value| value.value()))
}

fn load(database: &Database) -> Result<Accounts, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let counters = read.open_table(COUNTERS).map_err(unavailable)?;
    let version = counters.get(VERSION).map_err(unavailable)?.map_or(0, |value| value.value());
    let mut accounts = Accounts { version, ..Accounts::default() };
    for row in read.open_table(TENANTS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let tenant: crate::accounts::TenantRecord = parse(row.map_err(unavailable)?.1.value())?;
        accounts.tenants.insert(tenant.name.clone(), tenant);
    }
    for row in read.open_table(KEYS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let key: crate::accounts::KeyRecord = parse(row.map_err(unavailable)?.1.value())?;
        accounts.keys.insert(key.id.clone(), key);
    }
    Ok(accounts)
}

fn commit(
    database: &Database,
    expected: u64,
    changes: &[Change],
    audit: &AuditEntry,
) -> Result<u64, StoreError> {
    let write = database.begin_write().map_err(unavailable)?;
    let next = expected + 1;
    {
        let mut counters = write.open_table(COUNTERS).map_err(unavailable)?;
        let version = counters.get(VERSION).map_err(unavailable)?.map_or(0, |value| value.value());
        if version != expected {
            return Err(StoreError::Conflict);
        }
        counters.insert(VERSION, next).map_err(unavailable)?;
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
        log.insert(next, to_text(audit)?.as_str()).map_err(unavailable)?;
    }
    write.commit().map_err(unavailable)?;
    Ok(next)
}

pub(crate) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
