//! From a credential to a principal: the tenants and keys that this process knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use units::{Clock, MonotonicClock, TenantId, Timestamp};

use crate::accounts::{
    Accounts, Change, DEVELOPMENT_TENANT, KeyRecord, KeyState, TenantName, TenantRecord, Version,
};
use crate::credential::{Credential, CredentialError};
use crate::jwt::{Bearer, JwtError, JwtVerifier};
use crate::key::{ApiKey, KeyHash, KeySecret, Mode};
use crate::peer::{NotLocal, Peer, Service};
use crate::plan::{Plan, Terms};
use crate::principal::{KeyId, Principal, Role, Tenant};
use units::WallTime;

/// The development tenant's API key. It is public, so it is only ever good on loopback.
pub const DEVELOPMENT_KEY: &str = "tc_test_dev";

/// The tenants this process knows, found by credential. Reading never waits for a change.
pub struct Directory {
    secret: KeySecret,
    jwt: Option<Arc<JwtVerifier>>,
    /// By SPIFFE id.
    services: HashMap<Arc<str>, Service>,
    has_development: bool,
    /// Whether `tc_test_` keys are accepted.
    has_sandbox: bool,
    known: ArcSwap<Known>,
    /// Numbers of tenants, which stay the same while the process lives.
    numbers: Mutex<HashMap<TenantName, TenantId>>,
    uptime: MonotonicClock,
    calendar: Calendar,
}

/// The calendar, which does not go back: the time that passed since it was first looked at has passed,
/// whatever it is set to. So a key that has expired stays expired. Set forward, it is believed as long as it
/// stays so.
#[derive(Default)]
struct Calendar {
    start: OnceLock<(Timestamp, WallTime)>,
    /// The latest that it ever showed, and when that was.
    latest: Mutex<Option<(Timestamp, WallTime)>>,
}

impl Calendar {
    fn now(&self, uptime: Timestamp, wall: WallTime) -> WallTime {
        let (since, then) = *self.start.get_or_init(|| (uptime, wall));
        wall.max(then.plus(uptime.saturating_duration_since(since)))
    }

    /// The latest that it showed, and what has passed since: also where it was set forward and back. So a day
    /// that was begun goes on, and the one before does not come again; days go on to be as long as they are.
    fn latest(&self, uptime: Timestamp, wall: WallTime) -> WallTime {
        let now = self.now(uptime, wall);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let shown =
            latest.map_or(now, |(at, shown)| shown.plus(uptime.saturating_duration_since(at)).max(now));
        *latest = Some((uptime, shown));
        shown
    }
}

/// One version of the accounts, by what is looked up.
#[derive(Clone, Default)]
struct Known {
    /// Whether the accounts were read at all.
    is_read: bool,
    /// What of them is lost.
    lost: Option<Arc<str>>,
    tenants: Arc<HashMap<TenantName, Entry>>,
    /// In parts by their hash, so that a change copies one of them.
    keys: Vec<Arc<HashMap<KeyHash, KnownKey>>>,
}

type KnownKey = Arc<(KeyRecord, KeyId)>;

#[derive(Clone)]
struct Entry {
    tenant: Tenant,
    is_suspended: bool,
}

/// Why nobody was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The header held no credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The key belongs to nobody, or is mistyped.
    #[error("invalid API key")]
    UnknownKey,
    #[error("this API key was revoked")]
    RevokedKey,
    /// The key's time is over.
    #[error("this API key has expired")]
    ExpiredKey,
    /// The tenant is suspended.
    #[error("this account is suspended")]
    Suspended,
    /// A key of the sandbox, and this is not one.
    #[error("test keys (`tc_test_…`) are not accepted here; use a `tc_live_…` key")]
    TestKey,
    /// The development key came from another machine.
    #[error("the development key is accepted from loopback addresses only")]
    NotLoopback,
    /// The development key came from this machine, but for another host.
    #[error(
        "the development key is accepted for localhost and loopback addresses only, by the Host header too"
    )]
    NotLocalHost,
    /// The JWT is not accepted.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// The JWT names a tenant that is not known here, and no plan; or a service's tenant is not known.
    #[error("the tenant of these credentials is not known here, and they name no plan")]
    UnknownTenant,
    /// A certificate was shown that names no service known here, and nothing else.
    #[error("the service of this client certificate is not known here; use an API key")]
    UnknownService,
    /// The store has not answered since the server started, so nobody is known.
    #[error("tenants and keys cannot be read at present; retry later")]
    AccountsUnread,
    /// A JWT was shown, but no issuer is configured to check it against.
    #[error("JWTs are not accepted here: no issuer is configured; use an API key")]
    JwtNotConfigured,
}

impl Directory {
    /// A directory that knows nobody but, if asked for, the development tenant, whose key is
    /// [`DEVELOPMENT_KEY`], accepted from loopback peers only. Test keys are refused.
    pub fn new(secret: KeySecret, has_development: bool) -> Self {
        Self {
            secret,
            jwt: None,
            services: HashMap::new(),
            has_development,
            has_sandbox: false,
            known: ArcSwap::default(),
            numbers: Mutex::default(),
            uptime: MonotonicClock::new(),
            calendar: Calendar::default(),
        }
    }

