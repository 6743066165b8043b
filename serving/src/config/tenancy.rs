//! Configuration of tenants, of their store, and of the journal of what they use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use garde::Validate;
use router::ledger::Flush;
use router::limit::Outage;
use router::store::{BreakerConfig, Password, RedisConfig};
use serde::Deserialize;

use crate::secrets::{self, SecretError, SecretText};

/// Tenants, their keys and limits.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Tenancy {
    /// Where tenants, keys, counts and sums live.
    #[garde(dive)]
    pub store: Store,
    /// File with tenants and keys, which are made or changed at the start to what it says. None: they are
    /// managed through the administration alone.
    #[garde(skip)]
    pub tenants_file: Option<PathBuf>,
    /// File with the secret under which keys are hashed, at least 32 random bytes: as they are, or after
    /// `hex:` or `base64:`. None: one is made in the state folder.
    #[garde(skip)]
    pub key_secret_file: Option<PathBuf>,
    /// File with the operator's token, at least 16 visible ASCII characters; the same on every server that
    /// shares a store. None: one is made in the state folder. The environment's `ML_INFERENCE_OPERATOR_TOKEN`
    /// (the token) and `ML_INFERENCE_OPERATOR_TOKEN_FILE` come before it.
    #[garde(skip)]
    pub operator_token_file: Option<PathBuf>,
    /// The operator's token, of the environment alone.
    #[serde(skip)]
    #[garde(skip)]
    pub operator_token: Option<SecretText>,
    /// Whether test keys (`tc_test_…`) are accepted, as in a sandbox: what they use is recorded at a price of
    /// 0. None: as `accept` with the development tenant, and as `refuse` without.
    #[garde(skip)]
    pub test_keys: Option<TestKeys>,
    /// Keys that a tenant may have, counting those that were revoked or expired in the last 30 days; and one
    /// more by a rotation.
    #[garde(range(min = 1, max = 1_000_000))]
    pub keys_per_tenant_max: usize,
    /// Accepts the JWTs of an issuer.
    #[garde(dive)]
    pub jwt: Option<Jwt>,
    /// Age at which a key is shown as due to be rotated, in days.
    #[garde(range(min = 1, max = 3650))]
    pub key_rotation_days: u32,
    /// What happens to limits while Redis does not answer: `open` or `closed`.
    #[garde(skip)]
    pub outage: Outage,
    /// Servers that may share the store: by this the limits are divided while it does not answer.
    #[garde(range(min = 1, max = 10_000))]
    pub servers_max: u64,
}

/// What becomes of test keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestKeys {
    /// They are accepted.
    Accept,
    /// They are refused.
    Refuse,
}

/// Which JWTs are accepted.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// What `iss` must be.
    #[garde(length(min = 1))]
    pub issuer: String,
    /// What `aud` must contain.
    #[garde(length(min = 1))]
    pub audience: String,
    /// The issuer's key set (JWKS): a URL, or a file.
    #[garde(length(min = 1))]
    pub keys: String,
    /// How often the key set is fetched again, in seconds.
    #[serde(default = "default_keys_refresh_seconds")]
    #[garde(range(min = 1, max = 86_400))]
    pub keys_refresh_seconds: u64,
    /// How long after a fetch a token with an unknown key does not cause another, in seconds.
    #[serde(default = "default_keys_pause_seconds")]
    #[garde(range(max = 86_400))]
    pub keys_pause_seconds: u64,
    /// By how much clocks may differ, in seconds.
    #[serde(default = "default_leeway_seconds")]
    #[garde(range(max = 600))]
    pub leeway_seconds: u64,
    /// Longest time from a token's `iat` (or `nbf`, or now) to its `exp`, in seconds.
    #[serde(default = "default_lifetime_max_seconds")]
    #[garde(range(min = 1, max = 31_536_000))]
    pub lifetime_max_seconds: u64,
    /// Claim that names the tenant.
    #[serde(default = "default_tenant_claim")]
    #[garde(length(min = 1))]
    pub tenant_claim: String,
    /// Claim that names the plan; without it the tenant's own plan counts.
    #[serde(default = "default_plan_claim")]
    #[garde(length(min = 1))]
    pub plan_claim: String,
    /// Claim with the roles: a list, or names with spaces between.
    #[serde(default = "default_roles_claim")]
    #[garde(length(min = 1))]
    pub roles_claim: String,
}

