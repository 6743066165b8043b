//! Which Redis a store is in, and how it is reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::BreakerConfig;

/// Where Redis is, and how long it may take.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://…` or `rediss://…` (TLS): one address of a single server, or some of a cluster's.
    pub urls: Vec<String>,
    /// The password, if it is not in the addresses.
    pub password: Option<Password>,
    /// Whether it is a cluster.
    pub is_cluster: bool,
    /// What every key begins with, so that several deployments can share a server.
    pub prefix: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// When to leave it alone.
    pub breaker: BreakerConfig,
}

/// Tells the password of a Redis: asked for every connection, since it may have been changed. Blocks.
#[derive(Clone)]
pub struct Password(Arc<dyn Fn() -> Result<String, String> + Send + Sync>);

impl Password {
    /// A password that `read` tells, or why it cannot.
    pub fn new(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(super) fn read(&self) -> Result<String, String> {
        (self.0)()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}
