//! Where shared state lives: in a file of this process, or in Redis for several servers. The same promises in both.

mod breaker;
mod embedded;
mod redis;

use async_trait::async_trait;

pub use breaker::BreakerConfig;
pub use embedded::EmbeddedStore;
pub(crate) use embedded::{ANSWER_ENDS, ANSWERS, AnswerRow, USAGE_APPLIED, USAGE_SUMS, unavailable};
pub use redis::{RedisConfig, RedisStore};

use crate::accounts::{Accounts, AuditEntry, Change};

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

/// Tenants, keys and the audit log.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Number of the last change.
    async fn version(&self) -> Result<u64, StoreError>;

    /// Everything.
    async fn load(&self) -> Result<Accounts, StoreError>;

    /// Makes a change to what is at `version`, and logs it: both or neither. Returns the version after it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is another version by now.
    async fn commit(&self, version: u64, changes: &[Change], audit: &AuditEntry) -> Result<u64, StoreError>;

    /// The newest entries of the audit log, newest first.
    async fn audit(&self, entries_max: usize) -> Result<Vec<AuditEntry>, StoreError>;
}

pub(crate) fn to_text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}