/// Where shared state lives.
#[derive(Debug, Clone, Default, Deserialize, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Store {
    /// In a file of the state folder, for one server.
    #[default]
    Embedded,
    /// In Redis 7, for several.
    Redis(#[garde(dive)] Redis),
}

/// A Redis.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Addresses, `redis://…` or `rediss://…`.
    #[garde(length(min = 1))]
    pub urls: Vec<String>,
    /// File with the password, which then need not be in the addresses: as it is, or after `hex:` or
    /// `base64:`. It is read for every connection, so a password that is changed here and in Redis needs no
    /// restart.
    #[serde(default)]
    #[garde(skip)]
    pub password_file: Option<PathBuf>,
    /// Whether they are a cluster's.
    #[serde(default)]
    #[garde(skip)]
    pub is_cluster: bool,
    /// What every key begins with.
    #[serde(default = "default_prefix")]
    #[garde(length(min = 1, max = 64))]
    pub prefix: String,
    /// How long an answer may take, in milliseconds.
    #[serde(default = "default_redis_timeout_ms")]
    #[garde(range(min = 1, max = 60_000))]
    pub timeout_ms: u64,
    /// Calls in a row that are not answered before Redis is left alone, so that nobody waits for it.
    #[serde(default = "default_redis_failures_max")]
    #[garde(range(min = 1, max = 1000))]
    pub failures_max: u32,
    /// How often Redis is probed while it is left alone, in milliseconds; it is used again as soon as it
    /// answers.
    #[serde(default = "default_redis_probe_every_ms")]
    #[garde(range(min = 10, max = 60_000))]
    pub probe_every_ms: u64,
}

impl Redis {
    /// How to connect to it.
    ///
    /// # Errors
    /// The password cannot be read.
    pub fn to_connect(&self) -> Result<RedisConfig, SecretError> {
        Ok(RedisConfig {
            urls: self.urls.clone(),
            password: self.password()?,
            is_cluster: self.is_cluster,
            prefix: self.prefix.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
            breaker: BreakerConfig {
                failures_max: self.failures_max,
                probe_every: Duration::from_millis(self.probe_every_ms),
            },
        })
    }

    /// What tells the password, if a file does; that can be read now.
    fn password(&self) -> Result<Option<Password>, SecretError> {
        let Some(path) = self.password_file.clone() else { return Ok(None) };
        let read = move || {
            let unusable = || SecretError::Unusable {
                place: format!("password_file {}", path.display()),
                problem: "it is not UTF-8".to_owned(),
            };
            String::from_utf8(secrets::read(&path)?).map_err(|_| unusable())
        };
        read()?;
        Ok(Some(Password::new(move || read().map_err(|error| error.to_string()))))
    }
}

