//! Sums of records equal the records, under any interleaving of writing, shipping, failing and starting again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use proptest::prelude::*;
use router::ledger::{
    Applied, Batch, Flush, Followers, Journal, JournalConfig, Outcome, Shipper, Sum, SumKey, UsageRecord,
    UsageStore,
};
use router::store::{EmbeddedStore, StoreError};
use router::{Day, KeyId, MicroDollars, WallTime};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const SERVERS: usize = 2;

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    /// A server records a request of so many inputs.
    Record { server: usize, tenant: usize, inputs: u64, outcome: Outcome, day: u64 },
    /// A server ships what it has.
    Ship { server: usize },
    /// The store fails the next call: before it did anything, or after it did all of it.
    Fail { is_after: bool },
    /// A server's process ends, and another begins. It may have lost how far it had shipped.
    Restart { server: usize, has_position: bool },
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
        1 => (0..SERVERS, any::<bool>())
            .prop_map(|(server, has_position)| Step::Restart { server, has_position }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A store that fails when told to.
struct Unsteady {
    store: EmbeddedStore,
    /// 0: not. 1: before. 2: after.
    fails: AtomicU8,
}

#[async_trait]
impl UsageStore for Unsteady {
    async fn apply(&self, journal: &str, batches: &[Batch]) -> Result<Vec<Applied>, StoreError> {
        let failed = || StoreError::Unavailable("as told".to_owned());
        match self.fails.swap(0, Ordering::Relaxed) {
            1 => Err(failed()),
            2 => self.store.apply(journal, batches).await.and(Err(failed())),
            _ => self.store.apply(journal, batches).await,
        }
    }

    async fn tenants(&self) -> Result<std::collections::BTreeSet<String>, StoreError> {
        self.store.tenants().await
    }

    async fn sums(&self, tenant: &str, from: Day, to: Day) -> Result<BTreeMap<SumKey, Sum>, StoreError> {
        self.store.sums(tenant, from, to).await
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
        let journal = Journal::open(JournalConfig {
            folder: folder.clone(),
            flush: Flush::EveryMs(1000),
            // A segment holds some ten records.
            segment_bytes_max: 3000,
            pending_max: 16,
            is_on: true,
        })
        .unwrap();
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
    }
}

async fn live(steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("store.redb")).unwrap();
    let store = Arc::new(Unsteady { store, fails: AtomicU8::new(0) });
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
            Step::Restart { server, has_position } => {
                let Server { folder, name, journal, shipper } = servers.remove(server);
                drop((journal, shipper));
                if !has_position {
                    // There may be none yet.
                    let _ = std::fs::remove_file(folder.join("shipped"));
                }
                servers.insert(server, Server::start(folder, name, store.clone()));
            }
        }
    }
    store.fails.store(0, Ordering::Relaxed);
    for Server { journal, shipper, .. } in &mut servers {
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
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_the_sums_of_the_records(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(live(&steps));
    }
}
