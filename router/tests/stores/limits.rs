//! Limits hold, whatever the clock.

use super::*;

fn now() -> Moment {
    let clock = std::sync::LazyLock::force(&CLOCK);
    Moment { uptime: units::Clock::now(clock), wall: WallTime::now() }
}

static CLOCK: std::sync::LazyLock<units::MonotonicClock> =
    std::sync::LazyLock::new(units::MonotonicClock::new);

pub(super) async fn limits_hold(home: &Home) {
    let now = now();
    let limits = Limits { minute: 10, day: Some(15) };
    let take = async |tenant: &str, need, wish, unused: Vec<(Slot, u64)>, owed| {
        let take = Take {
            server: Arc::from("one"),
            need,
            wish,
            unused,
            owed,
            owed_day: 0,
            life: Some(7),
            new_life: 7,
        };
        home.limits.take(now, tenant, Unit::Inputs, limits, &take).await.unwrap()
    };
    let left = |minute, day| Left { minute, day: Some(day) };
    let Grant::Taken { amount: 4, slot, left: Left { minute: 6, day: Some(11) }, own_today: 4, life: 7 } =
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
    // What was taken by each server is counted, too: four, six, and what was given back taken again.
    let own = async |server: &str| {
        let (server, unused) = (Arc::from(server), Vec::new());
        let take =
            Take { server, need: 0, wish: 0, unused, owed: 0, owed_day: 0, life: Some(7), new_life: 7 };
        match home.limits.take(now, "l1", Unit::Inputs, limits, &take).await.unwrap() {
            Grant::Taken { own_today, .. } => own_today,
            refused @ Grant::Refused { .. } => panic!("{refused:?}"),
        }
    };
    assert_eq!((own("one").await, own("two").await), (10, 0));
    // What is owed counts.
    assert_eq!(taken(take("l2", 1, 1, vec![], 9).await), (1, left(0, 5)));
    // What is left is told to who is refused.
    taken(take("l4", 7, 7, vec![], 0).await);
    assert!(matches!(
        take("l4", 4, 4, vec![], 0).await,
        Grant::Refused { left: Left { minute: 3, day: Some(8) }, .. }
    ));
    // Units are counted apart.
    let other = Take {
        server: Arc::from("one"),
        need: 10,
        wish: 10,
        unused: Vec::new(),
        owed: 0,
        owed_day: 0,
        life: None,
        new_life: 8,
    };
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
                match server.take(self::now(), &tenant, Unit::Inputs, 1).await {
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

#[tokio::test]
async fn a_redis_whose_clock_is_set_back_locks_nobody_out() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    let limits = Limits { minute: 10, day: Some(100) };
    let take = async |need| {
        let take = Take {
            server: Arc::from("one"),
            need,
            wish: need,
            unused: Vec::new(),
            owed: 0,
            owed_day: 0,
            life: None,
            new_life: 9,
        };
        store.take(now(), "acme", Unit::Inputs, limits, &take).await.unwrap()
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

#[tokio::test]
async fn servers_hear_what_the_others_let_through() {
    let server = RedisServer::start(&[]);
    let store = connect(&server, QUICK, Duration::from_secs(2)).await;
    let used = |tenant: &str, amount| LimitUse { tenant: Arc::from(tenant), unit: Unit::Tokens, amount };
    let exchange = async |server: &str, number: u64, own: &[LimitUse]| {
        store.exchange(server, number, own).await.unwrap()
    };
    assert_eq!(exchange("one", 1, &[used("acme", 5)]).await, Board::new(false, []));
    let heard = exchange("two", 1, &[used("acme", 7), used("globex \"2\"", 1)]).await;
    assert_eq!(heard, Board::new(false, [used("acme", 5)]));
    assert_eq!(exchange("one", 2, &[]).await, Board::new(true, [used("acme", 7), used("globex \"2\"", 1)]));
    exchange("three", 1, &[used("acme", 3)]).await;
    let all = [used("acme", 10), used("globex \"2\"", 1)];
    assert_eq!(exchange("one", 3, &[]).await, Board::new(true, all.clone()));
    // A word that was told and is not there: the board is an older one.
    assert_eq!(exchange("one", 5, &[]).await, Board::new(false, all));
    // One that told nothing for a minute is gone; a clock that was set back is no reason.
    let second: u64 = server.command(&["time"]).lines().next().unwrap().parse().unwrap();
    let board = "test:limits:{:all}:board";
    let told = |at: u64| format!("{at} 1 [{{\"tenant\":\"acme\",\"unit\":\"tokens\",\"amount\":9}}]");
    server.command(&["hset", board, "two", &told(second - 70), "three", &told(second + 20)]);
    assert_eq!(exchange("one", 6, &[]).await, Board::new(true, [used("acme", 9)]));
    server.command(&["flushall"]);
    assert_eq!(exchange("one", 7, &[]).await, Board::new(false, []));
}
