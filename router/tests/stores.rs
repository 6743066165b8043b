//! The same promises of every store: embedded, a real Redis and a real cluster of three, which the tests start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod redis_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_server::{Cluster, RedisServer};
use router::accounts::{AuditEntry, Change, TenantRecord};
use router::idempotency::{Answer, AnswerStore, Begun, Idempotency, IdempotencyError, Keyed};
use router::ledger::{Applied, Batch, Sum, SumKey, UsageStore};
use router::limit::{
    Grant, LimitError, LimitStore, Limiter, LimiterConfig, Limits, MemoryLimits, Outage, Take, Unit,
};
use router::store::{AccountStore, BreakerConfig, EmbeddedStore, RedisConfig, RedisStore, StoreError};
use router::{
    Administration, AdministrationError, ApiKey, Credential, Day, DeclaredKey, DeclaredTenant, Directory,
    KeySecret, MicroDollars, Mode, NewKey, Peer, Plan, Role, Scope, WallTime,
};

/// Every promise, of one home.
struct Home {
    accounts: Arc<dyn AccountStore>,
    usage: Arc<dyn UsageStore>,
    limits: Arc<dyn LimitStore>,
    answers: Arc<dyn AnswerStore>,
}

fn redis_config(urls: Vec<String>, is_cluster: bool) -> RedisConfig {
    let timeout = Duration::from_secs(2);
    RedisConfig { urls, is_cluster, prefix: "test".to_owned(), timeout, breaker: BreakerConfig::default() }
}

async fn redis_home(urls: Vec<String>, is_cluster: bool) -> Home {
    let store = Arc::new(RedisStore::connect(redis_config(urls, is_cluster)).await.unwrap());
    Home { accounts: store.clone(), usage: store.clone(), limits: store.clone(), answers: store }
}

/// A peer on another machine.
fn elsewhere() -> Peer {
    Peer { address: "192.0.2.1".parse().unwrap(), service: None, host: None }
}

async fn check(home: &Home) {
    accounts_change_together_with_their_log(home).await;
    sums_take_each_record_once(home).await;
    limits_hold(home).await;
    keys_are_managed(home).await;
    tenants_are_declared(home).await;
    answers_are_kept(home).await;
}

#[tokio::test]
async fn embedded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Arc::new(EmbeddedStore::open(&path).unwrap());
    let home = Home {
        accounts: store.clone(),
        usage: store.clone(),
        limits: Arc::new(MemoryLimits::default()),
        answers: store.clone(),
    };
    check(&home).await;
    let (accounts, sums) = (home.accounts.load().await.unwrap(), all_sums(home.usage.as_ref()).await);
    drop((home, store));
    // It is all there after a restart.
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.load().await.unwrap(), accounts);
    assert_eq!(all_sums(&store).await, sums);
    let second = EmbeddedStore::open(&path);
    assert!(second.is_err_and(|error| error.to_string().contains("open")), "one process at a time");
}

