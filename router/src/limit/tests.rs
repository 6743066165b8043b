#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use units::{TenantId, Timestamp};

use super::*;
use crate::plan::Plan;
use units::WallTime;

const CONFIG: LimiterConfig = LimiterConfig { outage: Outage::Open, servers_max: 4 };

fn tenant(terms: Terms) -> Tenant {
    Tenant { id: TenantId(1), name: Arc::from("acme"), plan: Plan::Custom(terms) }
}

fn terms(minute: u64, day: Option<u64>) -> Terms {
    Terms { requests_per_minute: minute, requests_per_day: day, ..Plan::Free.terms() }
}

/// A moment by clocks that agree, in milliseconds.
fn at(ms: u64) -> Moment {
    Moment { uptime: Timestamp::from_nanos(ms * 1_000_000), wall: WallTime(ms) }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A store that can be switched off, emptied and set back, and counts how often it is asked.
#[derive(Default)]
struct Shaky {
    counts: RwLock<Arc<MemoryLimits>>,
    board: Mutex<HashMap<String, (u64, Vec<LimitUse>)>>,
    is_down: AtomicBool,
    asked: AtomicU64,
}

impl Shaky {
    fn is_up(&self) -> Result<(), StoreError> {
        let is_down = self.is_down.load(Ordering::Relaxed);
        if is_down { Err(StoreError::Unavailable("switched off".to_owned())) } else { Ok(()) }
    }

    fn empty(&self) {
        *self.counts.write().unwrap() = Arc::default();
        self.board.lock().unwrap().clear();
    }

    /// All that it counts, as a copy on a disk has it.
    fn copy(&self) -> (MemoryLimits, HashMap<String, (u64, Vec<LimitUse>)>) {
        (self.counts.read().unwrap().copy(), self.board.lock().unwrap().clone())
    }

    fn set_back(&self, (counts, board): &(MemoryLimits, HashMap<String, (u64, Vec<LimitUse>)>)) {
        *self.counts.write().unwrap() = Arc::new(counts.copy());
        *self.board.lock().unwrap() = board.clone();
    }
}

#[async_trait]
impl LimitStore for Shaky {
    async fn take(
        &self,
        now: Moment,
        tenant: &str,
        unit: Unit,
        limits: Limits,
        take: &Take,
    ) -> Result<Grant, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.is_up()?;
        let counts = Arc::clone(&*self.counts.read().unwrap());
        counts.take(now, tenant, unit, limits, take).await
    }

    async fn exchange(&self, server: &str, number: u64, own: &[LimitUse]) -> Result<Board, StoreError> {
        self.is_up()?;
        let mut board = self.board.lock().unwrap();
        let before = board.insert(server.to_owned(), (number, own.to_vec()));
        let has_own = before.is_some_and(|(before, _)| before + 1 >= number);
        let others = board.iter().filter(|(other, _)| *other != server);
        Ok(Board::new(has_own, others.flat_map(|(_, (_, used))| used.clone()).collect::<Vec<_>>()))
    }
}

fn is_let_through(limiter: &Limiter, now: u64, tenant: &Tenant, amount: u64) -> bool {
    block_on(limiter.take(at(now), tenant, Unit::Inputs, amount)).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is asked of however many servers: no more than the limit in any 60 s, nor in a day; and who
    /// was refused and comes when told is let through.
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
            match block_on(limiter.take(at(now), &tenant, Unit::Inputs, amount)) {
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
    let refused = |now: u64| block_on(limiter.take(at(now), &tenant, Unit::Inputs, 1)).unwrap_err();
    let LimitError::Exceeded { retry_after, limit, period, .. } = refused(now) else { panic!("not refused") };
    assert_eq!((limit, period), (10, Period::Minute));
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
        let now = at(turn * 700);
        let taken = block_on(limiter.take(now, &tenant, Unit::Inputs, 10)).unwrap().unwrap();
        limiter.give_back(&tenant, taken);
    }
}

