//! The scheduler's policies in tables. Its promises under random use are in `random_use.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use batching::{
    Batch, Config, DeadlinePolicy, Decision, EndReason, ModelConfig, Policy, PreferredSize, RejectReason,
    Scheduler, Sequence, Snapshot, TokenBudget, Work,
};
use units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};

const DEVICE: DeviceId = DeviceId(0);
const FAST: ModelId = ModelId(0);
const SLOW: ModelId = ModelId(1);

fn ms(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn model(target_ms: u64) -> ModelConfig {
    ModelConfig {
        batch_tokens_max: Tokens(1000),
        batch_sequences_max: 64,
        queue_sequences_max: 2000,
        queue_tokens_max: Tokens(100_000),
        latency_target: Duration::from_millis(target_ms),
        is_target_hard: false,
        attention: 0.0,
    }
}

fn deadline() -> Policy {
    Policy::Deadline(DeadlinePolicy::default())
}

/// Two models with targets of 20 and 200 ms, on devices that need 1 ms for a batch and 10 us for a token.
fn scheduler_with(change: impl FnOnce(&mut Config)) -> Scheduler<u64> {
    let models = vec![model(20), model(200)];
    let mut config = Config { models, devices: 1, batches_in_flight_max: 2, policy: deadline() };
    change(&mut config);
    let (models, devices) = (config.models.len() as u16, config.devices);
    let mut scheduler = Scheduler::new(config).unwrap();
    for device in (0..devices).map(DeviceId) {
        for model in (0..models).map(ModelId) {
            for tokens in [10u32, 100, 1000] {
                let time = Duration::from_millis(1) + Duration::from_micros(10) * tokens;
                scheduler.calibrate(device, model, Work(f64::from(tokens)), time);
            }
        }
    }
    scheduler
}

fn scheduler() -> Scheduler<u64> {
    scheduler_with(|_| {})
}

/// A sequence of the fast model and tenant 0, of normal class, good for ten seconds.
fn sequence(tokens: u32, payload: u64) -> Sequence<u64> {
    Sequence {
        model: FAST,
        tenant: TenantId(0),
        weight: 1,
        priority: Priority::Normal,
        tokens: Tokens(tokens),
        deadline: ms(10_000),
        payload,
    }
}

fn payloads(decision: &Decision<u64>) -> Vec<u64> {
    match decision {
        Decision::Dispatch(batch) => batch.members.iter().map(|entry| entry.sequence.payload).collect(),
        Decision::WaitUntil(_) | Decision::Idle => Vec::new(),
    }
}

fn dispatched(scheduler: &mut Scheduler<u64>, now: Timestamp, device: DeviceId) -> Batch<u64> {
    match scheduler.poll(now, device) {
        Decision::Dispatch(batch) => batch,
        other => panic!("work is queued and the device is free: {other:?}"),
    }
}

#[test]
fn refusals() {
    let check = |sequence: Sequence<u64>, expected: RejectReason| {
        let refused = scheduler().enqueue(ms(1), sequence).unwrap_err();
        assert_eq!(refused.rejection.reason, expected);
        assert_eq!(refused.payload, 7, "the payload comes back");
        assert!(refused.rejection.retry_after > Duration::ZERO);
    };
    check(sequence(0, 7), RejectReason::TooLarge);
    check(sequence(1001, 7), RejectReason::TooLarge);
    check(Sequence { model: ModelId(2), ..sequence(1, 7) }, RejectReason::UnknownModel);
    check(Sequence { deadline: ms(1), ..sequence(1, 7) }, RejectReason::DeadlinePassed);
    check(Sequence { deadline: ms(3), ..sequence(200, 7) }, RejectReason::Infeasible);
}

#[test]
fn a_deadline_behind_a_running_batch_is_refused_with_the_time_to_come_back() {
    let mut scheduler = scheduler();
    scheduler.enqueue(ms(0), Sequence { model: SLOW, ..sequence(1000, 1) }).unwrap();
    dispatched(&mut scheduler, ms(0), DEVICE);
    let refused = scheduler.enqueue(ms(0), Sequence { deadline: ms(5), ..sequence(10, 2) }).unwrap_err();
    assert_eq!(refused.rejection.reason, RejectReason::Infeasible);
    let expected = Duration::from_millis(11);
    let hint = refused.rejection.retry_after.max(Duration::from_millis(1));
    assert!(hint >= expected, "{hint:?}");
    scheduler.enqueue(ms(0), sequence(10, 2)).expect("without a deadline of its own it waits");
}

#[test]
fn targets_are_deadlines_where_they_are_hard() {
    let mut scheduler = scheduler_with(|config| config.models[0].is_target_hard = true);
    scheduler.enqueue(ms(0), Sequence { model: SLOW, ..sequence(1000, 1) }).unwrap();
    let first = dispatched(&mut scheduler, ms(0), DEVICE);
    scheduler.enqueue(ms(0), sequence(700, 2)).expect("11 + 8 ms are within 20");
    let refused = scheduler.enqueue(ms(0), sequence(900, 3)).unwrap_err();
    assert_eq!(refused.rejection.reason, RejectReason::Infeasible, "11 + 10 ms are not");
    scheduler.complete(ms(18), first.id, Some(Duration::from_millis(18)));
    assert_eq!(payloads(&scheduler.poll(ms(18), DEVICE)), [0; 0], "what would be late is not run");
    let ended = scheduler.ended(ms(18));
    assert_eq!(
        ended.iter().map(|(entry, why)| (entry.sequence.payload, *why)).collect::<Vec<_>>(),
        [(2, EndReason::DeadlineExceeded)]
    );
}

#[test]
fn queues_are_bounded_by_sequences_and_by_tokens() {
    let check = |sequences: usize, tokens: u32, length: u32, fits: u64| {
        let mut scheduler = scheduler_with(|config| {
            config.models[0].queue_sequences_max = sequences;
            config.models[0].queue_tokens_max = Tokens(tokens);
        });
        let ids: Vec<_> =
            (0..fits).map(|payload| scheduler.enqueue(ms(0), sequence(length, payload)).unwrap()).collect();
        let refused = scheduler.enqueue(ms(0), sequence(length, 0)).unwrap_err();
        assert_eq!(refused.rejection.reason, RejectReason::QueueFull);
        scheduler.cancel(ids[0]).unwrap();
        assert!(scheduler.cancel(ids[0]).is_none());
        scheduler.enqueue(ms(0), sequence(length, 0)).expect("a cancelled sequence's place is free at once");
    };
    check(10, 100_000, 1, 10);
    check(2000, 1000, 100, 10);
}

#[test]
fn a_call_is_taken_whole_or_not_at_all() {
    let call = |lengths: &[u32]| -> Vec<Sequence<u64>> {
        (0..).zip(lengths).map(|(payload, tokens)| sequence(*tokens, payload)).collect()
    };
    let check = |lengths: &[u32], deadline: u64, expected: RejectReason| {
        let mut scheduler = scheduler_with(|config| config.models[0].queue_sequences_max = 4);
        let mut sequences = call(lengths);
        sequences[0].deadline = ms(deadline);
        let refused = scheduler.enqueue_all(ms(0), sequences).unwrap_err();
        assert_eq!(refused.rejection.reason, expected, "{lengths:?}");
        assert_eq!(refused.payload, (0..lengths.len() as u64).collect::<Vec<_>>());
        assert!(scheduler.is_idle());
    };
    check(&[1; 5], 10_000, RejectReason::QueueFull);
    check(&[1, 1, 1001], 10_000, RejectReason::TooLarge);
    // 1 ms and 10 us for each token: each of them would be done in 6 ms, both are in 11.
    check(&[500, 500], 10, RejectReason::Infeasible);
    let mut scheduler = scheduler();
    assert_eq!(scheduler.enqueue_all(ms(0), call(&[500, 500])).unwrap().len(), 2);
    assert_eq!(scheduler.enqueue_all(ms(0), Vec::new()).unwrap(), []);
    assert_eq!(scheduler.model_snapshot(ms(0), FAST).queued_sequences, 2);
}

#[test]
fn what_cannot_be_in_time_as_a_whole_does_not_go_before_others_in_part() {
    let mut scheduler = scheduler();
    // The target is 20 ms, a batch has 1000 tokens at most: two batches of 11 ms are late.
    let long = (10..14).map(|payload| sequence(500, payload)).collect();
    scheduler.enqueue_all(ms(0), long).unwrap();
    let first = dispatched(&mut scheduler, ms(0), DEVICE);
    scheduler.enqueue(ms(1), sequence(10, 1)).unwrap();
    let mut now = ms(0) + first.predicted;
    scheduler.complete(now, first.id, None);
    loop {
        let batch = dispatched(&mut scheduler, now, DEVICE);
        now = now + batch.predicted;
        scheduler.complete(now, batch.id, Some(batch.predicted));
        if batch.members.iter().any(|entry| entry.sequence.payload == 1) {
            break;
        }
    }
    assert!(now <= ms(21), "in time, since late ones end their batch for it: {now:?}");
    let mut scheduler = self::scheduler();
    let short = (10..13).map(|payload| sequence(500, payload)).collect();
    scheduler.enqueue_all(ms(0), short).unwrap();
    scheduler.enqueue(ms(1), sequence(10, 1)).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(1), DEVICE))[0], 10, "what can be is served in its order");
}

