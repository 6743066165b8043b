//! Opens what the gatekeeper works with (the store, the limits, the journal) and runs what happens beside
//! requests: following changes of tenants and keys, and shipping what was used.

mod opening;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use router::idempotency::{AnswerRoom, AnswerStore, Idempotency};
use router::ledger::{Followers, JournalError, Shipper, ShipperState, UsageStore};
use router::limit::{LimitStore, Limiter, LimiterConfig};
use router::store::{AccountStore, EmbeddedStore, RedisStore, StoreError};
use router::{
    Administration, AdministrationError, Aside, Day, DeclaredTenant, Directory, FileFaults, Gatekeeper,
    ShortSecret, UsageObserver, WallTime,
};
use tokio_util::sync::CancellationToken;
use units::MonotonicClock;

use crate::build::KafkaSink;
use crate::config::{self, Config};
use crate::declared_tenants::TenantsFileError;
use crate::issuer::Issuer;
use crate::ledger::{Ledger, LedgerError, Problem};
use crate::operator_token::WatchedToken;
use crate::readiness::{HasParts, Note, Part};
use crate::secrets::{self, SecretError};
use crate::sinks::SinkFeed;
use crate::state_folder::{StateFolder, StateFolderError};
use crate::telemetry::TenancyMetrics;

use opening::{
    KEY_SECRET_FILE, check_first_read, check_secret, declared, directory, homes, idempotency, restored,
    secret,
};
pub(crate) use opening::{STORE_FILE, open_embedded};

/// How often changes of tenants and keys by other servers are looked for: a revoked key is refused everywhere
/// after that.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How often records are shipped.
const SHIP_EVERY: Duration = Duration::from_millis(200);
/// How often the store is asked whether it still has what it had: all tenants at the start and where there is
/// reason to, some hundred at a time otherwise.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// File with the time that was seen last and the latest that was, a line each.
const TIME_FILE: &str = "time";
/// How often keys are looked through for old ones.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// At every how many looks for changes the store is asked for the fingerprint of the key secret.
const SECRET_EVERY: u32 = 10;
/// What the operator's token is called where its file has a fault.
const TOKEN: &str = "operator token";
/// How the audit log names the file of declared tenants.
const DECLARED: &str = "tenants_file";

/// Tenants, their keys and what they use.
pub struct Tenancy {
    /// Authenticates, admits and records.
    pub gatekeeper: Gatekeeper,
    /// Changes tenants and keys.
    pub administration: Administration,
    /// Keeps answers of requests that may be sent again.
    pub idempotency: Arc<Idempotency>,
    /// Sums of what was used.
    pub usage: Arc<dyn UsageStore>,
    /// Opens the administration of all tenants.
    pub operator_token: Arc<WatchedToken>,
    /// What is the matter with files that are read or written while the server runs.
    pub file_faults: FileFaults,
    /// The store, if servers share one.
    pub redis: Option<Arc<RedisStore>>,
    /// The store, if it is a file of this server.
    embedded: Option<Arc<EmbeddedStore>>,
    directory: Arc<Directory>,
    accounts: Arc<dyn AccountStore>,
    /// The secret of keys, while it is not known to be the store's.
    secret: tokio::sync::Mutex<SecretWatch>,
    /// Why nobody can be let in for good, if so.
    refused: OnceLock<String>,
    /// Why changes of tenants and keys cannot be followed at present.
    unfollowed: Mutex<Option<String>>,
    /// Tenants of the file that are not in force yet, since the store did not answer.
    declared: tokio::sync::Mutex<Option<Vec<DeclaredTenant>>>,
    /// Name of this server, which stays.
    pub server: String,
    /// Who reads the journal, and how far they are.
    pub followers: Arc<Followers>,
    shipper: Mutex<Option<Shipper>>,
    shipping: Arc<ShipperState>,
    sinks: Mutex<Vec<SinkFeed>>,
    issuer: Option<Issuer>,
    /// No other server uses the folder while this one lives.
    state: StateFolder,
}

