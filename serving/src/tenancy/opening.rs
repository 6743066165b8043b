//! What is opened before anybody is served: the store, the key secret, the counts and the time of an earlier
//! process.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use router::accounts::Version;
use router::idempotency::{Idempotency, Room};
use router::ledger::{Journal, JournalError};
use router::limit::MemoryLimits;
use router::store::{AccountStore, EmbeddedStore, RedisStore, StoreError};
use router::{
    AdministrationError, DeclaredTenant, Directory, KeySecret, Mode, Moment, Outcome, Service, WallTime,
};
use units::{Clock, MonotonicClock, Unit};

use super::{Homes, OwnSecret, TIME_FILE, TenancyError};
use crate::config::{Config, Identity, Store};
use crate::declared_tenants;
use crate::issuer::Issuer;
use crate::secrets::{self, OnEmpty};

/// How far back the minute's limits look.
const RESTORE: Duration = Duration::from_secs(62);
/// Records of the journal that are looked through for that, at most.
const RESTORE_RECORDS_MAX: u64 = 1_000_000;
/// What to do when the secret of keys is gone and there are keys.
const NO_KEY_SECRET: &str = "it is empty, and the stored keys can be recognised with it alone: restore it from a backup; or remove \
                             it, and every key is invalid and has to be made again";
/// How much longer an idempotency key is held than a request may take.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// The secret that keys are hashed under, in the state folder.
pub(super) const KEY_SECRET_FILE: &str = "key.secret";

/// The stores of all that servers may share.
pub(super) async fn homes(store: &Store, folder: &Path) -> Result<Homes, TenancyError> {
    match store {
        Store::Embedded => {
            let store = Arc::new(open_embedded(folder).await?);
            Ok(Homes {
                accounts: store.clone(),
                usage: store.clone(),
                answers: store.clone(),
                room: store.clone(),
                limits: None,
                redis: None,
                embedded: Some(store),
            })
        }
        Store::Redis(redis) => {
            let store = Arc::new(RedisStore::connect(redis.to_connect()?).await?);
            Ok(Homes {
                accounts: store.clone(),
                usage: store.clone(),
                answers: store.clone(),
                room: store.clone(),
                limits: Some(store.clone()),
                redis: Some(store),
                embedded: None,
            })
        }
    }
}

/// Name of the embedded store's file.
pub(crate) const STORE_FILE: &str = "store.redb";

/// Opens the embedded store; one that is empty is a new one, which is said if there was one before.
pub(crate) async fn open_embedded(folder: &Path) -> Result<EmbeddedStore, TenancyError> {
    let path = folder.join(STORE_FILE);
    let is_empty = std::fs::metadata(&path).map_or(true, |metadata| metadata.len() == 0);
    if is_empty && (path.exists() || folder.join(crate::ledger::FOLDER).exists()) {
        tracing::error!(
            path = %path.display(),
            "the store of tenants, keys and sums is empty or gone: tenants and keys are lost with it unless a file declares \
             them; what was used is summed again as far back as the journal goes"
        );
    }
    let opening = path.clone();
    // Of a damaged file redb panics; the error says what there is to say.
    let open = move || crate::telemetry::without_panics_logged(|| EmbeddedStore::open(&opening));
    match tokio::task::spawn_blocking(open).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(StoreError::Corrupt(problem))) => Err(TenancyError::StoreDamaged { path, problem }),
        Ok(Err(error)) => Err(error.into()),
        // It met what it does not expect in its own file.
        Err(_) => {
            Err(TenancyError::StoreDamaged { path, problem: "it is not as long as it says".to_owned() })
        }
    }
}

/// Counts of a process that was here before, from its journal, so that a restart is no way around a limit.
pub(super) fn restored(
    journal: &Journal,
    uptime: MonotonicClock,
    directory: &Directory,
) -> Result<MemoryLimits, JournalError> {
    let limits = MemoryLimits::default();
    let now = WallTime::now();
    // Where the clock was set back, what is recorded of its day counted in a later one.
    let today = directory.latest(now).day();
    let moment = Moment { uptime: uptime.now(), wall: directory.latest(now) };
    for record in journal.newest(RESTORE_RECORDS_MAX)? {
        let is_today = [today, now.day()].contains(&record.at.day());
        // What was refused is recorded only if it was worked on.
        let counts = record.outcome != Outcome::Failed;
        if counts && (is_today || now.since(record.at) < RESTORE) {
            let at = (now.since(record.at), if is_today { today } else { record.at.day() });
            limits.restore(moment, at, &record.tenant, Unit::Inputs, record.inputs);
            limits.restore(moment, at, &record.tenant, Unit::Tokens, record.tokens);
        }
    }
    Ok(limits)
}

/// What keys are hashed under: of the configured file, else of the state folder, where one is made if there
/// is none.
pub(super) async fn secret(
    config: &Config,
    folder: &Path,
    accounts: &dyn AccountStore,
) -> Result<(KeySecret, std::path::PathBuf), TenancyError> {
    let (path, bytes) = match (&config.tenancy.key_secret_file, &config.tenancy.store) {
        (Some(path), _) => (path.clone(), secrets::read(path)?),
        (None, Store::Redis(_)) => return Err(TenancyError::NoSecret),
        (None, Store::Embedded) => {
            let path = folder.join(KEY_SECRET_FILE);
            let has_keys = !accounts.load(&Version::default()).await?.accounts.keys.is_empty();
            let on_empty = if has_keys { OnEmpty::Refuse(NO_KEY_SECRET) } else { OnEmpty::Replace };
            let text = secrets::keep(&path, &on_empty, || {
                let (_, bytes) = KeySecret::generate()?;
                Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            })?;
            (path, text.into_bytes())
        }
    };
    match KeySecret::new(bytes) {
        Ok(secret) => Ok((secret, path)),
        Err(problem) => Err(TenancyError::KeySecret { path, problem }),
    }
}

