//! The same promises of every store: embedded, a real Redis and a real cluster of three, which the tests
//! start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod answers;
mod keys;
mod limits;
mod outages;
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod sums;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_server::{Cluster, RedisServer};
use router::accounts::{Accounts, AuditEntry, Change, TenantRecord, Version};
use router::idempotency::{Answer, AnswerStore, Idempotency, IdempotencyError, KeyState, KeyedRequest, Owed};
use router::ledger::{Batch, BatchOutcome, Sum, SumKey, TenantDay, UsageStore};
use router::limit::{
    Board, Grant, Left, LimitError, LimitStore, LimitUse, Limiter, LimiterConfig, Limits, MemoryLimits,
    Outage, Slot, Take,
};
use router::store::{
    AccountStore, AccountsSnapshot, BreakerConfig, Commit, EmbeddedStore, Password, RedisConfig, RedisStore,
    StoreError,
};
use router::{
    Administration, AdministrationError, ApiKey, Credential, Day, DeclaredKey, DeclaredTenant, Directory,
    KeyId, KeySecret, MicroDollars, Mode, Moment, NewKey, Outcome, Peer, Plan, Role, Scope, UsageRecord,
    WallTime,
};
use units::Unit;

use accounts::accounts_change_together_with_their_log;
use answers::{answers_are_kept, what_is_owed_stands_with_the_answer};
use keys::{held_accounts_are_left_alone, keys_are_managed, tenants_are_declared};
use limits::limits_hold;
use sums::{all_sums, sums_take_each_record_once};

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
    held_accounts_are_left_alone(home).await;
    tenants_are_declared(home).await;
    answers_are_kept(home).await;
    what_is_owed_stands_with_the_answer(home).await;
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