/// Why tenants cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// A file of the state folder.
    #[error("cannot use {path}: {source}")]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    StateFolder(#[from] StateFolderError),
    #[error("cannot open the store of tenants: {0}")]
    Store(#[from] StoreError),
    /// The embedded store's file.
    #[error(
        "the store of tenants, keys and sums {path} is damaged ({problem}). Put a copy from a backup in its place, or move it \
         away: the server then begins with an empty one, without its tenants and keys, and sums what was used again as far back \
         as the journal goes"
    )]
    StoreDamaged { path: std::path::PathBuf, problem: String },
    #[error("tenancy.tenants_file: {0}")]
    TenantsFile(#[from] TenantsFileError),
    #[error("cannot read the tenants: {0}")]
    Accounts(#[from] AdministrationError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Recording what is used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{path}: {problem}")]
    KeySecret {
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: ShortSecret,
    },
    /// The issuer of JWTs.
    #[error("tenancy.jwt: {0}")]
    Issuer(#[from] reqwest::Error),
    /// The stored keys are hashed under another secret.
    #[error(
        "{path} is not the secret that the stored keys were hashed under, and none of them would be recognised. Restore it from a \
         backup, or copy it from the servers that share the store; if it is lost, remove the keys' store and make every key again"
    )]
    OtherSecret { path: std::path::PathBuf },
    /// Servers that share Redis must share the secret of keys too.
    #[error("tenancy.key_secret_file must be set with Redis: all servers hash keys under the same secret")]
    NoSecret,
}

/// The secret that this server hashes keys under.
struct OwnSecret {
    fingerprint: String,
    path: PathBuf,
}

/// Every part that has two homes.
struct Homes {
    answers: Arc<dyn AnswerStore>,
    room: Arc<dyn AnswerRoom>,
    accounts: Arc<dyn AccountStore>,
    usage: Arc<dyn UsageStore>,
    /// None: in memory.
    limits: Option<Arc<dyn LimitStore>>,
    /// None: there is but one server.
    redis: Option<Arc<RedisStore>>,
    /// None: it is in Redis.
    embedded: Option<Arc<EmbeddedStore>>,
}

/// The key secret, of which the store keeps a fingerprint: told again now and then, since the store may lose
/// it, and then another server could come with another secret.
struct SecretWatch {
    own: OwnSecret,
    /// Whether the store had this one's once.
    is_confirmed: bool,
    looks: u32,
}

impl SecretWatch {
    /// Whether the store is to be asked.
    fn is_due(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        !self.is_confirmed || self.looks.is_multiple_of(SECRET_EVERY)
    }
}

impl HasParts for Tenancy {
    fn parts(&self) -> Vec<Part> {
        vec![
            ("journal", self.gatekeeper.journal().health().map(|()| None)),
            ("store", self.store_health()),
            ("files", Ok(self.file_note())),
        ]
    }
}