/// A system that gets usage events (CloudEvents 1.0, `com.techcorp.ml.usage.recorded`), at least once and in
/// order.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sink {
    /// A file, an event a line.
    File {
        /// The file.
        #[garde(skip)]
        path: PathBuf,
    },
    /// A URL to which batches of events are posted, signed.
    Webhook {
        /// Where to.
        #[garde(custom(is_web_address))]
        url: String,
        /// File with the secret that signs, at least 24 bytes: `whsec_` and base64, as Standard Webhooks has
        /// it, or after `hex:` or `base64:`.
        #[garde(skip)]
        secret_file: PathBuf,
        /// How long an answer may take, in milliseconds.
        #[serde(default = "default_sink_timeout_ms")]
        #[garde(range(min = 1, max = 600_000))]
        timeout_ms: u64,
    },
    /// A stream in Redis.
    RedisStream {
        /// The Redis.
        #[garde(dive)]
        redis: Redis,
        /// Name of the stream.
        #[serde(default = "default_stream")]
        #[garde(length(min = 1, max = 64))]
        stream: String,
        /// About how many events it keeps.
        #[serde(default = "default_length_max")]
        #[garde(range(min = 1))]
        length_max: u64,
    },
    /// A topic in Kafka. Needs a build with `--features ml-inference/kafka`; without TLS.
    Kafka {
        /// Addresses of brokers, with commas between.
        #[garde(length(min = 1))]
        brokers: String,
        /// The topic.
        #[garde(length(min = 1, max = 249))]
        topic: String,
        /// How long an event may take to be delivered, in milliseconds.
        #[serde(default = "default_sink_timeout_ms")]
        #[garde(range(min = 1, max = 600_000))]
        timeout_ms: u64,
    },
}

/// The journal of what tenants use.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Whether what is used is recorded at all. Not doing so is for measuring what it costs: nobody can be
    /// charged then.
    #[garde(skip)]
    pub is_recorded: bool,
    /// When a record is safe, and its answer may go out: `"always"` (on the disk) or `{ every_ms = 1000 }`
    /// (with the operating system, and on the disk within that time).
    #[garde(skip)]
    pub flush: Flush,
    /// A segment of the journal that has so many bytes is followed by another.
    #[garde(range(min = 4096, max = 1 << 40))]
    pub segment_bytes_max: u64,
    /// Segments that stay after all their records are in the sums, or as many smaller ones as have their
    /// bytes. From these the sums are made again when the store was set back, restored from a backup or
    /// emptied: by default 1 GiB, about 3 million records of this server. A backup of the store that is older
    /// than that loses what is between.
    #[garde(range(max = 100_000))]
    pub shipped_segments_kept: usize,
    /// Other systems that get every record as an event, by names of one's own.
    #[garde(dive)]
    pub sinks: BTreeMap<String, Sink>,
    /// Records on their way to the disk; calls wait for room.
    #[garde(range(min = 1, max = 1 << 20))]
    pub pending_records_max: usize,
}

impl Default for Tenancy {
    fn default() -> Self {
        Self {
            store: Store::Embedded,
            tenants_file: None,
            key_secret_file: None,
            operator_token_file: None,
            operator_token: None,
            test_keys: None,
            keys_per_tenant_max: 1000,
            jwt: None,
            key_rotation_days: 90,
            outage: Outage::Open,
            servers_max: 8,
        }
    }
}

fn default_keys_refresh_seconds() -> u64 {
    300
}

fn default_keys_pause_seconds() -> u64 {
    30
}

fn default_leeway_seconds() -> u64 {
    30
}

fn default_lifetime_max_seconds() -> u64 {
    86_400
}

fn default_tenant_claim() -> String {
    "tenant".to_owned()
}

fn default_plan_claim() -> String {
    "plan".to_owned()
}

fn default_roles_claim() -> String {
    "roles".to_owned()
}

fn default_sink_timeout_ms() -> u64 {
    10_000
}

fn default_stream() -> String {
    "usage".to_owned()
}

fn default_length_max() -> u64 {
    1_000_000
}

pub(super) fn is_web_address(url: &str, _: &()) -> garde::Result {
    match reqwest::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => Err(garde::Error::new("expected an http:// or https:// address")),
    }
}

fn default_prefix() -> String {
    "ml".to_owned()
}

fn default_redis_timeout_ms() -> u64 {
    250
}

fn default_redis_failures_max() -> u32 {
    BreakerConfig::default().failures_max
}

fn default_redis_probe_every_ms() -> u64 {
    BreakerConfig::default().probe_every.as_millis() as u64
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            is_recorded: true,
            flush: Flush::EveryMs(1000),
            segment_bytes_max: 64 << 20,
            shipped_segments_kept: 16,
            sinks: BTreeMap::new(),
            pending_records_max: 4096,
        }
    }
}
