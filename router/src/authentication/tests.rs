//! Who is let in, and who is not.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::accounts::TenantRecord;
use crate::key::Mode;

const LOOPBACK: &str = "127.0.0.1";

fn find(directory: &Directory, token: &str, peer: &str, now: u64) -> Result<Principal, AuthenticationError> {
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
    let check = |has_development: bool, token: &str, peer: &str, expected: Option<AuthenticationError>| {
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
        assert_eq!(calendar.now(second(uptime), WallTime(wall)), WallTime(expected), "{wall} at {uptime}");
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
        [0, 1, 2].map(|n| find(directory, keys[n].expose(), LOOPBACK, 9).map(|found| found.key.0.to_string()))
    };
    // A store that lost a tenant says so until it is there again.
    let orphan =
        Accounts { keys: [("1".to_owned(), key("1", &keys[0], None))].into(), ..Accounts::default() };
    directory.update(&orphan);
    assert!(directory.lost().is_some_and(|lost| lost.contains("the tenants of 1 keys are gone")));
    directory.change(&orphan, &[Change::Key(key("2", &keys[1], None))]);
    assert!(directory.lost().is_some_and(|lost| lost.contains("the tenants of 2 keys are gone")));
    directory.change(&orphan, &[Change::Tenant(tenant(false))]);
    assert_eq!(directory.lost(), None);
    let version = "3:lost-0-1-of-1-1".parse().unwrap();
    directory.update(&Accounts { version, ..Accounts::default() });
    assert!(directory.lost().is_some_and(|lost| lost.contains("tenants or keys are gone")));
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
    let expected =
        [[true, false, false], [true, true, false], [true, false, true], [false, false, true], [false; 3]];
    assert_eq!(seen, expected);
}

#[test]
fn days_that_were_begun_go_on() {
    let (calendar, second) = (Calendar::default(), |s: u64| Timestamp::from_nanos(s * 1_000_000_000));
    let day = 86_400_000;
    let check = |uptime: u64, wall: u64, expected: u64| {
        assert_eq!(calendar.latest(second(uptime), WallTime(wall)), WallTime(expected), "{wall} at {uptime}");
    };
    check(0, 10 * day, 10 * day);
    check(5, 10 * day + 5_000, 10 * day + 5_000);
    // Three days ahead and back: the tenth does not come again, and the next day begins when this one has
    // passed.
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
        assert_eq!(find(&directory, key.expose(), "192.0.2.7", now).err(), expected, "{accounts:?} at {now}");
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