impl Tenancy {
    /// Opens everything.
    ///
    /// # Errors
    /// See [`TenancyError`].
    pub async fn open(
        config: &Config,
        kafka: Option<KafkaSink>,
        observer: Arc<dyn UsageObserver>,
    ) -> Result<Self, TenancyError> {
        let folder = config.state_dir();
        secrets::private_folder(&folder).map_err(|source| file_error(&folder, source))?;
        // Before anything in it is read.
        let state = StateFolder::take(&folder, WallTime::now())?;
        secrets::private_files(&folder, &[secrets::TOKEN_FILE, KEY_SECRET_FILE])
            .map_err(|source| file_error(&folder, source))?;
        let file_faults = FileFaults::default();
        let homes = homes(&config.tenancy.store, &folder).await?;
        let issuer =
            config.tenancy.jwt.as_ref().map(|jwt| Issuer::of(jwt, file_faults.clone())).transpose()?;
        let (secret, path) = secret(config, &folder, homes.accounts.as_ref()).await?;
        let own = OwnSecret { fingerprint: secret.fingerprint(), path };
        let unread = check_secret(homes.accounts.as_ref(), &own).await?;
        let is_confirmed = unread.is_none();
        let idempotency = idempotency(config, &homes, secret.clone());
        let directory = Arc::new(directory(config, secret, issuer.as_ref(), &folder));
        let rotate_after = Duration::from_secs(u64::from(config.tenancy.key_rotation_days) * 86_400);
        let administration =
            Administration::new(Arc::clone(&homes.accounts), Arc::clone(&directory), rotate_after)
                .with_keys_max(config.tenancy.keys_per_tenant_max);
        let mut declared = declared(config)?;
        administration.hold(unread);
        let read = read_accounts(&administration, &mut declared).await;
        check_first_read(read, homes.redis.is_some(), &directory)?;
        let Ledger { journal, server, followers, shipper, sinks } = Ledger::open(
            config,
            kafka,
            &folder.join(crate::ledger::FOLDER),
            Arc::clone(&homes.usage),
            state.watched()?,
        )
        .await?;
        let uptime = MonotonicClock::new();
        let limits = match homes.limits {
            Some(limits) => limits,
            None => Arc::new(restored(&journal, uptime, &directory)?),
        };
        let limiter =
            LimiterConfig { outage: config.tenancy.outage, servers_max: config.tenancy.servers_max };
        let config::Tenancy { operator_token, operator_token_file, .. } = &config.tenancy;
        let operator_token =
            WatchedToken::open(operator_token.as_ref(), operator_token_file.as_deref(), &folder)?;
        Ok(Self {
            gatekeeper: Gatekeeper::new(
                Arc::clone(&directory),
                Limiter::new(limits, limiter),
                journal,
                observer,
                uptime,
            ),
            administration,
            idempotency: Arc::new(idempotency),
            directory,
            accounts: homes.accounts,
            secret: tokio::sync::Mutex::new(SecretWatch { own, is_confirmed, looks: 0 }),
            refused: OnceLock::new(),
            unfollowed: Mutex::default(),
            declared: tokio::sync::Mutex::new(declared),
            embedded: homes.embedded,
            usage: homes.usage,
            operator_token: Arc::new(operator_token),
            file_faults,
            redis: homes.redis,
            server,
            followers,
            shipping: shipper.state(),
            shipper: Mutex::new(Some(shipper)),
            sinks: Mutex::new(sinks),
            issuer,
            state,
        })
    }

    /// Shows how limits, store and journal do.
    pub(crate) fn show(&self, metrics: &TenancyMetrics) {
        let is_left_alone = self.redis.as_ref().is_some_and(|redis| redis.is_left_alone());
        metrics.set_store(is_left_alone, self.gatekeeper.limits_degraded());
        metrics.set_journal(self.gatekeeper.journal(), &self.followers.positions());
        metrics.set_shipping(&self.shipping);
        metrics.set_faulty_files(self.file_faults.all().len());
        metrics.set_losses(self.administration.restorations(), self.idempotency.unkept());
    }

    /// Whether the store lets this server do its work, or why not. A Redis that falls silent later, or does
    /// not take what is written, is told of and is no reason to send requests elsewhere: this server goes on
    /// with what it knows, as all do that share it.
    fn store_health(&self) -> Result<Option<Note>, String> {
        let fault = self.embedded.as_ref().and_then(|store| store.fault());
        if let Some(fault) = self.refused.get().cloned().or(fault) {
            return Err(fault);
        }
        let fault = self.redis.as_ref().and_then(|redis| redis.fault());
        if !self.directory.has_accounts() {
            let why = fault.unwrap_or_else(|| "Redis has not answered since the start".to_owned());
            return Err(format!("tenants and keys have not been read yet: {why}"));
        }
        if let Some(fault) = fault {
            let goes_on = "tenants, keys and limits are as they were known, and what is used is summed later";
            return Ok(Some(Note::Degraded(format!("Redis: {fault}; {goes_on}"))));
        }
        if let Some(lost) = self.directory.lost() {
            return Ok(Some(Note::Degraded(lost.to_string())));
        }
        if let Some(problem) = self.unfollowed().clone() {
            let problem = format!("changes of tenants and keys cannot be followed: {problem}");
            return Ok(Some(Note::Degraded(problem)));
        }
        let eviction = self.redis.as_ref().and_then(|redis| redis.eviction());
        Ok(eviction.map(|policy| {
            let problem = "Redis may evict what is kept in it when its memory is full; set it to noeviction";
            Note::Warning(format!("maxmemory-policy {policy}: {problem}"))
        }))
    }