#[tokio::test]
async fn one_redis() {
    let server = RedisServer::start(&[]);
    check(&redis_home(vec![server.url()], false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three() {
    let cluster = Cluster::start();
    check(&redis_home(cluster.urls(), true).await).await;
}

fn audit(action: &str) -> AuditEntry {
    let (actor, subject) = ("test".to_owned(), "acme".to_owned());
    AuditEntry { at: WallTime(7), actor, action: action.to_owned(), subject, before: None, after: None }
}

async fn accounts_change_together_with_their_log(home: &Home) {
    let store = &home.accounts;
    let start = store.version().await.unwrap();
    let tenant = TenantRecord {
        name: "first".parse().unwrap(),
        plan: Plan::Free,
        is_suspended: false,
        created_at: WallTime(1),
    };
    let change = [Change::Tenant(tenant.clone())];
    assert_eq!(store.commit(start, &change, &audit("one")).await.unwrap(), start + 1);
    // Who did not see that change cannot make another.
    let late = store.commit(start, &change, &audit("late")).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    assert_eq!(store.version().await.unwrap(), start + 1);
    let accounts = store.load().await.unwrap();
    assert_eq!((accounts.version, accounts.tenants.get(&tenant.name)), (start + 1, Some(&tenant)));
    let log = store.audit(10).await.unwrap();
    assert_eq!(log[0], audit("one"));
    assert!(log.iter().all(|entry| entry.action != "late"));
    // Many at once: each of the changes that were confirmed has a version of its own.
    let racers = (0..8).map(|_| {
        let (store, change) = (Arc::clone(store), change.clone());
        tokio::spawn(async move { store.commit(start + 1, &change, &audit("race")).await.is_ok() })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += u64::from(racer.await.unwrap());
    }
    assert_eq!((won, store.version().await.unwrap()), (1, start + 2));
}

fn batch(from: u64, to: u64) -> Batch {
    let key = |day, model: &str| SumKey { day: Day(day), hour: 3, model: model.to_owned() };
    let sum = Sum { completed: 1, inputs: to - from, price: MicroDollars(5 * (to - from)), ..Sum::default() };
    let sums = BTreeMap::from([(key(20_000, "a"), sum), (key(20_001, "b|c"), sum)]);
    Batch { tenant: "acme".to_owned(), from, to, sums }
}

async fn all_sums(store: &dyn UsageStore) -> BTreeMap<SumKey, Sum> {
    store.sums("acme", Day(19_999), Day(20_005)).await.unwrap()
}

async fn sums_take_each_record_once(home: &Home) {
    let store = home.usage.as_ref();
    let apply = async |journal: &str, from, to| store.apply(journal, &[batch(from, to)]).await.unwrap()[0];
    assert_eq!(apply("one", 0, 10).await, Applied::Yes);
    assert_eq!(apply("one", 0, 10).await, Applied::At(10), "told twice, counted once");
    assert_eq!(apply("one", 12, 15).await, Applied::At(10), "nothing is skipped");
    assert_eq!(apply("one", 10, 12).await, Applied::Yes);
    assert_eq!(apply("two", 0, 3).await, Applied::Yes, "each journal by itself");
    let sums = all_sums(store).await;
    assert_eq!(sums.len(), 2);
    for (key, sum) in &sums {
        assert_eq!((sum.completed, sum.inputs, sum.price), (3, 15, MicroDollars(75)), "{key:?}");
    }
    assert_eq!(store.sums("acme", Day(20_001), Day(20_001)).await.unwrap().len(), 1);
    assert!(store.sums("other", Day(0), Day(3)).await.unwrap().is_empty());
}

async fn limits_hold(home: &Home) {
    let now = WallTime::now();
    let limits = Limits { minute: 10, day: Some(15) };
    let take = async |tenant: &str, need, wish, unused: Vec<(u64, u64)>, owed| {
        let take = Take { need, wish, unused, owed };
        home.limits.take(now, tenant, Unit::Requests, limits, &take).await.unwrap()
    };
    let Grant::Taken { amount: 4, slot, left: (6, Some(11)) } = take("l1", 2, 4, vec![], 0).await else {
        panic!()
    };
    assert!(matches!(take("l1", 1, 9, vec![], 0).await, Grant::Taken { amount: 6, left: (0, Some(5)), .. }));
    let Grant::Refused { retry_after, .. } = take("l1", 1, 1, vec![], 0).await else { panic!() };
    assert!(
        retry_after > Duration::from_secs(55) && retry_after <= Duration::from_secs(62),
        "{retry_after:?}"
    );
    // What is given back is there again.
    assert!(matches!(take("l1", 3, 3, vec![(slot, 3)], 0).await, Grant::Taken { left: (0, Some(5)), .. }));
    // What is owed counts.
    assert!(matches!(take("l2", 1, 1, vec![], 9).await, Grant::Taken { left: (0, Some(5)), .. }));
    // Units are counted apart.
    let other = Take { need: 10, wish: 10, unused: Vec::new(), owed: 0 };
    let tokens = home.limits.take(now, "l1", Unit::Tokens, limits, &other).await.unwrap();
    assert!(matches!(tokens, Grant::Taken { .. }));

    // Several servers under much more than the plan's rate: never more than the plan allows.
    let config = LimiterConfig { outage: Outage::Open, servers_max: 4 };
    let terms = router::Terms { requests_per_minute: 120, ..Plan::Free.terms() };
    let tenant =
        router::Tenant { id: batching::TenantId(3), name: Arc::from("l3"), plan: Plan::Custom(terms) };
    let servers: Vec<_> = (0..3).map(|_| Arc::new(Limiter::new(Arc::clone(&home.limits), config))).collect();
    let callers = servers.iter().flat_map(|server| [server, server]).map(|server| {
        let (server, tenant) = (Arc::clone(server), tenant.clone());
        tokio::spawn(async move {
            let mut through = 0;
            for _ in 0..60 {
                match server.take(WallTime::now(), &tenant, Unit::Requests, 1).await {
                    Ok(_) => through += 1,
                    Err(LimitError::Exceeded { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                tokio::task::yield_now().await;
            }
            through
        })
    });
    let mut through = 0;
    for caller in callers.collect::<Vec<_>>() {
        through += caller.await.unwrap();
    }
    // Servers hold back at most a share each: 120 / 60.
    assert!((120 - 3 * 2..=120).contains(&through), "{through} of 360 with a limit of 120");
}

async fn keys_are_managed(home: &Home) {
    let (secret, _) = KeySecret::generate().unwrap();
    let server = || {
        let directory = Arc::new(Directory::new(secret.clone(), false));
        let rotate_after = Duration::from_secs(90 * 86_400);
        let administration = Administration::new(home.accounts.clone(), Arc::clone(&directory), rotate_after);
        (directory, administration)
    };
    let ((here, administration), (there, follower)) = (server(), server());
    let name = "acme".parse().unwrap();
    let now = WallTime(1_000_000);
    administration.create_tenant(now, "operator", &name, Plan::Starter).await.unwrap();
    let again = administration.create_tenant(now, "operator", &name, Plan::Starter).await;
    assert_eq!(again.unwrap_err().to_string(), "there is a tenant of that name already");
    let new = NewKey {
        tenant: name.clone(),
        label: "ci".into(),
        mode: Mode::Live,
        role: Role::Editor,
        expires_at: None,
    };
    let made = administration.create_key(now, "operator", None, &new).await.unwrap();
    let is_known = async |directory: &Directory, key: &router::ApiKey, now: WallTime| {
        let credential = Credential::parse(Some(&format!("Bearer {}", key.expose()))).unwrap();
        directory.authenticate(&credential, &elsewhere(), now).await.is_ok()
    };
    assert!(is_known(&here, &made.key, now).await && !is_known(&there, &made.key, now).await);
    follower.follow().await.unwrap();
    assert!(is_known(&there, &made.key, now).await, "known to the other server once it has looked");
    // Two keys are good during the overlap.
    let admin = Scope { tenant: name.clone(), role: Role::Admin };
    let overlap = Duration::from_secs(60);
    let rotated =
        administration.rotate_key(now, "acme/key", Some(&admin), &made.view.id, overlap).await.unwrap();
    let (before, after) = (now.plus(overlap / 2), now.plus(overlap));
    assert!(is_known(&here, &made.key, before).await && is_known(&here, &rotated.key, before).await);
    assert!(!is_known(&here, &made.key, after).await && is_known(&here, &rotated.key, after).await);
    let twice = administration.rotate_key(now, "acme/key", Some(&admin), &made.view.id, overlap).await;
    assert!(twice.is_err(), "a key has one successor");
    // Another tenant's administrator cannot touch it.
    let other = Scope { tenant: "first".parse().unwrap(), role: Role::Owner };
    assert!(administration.revoke_key(now, "x", Some(&other), &rotated.view.id).await.is_err());
    administration.revoke_key(now, "operator", None, &rotated.view.id).await.unwrap();
    follower.follow().await.unwrap();
    assert!(!is_known(&here, &rotated.key, before).await && !is_known(&there, &rotated.key, before).await);
    // An administrator gets no hold of a key that may do more than its own: by no way.
    let owner = NewKey { role: Role::Owner, ..new.clone() };
    let owners = administration.create_key(now, "operator", None, &owner).await.unwrap().view.id;
    let refused = [
        administration.create_key(now, "acme/key", Some(&admin), &owner).await.err(),
        administration.rotate_key(now, "acme/key", Some(&admin), &owners, overlap).await.err(),
        administration.revoke_key(now, "acme/key", Some(&admin), &owners).await.err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, Some(AdministrationError::AboveRole))), "{refused:?}");
    administration.revoke_key(now, "operator", None, &owners).await.unwrap();
    // Old keys are shown as due.
    let old = administration.keys(now.plus(Duration::from_secs(91 * 86_400)), Some(&name)).await.unwrap();
    assert!(old.iter().all(|key| !key.is_rotation_due), "none of these is accepted any more");
    administration.create_key(now, "operator", None, &new).await.unwrap();
    let old = administration.keys(now.plus(Duration::from_secs(91 * 86_400)), Some(&name)).await.unwrap();
    assert_eq!(old.iter().filter(|key| key.is_rotation_due).count(), 1);
    // The log says who, what, and before and after, and no secret.
    let log = administration.audit(100).await.unwrap();
    let actions: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).take(7).collect();
    assert_eq!(
        actions,
        ["key.create", "key.revoke", "key.create", "key.revoke", "key.rotate", "key.create", "tenant.create"]
    );
    assert!(
        log[1].before.as_ref().unwrap()["state"] == "active"
            && log[1].after.as_ref().unwrap()["state"] == "revoked"
    );
    let text = serde_json::to_string(&log).unwrap();
    assert!(!text.contains("hash") && !text.contains(made.key.expose()));
}

async fn answers_are_kept(home: &Home) {
    let lease = Duration::from_secs(10);
    let (secret, _) = KeySecret::generate().unwrap();
    let kept = |secret: &KeySecret| Idempotency::new(home.answers.clone(), secret.clone(), lease, 1000);
    let answers = kept(&secret);
    let now = WallTime::now();
    fn request(key: &'static str, body: &'static str) -> Keyed<'static> {
        Keyed { tenant: "acme", principal: "key_1", key, route: "/v1/ml/sentiment", body: body.as_bytes() }
    }
    let begin = async |keyed: Keyed<'_>| answers.begin(now, &keyed).await.unwrap();
    let first = async |keyed: Keyed<'_>| match begin(keyed).await {
        Begun::First(attempt) => attempt,
        other => panic!("{keyed:?}: {other:?}"),
    };
    let attempt = first(request("a", "one")).await;
    let running = begin(request("a", "one")).await;
    assert!(matches!(running, Begun::Running(left) if left <= lease && left > lease / 2), "{running:?}");
    assert!(matches!(begin(request("a", "two")).await, Begun::Different));
    // Another key, another tenant, are another request.
    answers.release(&first(request("b", "one")).await).await;
    answers.release(&first(Keyed { tenant: "globex", ..request("a", "one") }).await).await;
    let answer = Answer { status: 200, body: b"very secret".to_vec() };
    answers.keep(now, &attempt, &answer).await.unwrap();
    assert!(matches!(begin(request("a", "one")).await, Begun::Again(found) if found == answer));
    assert!(matches!(begin(request("a", "two")).await, Begun::Different));
    let elsewhere = Keyed { route: "/v1/ml/classify", ..request("a", "one") };
    assert!(matches!(begin(elsewhere).await, Begun::Different));
    let by_another = Keyed { principal: "key_2", ..request("a", "one") };
    assert!(matches!(begin(by_another).await, Begun::Different));
    // What is kept can be read under the same secret alone.
    assert!(matches!(
        kept(&KeySecret::generate().unwrap().0).begin(now, &request("a", "one")).await,
        Ok(Begun::First(_))
    ));
    // A request that failed may be sent again, by whoever owned it.
    let failed = first(request("c", "one")).await;
    answers.release(&failed).await;
    let second = first(request("c", "one")).await;
    answers.release(&failed).await;
    assert!(matches!(begin(request("c", "one")).await, Begun::Running(_)));
    assert!(matches!(answers.keep(now, &failed, &answer).await, Err(IdempotencyError::Lost)));
    let large = Answer { status: 200, body: vec![b'x'; 1001] };
    answers.keep(now, &second, &large).await.unwrap();
    assert!(matches!(begin(request("c", "one")).await, Begun::TooLarge));
    // Of many at once one is first.
    let many = (0..16).map(|_| begin(request("d", "one")));
    let firsts = futures_util::future::join_all(many).await;
    assert_eq!(firsts.iter().filter(|begun| matches!(begun, Begun::First(_))).count(), 1);
    // A lease that is over is free again, and so is an answer whose day is over.
    let short = Idempotency::new(home.answers.clone(), secret.clone(), Duration::from_millis(50), 1000);
    let Begun::First(lost) = short.begin(WallTime::now(), &request("e", "one")).await.unwrap() else {
        panic!()
    };
    tokio::time::sleep(Duration::from_millis(80)).await;
    let later = WallTime::now();
    assert!(matches!(answers.keep(later, &lost, &answer).await, Err(IdempotencyError::Lost)));
    assert!(matches!(answers.begin(later, &request("e", "one")).await, Ok(Begun::First(_))));
}

async fn tenants_are_declared(home: &Home) {
    let directory = Arc::new(Directory::new(KeySecret::generate().unwrap().0, false));
    let administration =
        Administration::new(home.accounts.clone(), Arc::clone(&directory), Duration::from_secs(1));
    let key = || ApiKey::generate(Mode::Live).unwrap();
    let (ci, batch, rotated) = (key(), key(), key());
    let declared = |plan, keys: &[(&str, &ApiKey)]| DeclaredTenant {
        name: "declared".parse().unwrap(),
        plan,
        is_suspended: false,
        keys: keys
            .iter()
            .map(|(label, key)| DeclaredKey {
                label: (*label).to_owned(),
                role: Role::Editor,
                key: (*key).clone(),
            })
            .collect(),
    };
    let is_known = async |key: &ApiKey| {
        let credential = Credential::parse(Some(&format!("Bearer {}", key.expose()))).unwrap();
        directory.authenticate(&credential, &elsewhere(), WallTime(9)).await.is_ok()
    };
    let declare = async |tenant: DeclaredTenant| {
        administration.declare(WallTime(5), "tenants_file", &[tenant]).await.unwrap()
    };
    assert_eq!(declare(declared(Plan::Free, &[("ci", &ci), ("batch", &batch)])).await, 3);
    assert!(is_known(&ci).await && is_known(&batch).await);
    // The same again changes nothing, and leaves no line in the log.
    let lines = administration.audit(1000).await.unwrap().len();
    assert_eq!(declare(declared(Plan::Free, &[("ci", &ci), ("batch", &batch)])).await, 0);
    assert_eq!(administration.audit(1000).await.unwrap().len(), lines);
    // A key made by the administration stays; another key under a label takes its place; what is withdrawn is revoked.
    let tenant = "declared".parse().unwrap();
    let new = NewKey { tenant, label: String::new(), mode: Mode::Live, role: Role::Editor, expires_at: None };
    let made = administration.create_key(WallTime(6), "operator", None, &new).await.unwrap();
    assert_eq!(declare(declared(Plan::Starter, &[("ci", &rotated)])).await, 3);
    assert!(is_known(&rotated).await && is_known(&made.key).await);
    assert!(!is_known(&ci).await && !is_known(&batch).await);
    let log = administration.audit(3).await.unwrap();
    let actions: Vec<_> =
        log.iter().map(|entry| (entry.actor.as_str(), entry.action.as_str(), &*entry.subject)).collect();
    let expected = [
        ("tenants_file", "key.revoke", "key_declared_declared_batch"),
        ("tenants_file", "key.change", "key_declared_declared_ci"),
        ("tenants_file", "tenant.change", "declared"),
    ];
    assert_eq!(actions, expected);
    // And back.
    assert_eq!(declare(declared(Plan::Starter, &[("ci", &rotated), ("batch", &batch)])).await, 1);
    assert!(is_known(&batch).await);
}

#[tokio::test]
async fn a_redis_that_dies_is_left_alone_and_taken_up_again() {
    let mut server = RedisServer::start(&[]);
    let breaker = BreakerConfig { failures_max: 3, pause: Duration::from_millis(500), successes_min: 1 };
    let config = RedisConfig {
        breaker,
        timeout: Duration::from_millis(200),
        ..redis_config(vec![server.url()], false)
    };
    let store = RedisStore::connect(config).await.unwrap();
    assert_eq!(store.version().await.unwrap(), 0);
    server.kill();
    for _ in 0..3 {
        assert!(store.version().await.is_err());
    }
    let left_alone = store.version().await.unwrap_err().to_string();
    assert!(left_alone.contains("left alone"), "{left_alone}");
    server.restart();
    let mut attempts = 0;
    while store.version().await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "it answers again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
