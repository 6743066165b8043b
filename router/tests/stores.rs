//! The same promises of every store: embedded, a real Redis and a real cluster of three, which the tests start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod redis_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_server::{Cluster, RedisServer};
use router::accounts::{Accounts, AuditEntry, Change, TenantRecord, Version};
use router::idempotency::{Answer, AnswerStore, Begun, Idempotency, IdempotencyError, Keyed};
use router::ledger::{Applied, Batch, Sum, SumKey, TenantDay, UsageStore};
use router::limit::{
    Grant, Left, LimitError, LimitStore, Limiter, LimiterConfig, Limits, MemoryLimits, Outage, Slot, Take,
    Unit,
};
use router::store::{
    AccountStore, BreakerConfig, Commit, EmbeddedStore, Loaded, RedisConfig, RedisStore, StoreError,
};
use router::{
    Administration, AdministrationError, ApiKey, Credential, Day, DeclaredKey, DeclaredTenant, Directory,
    KeySecret, MicroDollars, Mode, Moment, NewKey, Peer, Plan, Role, Scope, WallTime,
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
    RedisConfig {
        urls,
        password: None,
        is_cluster,
        prefix: "test".to_owned(),
        timeout,
        breaker: BreakerConfig::default(),
    }
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
    let (accounts, sums) = (all_accounts(home.accounts.as_ref()).await, all_sums(home.usage.as_ref()).await);
    drop((home, store));
    // It is all there after a restart.
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(all_accounts(&store).await, accounts);
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

async fn all_accounts(store: &dyn AccountStore) -> Accounts {
    store.load(&Version::default()).await.unwrap().accounts
}

async fn accounts_change_together_with_their_log(home: &Home) {
    let store = &home.accounts;
    let start = store.version().await.unwrap();
    let tenant = TenantRecord {
        name: "first".parse().unwrap(),
        plan: Plan::Free,
        is_suspended: false,
        created_at: WallTime(1),
        plan_set_at: WallTime(1),
        suspension_set_at: WallTime(1),
    };
    let change = [Change::Tenant(tenant.clone())];
    let commit = async |expected: &Version, next: &Version, restored: Option<&Version>, line: &str| {
        store.commit(Commit { expected, next, restored, changes: &change, audit: &audit(line) }).await
    };
    let second = start.next().unwrap();
    assert_ne!(second, start.next().unwrap(), "no version is given twice");
    commit(&start, &second, None, "one").await.unwrap();
    // Who did not see that change cannot make another.
    let late = commit(&start, &start.next().unwrap(), None, "late").await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    // Nor who saw another one of that number.
    let other = start.next().unwrap();
    let late = commit(&other, &other.next().unwrap(), None, "late").await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    assert_eq!(store.version().await.unwrap(), second);
    let Loaded { accounts, is_descendant } = store.load(&start).await.unwrap();
    assert!(is_descendant);
    assert_eq!((&accounts.version, accounts.tenants.get(&tenant.name)), (&second, Some(&tenant)));
    // A version that it never had, of a number that it had; until it is restored.
    assert!(!store.load(&other).await.unwrap().is_descendant);
    assert!(store.load(&second).await.unwrap().is_descendant);
    let third = second.next().unwrap();
    commit(&second, &third, Some(&other), "restored").await.unwrap();
    assert!(store.load(&other).await.unwrap().is_descendant);
    assert!(store.load(&second).await.unwrap().is_descendant);
    let log = store.audit(10).await.unwrap();
    assert_eq!((&log[0], &log[1]), (&audit("restored"), &audit("one")));
    assert!(log.iter().all(|entry| entry.action != "late"));
    // Many at once: each of the changes that were confirmed has a version of its own.
    let racers = (0..8).map(|_| {
        let (store, change, third) = (Arc::clone(store), change.clone(), third.clone());
        tokio::spawn(async move {
            let (next, audit) = (third.next().unwrap(), audit("race"));
            let commit =
                Commit { expected: &third, next: &next, restored: None, changes: &change, audit: &audit };
            store.commit(commit).await.is_ok().then_some(next)
        })
    });
    let mut won = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        won.extend(racer.await.unwrap());
    }
    assert_eq!(won, [store.version().await.unwrap()]);
}

