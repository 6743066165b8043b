//! The store in a file of this process.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError};

use super::file::{AUDIT, COUNTERS, File, KEYS, LINEAGE, MODELS, SECRET, TENANTS, unavailable};
use super::{AccountStore, AccountsSnapshot, Commit, LINEAGE_MAX, StoreError, parse, to_text};
use crate::accounts::{Accounts, AuditEntry, Change, Version};
use crate::idempotency::Writer;

/// Number of the last change of accounts and of the last line of the audit log. The id of the version stands
/// in the lineage.
const VERSION: &str = "version";

/// State in one file, which one process has open at a time. Every change is on the disk when it is confirmed.
#[derive(Clone)]
pub struct EmbeddedStore {
    file: Arc<File>,
    pub(crate) answers: Arc<Writer>,
}

impl EmbeddedStore {
    /// Opens the file, and makes it if there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Arc::new(File::open(path)?);
        let answers = Writer::start(Arc::clone(&file))?;
        Ok(Self { file, answers: Arc::new(answers) })
    }

    /// Why the store can do nothing at present, if so.
    pub fn fault(&self) -> Option<String> {
        self.file.problem()
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

#[async_trait]
impl AccountStore for EmbeddedStore {
    async fn version(&self) -> Result<Version, StoreError> {
        self.run(version).await
    }

    async fn load(&self, known: &Version) -> Result<AccountsSnapshot, StoreError> {
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

fn load(database: &Database, known: &Version) -> Result<AccountsSnapshot, StoreError> {
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
    for row in read.open_table(MODELS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let model: crate::accounts::ModelRecord = parse(row.map_err(unavailable)?.1.value())?;
        accounts.models.insert(model.name.clone(), model);
    }
    Ok(AccountsSnapshot { accounts, is_descendant })
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
        let mut models = write.open_table(MODELS).map_err(unavailable)?;
        for change in changes {
            match change {
                Change::Tenant(tenant) => tenants.insert(tenant.name.as_str(), to_text(tenant)?.as_str()),
                Change::Key(key) => keys.insert(key.id.as_str(), to_text(key)?.as_str()),
                Change::Model(model) => models.insert(model.name.as_str(), to_text(model)?.as_str()),
            }
            .map_err(unavailable)?;
        }
        let mut log = write.open_table(AUDIT).map_err(unavailable)?;
        log.insert(next.number, to_text(audit)?.as_str()).map_err(unavailable)?;
    }
    write.commit().map_err(unavailable)
}
