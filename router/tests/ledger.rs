//! Sums of records equal the records, under any interleaving of writing, shipping, failing and starting
//! again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "tests of stores use more of it")]
mod redis_server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use redis_server::{Cluster, RedisServer};
use router::ledger::{
    Batch, BatchOutcome, DayState, Flush, Followers, Journal, JournalConfig, JournalError, JournalFinding,
    Outcome, Shipper, Sum, SumKey, TenantDay, UsageRecord, UsageStore, inspect, repair,
};
use router::store::{BreakerConfig, EmbeddedStore, RedisConfig, RedisStore, StoreError};
use router::{Day, KeyId, MicroDollars, WallTime};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const SERVERS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    /// A server records a request of so many inputs.
    Record {
        server: usize,
        tenant: usize,
        inputs: u64,
        outcome: Outcome,
        day: u64,
    },
    /// A server ships what it has.
    Ship {
        server: usize,
    },
    /// The store fails the next call: before it did anything, or after it did all of it.
    Fail {
        is_after: bool,
    },
    /// A server asks the store whether it still has what it had.
    Check {
        server: usize,
    },
    /// The store is copied, set back to its copy if there is one, or emptied.
    Copy,
    SetBack,
    Empty,
    /// A server's process ends, and another begins. It may have lost how far it had shipped.
    Restart {
        server: usize,
        has_position: bool,
    },
    /// A server's folder is copied while it runs, and another server begins with the copy.
    Clone {
        server: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Completed),
        1 => Just(Outcome::Refused),
        1 => Just(Outcome::Failed),
        1 => Just(Outcome::Cancelled),
    ];
    let record = (0..SERVERS, 0..TENANTS.len(), 1u64..50, outcome, 0u64..2).prop_map(
        |(server, tenant, inputs, outcome, day)| Step::Record { server, tenant, inputs, outcome, day },
    );
    let step = prop_oneof![
        6 => record,
        3 => (0..SERVERS).prop_map(|server| Step::Ship { server }),
        1 => any::<bool>().prop_map(|is_after| Step::Fail { is_after }),
        1 => (0..SERVERS).prop_map(|server| Step::Check { server }),
        1 => Just(Step::Copy),
        1 => Just(Step::SetBack),
        1 => Just(Step::Empty),
        1 => (0..SERVERS, any::<bool>())
            .prop_map(|(server, has_position)| Step::Restart { server, has_position }),
        1 => (0..SERVERS).prop_map(|server| Step::Clone { server }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A store that fails when told to.
struct Unsteady {
    folder: std::path::PathBuf,
    store: Mutex<Option<EmbeddedStore>>,
    /// 0: not. 1: before. 2: after.
    fails: AtomicU8,
}

impl Unsteady {
    fn new(folder: &std::path::Path) -> Self {
        let store = EmbeddedStore::open(&folder.join("store.redb")).unwrap();
        Self { folder: folder.to_owned(), store: Mutex::new(Some(store)), fails: AtomicU8::new(0) }
    }

    fn now(&self) -> EmbeddedStore {
        self.store.lock().unwrap().clone().unwrap()
    }

    /// As an operator does it, while nobody has it open.
    fn exchange(&self, change: impl FnOnce(&std::path::Path, &std::path::Path)) {
        let mut store = self.store.lock().unwrap();
        drop(store.take());
        let (path, copy) = (self.folder.join("store.redb"), self.folder.join("copy.redb"));
        change(&path, &copy);
        *store = Some(EmbeddedStore::open(&path).unwrap());
    }
}

#[async_trait]
impl UsageStore for Unsteady {
    async fn apply(&self, batches: &[Batch]) -> Result<Vec<BatchOutcome>, StoreError> {
        let failed = || StoreError::Unavailable("as told".to_owned());
        match self.fails.swap(0, Ordering::Relaxed) {
            1 => Err(failed()),
            2 => self.now().apply(batches).await.and(Err(failed())),
            _ => self.now().apply(batches).await,
        }
    }

    async fn life(&self) -> Result<String, StoreError> {
        self.now().life().await
    }

    fn home(&self) -> &'static str {
        "embedded"
    }

    async fn days(
        &self,
        asked: &[(TenantDay, Vec<Arc<str>>)],
        is_thorough: bool,
    ) -> Result<Vec<DayState>, StoreError> {
        self.now().days(asked, is_thorough).await
    }

    async fn forget(&self, place: &TenantDay, records: u64) -> Result<bool, StoreError> {
        self.now().forget(place, records).await
    }

    async fn tenants(&self) -> Result<std::collections::BTreeSet<String>, StoreError> {
        self.now().tenants().await
    }

    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
        self.now().sums(tenant, from, to).await
    }
}

