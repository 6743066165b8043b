//! Where shared state lives: in a file of this process, or in Redis for several servers. The same promises in
//! both.

mod breaker;
mod embedded;
mod eviction;
mod file;
mod link;
mod redis;
mod redis_config;

use async_trait::async_trait;

pub use breaker::BreakerConfig;
pub use embedded::EmbeddedStore;
pub(crate) use file::{
    ANSWER_ENDS, ANSWERS, AnswerRow, File, OWED, USAGE_APPLIED, USAGE_POSITIONS, USAGE_RECORDS, USAGE_SUMS,
    unavailable,
};
pub use redis::RedisStore;
pub use redis_config::{Password, RedisConfig};

use crate::accounts::{Accounts, AuditEntry, Change, MalformedVersion, Version};

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the accounts meanwhile.
    #[error("the accounts were changed meanwhile")]
    Conflict,
    /// The store cannot be reached or does not answer as it should.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("the store holds what cannot be read: {0}")]
    Corrupt(String),
}

impl From<MalformedVersion> for StoreError {
    fn from(error: MalformedVersion) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Accounts as a store has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountsSnapshot {
    pub accounts: Accounts,
    /// Whether they came from the version that the caller knows by changes alone. If not, the store lost that
    /// version: it was set back, emptied, or another one took its place.
    pub is_descendant: bool,
}

/// A change of accounts.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// The version that is changed.
    pub expected: &'a Version,
    /// The version after it.
    pub next: &'a Version,
    /// A version that the store lost, and that is contained in the one after this change.
    pub restored: Option<&'a Version>,
    pub changes: &'a [Change],
    /// Its line in the audit log.
    pub audit: &'a AuditEntry,
}

/// Tenants, keys and the audit log.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// The version after the last change.
    async fn version(&self) -> Result<Version, StoreError>;

    /// Everything, and whether it descends from `known`.
    async fn load(&self, known: &Version) -> Result<AccountsSnapshot, StoreError>;

    /// Makes a change and logs it: both or neither.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is another version than expected by now.
    async fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError>;

    /// Fingerprint of the secret that the store's keys are hashed under: `own` if there was none, or if it
    /// takes the place of what there was.
    async fn key_secret(&self, own: &str, is_replaced: bool) -> Result<String, StoreError>;

    /// The newest entries of the audit log, newest first.
    async fn audit(&self, entries_max: usize) -> Result<Vec<AuditEntry>, StoreError>;
}

/// Versions that a store remembers having had. A server looks every second, so none is ever so far behind; if
/// one is, what it knows is compared record by record, as if the store had been set back.
pub(crate) const LINEAGE_MAX: usize = 1000;

pub(crate) fn to_text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}
