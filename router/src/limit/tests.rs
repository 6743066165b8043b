#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use batching::TenantId;
use proptest::prelude::*;

use super::*;
use crate::plan::Plan;
use crate::wall_time::WallTime;

const CONFIG: LimiterConfig = LimiterConfig { outage: Outage::Open, servers_max: 4 };

fn tenant(terms: Terms) -> Tenant {
    Tenant { id: TenantId(1), name: Arc::from("acme"), plan: Plan::Custom(terms) }
}

fn terms(minute: u64, day: Option<u64>) -> Terms {
    Terms { requests_per_minute: minute, requests_per_day: day, ..Plan::Free.terms() }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A store that can be switched off and counts how often it is asked.
#[derive(Default)]
struct Shaky {
    counts: MemoryLimits,
    is_down: AtomicBool,
    asked: AtomicU64,
}

#[async_trait]
impl LimitStore for Shaky {
    async fn take(
        &self,
        now: WallTime,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_down.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("switched off".to_owned()));
        }
        self.counts.take(now, tenant, unit, limits, take).await
    }
}

fn is_let_through(limiter: &Limiter, now: u64, tenant: &Tenant, amount: u64) -> bool {
    block_on(limiter.take(WallTime(now), tenant, Unit::Requests, amount)).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is asked of however many servers: no more than the limit in any 60 s, nor in a day; and who was refused and
    /// comes when told is let through.
    #[test]
    fn no_window_is_exceeded(
        minute in 1u64..200,
        day in proptest::option::of(1u64..600),
        asks in proptest::collection::vec((0u64..3_000, 0usize..3, 1u64..20, 0u8..8), 1..400),
    ) {
        let store: Arc<dyn LimitStore> = Arc::new(MemoryLimits::default());
        let servers = [0, 1, 2].map(|_| Limiter::new(Arc::clone(&store), CONFIG));
        let tenant = tenant(terms(minute, day));
        let mut now = 86_400_000 * 3 - 100_000;
        let mut through: Vec<(u64, u64)> = Vec::new();
        for (pause, server, amount, returned) in asks {
            now += pause;
            let limiter = &servers[server];
            match block_on(limiter.take(WallTime(now), &tenant, Unit::Requests, amount)) {
                Ok(Some(taken)) if returned == 0 => limiter.give_back(&tenant, taken),
                Ok(_) => through.push((now, amount)),
                Err(LimitError::TooMuch { .. }) => prop_assert!(amount > minute || day.is_some_and(|day| amount > day)),
                Err(LimitError::Exceeded { retry_after, .. }) => prop_assert!(retry_after > Duration::ZERO),
                Err(other) => prop_assert!(false, "{other}"),
            }
            let in_window: u64 =
                through.iter().filter(|(at, _)| *at + 60_000 > now).map(|(_, amount)| amount).sum();
            prop_assert!(in_window <= minute, "{in_window} of {minute} in 60 s at {now}");
            if let Some(day) = day {
                // A share may be used a moment into the next day.
                let began = now / 86_400_000 * 86_400_000 + 1_000;
                let today: u64 = through.iter().filter(|(at, _)| *at >= began).map(|(_, amount)| amount).sum();
                prop_assert!(today <= day, "{today} of {day} in a day");
            }
        }
        // Nobody starves: once the windows have passed, the whole limit is there again.
        now += 86_400_000 + 120_000;
        let all = minute.min(day.unwrap_or(u64::MAX));
        prop_assert!(is_let_through(&servers[0], now, &tenant, all));
    }
}

#[test]
fn what_is_refused_costs_nothing_and_the_hint_is_right() {
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
    let tenant = tenant(terms(10, None));
    let mut now = 1_000_000;
    assert!(is_let_through(&limiter, now, &tenant, 10));
    let refused = |now: u64| block_on(limiter.take(WallTime(now), &tenant, Unit::Requests, 1)).unwrap_err();
    let LimitError::Exceeded { retry_after, limit, window, .. } = refused(now) else { panic!("not refused") };
    assert_eq!((limit, window), (10, Window::Minute));
    assert!(retry_after >= Duration::from_secs(60) && retry_after <= Duration::from_secs(WINDOW_SLOTS));
    // However often it is tried in between, it is let in when it was told.
    let told = now + retry_after.as_millis() as u64;
    while now < told - 500 {
        now += 500;
        refused(now);
    }
    assert!(is_let_through(&limiter, told, &tenant, 10));
}

#[test]
fn given_back_is_there_again() {
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
    let tenant = tenant(terms(10, Some(10)));
    for turn in 0..50u64 {
        let now = WallTime(turn * 700);
        let taken = block_on(limiter.take(now, &tenant, Unit::Requests, 10)).unwrap().unwrap();
        limiter.give_back(&tenant, taken);
    }
}

#[test]
fn tokens_are_limited_only_where_the_plan_says() {
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
    let take = |terms: Terms, amount: u64| {
        block_on(limiter.take(WallTime(0), &tenant(terms), Unit::Tokens, amount)).map(|taken| taken.is_some())
    };
    assert_eq!(take(terms(1, None), 1_000_000), Ok(false));
    let limited = Terms { tokens_per_minute: Some(100), ..terms(1, None) };
    assert_eq!(take(limited, 60), Ok(true));
    assert!(matches!(take(limited, 60), Err(LimitError::Exceeded { unit: Unit::Tokens, limit: 100, .. })));
    assert!(matches!(take(limited, 101), Err(LimitError::TooMuch { amount: 101, .. })));
}

#[test]
fn without_the_store_each_server_has_its_part_and_owes_it() {
    let store = Arc::new(Shaky::default());
    let limiter = Limiter::new(store.clone(), CONFIG);
    let tenant = tenant(terms(100, None));
    store.is_down.store(true, Ordering::Relaxed);
    let through = (0..100).filter(|_| is_let_through(&limiter, 0, &tenant, 1)).count();
    assert_eq!(through, 25, "a quarter of the limit, for four servers");
    store.is_down.store(false, Ordering::Relaxed);
    let through = (0..100).filter(|_| is_let_through(&limiter, 500, &tenant, 1)).count();
    assert_eq!(through, 75, "what was let through meanwhile counts");
    let closed = LimiterConfig { outage: Outage::Closed, ..CONFIG };
    store.is_down.store(true, Ordering::Relaxed);
    let limiter = Limiter::new(store, closed);
    let refused = block_on(limiter.take(WallTime(0), &tenant, Unit::Requests, 1));
    assert_eq!(refused, Err(LimitError::Unavailable));
}

#[test]
fn a_steady_caller_asks_the_store_once_a_second() {
    let store = Arc::new(Shaky::default());
    let limiter = Limiter::new(store.clone(), CONFIG);
    let tenant = tenant(terms(6_000, None));
    // 50 a second for a minute, half of the limit.
    assert!((0..3_000u64).all(|n| is_let_through(&limiter, n * 20, &tenant, 1)));
    let asked = store.asked.load(Ordering::Relaxed);
    assert!(asked < 150, "{asked} times for 3,000 requests");
}
