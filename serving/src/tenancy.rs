//! Opens what the router works with (the store, the limits, the journal) and runs what happens beside requests: following
//! changes of tenants and keys, and shipping what was used.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use router::idempotency::{AnswerStore, Idempotency};
use router::ledger::{Followers, Journal, JournalConfig, JournalError, Shipper, UsageStore};
use router::limit::{LimitStore, Limiter, LimiterConfig, MemoryLimits, Unit};
use router::store::{AccountStore, EmbeddedStore, RedisStore, StoreError};
use router::{
    Administration, AdministrationError, Day, Directory, KeySecret, Outcome, Router, Service, ShortSecret,
    UsageObserver, WallTime,
};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::config::{Config, Identity, Store};
use crate::declared_tenants::{self, TenantsFileError};
use crate::issuer::Issuer;
use crate::sinks::{self, Fed, SinkConfigError};
use crate::telemetry::TenancyMetrics;

/// How often changes of tenants and keys by other servers are looked for: a revoked key is refused everywhere after that.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How often records are shipped.
const SHIP_EVERY: Duration = Duration::from_millis(200);
/// How far back the minute's limits look.
const RESTORE: Duration = Duration::from_secs(62);
/// Records of the journal that are looked through for that, at most.
const RESTORE_RECORDS_MAX: u64 = 1_000_000;

/// How often keys are looked through for old ones.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How much longer an idempotency key is held than a request may take.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// How the audit log names the file of declared tenants.
const DECLARED: &str = "tenants_file";

/// Tenants, their keys and what they use.
pub struct Tenancy {
    /// Authenticates, admits and records.
    pub router: Router,
    /// Changes tenants and keys.
    pub administration: Administration,
    /// Keeps answers of requests that may be sent again.
    pub idempotency: Idempotency,
    /// Sums of what was used.
    pub usage: Arc<dyn UsageStore>,
    /// Opens the administration of all tenants.
    pub operator_token: String,
    /// The store, if servers share one.
    pub redis: Option<Arc<RedisStore>>,
    /// Name of this server, which stays.
    pub server: String,
    /// Who reads the journal, and how far they are.
    pub followers: Arc<Followers>,
    shipper: Mutex<Option<Shipper>>,
    sinks: Mutex<Vec<Fed>>,
    issuer: Option<Issuer>,
}