struct Server {
    folder: std::path::PathBuf,
    name: String,
    journal: Journal,
    shipper: Shipper,
}

impl Server {
    fn start(folder: std::path::PathBuf, name: String, store: Arc<Unsteady>) -> Self {
        let config = JournalConfig {
            folder: folder.clone(),
            flush: Flush::EveryMs(1000),
            // A segment holds some ten records.
            segment_bytes_max: 3000,
            pending_max: 16,
            is_on: true,
        };
        // A process that another test starts has the lock of the journal before it until it becomes another
        // program.
        let mut journal = Journal::open(config.clone());
        while matches!(journal, Err(JournalError::InUse { .. })) {
            std::thread::yield_now();
            journal = Journal::open(config.clone());
        }
        let journal = journal.unwrap();
        // All are kept, so that a lost position can be made up for.
        let followers = Followers::new(journal.folder(), 1000);
        let shipper = Shipper::new(store, name.clone(), followers);
        Self { folder, name, journal, shipper }
    }
}

fn record(number: usize, tenant: usize, inputs: u64, outcome: Outcome, day: u64) -> UsageRecord {
    let price = if outcome == Outcome::Completed { 50 * inputs } else { 0 };
    UsageRecord {
        at: WallTime(1_795_219_200_000 + day * 86_400_000 + number as u64 * 700_000),
        request_id: Arc::from(format!("req_{number}")),
        tenant: Arc::from(TENANTS[tenant]),
        key: KeyId(Arc::from("key_1")),
        model: Arc::from(["sentiment-v3", "ner-v2"][number % 2]),
        version: Arc::from("3.0.0"),
        inputs,
        tokens: 7 * inputs,
        device_us: 900,
        is_cached: false,
        outcome,
        price: MicroDollars(price),
        attempt: None,
    }
}