    /// What is the matter with files, if anything is: the server goes on with what it knew.
    fn file_note(&self) -> Option<Note> {
        let faults = self.file_faults.all();
        let told: Vec<_> = faults.iter().map(|(name, fault)| format!("{name}: {fault}")).collect();
        (!told.is_empty()).then(|| Note::Degraded(told.join("; ")))
    }

    /// What feeds the sinks of usage events; yielded once.
    pub(crate) fn take_sinks(&self) -> Vec<SinkFeed> {
        std::mem::take(&mut *self.sinks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows changes and ships records until told to stop, and then until every record is shipped or
    /// `patience` is over.
    pub(crate) async fn run(&self, metrics: &TenancyMetrics, stop: CancellationToken, patience: Duration) {
        let warn = self.warn_of_old_keys(&stop, metrics);
        let (token, time) = (self.follow_token(&stop), self.keep_time(&stop));
        tokio::join!(
            self.follow(&stop),
            self.ship(&stop, patience),
            self.scrub(&stop),
            warn,
            token,
            time,
            async {
                if let Some(issuer) = &self.issuer {
                    issuer.run(&stop).await;
                }
            }
        );
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut is_lost = false;
        loop {
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(FOLLOW_EVERY) => {} }
            self.gatekeeper.exchange_limits(WallTime::now()).await;
            if let Err(error) = self.gatekeeper.collect_handed_over(&self.server, &self.idempotency).await {
                tracing::debug!(%error, "what is owed to the journal is seen to later");
            }
            let followed = self.follow_accounts().await;
            *self.unfollowed() = followed.as_ref().err().map(ToString::to_string);
            match followed {
                Ok(()) => is_lost = false,
                Err(error) if !is_lost => {
                    is_lost = true;
                    tracing::error!(%error, "changes of tenants and keys cannot be followed");
                }
                Err(_) => {}
            }
        }
    }

    fn unfollowed(&self) -> MutexGuard<'_, Option<String>> {
        self.unfollowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the accounts; first, if that was not done yet, whether their keys are hashed under this server's
    /// secret.
    async fn follow_accounts(&self) -> Result<(), AdministrationError> {
        if self.refused.get().is_some() {
            return Ok(());
        }
        let mut secret = self.secret.lock().await;
        if secret.is_due() {
            match check_secret(self.accounts.as_ref(), &secret.own).await {
                Ok(None) => {
                    secret.is_confirmed = true;
                    self.administration.hold(None);
                }
                Ok(Some(_)) if secret.is_confirmed => {}
                Ok(Some(problem)) => return Err(StoreError::Unavailable(problem).into()),
                Err(error) if secret.is_confirmed => {
                    tracing::error!(%error, "another server uses this store with another key secret");
                }
                Err(error) => {
                    tracing::error!(%error, "this server is not ready, and lets nobody in until it is started with the right one");
                    self.administration.hold(Some(error.to_string()));
                    // It is set once.
                    let _ = self.refused.set(error.to_string());
                    return Ok(());
                }
            }
        }
        drop(secret);
        read_accounts(&self.administration, &mut *self.declared.lock().await).await
    }

    /// Takes over the operator's token when its file is another one.
    async fn follow_token(&self, stop: &CancellationToken) {
        let mut aside = Aside::new(TOKEN, self.file_faults.clone());
        loop {
            let token = Arc::clone(&self.operator_token);
            let refreshed = async {
                tokio::time::sleep(FOLLOW_EVERY).await;
                aside.run(move || token.refresh()).await
            };
            let refreshed =
                tokio::select! { () = stop.cancelled() => return, refreshed = refreshed => refreshed };
            let Some(refreshed) = refreshed else { continue };
            let fault = refreshed.err();
            if self.file_faults.tell(TOKEN, fault.clone())
                && let Some(error) = fault
            {
                tracing::error!(error, "the operator's token was changed and cannot be used");
            }
        }
    }

    /// Keeps the time for the next process, which may find the clock set back.
    async fn keep_time(&self, stop: &CancellationToken) {
        let mut aside = Aside::new("time", self.file_faults.clone());
        loop {
            let is_last = stop.is_cancelled();
            let now = WallTime::now();
            let (seen, latest) = (self.directory.calendar(now), self.directory.latest(now));
            let path = self.state.path().join(TIME_FILE);
            let kept = aside.run(move || secrets::rewrite(&path, &format!("{seen}\n{latest}\n"))).await;
            if let Some(Err(error)) = kept {
                tracing::debug!(%error, "the time cannot be kept");
            }
            if is_last {
                return;
            }
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(FOLLOW_EVERY) => {} }
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

    /// Looks through what everybody is done with for damage, once. What it costs is time of the disk.
    async fn scrub(&self, stop: &CancellationToken) {
        let (gatekeeper, followers, stop) =
            (self.gatekeeper.clone(), Arc::clone(&self.followers), stop.clone());
        let scrub = move || gatekeeper.journal().scrub(&followers, || stop.is_cancelled());
        match tokio::task::spawn_blocking(scrub).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the usage journal cannot be looked through for damage");
            }
            Err(error) => tracing::error!(%error, "looking through the usage journal ended badly"),
        }
    }