/// Batches of two days.
fn batches(epoch: &str, from: u64, to: u64) -> Vec<Batch> {
    let batch = |(day, model): (u32, &str)| {
        let key = SumKey { day: Day(day), hour: 3, model: model.to_owned() };
        let sum =
            Sum { completed: 1, inputs: to - from, price: MicroDollars(5 * (to - from)), ..Sum::default() };
        let place = TenantDay { tenant: Arc::from("acme"), day: Day(day) };
        let sums = BTreeMap::from([(key, sum)]);
        Batch { epoch: Arc::from(epoch), place, from, to, first: from, records: 1, sums }
    };
    [(20_000, "a"), (20_001, "b|c")].map(batch).to_vec()
}

async fn all_sums(store: &dyn UsageStore) -> BTreeMap<SumKey, Sum> {
    store.sums("acme", Day(19_999), Day(20_005)).await.unwrap()
}

async fn sums_take_each_record_once(home: &Home) {
    let store = home.usage.as_ref();
    let apply = async |epoch: &str, from, to| {
        let applied = store.apply(&batches(epoch, from, to)).await.unwrap();
        assert_eq!(applied[0], applied[1]);
        applied[0]
    };
    assert_eq!(apply("one", 0, 10).await, Applied::Yes);
    assert_eq!(apply("one", 0, 10).await, Applied::At(10), "told twice, counted once");
    assert_eq!(apply("one", 12, 15).await, Applied::At(10), "nothing is skipped");
    assert_eq!(apply("one", 10, 12).await, Applied::Yes);
    assert_eq!(apply("two", 0, 3).await, Applied::Yes, "each epoch by itself");
    let sums = all_sums(store).await;
    assert_eq!(sums.len(), 2);
    for (key, sum) in &sums {
        assert_eq!((sum.completed, sum.inputs, sum.price), (3, 15, MicroDollars(75)), "{key:?}");
    }
    assert_eq!(store.sums("acme", Day(20_001), Day(20_001)).await.unwrap().len(), 1);
    assert!(store.sums("other", Day(0), Day(3)).await.unwrap().is_empty());
}

fn now() -> Moment {
    let clock = std::sync::LazyLock::force(&CLOCK);
    Moment { uptime: units::Clock::now(clock), wall: WallTime::now() }
}

static CLOCK: std::sync::LazyLock<units::MonotonicClock> =
    std::sync::LazyLock::new(units::MonotonicClock::new);