async fn live(steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Unsteady::new(folder.path()));
    let start = |index: usize| {
        Server::start(folder.path().join(format!("usage-{index}")), format!("server-{index}"), store.clone())
    };
    let mut servers: Vec<Server> = (0..SERVERS).map(start).collect();
    let mut expected: BTreeMap<(&str, SumKey), Sum> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Record { server, tenant, inputs, outcome, day } => {
                let record = record(number, tenant, inputs, outcome, day);
                *expected.entry((TENANTS[tenant], SumKey::of(&record))).or_default() += Sum::of(&record);
                servers[server].journal.append(record).await.unwrap();
            }
            Step::Ship { server } => {
                let Server { journal, shipper, .. } = &mut servers[server];
                // It may fail as told; nothing is lost by that.
                let _ = shipper.ship(journal.written()).await;
            }
            Step::Fail { is_after } => store.fails.store(1 + u8::from(is_after), Ordering::Relaxed),
            Step::Check { server } => servers[server].shipper.check().await.unwrap(),
            Step::Copy => store.exchange(|path, copy| _ = std::fs::copy(path, copy).unwrap()),
            Step::SetBack => store.exchange(|path, copy| {
                if copy.exists() {
                    std::fs::copy(copy, path).unwrap();
                }
            }),
            Step::Empty => store.exchange(|path, _| std::fs::write(path, "").unwrap()),
            Step::Restart { server, has_position } => {
                let Server { folder, name, journal, shipper } = servers.remove(server);
                drop((journal, shipper));
                if !has_position {
                    // There may be none yet.
                    let _ = std::fs::remove_file(folder.join("shipped"));
                }
                servers.insert(server, Server::start(folder, name, store.clone()));
            }
            Step::Clone { server } => {
                let (folder, name) = (servers[server].folder.clone(), servers[server].name.clone());
                let copy = folder.with_extension(number.to_string());
                let is_copied = std::process::Command::new("cp").arg("-a").args([&folder, &copy]).status();
                assert!(is_copied.unwrap().success());
                servers.push(Server::start(copy, name, store.clone()));
            }
        }
    }
    store.fails.store(0, Ordering::Relaxed);
    for Server { journal, shipper, .. } in &mut servers {
        shipper.check().await.unwrap();
        while shipper.ship(journal.written()).await.unwrap() > 0 {}
    }
    let mut found = BTreeMap::new();
    for tenant in TENANTS {
        let sums = store.sums(tenant, Day(0), Day(u32::MAX - 1)).await.unwrap();
        found.extend(sums.into_iter().map(|(key, sum)| ((tenant, key), sum)));
    }
    assert_eq!(found, expected);
    let listed = store.tenants().await.unwrap();
    assert!(expected.keys().all(|(tenant, _)| listed.contains(*tenant)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_the_sums_of_the_records(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(live(&steps));
    }
}

/// A store that answers, with what it had before.
async fn total(store: &dyn UsageStore) -> u64 {
    let sums = store.sums(TENANTS[0], Day(0), Day(u32::MAX - 1)).await.unwrap();
    sums.values().map(|sum| sum.inputs).sum()
}

#[tokio::test]
async fn a_store_that_goes_back_while_nothing_is_recorded_is_found_out_and_fed_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Unsteady::new(folder.path()));
    let mut server = Server::start(folder.path().join("usage"), "server".to_owned(), store.clone());
    let more = async |server: &mut Server, count: usize| {
        for number in 0..count {
            server.journal.append(record(number, 0, 1, Outcome::Completed, 0)).await.unwrap();
        }
        while server.shipper.ship(server.journal.written()).await.unwrap() > 0 {}
    };
    more(&mut server, 5).await;
    store.exchange(|path, copy| _ = std::fs::copy(path, copy).unwrap());
    more(&mut server, 7).await;
    server.shipper.check().await.unwrap();
    for empty in [false, true] {
        store.exchange(|path, copy| {
            std::fs::write(path, if empty { Vec::new() } else { std::fs::read(copy).unwrap() }).unwrap();
        });
        assert_eq!(total(store.as_ref()).await, if empty { 0 } else { 5 });
        server.shipper.check().await.unwrap();
        more(&mut server, 0).await;
        assert_eq!(total(store.as_ref()).await, 12, "emptied: {empty}");
    }
    let state = server.shipper.state();
    assert_eq!((state.went_back(), state.incomplete()), (2, 0));
    // The same with a start between.
    let Server { folder: usage, name, journal, shipper } = server;
    drop((journal, shipper));
    store.exchange(|path, copy| _ = std::fs::copy(copy, path).unwrap());
    let mut server = Server::start(usage, name, store.clone());
    server.shipper.check().await.unwrap();
    more(&mut server, 3).await;
    assert_eq!(total(store.as_ref()).await, 15);
}

#[tokio::test]
async fn what_neither_store_nor_journal_has_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Unsteady::new(folder.path()));
    let journal = Journal::open(JournalConfig {
        folder: folder.path().join("usage"),
        flush: Flush::EveryMs(1000),
        segment_bytes_max: 3000,
        pending_max: 16,
        is_on: true,
    })
    .unwrap();
    let mut shipper = Shipper::new(store.clone(), "server".to_owned(), Followers::new(journal.folder(), 1));
    for number in 0..50 {
        journal.append(record(number, 0, 1, Outcome::Completed, 0)).await.unwrap();
    }
    while shipper.ship(journal.written()).await.unwrap() > 0 {}
    shipper.check().await.unwrap();
    store.exchange(|path, _| std::fs::remove_file(path).unwrap());
    shipper.check().await.unwrap();
    while shipper.ship(journal.written()).await.unwrap() > 0 {}
    let kept = total(store.as_ref()).await;
    assert!(kept > 0 && kept < 50, "{kept}");
    assert_eq!(shipper.state().incomplete(), 1);
}