/// Why tenants cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// A file of the state folder.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store.
    #[error("cannot open the store of tenants: {0}")]
    Store(#[from] StoreError),
    /// The file of tenants.
    #[error("tenancy.tenants_file: {0}")]
    TenantsFile(#[from] TenantsFileError),
    /// Reading the accounts.
    #[error("cannot read the tenants: {0}")]
    Accounts(#[from] AdministrationError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A sink of usage events.
    #[error(transparent)]
    Sink(#[from] SinkConfigError),
    /// The secret of keys.
    #[error("tenancy.key_secret_file: {0}")]
    Secret(#[from] ShortSecret),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] router::RandomError),
    /// Servers that share Redis must share the secret of keys too.
    #[error("tenancy.key_secret_file must be set with Redis: all servers hash keys under the same secret")]
    NoSecret,
}

/// Every part that has two homes.
struct Homes {
    answers: Arc<dyn AnswerStore>,
    accounts: Arc<dyn AccountStore>,
    usage: Arc<dyn UsageStore>,
    /// None: in memory.
    limits: Option<Arc<dyn LimitStore>>,
    /// None: there is but one server.
    redis: Option<Arc<RedisStore>>,
}

impl Tenancy {
    /// Opens everything.
    ///
    /// # Errors
    /// See [`TenancyError`].
    pub async fn open(config: &Config, observer: Arc<dyn UsageObserver>) -> Result<Self, TenancyError> {
        let folder = config.state_dir();
        std::fs::create_dir_all(&folder).map_err(|source| file_error(&folder, source))?;
        let homes = homes(&config.tenancy.store, &folder).await?;
        let issuer = config.tenancy.jwt.as_ref().map(Issuer::of);
        let secret = secret(config, &folder)?;
        // Whoever answers a request has given up by then.
        let lease = config.request_timeout() + LEASE_MARGIN;
        let answer_bytes_max = config.limits.idempotent_answer_bytes_max;
        let idempotency = Idempotency::new(homes.answers, secret.clone(), lease, answer_bytes_max);
        let mut directory = Directory::new(secret, config.development_tenant);
        if let Some(issuer) = &issuer {
            directory = directory.with_jwt(Arc::clone(&issuer.verifier));
        }
        let directory = Arc::new(directory.with_services(services(config)));
        let rotate_after = Duration::from_secs(u64::from(config.tenancy.key_rotation_days) * 86_400);
        let administration = Administration::new(homes.accounts, Arc::clone(&directory), rotate_after);
        if let Some(path) = &config.tenancy.tenants_file {
            let declared = declared_tenants::read(path)?;
            let changes = administration.declare(WallTime::now(), DECLARED, &declared).await?;
            tracing::info!(tenants = declared.len(), changes, "tenants of the file are in force");
        }
        administration.follow().await?;

        let usage = &config.usage;
        let journal = Journal::open(JournalConfig {
            folder: folder.join("usage"),
            flush: usage.flush,
            segment_bytes_max: usage.segment_bytes_max,
            pending_max: usage.pending_records_max,
            is_on: usage.is_recorded,
        })?;
        let server = keep(&folder.join("usage/name"), || Ok(Ulid::new().to_string()))?;
        let followers = Followers::new(journal.folder(), usage.shipped_segments_kept);
        let shipper = Shipper::new(Arc::clone(&homes.usage), server.clone(), Arc::clone(&followers));
        let sinks = sinks::open(config, &server, &followers)?;
        let limits = match homes.limits {
            Some(limits) => limits,
            None => Arc::new(restored(&journal)?),
        };
        let limiter =
            LimiterConfig { outage: config.tenancy.outage, servers_max: config.tenancy.servers_max };
        let operator_token = keep(&folder.join("operator.token"), || {
            router::ApiKey::generate(router::Mode::Live).map(|key| key.expose().replace("tc_live_", "op_"))
        })?;
        Ok(Self {
            router: Router::new(directory, Limiter::new(limits, limiter), journal, observer),
            administration,
            idempotency,
            usage: homes.usage,
            operator_token,
            redis: homes.redis,
            server,
            followers,
            shipper: Mutex::new(Some(shipper)),
            sinks: Mutex::new(sinks),
            issuer,
        })
    }

    /// Shows how limits, store and journal do.
    pub(crate) fn show(&self, metrics: &TenancyMetrics) {
        let is_left_alone = self.redis.as_ref().is_some_and(|redis| redis.is_left_alone());
        metrics.set_store(is_left_alone, self.router.decided_alone());
        metrics.set_journal(self.router.journal().written(), &self.followers.positions());
    }

    /// What feeds the sinks of usage events; yielded once.
    pub(crate) fn take_sinks(&self) -> Vec<Fed> {
        std::mem::take(&mut *self.sinks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows changes and ships records until told to stop, and then until every record is shipped or `patience` is over.
    pub(crate) async fn run(&self, metrics: &TenancyMetrics, stop: CancellationToken, patience: Duration) {
        let warn = self.warn_of_old_keys(&stop, metrics);
        tokio::join!(self.follow(&stop), self.ship(&stop, patience), warn, async {
            if let Some(issuer) = &self.issuer {
                issuer.run(&stop).await;
            }
        });
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut is_lost = false;
        loop {
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(FOLLOW_EVERY) => {} }
            match self.administration.follow().await {
                Ok(()) => is_lost = false,
                Err(error) if !is_lost => {
                    is_lost = true;
                    tracing::error!(%error, "changes of tenants and keys cannot be followed");
                }
                Err(_) => {}
            }
        }
    }

    /// Says once a day, and at the start, whose keys are older than keys should become.
    async fn warn_of_old_keys(&self, stop: &CancellationToken, metrics: &TenancyMetrics) {
        let mut warned: Option<Day> = None;
        loop {
            let now = WallTime::now();
            if let Ok(keys) = self.administration.keys(now, None).await {
                let due: Vec<_> = keys.iter().filter(|key| key.is_rotation_due).collect();
                metrics.set_rotations_due(due.len());
                if warned != Some(now.day()) {
                    warned = Some(now.day());
                    for key in due {
                        let (id, tenant, created_at) = (&key.id, key.tenant.as_str(), key.created_at);
                        tracing::warn!(key = id, tenant, created_at = %created_at, "this key is due to be rotated");
                    }
                }
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(WARN_EVERY) => {} }
        }
    }

    async fn ship(&self, stop: &CancellationToken, patience: Duration) {
        let Some(mut shipper) = self.shipper.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        while !stop.is_cancelled() {
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(SHIP_EVERY) => {} }
            self.ship_all(&mut shipper).await;
        }
        // No request is worked on any more: what is pending is all there will be.
        let written = tokio::time::timeout(patience, async { self.ship_all(&mut shipper).await });
        if written.await.is_err() {
            tracing::warn!("not all usage records were shipped; they will be after the next start");
        }
    }

    async fn ship_all(&self, shipper: &mut Shipper) {
        loop {
            match shipper.ship(self.router.journal().written()).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "usage records cannot be shipped; they are kept");
                    return;
                }
            }
        }
    }
}

/// The services that are known by their certificates.
fn services(config: &Config) -> HashMap<Arc<str>, Service> {
    let clients = config.tls.iter().flat_map(|tls| &tls.clients);
    let identities = clients.flat_map(|clients| &clients.identities);
    let service = |identity: &Identity| Service { tenant: identity.tenant.clone(), role: identity.role };
    identities.map(|identity| (Arc::from(identity.uri.as_str()), service(identity))).collect()
}

async fn homes(store: &Store, folder: &Path) -> Result<Homes, StoreError> {
    match store {
        Store::Embedded => {
            let path = folder.join("store.redb");
            let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path)).await;
            let store = opened.map_err(|error| StoreError::Unavailable(error.to_string()))??;
            let store = Arc::new(store);
            Ok(Homes {
                accounts: store.clone(),
                usage: store.clone(),
                answers: store,
                limits: None,
                redis: None,
            })
        }
        Store::Redis(redis) => {
            let store = Arc::new(RedisStore::connect(redis.to_connect()).await?);
            Ok(Homes {
                accounts: store.clone(),
                usage: store.clone(),
                answers: store.clone(),
                limits: Some(store.clone()),
                redis: Some(store),
            })
        }
    }
}