    async fn ship(&self, stop: &CancellationToken, patience: Duration) {
        let Some(mut shipper) = self.shipper.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let mut problem = Problem::default();
        let mut ticks = 0;
        while !stop.is_cancelled() {
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(SHIP_EVERY) => {} }
            if ticks % (CHECK_EVERY.as_millis() / SHIP_EVERY.as_millis()) == 0 {
                problem.tell(shipper.check().await.err());
            }
            ticks += 1;
            self.ship_all(&mut shipper, &mut problem).await;
        }
        // No request is worked on any more: what is pending is all there will be.
        let rest = async {
            self.ship_all(&mut shipper, &mut problem).await;
            problem.tell(shipper.keep().await.err());
        };
        if tokio::time::timeout(patience, rest).await.is_err() {
            tracing::warn!("not all usage records were shipped; they will be after the next start");
        }
    }

    async fn ship_all(&self, shipper: &mut Shipper, problem: &mut Problem) {
        loop {
            let shipped = shipper.ship(self.gatekeeper.journal().written()).await;
            match &shipped {
                // Somebody is behind: it is asked who else is.
                Ok(1..) if shipper.is_suspicious() => problem.tell(shipper.check().await.err()),
                Ok(1..) => {}
                Ok(0) | Err(_) => return problem.tell(shipped.err()),
            }
        }
    }
}

/// Reads the accounts, and makes them what is declared if that was not done yet.
async fn read_accounts(
    administration: &Administration,
    declared: &mut Option<Vec<DeclaredTenant>>,
) -> Result<(), AdministrationError> {
    let now = WallTime::now();
    if let Some(tenants) = declared.as_deref() {
        let changes = administration.declare(now, DECLARED, tenants).await?;
        tracing::info!(tenants = tenants.len(), changes, "tenants of the file are in force");
        *declared = None;
    }
    administration.follow(now).await
}

fn file_error(path: &Path, source: std::io::Error) -> TenancyError {
    TenancyError::File { path: path.to_owned(), source }
}
