//! The connection to Redis that all calls share, and the task that replaces it.
//!
//! A call that finds the connection broken, or somebody at its end who may not write (a server that was
//! demoted, is loading, or forgot who we are), takes it out of use at once: the address may lead elsewhere by
//! now. One that is not answered in time lets the task look for a better one. The task makes a connection,
//! has it answer a probe that writes, and puts it in place; while Redis is left alone it tries again and
//! again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::breaker::{Failure, Turn, Way};
use super::redis_config::{Password, RedisConfig};
use super::{StoreError, eviction};
use crate::aside::{Aside, FileFaults};

/// How long a probe's key stays, in milliseconds.
const PROBE_KEPT_MS: u64 = 60_000;

/// The way to one Redis.
pub(super) struct Link {
    shared: Arc<LinkState>,
    keeper: AbortHandle,
}

struct LinkState {
    way: watch::Sender<Way<Connection>>,
    /// Number of a connection that is to be replaced.
    suspect: AtomicU64,
    wake: Notify,
    timeout: Duration,
    /// How the last call or connection failed, until one does not.
    fault: ArcSwapOption<String>,
    /// Eviction policy of Redis, if it may lose keys.
    eviction: ArcSwapOption<String>,
}

/// Where connections are made to.
struct Target {
    address: Address,
    /// None: it is in the address, or there is none.
    password: Option<(Password, Reading)>,
    /// A key that a probe writes.
    probe: String,
    timeout: Duration,
    probe_every: Duration,
}

/// The password as it is read.
type Reading = tokio::sync::Mutex<Aside<Result<String, String>>>;

enum Address {
    Single(Box<ConnectionInfo>),
    Cluster(Vec<String>),
}

/// Cheap to clone.
#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// A way to Redis. Waits until a first connection is made or has failed; in the latter case Redis is left
    /// alone and taken up when it comes.
    ///
    /// # Errors
    /// An address that is none.
    pub(super) async fn open(config: &RedisConfig, probe: String) -> Result<Self, StoreError> {
        let RedisConfig { urls, password, is_cluster, timeout, breaker, .. } = config;
        let address = if *is_cluster {
            // Whether they are addresses.
            cluster(urls, None, *timeout)?;
            Address::Cluster(urls.clone())
        } else {
            let url = urls.first().cloned().unwrap_or_default();
            Address::Single(Box::new(url.into_connection_info().map_err(unavailable)?))
        };
        let reading = || Reading::new(Aside::new("password_file", FileFaults::default()));
        let password = password.clone().map(|password| (password, reading()));
        let (timeout, probe_every) = (*timeout, breaker.probe_every);
        let target = Target { address, password, probe, timeout, probe_every };
        let shared = Arc::new(LinkState {
            way: watch::Sender::new(Way::new(breaker.failures_max)),
            suspect: AtomicU64::new(0),
            wake: Notify::new(),
            timeout,
            fault: ArcSwapOption::empty(),
            eviction: ArcSwapOption::empty(),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), target)).abort_handle();
        let link = Self { shared, keeper };
        let mut way = link.shared.way.subscribe();
        // The sender lives as long as the link.
        let _ = way.wait_for(Way::turn_is_known).await;
        drop(way);
        Ok(link)
    }

    /// Whether Redis is left alone.
    pub(super) fn is_left_alone(&self) -> bool {
        self.shared.way.borrow().is_left_alone()
    }

    /// How the last call or connection failed, until one does not.
    pub(super) fn fault(&self) -> Option<String> {
        self.shared.fault.load().as_deref().cloned()
    }

    /// Eviction policy of Redis, if it reports one that may lose keys.
    pub(super) fn eviction(&self) -> Option<String> {
        self.shared.eviction.load().as_deref().cloned()
    }

    /// Runs a script. What Redis refused because it is not the one that may do it is tried once more
    /// elsewhere.
    ///
    /// # Errors
    /// No answer in time, or one that is an error.
    pub(super) async fn call(&self, script: &ScriptInvocation<'_>) -> Result<Value, StoreError> {
        let timeout = self.shared.timeout;
        // Once for a connection or a first attempt, and once more.
        let attempts = tokio::time::timeout(timeout.saturating_mul(2), async {
            match self.attempt(script).await {
                Err(Attempt::Refused(_)) => self.attempt(script).await,
                result => result,
            }
        });
        match attempts.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Attempt::LeftAlone)) => Err(StoreError::Unavailable(
                "Redis does not answer and is left alone until it does".to_owned(),
            )),
            Ok(Err(Attempt::Refused(error) | Attempt::Failed(error))) => Err(unavailable(error)),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {timeout:?}"))),
        }
    }

    async fn attempt(&self, script: &ScriptInvocation<'_>) -> Result<Value, Attempt> {
        let (mut connection, number) = self.connection().await.ok_or(Attempt::LeftAlone)?;
        let answer = tokio::time::timeout(self.shared.timeout, script.invoke_async(&mut connection)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        let failure = answer.as_ref().err().and_then(failure);
        let Some(failure) = failure else {
            self.shared.works();
            self.shared.way.send_if_modified(|way| {
                way.succeeded(number);
                false
            });
            return answer.map_err(Attempt::Failed);
        };
        let mut is_left_alone = false;
        if let Err(error) = &answer {
            self.shared.fails(error);
        }
        self.shared.way.send_modify(|way| is_left_alone = way.failed(number, failure));
        self.shared.suspect.fetch_max(number, Ordering::AcqRel);
        self.shared.wake.notify_one();
        answer.map_err(|error| {
            if is_left_alone {
                tracing::error!(%error, "Redis does not answer and is left alone until it does");
            }
            // An answer, so nothing was done.
            if failure == Failure::Gone && !error.is_io_error() {
                Attempt::Refused(error)
            } else {
                Attempt::Failed(error)
            }
        })
    }

    /// The connection and its number; none if Redis is left alone.
    async fn connection(&self) -> Option<(Connection, u64)> {
        let mut way = self.shared.way.subscribe();
        loop {
            match way.borrow_and_update().turn() {
                Turn::Call(connection, number) => return Some((connection, number)),
                Turn::Refuse => return None,
                Turn::Wait => {}
            }
            way.changed().await.ok()?;
        }
    }
}