/// Counts of a process that was here before, from its journal, so that a restart is no way around a limit.
fn restored(journal: &Journal) -> Result<MemoryLimits, JournalError> {
    let limits = MemoryLimits::default();
    let now = WallTime::now();
    for record in journal.newest(RESTORE_RECORDS_MAX)? {
        let is_today = record.at.day() == now.day();
        // What was refused is recorded only if it was worked on.
        let counts = record.outcome != Outcome::Failed;
        if counts && (is_today || now.since(record.at) < RESTORE) {
            limits.restore(record.at, &record.tenant, Unit::Requests, record.inputs);
            limits.restore(record.at, &record.tenant, Unit::Tokens, record.tokens);
        }
    }
    Ok(limits)
}

fn secret(config: &Config, folder: &Path) -> Result<KeySecret, TenancyError> {
    match (&config.tenancy.key_secret_file, &config.tenancy.store) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|source| file_error(path, source))?;
            Ok(KeySecret::new(text.trim().as_bytes().to_vec())?)
        }
        (None, Store::Redis(_)) => Err(TenancyError::NoSecret),
        (None, Store::Embedded) => {
            let text = keep(&folder.join("key.secret"), || {
                let (_, bytes) = KeySecret::generate()?;
                Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            })?;
            Ok(KeySecret::new(text.into_bytes())?)
        }
    }
}

/// The text of a file that only this user may read, made if there is none.
fn keep(
    path: &Path,
    make: impl FnOnce() -> Result<String, router::RandomError>,
) -> Result<String, TenancyError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            let write = || {
                let mut file =
                    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()
            };
            write().map_err(|source| file_error(path, source))?;
            Ok(text)
        }
        Err(source) => Err(file_error(path, source)),
    }
}

fn file_error(path: &Path, source: std::io::Error) -> TenancyError {
    TenancyError::File { path: path.to_owned(), source }
}