#[test]
fn a_full_queue_gives_up_what_has_the_weakest_claim() {
    let mut scheduler = scheduler_with(|config| config.models[0].queue_sequences_max = 400);
    // A flood of one tenant: most of it is more than its share.
    for payload in 0..400 {
        scheduler.enqueue(ms(0), Sequence { tenant: TenantId(1), ..sequence(100, payload) }).unwrap();
    }
    let refused =
        scheduler.enqueue(ms(0), Sequence { tenant: TenantId(1), ..sequence(100, 400) }).unwrap_err();
    assert_eq!(refused.rejection.reason, RejectReason::QueueFull, "more of the same is refused");
    scheduler
        .enqueue(ms(0), Sequence { tenant: TenantId(2), ..sequence(100, 401) })
        .expect("another tenant's is not");
    let ended = scheduler.ended(ms(0));
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].0.sequence.tenant, ended[0].1), (TenantId(1), EndReason::Shed));
}

#[test]
fn a_lone_request_leaves_at_once() {
    let mut scheduler = scheduler();
    assert_eq!(scheduler.poll(ms(0), DEVICE), Decision::Idle);
    scheduler.enqueue(ms(0), sequence(10, 1)).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(0), DEVICE)), [1]);
}

#[test]
fn the_next_batch_is_handed_over_shortly_before_the_device_is_free() {
    let mut scheduler = scheduler();
    scheduler.enqueue(ms(0), sequence(100, 1)).unwrap();
    let running = dispatched(&mut scheduler, ms(0), DEVICE);
    scheduler.enqueue(ms(0), sequence(10, 2)).unwrap();
    let Decision::WaitUntil(at) = scheduler.poll(ms(0), DEVICE) else { panic!("the device has 2 ms to go") };
    assert!(ms(1) < at && at < ms(2), "{at:?}");
    scheduler.enqueue(ms(1), sequence(10, 3)).unwrap();
    assert_eq!(payloads(&scheduler.poll(at, DEVICE)), [2, 3], "what came meanwhile goes along");
    scheduler.enqueue(at, sequence(10, 4)).unwrap();
    assert_eq!(
        scheduler.poll(at, DEVICE),
        Decision::Idle,
        "one computing and one prepared is all it may hold"
    );
    scheduler.complete(ms(2), running.id, Some(Duration::from_millis(2)));
    assert!(matches!(scheduler.poll(ms(2), DEVICE), Decision::WaitUntil(_)));
}