impl LinkState {
    fn works(&self) {
        if self.fault.load().is_some() {
            self.fault.store(None);
        }
    }

    fn fails(&self, error: &RedisError) {
        self.fault.store(Some(Arc::new(error.to_string())));
    }

    /// Says if keys may be evicted: once, and again when that changes.
    fn may_evict(&self, policy: Option<String>) {
        let is_new = self.eviction.load().as_deref() != policy.as_ref();
        if let Some(policy) = policy.as_ref().filter(|_| is_new) {
            tracing::warn!(policy, "{}", eviction::WARNING);
        }
        self.eviction.store(policy.map(Arc::new));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Why there is no answer.
enum Attempt {
    /// Nobody was asked.
    LeftAlone,
    /// Redis answered that it is not the one to do it: nothing was done.
    Refused(RedisError),
    /// Anything else: it may have been done.
    Failed(RedisError),
}

impl<C: Clone> Way<C> {
    fn turn_is_known(&self) -> bool {
        !matches!(self.turn(), Turn::Wait)
    }
}

/// Replaces connections until it is stopped.
async fn keep(shared: Arc<LinkState>, target: Target) {
    let mut is_told = false;
    loop {
        match target.connect().await {
            Ok(mut connection) => {
                is_told = false;
                let policy = tokio::time::timeout(shared.timeout, eviction::policy(&mut connection)).await;
                shared.may_evict(policy.unwrap_or_default());
                shared.works();
                let mut was_left_alone = false;
                shared.way.send_modify(|way| was_left_alone = way.connected(connection));
                if was_left_alone {
                    tracing::info!("Redis answers again");
                }
            }
            Err(error) => {
                let mut is_left_alone = false;
                shared.fails(&error);
                shared.way.send_modify(|way| is_left_alone = way.unreachable());
                if is_left_alone || !is_told {
                    is_told = true;
                    tracing::error!(%error, "no connection to Redis that may write; it is tried on and on");
                }
                tokio::time::sleep(target.probe_every).await;
                continue;
            }
        }
        // Until the connection that is used is suspected.
        loop {
            shared.wake.notified().await;
            let suspect = shared.suspect.load(Ordering::Acquire);
            let way = shared.way.borrow();
            if way.is_current(suspect) || !way.turn_is_known() || way.is_left_alone() {
                break;
            }
        }
    }
}

impl Target {
    /// A connection that has answered a probe.
    async fn connect(&self) -> Result<Connection, RedisError> {
        let connect = async {
            let password = self.password().await?;
            let mut connection = match &self.address {
                Address::Single(info) => {
                    let mut settings = info.redis_settings().clone();
                    if let Some(password) = password {
                        settings = settings.set_password(password);
                    }
                    let client = Client::open(info.as_ref().clone().set_redis_settings(settings))?;
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(self.timeout))
                        .set_response_timeout(Some(self.timeout));
                    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                    Connection::Single(connection)
                }
                Address::Cluster(urls) => {
                    let client = cluster(urls, password, self.timeout).map_err(io::Error::other)?;
                    Connection::Cluster(client.get_async_connection().await?)
                }
            };
            // Reads are answered by a server that was demoted, too.
            let mut probe = redis::cmd("SET");
            probe.arg(&self.probe).arg(1).arg("PX").arg(PROBE_KEPT_MS);
            probe.query_async::<()>(&mut connection).await?;
            Ok(connection)
        };
        // A cluster's nodes are asked one after the other.
        let timed = tokio::time::timeout(self.timeout.saturating_mul(4), connect).await;
        timed.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }
}

impl Target {
    /// The password as it is now.
    async fn password(&self) -> Result<Option<String>, io::Error> {
        let Some((password, reading)) = &self.password else { return Ok(None) };
        let (password, mut reading) = (password.clone(), reading.lock().await);
        let read = reading.run(move || password.read()).await;
        let read = read.unwrap_or_else(|| Err("password_file: its file system does not answer".to_owned()));
        read.map_err(io::Error::other).map(Some)
    }
}

fn cluster(
    urls: &[String],
    password: Option<String>,
    timeout: Duration,
) -> Result<redis::cluster::ClusterClient, StoreError> {
    let mut builder = ClusterClientBuilder::new(urls.to_vec());
    if let Some(password) = password {
        builder = builder.password(password);
    }
    builder.connection_timeout(timeout).response_timeout(timeout).build().map_err(unavailable)
}

/// How a call failed; none if its answer is an answer, be it an error.
fn failure(error: &RedisError) -> Option<Failure> {
    if error.is_timeout() {
        return Some(Failure::Slow);
    }
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound => Some(Failure::Gone),
        ErrorKind::Server(
            ServerErrorKind::ResponseError
            | ServerErrorKind::ExecAbort
            | ServerErrorKind::NoScript
            | ServerErrorKind::CrossSlot
            | ServerErrorKind::NotBusy
            | ServerErrorKind::NoSub,
        ) => None,
        // Demoted, loading, without its master, moved.
        ErrorKind::Server(_) => Some(Failure::Gone),
        // NOAUTH, WRONGPASS, MISCONF, NOREPLICAS, OOM and what else keeps it from doing what it is asked.
        ErrorKind::Extension => match error.code() {
            Some("WRONGTYPE" | "UNKILLABLE") => None,
            Some("BUSY") => Some(Failure::Slow),
            _ => Some(Failure::Gone),
        },
        // Mistakes of our own.
        _ => None,
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
pub(super) fn unavailable(error: RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_mean_not_here() {
        let check = |code: &str, expected: Option<Failure>| {
            let answer = format!("-{code} whatever it says\r\n");
            let value = redis::parse_redis_value(answer.as_bytes()).and_then(Value::extract_error);
            assert_eq!(value.err().as_ref().and_then(failure), expected, "{code}");
        };
        for code in ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "TRYAGAIN"] {
            check(code, Some(Failure::Gone));
        }
        for code in ["NOAUTH", "WRONGPASS", "MISCONF", "OOM", "NOREPLICAS", "NOPERM"] {
            check(code, Some(Failure::Gone));
        }
        check("BUSY", Some(Failure::Slow));
        for code in ["ERR", "WRONGTYPE", "NOSCRIPT", "CROSSSLOT", "EXECABORT"] {
            check(code, None);
        }
        let io = |kind| failure(&std::io::Error::from(kind).into());
        assert_eq!(io(std::io::ErrorKind::TimedOut), Some(Failure::Slow));
        assert_eq!(io(std::io::ErrorKind::ConnectionReset), Some(Failure::Gone));
        assert_eq!(io(std::io::ErrorKind::UnexpectedEof), Some(Failure::Gone));
    }
}