#[test]
fn tokens_are_limited_only_where_the_plan_says() {
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
    let take = |terms: Terms, amount: u64| {
        block_on(limiter.take(at(0), &tenant(terms), Unit::Tokens, amount)).map(|taken| taken.is_some())
    };
    assert_eq!(take(terms(1, None), 1_000_000), Ok(false));
    let limited = Terms { tokens_per_minute: Some(100), ..terms(1, None) };
    assert_eq!(take(limited, 60), Ok(true));
    let refused = take(limited, 60);
    assert!(matches!(refused, Err(LimitError::Exceeded { unit: Unit::Tokens, limit: 100, left: 40, .. })));
    assert!(matches!(take(limited, 101), Err(LimitError::TooMuch { amount: 101, .. })));
}

#[test]
fn without_the_store_each_server_has_its_part_and_owes_it() {
    let store = Arc::new(Shaky::default());
    let limiter = Limiter::new(store.clone(), CONFIG);
    let tenant = tenant(terms(100, None));
    store.is_down.store(true, Ordering::Relaxed);
    let through = (0..100).filter(|_| is_let_through(&limiter, 0, &tenant, 1)).count();
    assert_eq!(through, 25, "a quarter of the limit, for four servers: this one was told nothing yet");
    store.is_down.store(false, Ordering::Relaxed);
    let through = (0..100).filter(|_| is_let_through(&limiter, 500, &tenant, 1)).count();
    assert_eq!(through, 75, "what was let through meanwhile counts");
    let closed = LimiterConfig { outage: Outage::Closed, ..CONFIG };
    store.is_down.store(true, Ordering::Relaxed);
    let limiter = Limiter::new(store, closed);
    let refused = block_on(limiter.take(at(0), &tenant, Unit::Inputs, 1));
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

/// Two servers, of four that there may be: whatever they take before, the store falls silent, and no more
/// than the limit is let through in any minute from then on, until long after.
#[test]
fn the_limit_holds_over_the_beginning_of_an_outage() {
    let check = |before: u64, expected: u64| {
        let store = Arc::new(Shaky::default());
        let servers = [0, 1].map(|_| Limiter::new(store.clone(), CONFIG));
        let tenant = tenant(terms(80, None));
        let mut through: Vec<u64> = Vec::new();
        let mut ask = |now: u64, tries: u64| {
            for n in 0..tries {
                if is_let_through(&servers[(n % 2) as usize], now, &tenant, 1) {
                    through.push(now);
                }
            }
            let in_window = through.iter().filter(|at| **at + 60_000 > now).count();
            assert!(in_window <= 80, "{in_window} of 80 in 60 s at {now}, {before} before the outage");
            in_window as u64
        };
        ask(0, before);
        store.is_down.store(true, Ordering::Relaxed);
        let in_window = ask(1_500, 200);
        assert_eq!(in_window, expected, "{before} before the outage");
        for now in (2_000..200_000).step_by(500) {
            ask(now, 40);
        }
        // Each has its part: 20 of 80.
        assert_eq!(ask(200_000, 40), 40);
        store.is_down.store(false, Ordering::Relaxed);
        for now in (200_500..400_000).step_by(500) {
            ask(now, 40);
        }
    };
    // All was taken: nothing is left for anybody.
    check(200, 80);
    check(80, 80);
    // 40 are left, or somewhat more by what was told before the other's last: each takes its quarter of that.
    check(40, 60);
    check(2, 2 + 2 * 19);
}

#[test]
fn a_calendar_that_is_set_locks_nobody_out_and_lets_nobody_through() {
    const HOUR: i64 = 3_600_000;
    let check = |steps: &[(u64, i64)]| {
        let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
        let tenant = tenant(terms(20, Some(1_000)));
        let moment = |ms: u64| {
            let offset = steps.iter().rev().find(|(from, _)| *from <= ms).map_or(0, |(_, offset)| *offset);
            let wall = (86_400_000 * 9 + 3_000_000 + ms).saturating_add_signed(offset);
            Moment { wall: WallTime(wall), ..at(ms) }
        };
        let mut through: Vec<u64> = Vec::new();
        for ms in (0..200_000).step_by(250) {
            match block_on(limiter.take(moment(ms), &tenant, Unit::Inputs, 1)) {
                Ok(_) => through.push(ms),
                Err(LimitError::Exceeded { retry_after, .. }) => {
                    assert!(
                        retry_after <= Duration::from_secs(WINDOW_SLOTS),
                        "{retry_after:?} at {ms}: {steps:?}"
                    );
                }
                Err(other) => panic!("{other}"),
            }
            let in_window = through.iter().filter(|at| **at + 60_000 > ms).count();
            assert!(in_window <= 20, "{in_window} of 20 in 60 s at {ms}: {steps:?}");
        }
        // 0 to 62 s, 62 s to 124 s, 124 s to 186 s, and the rest.
        assert_eq!(through.len(), 80, "{steps:?}");
    };
    check(&[]);
    check(&[(2_000, -HOUR)]);
    check(&[(2_000, HOUR)]);
    check(&[(2_000, HOUR), (30_000, 0)]);
    check(&[(1_000, 24 * HOUR), (90_000, 0)]);
    check(&[(1_000, -24 * HOUR), (90_000, 0), (91_000, 365 * 24 * HOUR)]);
}

#[test]
fn a_day_that_comes_again_is_the_same_day() {
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
    let tenant = tenant(terms(100, Some(100)));
    let take = |seconds: u64, day: u64, amount: u64| {
        let wall = WallTime(day * 86_400_000 + 1_000 * seconds);
        let now = Moment { uptime: at(seconds * 1_000).uptime, wall };
        block_on(limiter.take(now, &tenant, Unit::Inputs, amount)).map(|_| ())
    };
    assert_eq!(take(0, 10, 90), Ok(()));
    // A day ahead by mistake, for two minutes.
    assert_eq!(take(70, 11, 30), Ok(()));
    let refused = take(140, 10, 11);
    assert!(
        matches!(refused, Err(LimitError::Exceeded { period: Period::Day, left: 10, .. })),
        "{refused:?}"
    );
    assert_eq!(take(142, 10, 10), Ok(()));
    // And when that day comes, what was counted for it counts.
    let refused = take(300, 11, 71);
    assert!(
        matches!(refused, Err(LimitError::Exceeded { period: Period::Day, left: 70, .. })),
        "{refused:?}"
    );
}

#[test]
fn what_was_used_before_a_restart_counts() {
    let limits = MemoryLimits::default();
    let (now, day) = (at(500), at(500).wall.day());
    let restore = |age: u64, amount| {
        limits.restore(now, (Duration::from_secs(age), day), "acme", Unit::Inputs, amount);
    };
    // Too old for the minute; 30 s old; and, by a calendar that was an hour ahead, of the future.
    restore(70, 5);
    restore(30, 3);
    restore(0, 2);
    let limiter = Limiter::new(Arc::new(limits), CONFIG);
    let tenant = tenant(terms(10, Some(20)));
    let left = |now: u64| match block_on(limiter.take(at(now), &tenant, Unit::Inputs, 10)) {
        Err(LimitError::Exceeded { left, .. }) => left,
        other => panic!("{other:?}"),
    };
    assert_eq!((left(600), left(33_600)), (5, 8));
    assert!(is_let_through(&limiter, 63_600, &tenant, 10), "all that is left of the day");
    assert!(!is_let_through(&limiter, 200_000, &tenant, 1));
}

#[test]
fn who_is_refused_is_told_what_is_left() {
    let limiter = Limiter::new(Arc::new(MemoryLimits::default()), CONFIG);
    let tenant = tenant(terms(300, None));
    let take = |amount| block_on(limiter.take(at(0), &tenant, Unit::Inputs, amount));
    assert!(take(184).is_ok());
    // Asked of the store, and answered without asking again.
    for _ in 0..2 {
        let error = take(200).unwrap_err();
        assert!(matches!(error, LimitError::Exceeded { left: 116, .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "rate limit exceeded: the plan allows 300 inputs in 60 s, of which 116 are left"
        );
    }
    assert!(take(116).is_ok());
}

/// Two servers of as many as there may be, which tell each other every second what they let through, and a
/// store that falls silent at any time and comes back, with its counts or without.
struct Pair {
    store: Arc<Shaky>,
    servers: [Limiter; 2],
    tenant: Tenant,
    now: u64,
    told_at: u64,
    /// When, by which server, how much.
    through: VecDeque<(u64, usize, u64)>,
}

impl Pair {
    fn new(limit: u64, servers_max: u64) -> Self {
        let store = Arc::new(Shaky::default());
        let config = LimiterConfig { servers_max, ..CONFIG };
        let servers = [0, 1].map(|_| Limiter::new(store.clone(), config));
        let (now, told_at, through) = (1_000_000, 0, VecDeque::new());
        Self { store, servers, tenant: tenant(terms(limit, None)), now, told_at, through }
    }

    fn go_on(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.told_at + 1_000 <= until {
            self.told_at = if self.told_at == 0 { until } else { self.told_at + 1_000 };
            for server in &self.servers {
                block_on(server.exchange(at(self.told_at)));
            }
        }
        self.now = until;
    }

    fn ask(&mut self, server: usize, amount: u64) -> bool {
        let is_through = is_let_through(&self.servers[server], self.now, &self.tenant, amount);
        if is_through {
            self.through.push_back((self.now, server, amount));
        }
        is_through
    }

    fn sum(&self, since: u64, servers: &[usize]) -> u64 {
        let counts = |(at, server, _): &&(u64, usize, u64)| *at > since && servers.contains(server);
        self.through.iter().filter(counts).map(|(.., amount)| amount).sum()
    }

    fn in_window(&self) -> u64 {
        self.sum(self.now - 60_000, &[0, 1])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The bound of the module's doc.
    #[test]
    fn an_outage_lets_through_no_more_than_what_was_not_heard_of(
        limit in 10u64..200,
        servers_max in 2u64..6,
        before in proptest::collection::vec((0u64..3_000, 0usize..2, 1u64..30), 1..150),
        after in proptest::collection::vec((0u64..3_000, 0usize..2, 1u64..5), 1..150),
    ) {
        let mut pair = Pair::new(limit, servers_max);
        for (pause, server, amount) in before {
            pair.go_on(pause);
            pair.ask(server, amount);
            prop_assert!(pair.in_window() <= limit, "{} of {limit}", pair.in_window());
        }
        pair.store.is_down.store(true, Ordering::Relaxed);
        let silent = pair.now;
        // Of two servers one is the others of the other.
        let unheard = pair.sum(silent.saturating_sub(2_000), &[0]).max(pair.sum(silent.saturating_sub(2_000), &[1]));
        let excess = unheard.min(limit / servers_max);
        for (pause, server, amount) in after {
            pair.go_on(pause);
            pair.ask(server, amount);
            prop_assert!(
                pair.in_window() <= limit + excess,
                "{} of {limit} and {excess}, {} ms into the outage", pair.in_window(), pair.now - silent
            );
        }
    }

    /// The store is emptied at any time: what each server knows of its own is counted again before that one
    /// lets anything through, and of everybody's within a second.
    #[test]
    fn an_emptied_store_does_not_forget_the_minute(
        limit in 10u64..200,
        asks in proptest::collection::vec((0u64..2_000, 0usize..2, 1u64..30, 0u8..30), 1..200),
    ) {
        let mut pair = Pair::new(limit, 2);
        for (pause, server, amount, what) in asks {
            pair.go_on(pause);
            if what == 0 {
                pair.store.empty();
                pair.go_on(1_000);
            }
            pair.ask(server, amount);
            prop_assert!(pair.in_window() <= limit, "{} of {limit}", pair.in_window());
        }
    }

    /// The store is set back to a copy of any age, at any time, as by a restart from a copy on its disk or a
    /// failover to a replica that lagged: neither the minute nor the day is forgotten; and nothing is counted
    /// twice but what was on its way.
    #[test]
    fn a_store_that_is_set_back_does_not_forget(
        limit in 10u64..200,
        asks in proptest::collection::vec((0u64..2_000, 0usize..2, 1u64..30, 0u8..30), 1..200),
    ) {
        let mut pair = Pair::new(limit, 2);
        let day = limit * 3 / 2;
        pair.tenant = tenant(Terms { requests_per_day: Some(day), ..terms(limit, None) });
        let mut copy = pair.store.copy();
        for (pause, server, amount, what) in asks {
            pair.go_on(pause);
            match what {
                0..3 => {
                    copy = pair.store.copy();
                    // What was taken between a copy and the next word is lost with the store.
                    pair.go_on(1_000);
                }
                3 => {
                    // So is what was taken since the last word.
                    pair.go_on(1_000);
                    pair.store.set_back(&copy);
                    pair.go_on(1_000);
                }
                _ => {}
            }
            pair.ask(server, amount);
            // A share that was in hand when the copy was made stands in it as taken.
            let in_hand = 2 * (limit / SHARE_DIVISOR).max(1);
            prop_assert!(pair.in_window() <= limit + in_hand, "{} of {limit}", pair.in_window());
            let all = pair.sum(0, &[0, 1]);
            prop_assert!(all <= day + in_hand, "{all} of {day} in the day");
        }
    }
}

#[test]
fn a_store_that_is_set_back_gets_back_what_it_lost_and_no_more() {
    let terms = Terms { requests_per_day: Some(300), ..terms(100, None) };
    let check = |idle: u64, expected: u64| {
        let mut pair = Pair::new(100, 2);
        pair.tenant = tenant(terms);
        pair.go_on(1_000);
        assert!(pair.ask(0, 10) && pair.ask(1, 10));
        pair.go_on(1_000);
        let copy = pair.store.copy();
        assert!(pair.ask(0, 30) && pair.ask(1, 20));
        pair.go_on(2_000);
        pair.store.set_back(&copy);
        pair.go_on(idle);
        // What the other took is there although it asks for nothing.
        let through = (0..200).filter(|_| pair.ask(1, 1)).count() as u64;
        assert_eq!(through, expected, "after {idle} ms");
        pair.go_on(70_000);
        assert!(pair.ask(0, 100), "the minute is whole again");
    };
    check(1_000, 30);
    check(5_000, 30);
}

#[test]
fn who_never_asked_knows_what_the_others_took() {
    // All is taken by one server; the store falls silent, and the tenant comes to the other.
    let check = |pause: u64, taken: u64, expected: u64| {
        let mut pair = Pair::new(80, 4);
        pair.go_on(1_000);
        assert!(pair.ask(0, taken));
        pair.go_on(pause);
        pair.store.is_down.store(true, Ordering::Relaxed);
        let through = (0..80).filter(|_| pair.ask(1, 1)).count() as u64;
        assert_eq!(through, expected, "{taken} taken {pause} ms before the outage");
    };
    check(2_000, 80, 0);
    check(30_000, 80, 0);
    // It has left the window.
    check(70_000, 80, 20);
    // 40 and a reserve of 2: a quarter of the other 38.
    check(2_000, 40, 9);
    // Not heard of.
    check(0, 80, 20);
}

#[test]
fn what_an_emptied_store_forgot_is_not_to_be_had_again() {
    let mut pair = Pair::new(100, 2);
    pair.go_on(1_000);
    assert!(pair.ask(0, 60));
    pair.go_on(3_000);
    pair.store.empty();
    // Before anybody is heard of: its own is there with the same call.
    assert!(!pair.ask(0, 41) && pair.ask(0, 40), "60 of 100 are used");
    let (mut pair, day) = (Pair::new(100, 2), Terms { requests_per_day: Some(70), ..terms(100, None) });
    pair.tenant = tenant(day);
    pair.go_on(1_000);
    assert!(pair.ask(0, 60));
    pair.go_on(200_000);
    pair.store.empty();
    pair.go_on(1_000);
    assert!(!pair.ask(1, 11), "60 of the day's 70 are used");
    assert!(pair.ask(1, 10));
}