#[test]
fn critical_sequences_go_first() {
    let mut scheduler = scheduler_with(|config| config.models[0].batch_sequences_max = 2);
    for payload in 0..4 {
        scheduler.enqueue(ms(0), sequence(10, payload)).unwrap();
    }
    scheduler.enqueue(ms(1), Sequence { priority: Priority::Critical, ..sequence(10, 9) }).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(1), DEVICE)), [9, 0]);
}

#[test]
fn earliest_deadline_first_within_a_model() {
    let mut scheduler = scheduler();
    for (payload, deadline) in [(1, 19), (2, 13), (3, 16)] {
        scheduler.enqueue(ms(0), Sequence { deadline: ms(deadline), ..sequence(10, payload) }).unwrap();
    }
    assert_eq!(payloads(&scheduler.poll(ms(0), DEVICE)), [2, 3, 1]);
}

/// Earliest deadline first would serve the model with the short target again and again, each time with a tiny
/// batch.
#[test]
fn the_model_that_has_used_up_most_of_its_target_goes_first() {
    let check = |fast_at: u64, slow_at: u64, expected: u64| {
        let mut scheduler = scheduler();
        scheduler.enqueue(ms(fast_at), sequence(10, 1)).unwrap();
        scheduler.enqueue(ms(slow_at), Sequence { model: SLOW, ..sequence(10, 2) }).unwrap();
        assert_eq!(payloads(&scheduler.poll(ms(100), DEVICE)), [expected], "came at {fast_at} and {slow_at}");
    };
    check(99, 0, 2);
    check(90, 99, 1);
    check(90, 60, 1);
}