#[tokio::test]
async fn a_repaired_journal_ships_what_is_good_and_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (store, usage) = (Arc::new(Unsteady::new(folder.path())), folder.path().join("usage"));
    let mut server = Server::start(usage.clone(), "server".to_owned(), store.clone());
    for number in 0..40 {
        server.journal.append(record(number, number % 2, 1, Outcome::Completed, 0)).await.unwrap();
    }
    server.shipper.ship(10).await.unwrap();
    drop(server);
    let mut found = inspect(&usage).unwrap();
    found.compare(&usage, "server", store.as_ref()).await.unwrap();
    assert_eq!((found.missing(), found.is_sound(), found.unsound.len()), (30, false, 0));
    // Three records are damaged: one is in the sums. Positions are nonsense.
    for (record, position) in [(3, "shipped"), (15, "sink-a"), (30, "sink-b")] {
        let mut files: Vec<_> =
            std::fs::read_dir(&usage).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
        let marker = format!("req_{record}\"");
        let path =
            files.into_iter().find(|path| std::fs::read_to_string(path).unwrap().contains(&marker)).unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace(&marker, "req_x\"")).unwrap();
        std::fs::write(usage.join(position), if record == 3 { "99999999999" } else { "x" }).unwrap();
    }
    let found = inspect(&usage).unwrap();
    let wrong = |findings: &[JournalFinding]| findings.iter().filter(|found| found.problem.is_some()).count();
    assert_eq!((wrong(&found.segments), wrong(&found.followers)), (3, 3), "{found:?}");
    assert_eq!(repair(&usage).unwrap().len(), 6);
    let mut server = Server::start(usage.clone(), "server".to_owned(), store.clone());
    server.journal.check(&Followers::new(&usage, 0)).unwrap();
    server.shipper.check().await.unwrap();
    while server.shipper.ship(server.journal.written()).await.unwrap() > 0 {}
    // All but those two that were neither whole nor summed.
    let summed = async |tenant: &str| {
        let sums = store.sums(tenant, Day(0), Day(u32::MAX - 1)).await.unwrap();
        sums.values().map(|sum| sum.inputs).sum::<u64>()
    };
    assert_eq!((summed(TENANTS[0]).await, summed(TENANTS[1]).await), (19, 19));
    let mut found = inspect(&usage).unwrap();
    found.compare(&usage, "server", store.as_ref()).await.unwrap();
    assert!(found.is_sound() && found.set_aside.len() == 3, "{found:?}");
}

async fn redis_store(urls: Vec<String>, is_cluster: bool) -> Arc<RedisStore> {
    let timeout = std::time::Duration::from_secs(2);
    let breaker = BreakerConfig::default();
    let config =
        RedisConfig { urls, password: None, is_cluster, prefix: "test".to_owned(), timeout, breaker };
    Arc::new(RedisStore::connect(config).await.unwrap())
}

