//! From a credential to a principal: the tenants and keys that this process knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use units::{Clock, MonotonicClock, TenantId, Timestamp};

use crate::accounts::{Accounts, Change, DEVELOPMENT_TENANT, KeyRecord, KeyState, TenantName, TenantRecord};
use crate::credential::{Credential, CredentialError};
use crate::jwt::{Bearer, JwtError, JwtVerifier};
use crate::key::{ApiKey, KeyHash, KeySecret, Mode};
use crate::peer::{NotLocal, Peer, Service};
use crate::plan::{Plan, Terms};
use crate::principal::{KeyId, Principal, Role, Tenant};
use crate::wall_time::WallTime;

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

/// The calendar, which does not go back: the time that passed since it was first looked at has passed, whatever it is set to. So
/// a key that has expired stays expired. Set forward, it is believed as long as it stays so.
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

    /// The latest that it showed, and what has passed since: also where it was set forward and back. So a day that was begun
    /// goes on, and the one before does not come again; days go on to be as long as they are.
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
    /// The key was revoked.
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
    /// A directory that knows nobody but, if asked for, the development tenant, whose key is [`DEVELOPMENT_KEY`], accepted
    /// from loopback peers only. Test keys are refused.
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

    /// The same, whose calendar is not before `seen`, and whose days are not before that of `latest`: the last time that an
    /// earlier process saw, and the latest.
    #[must_use]
    pub fn with_calendar(self, seen: WallTime, latest: WallTime) -> Self {
        let now = self.uptime.now();
        // It is set once, before it is looked at.
        let _ = self.calendar.start.set((now, seen));
        *self.calendar.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, latest));
        self
    }

    /// The time by which days of limits begin, where the clock says `now`: never before the latest that the clock said.
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

    /// Takes the accounts as they are now.
    pub fn update(&self, accounts: &Accounts) {
        let tenants = accounts.tenants.values();
        let tenants = tenants.map(|record| (record.name.clone(), self.entry(record))).collect();
        let mut keys = vec![HashMap::new(); KeyHash::PARTS];
        for key in accounts.keys.values() {
            keys[key.hash.part()].insert(key.hash, known_key(key));
        }
        let keys = keys.into_iter().map(Arc::new).collect();
        self.known.store(Arc::new(Known { is_read: true, tenants: Arc::new(tenants), keys }));
    }

    /// Takes changes of the accounts that it knows, which were like `before`. Costs as much as the changes, whatever the accounts
    /// have.
    pub(crate) fn change(&self, before: &Accounts, changes: &[Change]) {
        let mut known = Known::clone(&self.known.load());
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::accounts::TenantRecord;
    use crate::key::Mode;

    const LOOPBACK: &str = "127.0.0.1";

    fn find(
        directory: &Directory,
        token: &str,
        peer: &str,
        now: u64,
    ) -> Result<Principal, AuthenticationError> {
        find_at(directory, token, peer, None, now)
    }

    fn find_at(
        directory: &Directory,
        token: &str,
        peer: &str,
        host: Option<&str>,
        now: u64,
    ) -> Result<Principal, AuthenticationError> {
        let credential = Credential::parse(Some(&format!("Bearer {token}"))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let peer = Peer { address: peer.parse().unwrap(), service: None, host: host.map(Arc::from) };
        runtime.block_on(directory.authenticate(&credential, &peer, WallTime(now)))
    }

    #[test]
    fn the_development_key() {
        let secret = KeySecret::generate().unwrap().0;
        let check =
            |has_development: bool, token: &str, peer: &str, expected: Option<AuthenticationError>| {
                let directory = Directory::new(secret.clone(), has_development);
                assert_eq!(find(&directory, token, peer, 0).err(), expected, "{token} from {peer}");
            };
        check(true, "tc_test_dev", LOOPBACK, None);
        check(true, "tc_test_dev", "::1", None);
        check(true, "tc_test_dev", "::ffff:127.0.0.1", None);
        check(true, "tc_test_dev", "192.0.2.7", Some(AuthenticationError::NotLoopback));
        check(true, "tc_test_dev", "::ffff:192.0.2.7", Some(AuthenticationError::NotLoopback));
        check(true, "tc_test_other", LOOPBACK, Some(AuthenticationError::UnknownKey));
        check(true, "tc_test_devx", LOOPBACK, Some(AuthenticationError::UnknownKey));
        check(true, "a.b.c", LOOPBACK, Some(AuthenticationError::JwtNotConfigured));
        check(false, "tc_test_dev", LOOPBACK, Some(AuthenticationError::UnknownKey));
        let principal = find(&Directory::new(secret.clone(), true), "tc_test_dev", LOOPBACK, 0).unwrap();
        assert_eq!(&*principal.tenant().name, "development");
        assert!(principal.has(Role::Viewer) && principal.has(Role::Editor) && principal.has(Role::Owner));
    }

    #[test]
    fn the_development_key_for_another_host() {
        let directory = Directory::new(KeySecret::generate().unwrap().0, true);
        let check = |peer: &str, host: &str, expected: Option<AuthenticationError>| {
            let found = find_at(&directory, "tc_test_dev", peer, Some(host), 0);
            assert_eq!(found.err(), expected, "{host} from {peer}");
        };
        check(LOOPBACK, "localhost:8080", None);
        check(LOOPBACK, "127.0.0.1:8080", None);
        check(LOOPBACK, "evil.example:8080", Some(AuthenticationError::NotLocalHost));
        check("192.0.2.7", "localhost:8080", Some(AuthenticationError::NotLoopback));
    }

    #[test]
    fn test_keys_are_for_the_sandbox() {
        let secret = KeySecret::generate().unwrap().0;
        let key = ApiKey::generate(Mode::Test).unwrap();
        let name: TenantName = "acme".parse().unwrap();
        let tenant = TenantRecord {
            name: name.clone(),
            plan: Plan::Free,
            is_suspended: false,
            created_at: WallTime(0),
            plan_set_at: WallTime(0),
            suspension_set_at: WallTime(0),
        };
        let record = KeyRecord {
            id: "key_1".to_owned(),
            tenant: name.clone(),
            label: String::new(),
            mode: Mode::Test,
            role: Role::Editor,
            hash: key.hash(&secret),
            ending: key.ending(),
            created_at: WallTime(0),
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            changed_at: WallTime(0),
        };
        let mut accounts = Accounts::default();
        accounts.tenants.insert(name, tenant);
        accounts.keys.insert("key_1".to_owned(), record);
        for (has_sandbox, expected) in [(true, None), (false, Some(AuthenticationError::TestKey))] {
            let directory = Directory::new(secret.clone(), false).with_sandbox(has_sandbox);
            directory.update(&accounts);
            let found = find(&directory, key.expose(), "192.0.2.7", 0);
            assert!(found.as_ref().map_or(true, Principal::is_sandboxed));
            assert_eq!(found.err(), expected);
        }
    }

    #[test]
    fn a_calendar_that_is_set_back_revives_nothing() {
        let (calendar, second) = (Calendar::default(), |s: u64| Timestamp::from_nanos(s * 1_000_000_000));
        let check = |uptime: u64, wall: u64, expected: u64| {
            assert_eq!(
                calendar.now(second(uptime), WallTime(wall)),
                WallTime(expected),
                "{wall} at {uptime}"
            );
        };
        check(5, 10_000, 10_000);
        check(7, 12_000, 12_000);
        // Set back by nearly all, then forward by an hour and back.
        check(9, 1_000, 14_000);
        check(10, 3_615_000, 3_615_000);
        check(11, 16_000, 16_000);
    }

    /// Whatever is changed, it is as if all were taken anew.
    #[test]
    fn changes_are_taken_as_the_whole_is() {
        let directory = Directory::new(KeySecret::generate().unwrap().0, false);
        let mut accounts = Accounts::default();
        let tenant = |is_suspended| TenantRecord {
            name: "acme".parse().unwrap(),
            plan: Plan::Starter,
            is_suspended,
            created_at: WallTime(1),
            plan_set_at: WallTime(1),
            suspension_set_at: WallTime(1),
        };
        let keys = [(); 3].map(|()| ApiKey::generate(Mode::Live).unwrap());
        let key = |id: &str, key: &ApiKey, revoked_at: Option<u64>| KeyRecord {
            id: id.to_owned(),
            tenant: "acme".parse().unwrap(),
            label: String::new(),
            mode: Mode::Live,
            role: Role::Editor,
            hash: key.hash(directory.secret()),
            ending: String::new(),
            created_at: WallTime(1),
            expires_at: None,
            revoked_at: revoked_at.map(WallTime),
            replaced_by: None,
            changed_at: WallTime(1),
        };
        let steps = [
            vec![Change::Tenant(tenant(false)), Change::Key(key("1", &keys[0], None))],
            vec![Change::Key(key("2", &keys[1], None))],
            vec![Change::Key(key("2", &keys[2], None))],
            vec![Change::Key(key("1", &keys[0], Some(2)))],
            vec![Change::Tenant(tenant(true))],
        ];
        let found = |directory: &Directory| {
            [0, 1, 2]
                .map(|n| find(directory, keys[n].expose(), LOOPBACK, 9).map(|found| found.key.0.to_string()))
        };
        let mut seen = Vec::new();
        for changes in steps {
            directory.update(&accounts);
            directory.change(&accounts, &changes);
            let changed = found(&directory);
            accounts.apply(&changes);
            directory.update(&accounts);
            assert_eq!(changed, found(&directory), "{changes:?}");
            seen.push(changed.map(|found| found.is_ok()));
        }
        let expected = [
            [true, false, false],
            [true, true, false],
            [true, false, true],
            [false, false, true],
            [false; 3],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn days_that_were_begun_go_on() {
        let (calendar, second) = (Calendar::default(), |s: u64| Timestamp::from_nanos(s * 1_000_000_000));
        let day = 86_400_000;
        let check = |uptime: u64, wall: u64, expected: u64| {
            assert_eq!(
                calendar.latest(second(uptime), WallTime(wall)),
                WallTime(expected),
                "{wall} at {uptime}"
            );
        };
        check(0, 10 * day, 10 * day);
        check(5, 10 * day + 5_000, 10 * day + 5_000);
        // Three days ahead and back: the tenth does not come again, and the next day begins when this one has passed.
        check(6, 13 * day, 13 * day);
        check(7, 10 * day + 7_000, 13 * day + 1_000);
        check(86_406, 11 * day + 6_000, 14 * day);
        // Three days behind.
        check(86_407, 8 * day, 14 * day + 1_000);
        // Expiry believes the clock again.
        assert_eq!(calendar.now(second(86_408), WallTime(11 * day + 8_000)), WallTime(11 * day + 8_000));
        let directory = Directory::new(KeySecret::generate().unwrap().0, false);
        let directory = directory.with_calendar(WallTime(10 * day), WallTime(13 * day));
        assert!(directory.latest(WallTime(10 * day)).day() == WallTime(13 * day).day());
        assert!(directory.calendar(WallTime(10 * day)).day() == WallTime(10 * day).day());
    }

    #[test]
    fn services() {
        let billing: Arc<str> = Arc::from("spiffe://company.com/ns/billing/sa/billing-service");
        let name: TenantName = "acme".parse().unwrap();
        let service = Service { tenant: name.clone(), role: Role::Viewer };
        let directory = Directory::new(KeySecret::generate().unwrap().0, true);
        let directory = directory.with_services(HashMap::from([(Arc::clone(&billing), service)]));
        let check = |id: &str, expected: Option<AuthenticationError>| {
            assert_eq!(directory.find_service(&Arc::from(id)).err(), expected, "{id}");
        };
        check(&billing, Some(AuthenticationError::AccountsUnread));
        directory.update(&Accounts::default());
        check(&billing, Some(AuthenticationError::UnknownTenant));
        let tenant = TenantRecord {
            name: name.clone(),
            plan: Plan::Free,
            is_suspended: false,
            created_at: WallTime(0),
            plan_set_at: WallTime(0),
            suspension_set_at: WallTime(0),
        };
        let mut accounts = Accounts::default();
        accounts.tenants.insert(name.clone(), tenant.clone());
        directory.update(&accounts);
        check(&billing, None);
        check("spiffe://company.com/ns/billing/sa/other", Some(AuthenticationError::UnknownService));
        let principal = directory.find_service(&billing).unwrap();
        assert_eq!(principal.key().to_string(), &*billing);
        assert!(principal.has(Role::Viewer) && !principal.has(Role::Editor));
        accounts.tenants.insert(name, TenantRecord { is_suspended: true, ..tenant });
        directory.update(&accounts);
        check(&billing, Some(AuthenticationError::Suspended));
    }

    #[test]
    fn keys_live_and_die() {
        let secret = KeySecret::generate().unwrap().0;
        let directory = Directory::new(secret.clone(), true);
        let key = ApiKey::generate(Mode::Live).unwrap();
        let name: TenantName = "acme".parse().unwrap();
        let record = KeyRecord {
            id: "key_1".to_owned(),
            tenant: name.clone(),
            label: "ci".to_owned(),
            mode: Mode::Live,
            role: Role::Editor,
            hash: key.hash(&secret),
            ending: key.ending(),
            created_at: WallTime(0),
            expires_at: Some(WallTime(100_000_000)),
            revoked_at: None,
            replaced_by: None,
            changed_at: WallTime(0),
        };
        let tenant = TenantRecord {
            name: name.clone(),
            plan: Plan::Starter,
            is_suspended: false,
            created_at: WallTime(0),
            plan_set_at: WallTime(0),
            suspension_set_at: WallTime(0),
        };
        let mut accounts = Accounts::default();
        let check = |accounts: &Accounts, now: u64, expected: Option<AuthenticationError>| {
            directory.update(accounts);
            // Another machine: these are not the development key.
            assert_eq!(
                find(&directory, key.expose(), "192.0.2.7", now).err(),
                expected,
                "{accounts:?} at {now}"
            );
        };
        check(&accounts, 0, Some(AuthenticationError::UnknownKey));
        accounts.tenants.insert(name.clone(), tenant.clone());
        accounts.keys.insert("key_1".to_owned(), record.clone());
        check(&accounts, 99_000_000, None);
        check(&accounts, 100_000_000, Some(AuthenticationError::ExpiredKey));
        let principal = find(&directory, key.expose(), LOOPBACK, 0).unwrap();
        assert_eq!((&*principal.tenant().name, principal.tenant().plan), ("acme", Plan::Starter));
        assert!(principal.has(Role::Editor) && !principal.has(Role::Admin));
        assert_eq!(principal.key().to_string(), "key_1");
        accounts.tenants.insert(name.clone(), TenantRecord { is_suspended: true, ..tenant.clone() });
        check(&accounts, 1, Some(AuthenticationError::Suspended));
        accounts.tenants.insert(name, tenant);
        accounts.keys.insert("key_1".to_owned(), KeyRecord { revoked_at: Some(WallTime(1)), ..record });
        check(&accounts, 1, Some(AuthenticationError::RevokedKey));
        // The number stays.
        let mut back = accounts.clone();
        back.keys.values_mut().for_each(|key| key.revoked_at = None);
        directory.update(&back);
        assert_eq!(find(&directory, key.expose(), LOOPBACK, 0).unwrap().tenant().id, principal.tenant().id);
    }
}