#[test]
fn a_batch_ends_in_time_for_what_else_waits() {
    let mut scheduler = scheduler();
    for payload in 0..60 {
        scheduler.enqueue(ms(0), Sequence { model: SLOW, ..sequence(30, payload) }).unwrap();
    }
    let alone = dispatched(&mut scheduler, ms(0), DEVICE);
    // Half of the shortest target is as long as a device that is the only one may be busy.
    assert!((20..=27).contains(&alone.members.len()), "{}", alone.members.len());
    scheduler.complete(ms(9), alone.id, Some(Duration::from_millis(9)));
    scheduler.enqueue(ms(150), sequence(10, 100)).unwrap();
    let batch = dispatched(&mut scheduler, ms(163), DEVICE);
    assert_eq!(batch.model, FAST, "due in 7 ms: a batch of the other worth running would be too long");
}

#[test]
fn nothing_is_held_back_while_another_device_is_free() {
    let mut scheduler = scheduler_with(|config| config.devices = 2);
    for payload in 0..33 {
        scheduler.enqueue(ms(0), Sequence { model: SLOW, ..sequence(30, payload) }).unwrap();
    }
    let batch = dispatched(&mut scheduler, ms(0), DEVICE);
    assert_eq!(batch.members.len(), 33, "10.9 ms: the other device takes what may come");
}

#[test]
fn a_bulk_caller_does_not_stall_a_single_one() {
    let mut scheduler = scheduler();
    for payload in 0..1000 {
        scheduler.enqueue(ms(0), sequence(50, payload)).unwrap();
    }
    let mut now = ms(0);
    let mut singles = 0;
    for turn in 0..30 {
        let batch = dispatched(&mut scheduler, now, DEVICE);
        scheduler.enqueue(now, Sequence { tenant: TenantId(1), ..sequence(10, 5000 + turn) }).unwrap();
        now = now + batch.predicted;
        scheduler.complete(now, batch.id, Some(batch.predicted));
        for single in batch.members.iter().filter(|entry| entry.sequence.payload >= 5000) {
            singles += 1;
            let latency = now.saturating_duration_since(single.enqueued_at);
            assert!(latency <= Duration::from_millis(20), "{latency:?} in turn {turn}");
        }
    }
    assert!(singles >= 28, "{singles}");
}

#[test]
fn what_missed_its_target_is_served_and_what_missed_its_deadline_is_not() {
    let mut scheduler = scheduler();
    scheduler.enqueue(ms(0), sequence(10, 1)).unwrap();
    scheduler.enqueue(ms(0), Sequence { deadline: ms(60), ..sequence(10, 2) }).unwrap();
    scheduler.enqueue(ms(95), sequence(10, 3)).unwrap();
    assert_eq!(scheduler.next_end(), Some(ms(60)));
    assert_eq!(payloads(&scheduler.poll(ms(100), DEVICE)), [1, 3], "it has waited for long enough");
    let ended: Vec<_> = scheduler.ended(ms(100)).iter().map(|(entry, _)| entry.sequence.payload).collect();
    assert_eq!(ended, [2]);
    assert!(scheduler.ended(ms(102)).is_empty());
}

#[test]
fn what_is_late_waits_for_what_is_not_until_its_promise() {
    let mut scheduler = scheduler();
    // 100 ms of work, of which the last is promised for 1.4 times that.
    for payload in 0..10 {
        scheduler.enqueue(ms(0), sequence(990, payload)).unwrap();
    }
    let (mut now, mut order) = (ms(0), Vec::new());
    for turn in 0..20 {
        scheduler.enqueue(now, sequence(500, 100 + turn)).unwrap();
        let batch = dispatched(&mut scheduler, now, DEVICE);
        order.extend(batch.members.iter().map(|entry| (now, entry.sequence.payload)));
        now = now + batch.predicted;
        scheduler.complete(now, batch.id, Some(batch.predicted));
    }
    let at = |payload: u64| order.iter().find(|(_, other)| *other == payload).map(|(at, _)| *at).unwrap();
    assert!(
        order.windows(2).any(|pair| pair[0].1 >= 100 && pair[1].1 < 10),
        "fresh ones went before late ones"
    );
    for payload in 0..10 {
        let promise = Duration::from_micros(1000 + 9900).mul_f64(1.4) * (payload as u32 + 1);
        assert!(
            at(payload) <= Timestamp::ZERO + promise.max(Duration::from_millis(20)),
            "{payload} {order:?}"
        );
    }
}