async fn limits_hold(home: &Home) {
    let now = now();
    let limits = Limits { minute: 10, day: Some(15) };
    let take = async |tenant: &str, need, wish, unused: Vec<(Slot, u64)>, owed| {
        let take = Take { need, wish, unused, owed, owed_day: 0, life: Some(7), new_life: 7 };
        home.limits.take(now, tenant, Unit::Requests, limits, &take).await.unwrap()
    };
    let left = |minute, day| Left { minute, day: Some(day) };
    let Grant::Taken { amount: 4, slot, left: Left { minute: 6, day: Some(11) }, life: 7 } =
        take("l1", 2, 4, vec![], 0).await
    else {
        panic!()
    };
    let taken = |granted: Grant| match granted {
        Grant::Taken { amount, left, .. } => (amount, left),
        Grant::Refused { .. } => panic!("{granted:?}"),
    };
    assert_eq!(taken(take("l1", 1, 9, vec![], 0).await), (6, left(0, 5)));
    let refused = take("l1", 1, 1, vec![], 0).await;
    let Grant::Refused { retry_after, left: rest, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(rest, left(0, 5));
    assert!(
        retry_after > Duration::from_secs(55) && retry_after <= Duration::from_secs(62),
        "{retry_after:?}"
    );
    // What is given back is there again.
    assert_eq!(taken(take("l1", 3, 3, vec![(slot, 3)], 0).await), (3, left(0, 5)));
    // What is owed counts.
    assert_eq!(taken(take("l2", 1, 1, vec![], 9).await), (1, left(0, 5)));
    // What is left is told to who is refused.
    taken(take("l4", 7, 7, vec![], 0).await);
    assert!(matches!(
        take("l4", 4, 4, vec![], 0).await,
        Grant::Refused { left: Left { minute: 3, day: Some(8) }, .. }
    ));
    // Units are counted apart.
    let other =
        Take { need: 10, wish: 10, unused: Vec::new(), owed: 0, owed_day: 0, life: None, new_life: 8 };
    let tokens = home.limits.take(now, "l1", Unit::Tokens, limits, &other).await.unwrap();
    assert!(matches!(tokens, Grant::Taken { .. }));

    // Several servers under much more than the plan's rate: never more than the plan allows.
    let config = LimiterConfig { outage: Outage::Open, servers_max: 4 };
    let terms = router::Terms { requests_per_minute: 120, ..Plan::Free.terms() };
    let tenant = router::Tenant { id: units::TenantId(3), name: Arc::from("l3"), plan: Plan::Custom(terms) };
    let servers: Vec<_> = (0..3).map(|_| Arc::new(Limiter::new(Arc::clone(&home.limits), config))).collect();
    let callers = servers.iter().flat_map(|server| [server, server]).map(|server| {
        let (server, tenant) = (Arc::clone(server), tenant.clone());
        tokio::spawn(async move {
            let mut through = 0;
            for _ in 0..60 {
                match server.take(self::now(), &tenant, Unit::Requests, 1).await {
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
    follower.follow(now).await.unwrap();
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
    follower.follow(now).await.unwrap();
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

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 30 s");
}

async fn connect(server: &RedisServer, breaker: BreakerConfig, timeout: Duration) -> RedisStore {
    let config = RedisConfig { breaker, timeout, ..redis_config(vec![server.url()], false) };
    RedisStore::connect(config).await.unwrap()
}

const QUICK: BreakerConfig = BreakerConfig { failures_max: 3, probe_every: Duration::from_millis(50) };

#[tokio::test]
async fn a_redis_that_dies_is_left_alone_and_taken_up_again() {
    let mut server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    assert_eq!(store.version().await.unwrap(), Version::default());
    server.kill();
    until("left alone", async || store.version().await.is_err() && store.is_left_alone()).await;
    let left_alone = store.version().await.unwrap_err().to_string();
    assert!(left_alone.contains("left alone"), "{left_alone}");
    server.restart();
    until("taken up", async || store.version().await.is_ok()).await;
    assert!(!store.is_left_alone());
}

#[tokio::test]
async fn a_redis_that_hangs_is_waited_for_a_few_times_and_taken_up_when_it_goes_on() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_millis(100)).await;
    store.version().await.unwrap();
    server.hang(true);
    for _ in 0..3 {
        assert!(store.version().await.is_err());
    }
    let refused = store.version().await.unwrap_err().to_string();
    assert!(refused.contains("left alone"), "nobody waits any more: {refused}");
    server.hang(false);
    // Probed by the store itself, without any call.
    until("taken up", async || !store.is_left_alone()).await;
    until("answered", async || store.version().await.is_ok()).await;
}

#[tokio::test]
async fn a_redis_that_comes_after_the_server_is_taken_up() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    assert!(store.is_left_alone() && store.version().await.is_err());
    server.restart();
    until("taken up", async || store.version().await.is_ok()).await;
}

/// The address leads to a server that is demoted while the connection lives, and then to the new master.
#[tokio::test]
async fn a_demoted_redis_is_left_for_the_one_at_its_address() {
    let (old, new) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let address = redis_server::Address::new(old.port());
    // Longer than the failover takes: no call fails.
    let timeout = Duration::from_secs(20);
    let config = RedisConfig { breaker: QUICK, timeout, ..redis_config(vec![address.url()], false) };
    let store = RedisStore::connect(config).await.unwrap();
    let answers = Idempotency::new(
        Arc::new(RedisStore::connect(redis_config(vec![address.url()], false)).await.unwrap()),
        KeySecret::generate().unwrap().0,
        Duration::from_secs(10),
        1000,
    );
    store.version().await.unwrap();
    let port = new.port().to_string();
    assert_eq!(old.command(&["replicaof", "127.0.0.1", &port]), "OK");
    address.lead_to(new.port());
    // Reads too: the old one would answer them.
    store.version().await.unwrap();
    let keyed = Keyed { tenant: "acme", principal: "key_1", key: "a", route: "/", body: b"one" };
    assert!(matches!(answers.begin(WallTime::now(), &keyed).await, Ok(Begun::First(_))));
    assert!(address.connections() >= 4, "each made another connection");
    assert_eq!(new.command(&["keys", "test:idempotency:*"]).lines().count(), 1);
}

/// One that answers, but may not write, is not used at all; nor is one that does not know us.
#[tokio::test]
async fn a_redis_that_may_not_write_is_left_alone() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    store.version().await.unwrap();
    for (worse, better) in [
        (["replicaof", "127.0.0.1", "1"].as_slice(), ["replicaof", "no", "one"].as_slice()),
        (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]),
        (&["config", "set", "min-replicas-to-write", "1"], &["config", "set", "min-replicas-to-write", "0"]),
    ] {
        assert_eq!(server.command(worse), "OK");
        until("left alone", async || store.version().await.is_err() && store.is_left_alone()).await;
        assert_eq!(server.command(better), "OK");
        until("taken up", async || store.version().await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_redis_whose_clock_is_set_back_locks_nobody_out() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    let limits = Limits { minute: 10, day: Some(100) };
    let take = async |need| {
        let take =
            Take { need, wish: need, unused: Vec::new(), owed: 0, owed_day: 0, life: None, new_life: 9 };
        store.take(now(), "acme", Unit::Requests, limits, &take).await.unwrap()
    };
    // As if it had been an hour ahead.
    let second: u64 = server.command(&["time"]).lines().next().unwrap().parse().unwrap();
    let key = "test:limits:{acme}:requests";
    let day = second / 86_400;
    for (field, count) in [
        (format!("{}", second + 3_600), "7"),
        (format!("day:{day}"), "7"),
        (format!("day:{}", day + 1), "30"),
    ] {
        server.command(&["hset", key, &field, count]);
    }
    let refused = take(4).await;
    let Grant::Refused { retry_after, left, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(left, Left { minute: 3, day: Some(93) });
    assert!(retry_after <= Duration::from_secs(62), "{retry_after:?}");
    assert!(matches!(take(3).await, Grant::Taken { left: Left { minute: 0, day: Some(90) }, .. }));
    let counts = server.command(&["hgetall", key]);
    assert!(!counts.contains(&(second + 3_600).to_string()), "{counts}");
    // The day that was begun by mistake is remembered.
    assert!(counts.contains(&format!("day:{}", day + 1)), "{counts}");
}

/// Servers over one store, each with what it knows.
struct Fleet {
    servers: Vec<(Arc<Directory>, Administration)>,
}

impl Fleet {
    fn new(store: &Arc<RedisStore>, servers: usize) -> Self {
        let secret = KeySecret::generate().unwrap().0;
        let server = || {
            let directory = Arc::new(Directory::new(secret.clone(), false));
            let administration =
                Administration::new(store.clone(), Arc::clone(&directory), Duration::from_secs(1));
            (directory, administration)
        };
        Self { servers: (0..servers).map(|_| server()).collect() }
    }

    async fn follow(&self) {
        for (_, administration) in &self.servers {
            administration.follow(WallTime::now()).await.unwrap();
        }
    }

    /// What each server says of a key.
    async fn check(&self, key: &ApiKey, expected: Result<(), router::AuthenticationError>) {
        let credential = Credential::parse(Some(&format!("Bearer {}", key.expose()))).unwrap();
        for (n, (directory, _)) in self.servers.iter().enumerate() {
            let found = directory.authenticate(&credential, &elsewhere(), WallTime::now()).await.map(|_| ());
            assert_eq!(found, expected, "server {n}");
        }
    }
}

/// The store comes back as it was before, or empty, under servers that run: nothing that any of them knows is lost, revoked keys
/// stay revoked, suspended tenants suspended, new keys become known; and they come to rest.
#[tokio::test]
async fn a_store_that_lost_changes_gets_them_back() {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let store = Arc::new(connect(&server, QUICK, Duration::from_secs(5)).await);
    let fleet = Fleet::new(&store, 3);
    let [(_, first), (_, second), (_, third)] = &fleet.servers[..] else { panic!() };
    let now = WallTime::now();
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let new = |tenant: &router::accounts::TenantName| NewKey {
        tenant: tenant.clone(),
        label: String::new(),
        mode: Mode::Live,
        role: Role::Editor,
        expires_at: None,
    };
    first.create_tenant(now, "operator", &acme, Plan::Starter).await.unwrap();
    second.create_tenant(now, "operator", &globex, Plan::Starter).await.unwrap();
    let kept = first.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    let revoked = first.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    let suspended = first.create_key(now, "operator", None, &new(&globex)).await.unwrap();
    fleet.follow().await;
    assert_eq!(server.command(&["save"]), "OK");

    // Changes that are lost: a revocation, a suspension, a new key.
    first.revoke_key(now, "operator", None, &revoked.view.id).await.unwrap();
    first.change_tenant(now, "operator", &globex, None, Some(true)).await.unwrap();
    let late = first.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    second.follow(now).await.unwrap();
    assert_eq!(server.command(&["debug", "reload", "nosave"]), "OK");
    // The third did not see them, and changes what it sees: as many changes as were lost, so that the number is the same.
    let mut latest = Vec::new();
    for _ in 0..3 {
        latest.push(third.create_key(now, "operator", None, &new(&acme)).await.unwrap());
    }
    third.change_tenant(now, "operator", &globex, Some(Plan::Free), None).await.unwrap();
    let settled = async || {
        fleet.follow().await;
        fleet.follow().await;
        fleet.check(&kept.key, Ok(())).await;
        fleet.check(&late.key, Ok(())).await;
        fleet.check(&revoked.key, Err(router::AuthenticationError::RevokedKey)).await;
        fleet.check(&suspended.key, Err(router::AuthenticationError::Suspended)).await;
        for key in &latest {
            fleet.check(&key.key, Ok(())).await;
        }
        let version = store.version().await.unwrap();
        fleet.follow().await;
        assert_eq!(store.version().await.unwrap(), version, "nobody changes anything any more");
        assert_eq!(all_accounts(store.as_ref()).await.tenants[&globex].plan, Plan::Free);
    };
    settled().await;
    let log = first.audit(20).await.unwrap();
    let told = log.iter().find(|entry| entry.action == "accounts.restore").expect("it is told");
    assert_eq!(told.after.as_ref().unwrap()["records"], 3, "{told:?}");

    // Emptied, and a change of the number that was before.
    server.command(&["flushall"]);
    settled().await;
    server.command(&["flushall"]);
    let made = second.create_key(now, "operator", None, &new(&acme)).await.unwrap();
    first.revoke_key(now, "operator", None, &kept.view.id).await.unwrap();
    fleet.follow().await;
    fleet.check(&made.key, Ok(())).await;
    fleet.check(&kept.key, Err(router::AuthenticationError::RevokedKey)).await;
    fleet.check(&revoked.key, Err(router::AuthenticationError::RevokedKey)).await;
    fleet.check(&suspended.key, Err(router::AuthenticationError::Suspended)).await;
    assert!(fleet.servers.iter().map(|(_, server)| server.restorations()).sum::<u64>() >= 3);
}

/// The database takes nothing after an error until it is opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_opens_again_after_a_full_disk() {
    let disk = SmallDisk::mount();
    let store = Arc::new(EmbeddedStore::open(&disk.path().join("store.redb")).unwrap());
    let secret = KeySecret::generate().unwrap().0;
    let lease = Duration::from_secs(60);
    let answers = Idempotency::new(store.clone(), secret.clone(), lease, 1 << 20);
    let directory = Arc::new(Directory::new(secret, false));
    let administration = Administration::new(store.clone(), directory, Duration::from_secs(1));
    let name = |n: u32| format!("tenant-{n}").parse().unwrap();
    administration.create_tenant(WallTime(1), "operator", &name(0), Plan::Free).await.unwrap();
    let large = Answer { status: 200, body: vec![b'x'; 1 << 18] };
    let body = b"one";
    let keyed = |key: &'static str| Keyed { tenant: "acme", principal: "key_1", key, route: "/", body };
    let Ok(Begun::First(early)) = answers.begin(WallTime::now(), &keyed("early")).await else { panic!() };
    answers.keep(WallTime::now(), &early, &Answer { status: 200, body: vec![1] }).await.unwrap();
    disk.fill();
    // Answers are kept until there is no room: which is not an error, but something that is tried again.
    let mut n = 0;
    until("the store failed", async || {
        n += 1;
        let key: &'static str = Box::leak(n.to_string().into_boxed_str());
        if let Ok(Begun::First(attempt)) = answers.begin(WallTime::now(), &keyed(key)).await {
            let _ = answers.keep(WallTime::now(), &attempt, &large).await;
        }
        store.fault().is_some()
    })
    .await;
    disk.make_room();
    until("accounts", async || {
        administration.create_tenant(WallTime(2), "operator", &name(1), Plan::Free).await.is_ok()
    })
    .await;
    assert_eq!(store.fault(), None);
    let Ok(Begun::First(last)) = answers.begin(WallTime::now(), &keyed("last")).await else { panic!() };
    answers.keep(WallTime::now(), &last, &large).await.unwrap();
    for key in ["early", "last"] {
        assert!(matches!(answers.begin(WallTime::now(), &keyed(key)).await, Ok(Begun::Again(_))), "{key}");
    }
    assert_eq!(administration.tenants(WallTime(3)).await.unwrap().len(), 2);
    // What was not known to be kept is kept by now.
    until("the answer that did not fit", async || {
        let key: &'static str = Box::leak(n.to_string().into_boxed_str());
        matches!(answers.begin(WallTime::now(), &keyed(key)).await, Ok(Begun::Again(_) | Begun::First(_)))
    })
    .await;
}

/// A disk of four megabytes in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test has to be root to mount a tmpfs");
        Self(folder)
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn the_store_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
}

/// Whatever becomes of the store in between: an answer that is there is one that was said to be kept.
#[tokio::test]
async fn an_answer_that_is_not_known_to_be_kept_is_kept_in_the_end() {
    let server = RedisServer::start(&[]);
    let store = Arc::new(connect(&server, QUICK, Duration::from_millis(100)).await);
    let answers = Idempotency::new(store, KeySecret::generate().unwrap().0, Duration::from_secs(60), 1000);
    let keyed =
        |key: &'static str| Keyed { tenant: "acme", principal: "key_1", key, route: "/", body: b"one" };
    let answer = Answer { status: 200, body: b"charged".to_vec() };
    let Ok(Begun::First(attempt)) = answers.begin(WallTime::now(), &keyed("a")).await else { panic!() };
    let Ok(Begun::First(failed)) = answers.begin(WallTime::now(), &keyed("b")).await else { panic!() };
    server.hang(true);
    // It is charged: so it must not fail.
    answers.keep(WallTime::now(), &attempt, &answer).await.unwrap();
    answers.release(&failed).await;
    // Entered by a Redis that hangs, for a request that fails.
    assert!(answers.begin(WallTime::now(), &keyed("c")).await.is_err());
    server.hang(false);
    until("kept", async || {
        matches!(answers.begin(WallTime::now(), &keyed("a")).await, Ok(Begun::Again(found)) if found == answer)
    })
    .await;
    for key in ["b", "c"] {
        until("free", async || {
            matches!(answers.begin(WallTime::now(), &keyed(key)).await, Ok(Begun::First(_)))
        })
        .await;
    }
    assert_eq!(answers.unkept(), 0);
}