    /// The same, which accepts test keys, for a sandbox; what they use has no price.
    #[must_use]
    pub fn with_sandbox(self, has_sandbox: bool) -> Self {
        Self { has_sandbox, ..self }
    }

    /// The same, which accepts the JWTs of an issuer too.
    #[must_use]
    pub fn with_jwt(self, verifier: Arc<JwtVerifier>) -> Self {
        Self { jwt: Some(verifier), ..self }
    }

    /// The same, which knows services by the certificates they show.
    #[must_use]
    pub fn with_services(self, services: HashMap<Arc<str>, Service>) -> Self {
        Self { services, ..self }
    }

    /// The same, whose calendar is not before `seen`, and whose days are not before that of `latest`: the
    /// last time that an earlier process saw, and the latest.
    #[must_use]
    pub fn with_calendar(self, seen: WallTime, latest: WallTime) -> Self {
        let now = self.uptime.now();
        // It is set once, before it is looked at.
        let _ = self.calendar.start.set((now, seen));
        *self.calendar.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, latest));
        self
    }

    /// The time by which days of limits begin, where the clock says `now`: never before the latest that the
    /// clock said.
    pub fn latest(&self, now: WallTime) -> WallTime {
        self.calendar.latest(self.uptime.now(), now)
    }

    /// The time by which keys expire, where the clock says `now`.
    pub fn calendar(&self, now: WallTime) -> WallTime {
        self.calendar.now(self.uptime.now(), now)
    }

    /// Whether the public development key would be accepted.
    pub fn has_development_tenant(&self) -> bool {
        self.has_development
    }

    /// Whether test keys are accepted.
    pub(crate) fn has_sandbox(&self) -> bool {
        self.has_sandbox
    }

    /// What keys are hashed under.
    pub fn secret(&self) -> &KeySecret {
        &self.secret
    }

    /// Whether it knows the accounts; before that nobody's key is known, and none is unknown.
    pub fn has_accounts(&self) -> bool {
        self.known.load().is_read
    }

    /// What of the accounts is lost, in words, if they show it.
    pub fn lost(&self) -> Option<Arc<str>> {
        self.known.load().lost.clone()
    }

    /// Takes the accounts as they are now.
    pub fn update(&self, accounts: &Accounts) {
        let tenants = accounts.tenants.values();
        let tenants = tenants.map(|record| (record.name.clone(), self.entry(record))).collect();
        let mut keys = vec![HashMap::new(); KeyHash::PARTS];
        for key in accounts.keys.values() {
            keys[key.hash.part()].insert(key.hash, known_key(key));
        }
        let keys = keys.into_iter().map(Arc::new).collect();
        let lost = accounts.lost().map(Arc::from);
        self.known.store(Arc::new(Known { is_read: true, lost, tenants: Arc::new(tenants), keys }));
    }

    /// Takes changes of the accounts that it knows, which were like `before`. Costs as much as the changes,
    /// whatever the accounts have.
    pub(crate) fn change(&self, before: &Accounts, changes: &[Change]) {
        let mut known = Known::clone(&self.known.load());
        if known.lost.is_some() {
            let mut after = before.clone();
            after.apply(changes);
            // The store has counted anew.
            after.version = Version::default();
            known.lost = after.lost().map(Arc::from);
        }
        for change in changes {
            match change {
                Change::Tenant(record) => {
                    let tenants = Arc::make_mut(&mut known.tenants);
                    tenants.insert(record.name.clone(), self.entry(record));
                }
                Change::Key(key) => {
                    known.keys.resize_with(KeyHash::PARTS, Arc::default);
                    // A declared key may be another one by the same id.
                    if let Some(old) = before.keys.get(&key.id).filter(|old| old.hash != key.hash) {
                        Arc::make_mut(&mut known.keys[old.hash.part()]).remove(&old.hash);
                    }
                    Arc::make_mut(&mut known.keys[key.hash.part()]).insert(key.hash, known_key(key));
                }
                Change::Model(_) => {}
            }
        }
        self.known.store(Arc::new(known));
    }

    fn entry(&self, record: &TenantRecord) -> Entry {
        let name = Arc::from(record.name.as_str());
        let tenant = Tenant { id: self.number(&record.name), name, plan: record.plan };
        Entry { tenant, is_suspended: record.is_suspended }
    }

    /// The principal of a credential.
    ///
    /// # Errors
    /// See [`AuthenticationError`].
    pub async fn authenticate(
        &self,
        credential: &Credential,
        peer: &Peer,
        now: WallTime,
    ) -> Result<Principal, AuthenticationError> {
        match credential {
            Credential::ApiKey(text) if self.is_development_key(text) => self.development(peer),
            Credential::ApiKey(text) => self.find_key(text, now),
            Credential::Jwt(token) => self.find_bearer(token, self.calendar(now)).await,
        }
    }

    fn is_development_key(&self, text: &str) -> bool {
        self.has_development && bool::from(text.as_bytes().ct_eq(DEVELOPMENT_KEY.as_bytes()))
    }

    fn development(&self, peer: &Peer) -> Result<Principal, AuthenticationError> {
        peer.is_local().map_err(|why| match why {
            NotLocal::Address => AuthenticationError::NotLoopback,
            NotLocal::Host => AuthenticationError::NotLocalHost,
        })?;
        let name = Arc::from(DEVELOPMENT_TENANT);
        let tenant = Tenant { id: TenantId(0), name, plan: Plan::Custom(DEVELOPMENT_TERMS) };
        Ok(Principal { tenant, key: KeyId(Arc::from("dev")), role: Role::Owner, is_sandboxed: false })
    }

    fn find_key(&self, text: &str, now: WallTime) -> Result<Principal, AuthenticationError> {
        let key = ApiKey::parse(text).ok_or(AuthenticationError::UnknownKey)?;
        let is_sandboxed = key.mode() == Mode::Test;
        if is_sandboxed && !self.has_sandbox {
            return Err(AuthenticationError::TestKey);
        }
        let hash = key.hash(&self.secret);
        let known = self.known()?;
        // What is looked up is the hash under a secret, so how long that takes says nothing of any key.
        let part = known.keys.get(hash.part());
        let found = part.and_then(|keys| keys.get(&hash)).ok_or(AuthenticationError::UnknownKey)?;
        let (record, id) = &**found;
        let entry = known.tenants.get(&record.tenant).ok_or(AuthenticationError::UnknownKey)?;
        if !bool::from(record.hash.ct_eq(&hash)) {
            return Err(AuthenticationError::UnknownKey);
        }
        match record.state(self.calendar(now)) {
            KeyState::Active => {}
            KeyState::Expired => return Err(AuthenticationError::ExpiredKey),
            KeyState::Revoked => return Err(AuthenticationError::RevokedKey),
        }
        if entry.is_suspended {
            return Err(AuthenticationError::Suspended);
        }
        Ok(Principal { tenant: entry.tenant.clone(), key: id.clone(), role: record.role, is_sandboxed })
    }

    async fn find_bearer(&self, token: &str, now: WallTime) -> Result<Principal, AuthenticationError> {
        let verifier = self.jwt.as_ref().ok_or(AuthenticationError::JwtNotConfigured)?;
        let Bearer { tenant: name, plan, role, subject } = verifier.verify(token, now).await?;
        if name.is_reserved() {
            return Err(JwtError::Claim("tenant").into());
        }
        let known = self.known()?;
        let entry = known.tenants.get(&name);
        if entry.is_some_and(|entry| entry.is_suspended) {
            return Err(AuthenticationError::Suspended);
        }
        let plan = plan.or(entry.map(|entry| entry.tenant.plan)).ok_or(AuthenticationError::UnknownTenant)?;
        let tenant = Tenant { id: self.number(&name), name: Arc::from(name.as_str()), plan };
        Ok(Principal { tenant, key: KeyId(Arc::from(subject)), role, is_sandboxed: false })
    }

    /// The principal of a service, by its SPIFFE id.
    ///
    /// # Errors
    /// It is not known, or its tenant is not or is suspended.
    pub(crate) fn find_service(&self, id: &Arc<str>) -> Result<Principal, AuthenticationError> {
        let service = self.services.get(id).ok_or(AuthenticationError::UnknownService)?;
        let known = self.known()?;
        let entry = known.tenants.get(&service.tenant).ok_or(AuthenticationError::UnknownTenant)?;
        if entry.is_suspended {
            return Err(AuthenticationError::Suspended);
        }
        let (tenant, key) = (entry.tenant.clone(), KeyId(Arc::clone(id)));
        Ok(Principal { tenant, key, role: service.role, is_sandboxed: false })
    }

    fn known(&self) -> Result<arc_swap::Guard<Arc<Known>>, AuthenticationError> {
        let known = self.known.load();
        if known.is_read { Ok(known) } else { Err(AuthenticationError::AccountsUnread) }
    }

    /// The number of a tenant: 0 is the development tenant's.
    fn number(&self, name: &TenantName) -> TenantId {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = TenantId(numbers.len() as u32 + 1);
        *numbers.entry(name.clone()).or_insert(next)
    }
}

fn known_key(key: &KeyRecord) -> KnownKey {
    Arc::new((key.clone(), KeyId(Arc::from(key.id.as_str()))))
}

/// What the development tenant may use: as much as it likes.
const DEVELOPMENT_TERMS: Terms = Terms {
    requests_per_minute: 1_000_000_000,
    requests_per_day: None,
    tokens_per_minute: None,
    tokens_per_day: None,
    concurrency_max: 1_000_000,
    weight: Plan::Enterprise.terms().weight,
};

#[cfg(test)]
mod tests;