fn redis(url: &str, command: &[&str]) {
    let done = std::process::Command::new("redis-cli").args(["-u", url]).args(command).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// An epoch's position is exact, whatever its size; what is forgotten is forgotten as a whole; and a store
/// says that it is another one after it lost what it had.
async fn positions_are_the_stores(store: &dyn UsageStore) {
    let epoch: Arc<str> = Arc::from("epoch");
    let place = |tenant: &str| TenantDay { tenant: Arc::from(tenant), day: Day(20_000) };
    let key = SumKey { day: Day(20_000), hour: 3, model: "sentiment-v3".to_owned() };
    let one = Sum { inputs: 7, ..Sum::default() };
    let apply = async |tenant: &str, from, to| {
        let sums = BTreeMap::from([(key.clone(), one)]);
        let (epoch, place) = (Arc::clone(&epoch), place(tenant));
        let batch = Batch { epoch, place, from, to, first: from, records: 2, sums };
        store.apply(&[batch]).await.unwrap()[0]
    };
    let states = async || {
        let epochs = vec![Arc::clone(&epoch), Arc::from("other")];
        let asked = ["acme", "globex", "initech"].map(|tenant| (place(tenant), epochs.clone()));
        let states = store.days(&asked, true).await.unwrap();
        assert!(states.iter().all(|state| state.is_sound));
        states.into_iter().map(|state| (state.positions, state.records)).collect::<Vec<_>>()
    };
    let nothing = (vec![0, 0], None);
    assert_eq!(states().await, vec![nothing.clone(); 3]);
    // The first number that a double cannot tell from the one before.
    let large = (1 << 53) + 1;
    assert_eq!(apply("acme", 0, large).await, BatchOutcome::Yes);
    assert_eq!(apply("acme", large - 1, large + 2).await, BatchOutcome::At(large));
    assert_eq!(apply("acme", large, large + 2).await, BatchOutcome::Yes);
    assert_eq!(apply("initech", 0, 99).await, BatchOutcome::Yes);
    let acme = (vec![large + 2, 0], Some(4));
    assert_eq!(states().await, [acme.clone(), nothing.clone(), (vec![99, 0], Some(2))]);
    let life = store.life().await.unwrap();
    assert_eq!(store.life().await.unwrap(), life);
    assert_eq!(store.tenants().await.unwrap().len(), 2);
    let sums = async || {
        store.sums("initech", Day(20_000), Day(20_000)).await.unwrap().into_values().collect::<Vec<_>>()
    };
    assert_eq!(sums().await, [one]);
    assert!(!store.forget(&place("initech"), 3).await.unwrap());
    assert_eq!(sums().await, [one]);
    assert!(store.forget(&place("initech"), 2).await.unwrap());
    assert_eq!((states().await, sums().await), (vec![acme, nothing.clone(), nothing], vec![]));
}

/// Whatever becomes of one key, or within one, is noticed and summed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_that_are_lost_or_changed_by_themselves_are_summed_again() {
    let server = RedisServer::start(&[]);
    let store = redis_store(vec![server.url()], false).await;
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalConfig {
        folder: folder.path().to_owned(),
        flush: Flush::EveryMs(1000),
        segment_bytes_max: 1 << 20,
        pending_max: 16,
        is_on: true,
    })
    .unwrap();
    let mut shipper = Shipper::new(store.clone(), "own".to_owned(), Followers::new(journal.folder(), 1));
    for number in 0..20 {
        journal.append(record(number, 0, 3, Outcome::Completed, number as u64 % 2)).await.unwrap();
    }
    let day = record(0, 0, 1, Outcome::Completed, 0).at.day();
    let key = format!("test:usage:{{{}}}:{day}", TENANTS[0]);
    shipper.check().await.unwrap();
    while shipper.ship(journal.written()).await.unwrap() > 0 {}
    let expected = store.sums(TENANTS[0], day, day.next()).await.unwrap();
    assert_eq!(expected.values().map(|sum| sum.inputs).sum::<u64>(), 60);
    let look = async |shipper: &mut Shipper| {
        shipper.check().await.unwrap();
        while shipper.ship(journal.written()).await.unwrap() > 0 {}
        store.sums(TENANTS[0], day, day.next()).await.unwrap()
    };
    for command in
        [&["DEL", &key][..], &["HSET", &key, "0|4|sentiment-v3", "1"], &["HDEL", &key, "0|4|sentiment-v3"]]
    {
        redis(&server.url(), command);
        let mut found = inspect(folder.path()).unwrap();
        found.compare(folder.path(), "own", store.as_ref()).await.unwrap();
        assert!(!found.is_sound(), "{command:?}: {found:?}");
        assert_eq!(look(&mut shipper).await, expected, "{command:?}");
        found.compare(folder.path(), "own", store.as_ref()).await.unwrap();
        assert!(found.is_sound(), "{command:?}: {found:?}");
    }
    // Where another server's records are in it too, this one cannot tell what they were.
    let (sums, place) = (
        BTreeMap::from([(SumKey { day, hour: 1, model: "ner-v2".to_owned() }, Sum::default())]),
        TenantDay { tenant: Arc::from(TENANTS[0]), day },
    );
    let batch = Batch { epoch: Arc::from("other"), place, from: 0, to: 5, first: 0, records: 5, sums };
    store.apply(&[batch]).await.unwrap();
    redis(&server.url(), &["HSET", &key, "0|4|sentiment-v3", "1"]);
    assert_ne!(look(&mut shipper).await, expected);
    assert_eq!(shipper.state().unsound(), 1);
}