/// What is late of one model makes nothing of another late.
#[test]
fn a_request_does_not_wait_for_another_models_thousand() {
    let mut scheduler = scheduler();
    for payload in 0..1000 {
        scheduler.enqueue(ms(0), Sequence { model: SLOW, ..sequence(100, payload) }).unwrap();
    }
    let (mut now, mut asked_at) = (ms(0), None);
    for _ in 0..60 {
        if now >= ms(280) && asked_at.is_none() {
            scheduler.enqueue(now, sequence(10, 5000)).unwrap();
            asked_at = Some(now);
        }
        let batch = dispatched(&mut scheduler, now, DEVICE);
        now = now + batch.predicted;
        scheduler.complete(now, batch.id, Some(batch.predicted));
        if batch.model == FAST {
            let waited = now.saturating_duration_since(asked_at.unwrap());
            assert!(waited <= Duration::from_millis(20), "{waited:?}");
            return;
        }
    }
    panic!("it was not served");
}

/// What has no claim would wait for ever beside a device that always has something better to do.
#[test]
fn late_work_has_its_turns() {
    let mut scheduler = scheduler();
    scheduler.enqueue(ms(0), sequence(10, 1)).unwrap();
    let mut served_after = None;
    for turn in 1..2000u64 {
        let now = ms(100 + 5 * turn);
        scheduler.enqueue(now, sequence(200, 1000 + turn)).unwrap();
        let batch = dispatched(&mut scheduler, now, DEVICE);
        if batch.members.iter().any(|entry| entry.sequence.payload == 1) {
            served_after = Some(turn);
            break;
        }
        scheduler.complete(now + batch.predicted, batch.id, Some(batch.predicted));
    }
    assert!(served_after.is_some_and(|turn| turn < 100), "{served_after:?}");
}

#[test]
fn a_slow_device_leaves_to_a_fast_one_what_it_cannot_do_in_time() {
    let mut scheduler = scheduler_with(|config| config.devices = 2);
    for _ in 0..1000 {
        for (tokens, millis) in [(10u32, 11), (100, 20), (1000, 110)] {
            scheduler.calibrate(DeviceId(1), FAST, Work(f64::from(tokens)), Duration::from_millis(millis));
        }
    }
    scheduler.enqueue(ms(0), sequence(200, 1)).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(0), DeviceId(1))), [0; 0], "30 ms there, due in 20");
    assert_eq!(payloads(&scheduler.poll(ms(0), DeviceId(0))), [1]);
    scheduler.enqueue(ms(0), sequence(20, 2)).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(0), DeviceId(1))), [2]);
}

#[test]
fn a_lost_device_is_given_nothing_and_its_batch_can_be_queued_again() {
    let mut scheduler = scheduler_with(|config| config.devices = 2);
    scheduler.enqueue(ms(0), sequence(10, 1)).unwrap();
    let batch = dispatched(&mut scheduler, ms(0), DEVICE);
    assert_eq!(scheduler.device_of(batch.id), Some(DEVICE));
    scheduler.lose(DEVICE);
    scheduler.complete(ms(1), batch.id, None);
    for member in batch.members {
        scheduler.requeue(member);
    }
    assert_eq!(scheduler.poll(ms(1), DEVICE), Decision::Idle);
    let again = dispatched(&mut scheduler, ms(1), DeviceId(1));
    assert_eq!(again.members[0].enqueued_at, ms(0), "it keeps its age");
    scheduler.lose(DeviceId(1));
    assert!(!scheduler.has_devices());
    scheduler.enqueue(ms(1), sequence(10, 2)).unwrap_err();
}

