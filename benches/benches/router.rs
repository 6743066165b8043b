//! What a request pays for authentication, limits and metering, with the embedded store.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use router::ledger::{Flush, Journal, JournalConfig};
use router::limit::{Limiter, LimiterConfig, MemoryLimits, Outage};
use router::store::EmbeddedStore;
use router::{
    Administration, Demand, Directory, Gatekeeper, KeySecret, MicroDollars, Mode, NewKey, Outcome, Peer,
    Plan, Role, Terms, UsageObserver, UsageRecord, WallTime,
};

const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), service: None, host: None };
/// Requests that run at once, as on a busy server.
const CONCURRENT: u64 = 64;

struct Nobody;

impl UsageObserver for Nobody {
    fn on_usage(&self, _: &UsageRecord) {}
}

/// A gatekeeper with one tenant, and the header by which it is known.
async fn gatekeeper(folder: &std::path::Path) -> (Gatekeeper, String) {
    let directory = Arc::new(Directory::new(KeySecret::generate().unwrap().0, false));
    let store = Arc::new(EmbeddedStore::open(&folder.join("store.redb")).unwrap());
    let administration = Administration::new(store, Arc::clone(&directory), Duration::from_secs(1));
    let (now, tenant) = (WallTime::now(), "acme".parse().unwrap());
    let plan = Plan::Custom(Terms {
        requests_per_minute: 1_000_000_000,
        requests_per_day: Some(1_000_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        concurrency_max: 1_000_000,
        ..Plan::Enterprise.terms()
    });
    administration.create_tenant(now, "bench", &tenant, plan).await.unwrap();
    let new = NewKey { tenant, label: String::new(), mode: Mode::Live, role: Role::Editor, expires_at: None };
    let made = administration.create_key(now, "bench", None, &new).await.unwrap();
    let journal = Journal::open(JournalConfig {
        folder: folder.join("usage"),
        flush: Flush::EveryMs(1000),
        segment_bytes_max: 64 << 20,
        pending_max: 4096,
        is_on: true,
    });
    let limits = LimiterConfig { outage: Outage::Open, servers_max: 8 };
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), limits);
    let header = format!("Bearer {}", made.key.expose());
    let uptime = units::MonotonicClock::new();
    (Gatekeeper::new(directory, limiter, journal.unwrap(), Arc::new(Nobody), uptime), header)
}

fn demand() -> Demand {
    Demand {
        request_id: Arc::from("req_01M7Z2WBMJ7NSAF7T09S3F0GHD"),
        model: Arc::from("sentiment-v3"),
        version: Arc::from("3.0.0"),
        inputs: 1,
        price_per_1000: MicroDollars(50_000),
    }
}

async fn request(gatekeeper: &Gatekeeper, header: &str) {
    let now = WallTime::now();
    let principal = gatekeeper.authenticate(now, Some(header), &PEER).await.unwrap();
    let mut reservation = gatekeeper.admit(now, &principal, demand()).await.unwrap();
    reservation.settle(now, 40).await.unwrap();
    reservation.finish(Outcome::Completed).await.unwrap();
}

fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (gatekeeper, header) = runtime.block_on(gatekeeper(folder.path()));
    let gatekeeper = Arc::new(gatekeeper);
    let mut group = criterion.benchmark_group("router");
    group.bench_function("authenticate", |bencher| {
        let now = WallTime::now();
        bencher.iter(|| {
            gatekeeper.authenticate(now, Some(black_box(&header)), &PEER).now_or_never().unwrap().unwrap()
        });
    });
    // Each request waits until its record is in the journal, so this is measured as on a server: many at
    // once.
    group.bench_function("request, 64 at once", |bencher| {
        bencher.to_async(&runtime).iter_custom(|iterations| {
            let (gatekeeper, header) = (Arc::clone(&gatekeeper), header.clone());
            async move {
                let begun = std::time::Instant::now();
                let each = iterations.div_ceil(CONCURRENT);
                let callers = (0..CONCURRENT).map(|_| {
                    let (gatekeeper, header) = (Arc::clone(&gatekeeper), header.clone());
                    tokio::spawn(async move {
                        for _ in 0..each {
                            request(&gatekeeper, &header).await;
                        }
                    })
                });
                for caller in callers.collect::<Vec<_>>() {
                    caller.await.unwrap();
                }
                begun.elapsed().mul_f64(iterations as f64 / (each * CONCURRENT) as f64)
            }
        });
    });
    group.finish();
}

criterion_group!(router_benches, benches);
criterion_main!(router_benches);