#[tokio::test]
async fn positions_in_a_file_are_the_stores() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsteady::new(folder.path());
    positions_are_the_stores(&store).await;
    let life = store.life().await.unwrap();
    store.exchange(|_, _| {});
    assert_eq!(store.life().await.unwrap(), life);
    store.exchange(|path, _| std::fs::write(path, "").unwrap());
    assert_ne!(store.life().await.unwrap(), life);
}

#[tokio::test]
async fn positions_in_redis_are_the_stores() {
    let server = RedisServer::start(&[]);
    let store = redis_store(vec![server.url()], false).await;
    positions_are_the_stores(store.as_ref()).await;
    let life = store.life().await.unwrap();
    // What an older version summed, by a tenant's journal, is not summed again.
    redis(&server.url(), &["HSET", "test:usage:{hooli}:applied", "journal", "7"]);
    let place = TenantDay { tenant: Arc::from("hooli"), day: Day(20_000) };
    let asked = [(place.clone(), vec![Arc::from("journal")])];
    assert_eq!(store.days(&asked, true).await.unwrap()[0].positions, [7]);
    let epoch = Arc::from("journal");
    let batch = Batch { epoch, place, from: 0, to: 5, first: 0, records: 5, sums: BTreeMap::new() };
    assert_eq!(store.apply(&[batch]).await.unwrap(), [BatchOutcome::At(7)]);
    redis(&server.url(), &["FLUSHALL"]);
    assert_ne!(store.life().await.unwrap(), life);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_cluster_that_is_emptied_by_itself_is_fed_again() {
    let cluster = Cluster::start();
    let store = redis_store(cluster.urls(), true).await;
    positions_are_the_stores(store.as_ref()).await;
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalConfig {
        folder: folder.path().to_owned(),
        flush: Flush::EveryMs(1000),
        segment_bytes_max: 1 << 20,
        pending_max: 16,
        is_on: true,
    })
    .unwrap();
    let mut shipper = Shipper::new(store.clone(), "own".to_owned(), Followers::new(journal.folder(), 1));
    // More tenants than are asked for at once, over all nodes.
    let names: Vec<String> = (0..300).map(|number| format!("tenant-{number}")).collect();
    for name in &names {
        let record =
            UsageRecord { tenant: Arc::from(name.as_str()), ..record(0, 0, 1, Outcome::Completed, 0) };
        journal.append(record).await.unwrap();
    }
    let total = async || {
        let mut total = 0;
        for name in &names {
            let day = record(0, 0, 1, Outcome::Completed, 0).at.day();
            let sums = store.sums(name, day, day).await.unwrap();
            total += sums.values().map(|sum| sum.inputs).sum::<u64>();
        }
        total
    };
    shipper.check().await.unwrap();
    while shipper.ship(journal.written()).await.unwrap() > 0 {}
    shipper.check().await.unwrap();
    let full = total().await;
    assert_eq!(full, 300);
    for url in cluster.urls() {
        redis(&url, &["FLUSHALL"]);
        assert!(total().await < full);
        // Those that are asked for in one round, and then all.
        for _ in 0..2 {
            shipper.check().await.unwrap();
        }
        while shipper.ship(journal.written()).await.unwrap() > 0 {}
        assert_eq!(total().await, full);
    }
    let listed = store.tenants().await.unwrap();
    assert!(names.iter().all(|name| listed.contains(name)));
}