#[test]
fn snapshots_predict_the_drain() {
    let mut scheduler = scheduler();
    for payload in 0..10 {
        scheduler.enqueue(ms(0), sequence(100, payload)).unwrap();
    }
    let mut snapshot = Snapshot::default();
    scheduler.snapshot(ms(3), &mut snapshot);
    let fast = snapshot.models[0];
    assert_eq!((fast.queued_sequences, fast.queued_tokens), (10, Tokens(1000)));
    assert_eq!(fast.oldest_wait, Duration::from_millis(3));
    let close = |found: Duration, millis: u64| {
        let expected = Duration::from_millis(millis).as_secs_f64();
        assert!((found.as_secs_f64() / expected - 1.0).abs() < 0.05, "{found:?} for {millis} ms");
    };
    close(fast.queued_time, 11);
    close(snapshot.drain, 11);
    let batch = dispatched(&mut scheduler, ms(3), DEVICE);
    scheduler.snapshot(ms(3), &mut snapshot);
    assert_eq!(snapshot.models[0].in_flight_sequences, batch.members.len());
    close(snapshot.devices[0].busy_for + snapshot.models[0].queued_time, 12);
}

#[test]
fn what_is_asked_for_is_counted_whatever_becomes_of_it() {
    let mut scheduler = scheduler_with(|config| config.models[0].queue_sequences_max = 3);
    for payload in 0..5 {
        // Two find no place.
        let _ = scheduler.enqueue(ms(0), sequence(100, payload));
    }
    scheduler.enqueue(ms(0), sequence(100_000, 5)).unwrap_err();
    let batch = dispatched(&mut scheduler, ms(0), DEVICE);
    scheduler.complete(ms(7), batch.id, Some(Duration::from_millis(7)));
    let mut snapshot = Snapshot::default();
    scheduler.snapshot(ms(7), &mut snapshot);
    let offered = snapshot.models[0].offered;
    // What no batch could hold is not demand.
    assert_eq!((offered.sequences, offered.shed), (5, 2));
    let each = (snapshot.models[0].batch_overhead.as_secs_f64(), offered.seconds / 5.0);
    assert!(each.0 > 0.0 && each.1 > 0.0, "{each:?}");
    assert_eq!(snapshot.devices[0].computed, Duration::from_millis(7));
}

#[test]
fn triton_waits_for_its_preferred_size_or_its_delay() {
    let mut scheduler = scheduler_with(|config| {
        let queue_delay_max = Duration::from_millis(5);
        config.policy = Policy::PreferredSize(PreferredSize { sequences: 3, queue_delay_max });
    });
    scheduler.enqueue(ms(0), sequence(10, 1)).unwrap();
    scheduler.enqueue(ms(1), Sequence { model: SLOW, ..sequence(10, 2) }).unwrap();
    assert_eq!(scheduler.poll(ms(1), DEVICE), Decision::WaitUntil(ms(5)));
    assert_eq!(payloads(&scheduler.poll(ms(6), DEVICE)), [1], "ready first");
    for payload in 3..7 {
        scheduler.enqueue(ms(6), Sequence { model: SLOW, ..sequence(10, payload) }).unwrap();
    }
    assert_eq!(payloads(&scheduler.poll(ms(6), DEVICE)), [2, 3, 4]);
}

#[test]
fn a_token_budget_is_filled_in_the_order_of_arrival_by_models_in_turn() {
    let mut scheduler = scheduler_with(|config| {
        config.batches_in_flight_max = 8;
        config.policy = Policy::TokenBudget(TokenBudget { tokens: Tokens(100) });
    });
    for (payload, tokens) in [(1, 60), (2, 60), (3, 10), (4, 200)] {
        scheduler.enqueue(ms(0), sequence(tokens, payload)).unwrap();
        scheduler.enqueue(ms(0), Sequence { model: SLOW, ..sequence(tokens, payload + 10) }).unwrap();
    }
    let batches: Vec<_> = (0..6).map(|_| payloads(&scheduler.poll(ms(0), DEVICE))).collect();
    assert_eq!(
        batches,
        [vec![1], vec![11], vec![2, 3], vec![12, 13], vec![4], vec![14]],
        "what exceeds it goes alone"
    );
}

#[test]
fn bad_configurations() {
    let check = |change: &dyn Fn(&mut Config), expected: &str| {
        let models = vec![model(20)];
        let mut config = Config { models, devices: 1, batches_in_flight_max: 1, policy: deadline() };
        change(&mut config);
        let error = Scheduler::<()>::new(config).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|config| config.devices = 0, "device");
    check(&|config| config.batches_in_flight_max = 0, "batches_in_flight_max");
    check(&|config| config.models[0].batch_sequences_max = 0, "model 0");
    check(&|config| config.models[0].queue_sequences_max = 0, "model 0");
    check(&|config| config.models[0].queue_tokens_max = Tokens(999), "model 0");
    check(&|config| config.models[0].latency_target = Duration::ZERO, "model 0");
}