/// Whether the stored keys are hashed under the secret of this fingerprint. Where there are none it takes the
/// place of another. Why that cannot be told, if the store does not answer.
pub(super) async fn check_secret(
    accounts: &dyn AccountStore,
    own: &OwnSecret,
) -> Result<Option<String>, TenancyError> {
    let fingerprint = own.fingerprint.as_str();
    let checked = async {
        let kept = accounts.key_secret(fingerprint, false).await?;
        if kept == fingerprint || accounts.load(&Version::default()).await?.accounts.keys.is_empty() {
            return accounts.key_secret(fingerprint, true).await;
        }
        Ok(kept)
    };
    match checked.await {
        Ok(kept) if kept == fingerprint => Ok(None),
        Ok(_) => Err(TenancyError::OtherSecret { path: own.path.clone() }),
        Err(StoreError::Unavailable(problem)) => {
            tracing::debug!(
                problem,
                "whether the stored keys are hashed under this secret cannot be told yet"
            );
            Ok(Some(problem))
        }
        Err(error) => Err(error.into()),
    }
}

/// How far ahead of the clock a time that an earlier process saw may be.
const TIME_AHEAD_MAX: Duration = Duration::from_secs(7 * 86_400);

/// The last time that an earlier process saw, and the latest. A clock that was ahead by more than a week was
/// wrong, and is not believed.
pub(super) fn kept_time(folder: &Path, now: WallTime) -> Option<(WallTime, WallTime)> {
    let text = std::fs::read_to_string(folder.join(TIME_FILE)).ok()?;
    let mut times = text.lines().filter_map(|line| line.trim().parse::<WallTime>().ok());
    let seen = times.next()?;
    let believed = |time: WallTime| {
        let is_far = time.since(now) > TIME_AHEAD_MAX;
        if is_far {
            tracing::warn!(%time, "an earlier process saw a time that is far ahead; it is not believed");
        }
        if is_far { now } else { time.max(now) }
    };
    // An older version kept one.
    let (seen, latest) = (believed(seen), times.next().map_or(now, believed));
    if seen > now {
        tracing::warn!(latest = %seen, %now, "the clock was set back: keys that had expired by then stay expired");
    }
    Some((seen, latest.max(seen)))
}

/// Answers under idempotency keys.
pub(super) fn idempotency(config: &Config, homes: &Homes, secret: KeySecret) -> Idempotency {
    // Whoever answers a request has given up by then.
    let lease = config.request_timeout() + LEASE_MARGIN;
    let answer_bytes_max = config.limits.idempotent_answer_bytes_max;
    let room_max = Room {
        answers: config.limits.idempotent_answers_per_tenant_max,
        bytes: config.limits.idempotent_bytes_per_tenant_max,
    };
    Idempotency::new(Arc::clone(&homes.answers), secret, lease, answer_bytes_max)
        .with_room(Arc::clone(&homes.room), room_max)
}

/// Who is known: nobody yet but those of the configuration.
pub(super) fn directory(
    config: &Config,
    secret: KeySecret,
    issuer: Option<&Issuer>,
    folder: &Path,
) -> Directory {
    let mut directory = Directory::new(secret, config.development_tenant).with_sandbox(config.has_sandbox());
    if let Some(issuer) = issuer {
        directory = directory.with_jwt(Arc::clone(&issuer.verifier));
    }
    if let Some((seen, latest)) = kept_time(folder, WallTime::now()) {
        directory = directory.with_calendar(seen, latest);
    }
    directory.with_services(services(config))
}

/// Tenants and keys of `tenancy.tenants_file`, if there is one.
pub(super) fn declared(config: &Config) -> Result<Option<Vec<DeclaredTenant>>, TenancyError> {
    let declared = config.tenancy.tenants_file.as_deref().map(declared_tenants::read).transpose()?;
    let mut keys = declared.iter().flatten().flat_map(|tenant| &tenant.keys);
    if !config.has_sandbox() && keys.any(|key| key.key.mode() == Mode::Test) {
        tracing::warn!("tenancy.tenants_file declares test keys, which are refused here (tenancy.test_keys)");
    }
    Ok(declared)
}

/// Whether the server may start after its first look at the accounts: a Redis may come later, and nobody is
/// let in until it does.
pub(super) fn check_first_read(
    read: Result<(), AdministrationError>,
    is_in_redis: bool,
    directory: &Directory,
) -> Result<(), TenancyError> {
    match read {
        Err(AdministrationError::Store(StoreError::Unavailable(problem))) if is_in_redis => {
            tracing::error!(problem, "tenants and keys cannot be read yet: calls are refused until they are");
        }
        read => read?,
    }
    if let Some(lost) = directory.lost() {
        tracing::error!(%lost, "the store of tenants and keys is not whole");
    }
    Ok(())
}

/// The services that are known by their certificates.
fn services(config: &Config) -> HashMap<Arc<str>, Service> {
    let clients = config.tls.iter().flat_map(|tls| &tls.clients);
    let identities = clients.flat_map(|clients| &clients.identities);
    let service = |identity: &Identity| Service { tenant: identity.tenant.clone(), role: identity.role };
    identities.map(|identity| (Arc::from(identity.uri.as_str()), service(identity))).collect()
}
