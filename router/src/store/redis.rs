//! The store in Redis 7, a single server or a cluster, shared by any number of servers.
//!
//! What belongs together has one hash tag, so that a script finds it in one slot of a cluster. Scripts are the transactions:
//! Redis runs each as a whole.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, Script, ToRedisArgs, Value};

use super::breaker::{Breaker, BreakerConfig};
use super::{AccountStore, StoreError, parse, to_text};
use crate::accounts::{Accounts, AuditEntry, Change, KeyRecord, TenantRecord};
use crate::wall_time::WallTime;

/// Where Redis is, and how long it may take.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://…` or `rediss://…` (TLS): one address of a single server, or some of a cluster's.
    pub urls: Vec<String>,
    /// Whether it is a cluster.
    pub is_cluster: bool,
    /// What every key begins with, so that several deployments can share a server.
    pub prefix: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// When to leave it alone.
    pub breaker: BreakerConfig,
}

/// State in Redis.
pub struct RedisStore {
    connection: Connection,
    breaker: Breaker,
    prefix: String,
}

/// A connection that mends itself; cheap to clone.
#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl RedisStore {
    /// Connects.
    ///
    /// # Errors
    /// An address that is none, or nobody there.
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let RedisConfig { urls, is_cluster, prefix, timeout, breaker } = config;
        let connection = if is_cluster {
            let builder =
                ClusterClientBuilder::new(urls).connection_timeout(timeout).response_timeout(timeout);
            let client = builder.build().map_err(unavailable)?;
            Connection::Cluster(client.get_async_connection().await.map_err(unavailable)?)
        } else {
            let url = urls.into_iter().next().unwrap_or_default();
            let client = Client::open(url).map_err(unavailable)?;
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout))
                .set_number_of_retries(1);
            let manager = ConnectionManager::new_with_config(client, config).await;
            Connection::Single(manager.map_err(unavailable)?)
        };
        Ok(Self { connection, breaker: Breaker::new(breaker), prefix })
    }

    /// Whether Redis is left alone at present, because it did not answer repeatedly.
    pub fn is_left_alone(&self) -> bool {
        self.breaker.is_open()
    }

    /// Runs a call unless Redis is left alone at present.
    async fn call<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
        if !self.breaker.allows(WallTime::now()) {
            return Err(StoreError::Unavailable(
                "it failed repeatedly and is left alone for a while".to_owned(),
            ));
        }
        let result = call.await;
        // An answer that is an error is an answer.
        let is_success = match &result {
            Ok(_) => true,
            Err(error) => !(error.is_io_error() || error.is_timeout() || error.is_cluster_error()),
        };
        match self.breaker.ended(WallTime::now(), is_success) {
            Some(true) => tracing::error!("Redis does not answer and is left alone for a while"),
            Some(false) => tracing::info!("Redis answers again"),
            None => {}
        }
        result.map_err(unavailable)
    }

    /// Runs a script on keys of one slot.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &str,
        keys: &[String],
        arguments: &[impl ToRedisArgs],
    ) -> Result<T, StoreError> {
        let script = Script::new(script);
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for argument in arguments {
            call.arg(argument);
        }
        let mut connection = self.connection.clone();
        self.call(call.invoke_async(&mut connection)).await
    }

    /// Key of something that belongs to a tenant; all of a tenant's keys of one area are in one slot.
    pub(crate) fn key(&self, area: &str, tenant: &str, name: &str) -> String {
        format!("{}:{area}:{{{tenant}}}:{name}", self.prefix)
    }

    /// Key of something that belongs to the accounts.
    fn accounts_key(&self, name: &str) -> String {
        format!("{{{}:accounts}}:{name}", self.prefix)
    }
}

/// KEYS: version, tenants, keys, audit. ARGV: the version expected, the audit entry, then kind, id and record of each change.
const COMMIT: &str = r"
    if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return -1 end
    for i = 3, #ARGV, 3 do
        redis.call('HSET', KEYS[ARGV[i] == 'tenant' and 2 or 3], ARGV[i + 1], ARGV[i + 2])
    end
    redis.call('RPUSH', KEYS[4], ARGV[2])
    return redis.call('INCR', KEYS[1])
";

/// KEYS: version, tenants, keys.
const LOAD: &str = r"
    return {redis.call('GET', KEYS[1]) or '0', redis.call('HVALS', KEYS[2]), redis.call('HVALS', KEYS[3])}
";

#[async_trait]
impl AccountStore for RedisStore {
    async fn version(&self) -> Result<u64, StoreError> {
        let mut connection = self.connection.clone();
        let mut get = redis::cmd("GET");
        get.arg(self.accounts_key("version"));
        let version: Option<u64> = self.call(get.query_async(&mut connection)).await?;
        Ok(version.unwrap_or(0))
    }

    async fn load(&self) -> Result<Accounts, StoreError> {
        let script = Script::new(LOAD);
        let mut call = script.key(self.accounts_key("version"));
        call.key(self.accounts_key("tenants")).key(self.accounts_key("keys"));
        let mut connection = self.connection.clone();
        let loaded: (u64, Vec<String>, Vec<String>) = self.call(call.invoke_async(&mut connection)).await?;
        let (version, tenants, keys) = loaded;
        let mut accounts = Accounts { version, ..Accounts::default() };
        for tenant in tenants {
            let tenant: TenantRecord = parse(&tenant)?;
            accounts.tenants.insert(tenant.name.clone(), tenant);
        }
        for key in keys {
            let key: KeyRecord = parse(&key)?;
            accounts.keys.insert(key.id.clone(), key);
        }
        Ok(accounts)
    }

    async fn commit(&self, version: u64, changes: &[Change], audit: &AuditEntry) -> Result<u64, StoreError> {
        let script = Script::new(COMMIT);
        let mut call = script.key(self.accounts_key("version"));
        call.key(self.accounts_key("tenants")).key(self.accounts_key("keys")).key(self.accounts_key("audit"));
        call.arg(version).arg(to_text(audit)?);
        for change in changes {
            match change {
                Change::Tenant(tenant) => call.arg("tenant").arg(tenant.name.as_str()).arg(to_text(tenant)?),
                Change::Key(key) => call.arg("key").arg(&key.id).arg(to_text(key)?),
            };
        }
        let mut connection = self.connection.clone();
        let next: i64 = self.call(call.invoke_async(&mut connection)).await?;
        u64::try_from(next).map_err(|_| StoreError::Conflict)
    }

    async fn audit(&self, entries_max: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let mut connection = self.connection.clone();
        let mut range = redis::cmd("LRANGE");
        range.arg(self.accounts_key("audit")).arg(-(entries_max.min(1 << 32) as i64)).arg(-1);
        let lines: Vec<String> = self.call(range.query_async(&mut connection)).await?;
        lines.iter().rev().map(|line| parse(line)).collect()
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
