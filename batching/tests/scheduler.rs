//! The scheduler's policy in tables, and its promises under random use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use batching::{
    Batch, BatchId, Config, Decision, DeviceId, ModelConfig, ModelId, Priority, RejectReason, Request,
    RequestId, Scheduler, TenantId, Timestamp, Tokens,
};
use proptest::prelude::*;

const DEVICE: DeviceId = DeviceId(0);

fn ms(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn model(tokens: u32, sequences: usize) -> ModelConfig {
    ModelConfig {
        batch_tokens_max: Tokens(tokens),
        batch_sequences_max: sequences,
        queue_requests_max: 50,
        queue_tokens_max: Tokens(2000),
        queue_delay_max: Duration::from_millis(5),
        latency_target: Duration::from_millis(100),
    }
}

fn scheduler(models: Vec<ModelConfig>) -> Scheduler<u64> {
    Scheduler::new(Config { models, devices: 1, batches_in_flight_max: 2 }).unwrap()
}

/// A request of model 0 and tenant 0, of normal class, good for ten seconds.
fn request(tokens: u32, payload: u64) -> Request<u64> {
    Request {
        model: ModelId(0),
        tenant: TenantId(0),
        priority: Priority::Normal,
        tokens: Tokens(tokens),
        deadline: ms(10_000),
        payload,
    }
}

fn payloads(decision: &Decision<u64>) -> Vec<u64> {
    match decision {
        Decision::Dispatch(batch) => batch.members.iter().map(|entry| entry.request.payload).collect(),
        Decision::WaitUntil(_) | Decision::Idle => Vec::new(),
    }
}

/// Gives the device something to compute, so that what follows is gathered.
fn occupy(scheduler: &mut Scheduler<u64>) -> BatchId {
    scheduler.enqueue(ms(0), request(1, 999)).unwrap();
    match scheduler.poll(ms(0), DEVICE) {
        Decision::Dispatch(batch) => batch.id,
        other => panic!("an idle device is given work at once, not {other:?}"),
    }
}

#[test]
fn refusals() {
    let check = |request: Request<u64>, expected: RejectReason| {
        let refused = scheduler(vec![model(100, 8)]).enqueue(ms(1), request).unwrap_err();
        assert_eq!(refused.rejection.reason, expected);
        assert_eq!(refused.payload, 7, "the payload comes back");
        assert!(refused.rejection.retry_after > Duration::ZERO);
    };
    check(request(0, 7), RejectReason::TooLarge);
    check(request(101, 7), RejectReason::TooLarge);
    check(Request { model: ModelId(1), ..request(1, 7) }, RejectReason::UnknownModel);
    check(Request { deadline: ms(1), ..request(1, 7) }, RejectReason::DeadlinePassed);
}

#[test]
fn queues_are_bounded_by_requests_and_by_tokens() {
    let check = |tokens: u32, fits: u64| {
        let mut scheduler = scheduler(vec![model(100, 8)]);
        for payload in 0..fits {
            scheduler.enqueue(ms(0), request(tokens, payload)).unwrap();
        }
        let refused = scheduler.enqueue(ms(0), request(tokens, 0)).unwrap_err();
        assert_eq!(refused.rejection.reason, RejectReason::QueueFull);
        scheduler.cancel(RequestId(0)).unwrap();
        scheduler.enqueue(ms(0), request(tokens, 0)).expect("a cancelled request's place is free at once");
    };
    check(1, 50);
    check(100, 20);
}

#[test]
fn a_lone_request_leaves_at_once() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    assert_eq!(scheduler.poll(ms(0), DEVICE), Decision::Idle);
    scheduler.enqueue(ms(0), request(10, 1)).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(0), DEVICE)), [1]);
}

#[test]
fn the_next_batch_gathers_while_the_device_computes() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    let running = occupy(&mut scheduler);
    scheduler.enqueue(ms(1), request(10, 1)).unwrap();
    assert_eq!(scheduler.poll(ms(1), DEVICE), Decision::WaitUntil(ms(6)), "5 ms after the oldest came");
    scheduler.enqueue(ms(2), request(10, 2)).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(6), DEVICE)), [1, 2]);
    scheduler.enqueue(ms(7), request(100, 3)).unwrap();
    assert_eq!(
        scheduler.poll(ms(7), DEVICE),
        Decision::Idle,
        "one computing and one prepared is all it may hold"
    );
    scheduler.complete(ms(8), running);
    assert_eq!(payloads(&scheduler.poll(ms(8), DEVICE)), [3], "a full batch does not wait");
}

#[test]
fn critical_requests_do_not_wait_for_company() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    occupy(&mut scheduler);
    scheduler.enqueue(ms(1), request(10, 1)).unwrap();
    scheduler.enqueue(ms(1), Request { priority: Priority::Critical, ..request(10, 2) }).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(1), DEVICE)), [2, 1], "and go first");
}

#[test]
fn the_model_closest_to_its_target_goes_first() {
    let slow = ModelConfig { latency_target: Duration::from_millis(500), ..model(100, 8) };
    let mut scheduler = scheduler(vec![slow, model(100, 8)]);
    scheduler.enqueue(ms(0), request(10, 1)).unwrap();
    scheduler.enqueue(ms(50), Request { model: ModelId(1), ..request(10, 2) }).unwrap();
    assert_eq!(payloads(&scheduler.poll(ms(60), DEVICE)), [2], "due at 150, the other at 500");
}

#[test]
fn earliest_deadline_first_within_a_lane() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    for (payload, deadline) in [(1, 900), (2, 300), (3, 600)] {
        scheduler.enqueue(ms(0), Request { deadline: ms(deadline), ..request(10, payload) }).unwrap();
    }
    assert_eq!(payloads(&scheduler.poll(ms(0), DEVICE)), [2, 3, 1]);
}

#[test]
fn classes_share_eight_to_four_to_one() {
    let mut scheduler = Scheduler::new(Config {
        models: vec![ModelConfig {
            queue_requests_max: 10_000,
            queue_tokens_max: Tokens(100_000),
            ..model(13, 13)
        }],
        devices: 1,
        batches_in_flight_max: 1,
    })
    .unwrap();
    for payload in 0..900 {
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            scheduler.enqueue(ms(0), Request { priority, ..request(1, payload) }).unwrap();
        }
    }
    let mut served = BTreeMap::new();
    for turn in 0..50 {
        let Decision::Dispatch(batch) = scheduler.poll(ms(turn), DEVICE) else { panic!("work is left") };
        for entry in &batch.members {
            *served.entry(entry.request.priority).or_insert(0u32) += 1;
        }
        scheduler.complete(ms(turn + 1), batch.id);
    }
    assert_eq!(served, BTreeMap::from([(Priority::High, 400), (Priority::Normal, 200), (Priority::Low, 50)]));
}

/// Filling every gap of a batch favoured whoever sent small requests, without bound: found by the property test below.
#[test]
fn small_requests_do_not_overtake_for_ever() {
    let bounds =
        ModelConfig { queue_requests_max: 1000, queue_tokens_max: Tokens(100_000), ..model(100, 100) };
    let mut scheduler =
        Scheduler::new(Config { models: vec![bounds], devices: 1, batches_in_flight_max: 1 }).unwrap();
    for (tenant, tokens, count) in [(0, 60, 100), (1, 60, 100), (2, 1, 800)] {
        for _ in 0..count {
            scheduler.enqueue(ms(0), Request { tenant: TenantId(tenant), ..request(tokens, 0) }).unwrap();
        }
    }
    let mut served = [0u32; 3];
    for _ in 0..15 {
        let Decision::Dispatch(batch) = scheduler.poll(ms(0), DEVICE) else { panic!("work is left") };
        for entry in &batch.members {
            served[entry.request.tenant.0 as usize] += entry.request.tokens.0;
        }
        scheduler.complete(ms(0), batch.id);
    }
    let least = served[0].min(served[1]);
    assert!(served[2] <= least + 100 + 1, "{served:?}");
}

#[test]
fn expired_requests_are_handed_back_and_never_run() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    scheduler.enqueue(ms(0), Request { deadline: ms(5), ..request(10, 1) }).unwrap();
    scheduler.enqueue(ms(0), request(10, 2)).unwrap();
    assert_eq!(scheduler.next_expiry(), Some(ms(5)));
    assert_eq!(payloads(&scheduler.poll(ms(5), DEVICE)), [2]);
    let expired: Vec<_> = scheduler.expire(ms(5)).iter().map(|entry| entry.request.payload).collect();
    assert_eq!(expired, [1]);
    assert!(scheduler.expire(ms(5)).is_empty());
}

#[test]
fn retry_hints_follow_the_rate() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    scheduler.enqueue(ms(0), request(100, 0)).unwrap();
    let Decision::Dispatch(batch) = scheduler.poll(ms(0), DEVICE) else { panic!("idle device") };
    scheduler.complete(ms(100), batch.id);
    for payload in 0..20 {
        scheduler.enqueue(ms(100), request(100, payload)).unwrap();
    }
    assert_eq!(scheduler.retry_after(), Duration::from_secs(2), "2,000 tokens queued at 1,000 a second");
}

/// One step of random use.
#[derive(Debug, Clone)]
enum Step {
    Enqueue { model: u16, tenant: u32, priority: usize, tokens: u32, lasts: u64 },
    Cancel(u64),
    Poll(u16),
    Complete(usize),
    Expire,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u16..3, 0u32..4, 0usize..4, 0u32..130, 0u64..60).prop_map(|(model, tenant, priority, tokens, lasts)| {
            Step::Enqueue { model, tenant, priority, tokens, lasts }
        }),
        1 => (0u64..120).prop_map(Step::Cancel),
        4 => (0u16..2).prop_map(Step::Poll),
        3 => (0usize..4).prop_map(Step::Complete),
        1 => Just(Step::Expire),
        2 => (1u64..20).prop_map(Step::Wait),
    ]
}

/// The scheduler beside a plain account of what it was given and what it gave back.
struct Account {
    scheduler: Scheduler<u64>,
    now: Timestamp,
    queued: BTreeMap<RequestId, (u16, u32, Timestamp)>,
    ended: HashSet<RequestId>,
    in_flight: Vec<BatchId>,
}

impl Account {
    fn new() -> Self {
        let models = vec![model(100, 4), model(60, 8)];
        let config = Config { models, devices: 2, batches_in_flight_max: 2 };
        let scheduler = Scheduler::new(config).unwrap();
        Self { scheduler, now: ms(1), queued: BTreeMap::new(), ended: HashSet::new(), in_flight: Vec::new() }
    }

    fn end(&mut self, id: RequestId) {
        assert!(self.queued.remove(&id).is_some(), "{id:?} was not queued");
        assert!(self.ended.insert(id), "{id:?} ended twice");
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Enqueue { model, tenant, priority, tokens, lasts } => {
                let deadline = self.now + Duration::from_millis(lasts);
                let request = Request {
                    model: ModelId(model),
                    tenant: TenantId(tenant),
                    priority: Priority::ALL[priority],
                    tokens: Tokens(tokens),
                    deadline,
                    payload: 0,
                };
                if let Ok(id) = self.scheduler.enqueue(self.now, request) {
                    assert!(self.queued.insert(id, (model, tokens, deadline)).is_none());
                }
            }
            Step::Cancel(id) => {
                let id = RequestId(id);
                let found = self.scheduler.cancel(id).is_some();
                assert_eq!(found, self.queued.contains_key(&id));
                if found {
                    self.end(id);
                }
            }
            Step::Poll(device) => {
                if let Decision::Dispatch(batch) = self.scheduler.poll(self.now, DeviceId(device)) {
                    self.dispatched(&batch);
                }
            }
            Step::Complete(index) => {
                if index < self.in_flight.len() {
                    let batch = self.in_flight.swap_remove(index);
                    self.scheduler.complete(self.now, batch);
                }
            }
            Step::Expire => {
                for entry in self.scheduler.expire(self.now) {
                    assert!(entry.request.deadline <= self.now);
                    self.end(entry.id);
                }
                assert!(self.queued.values().all(|(_, _, deadline)| *deadline > self.now));
            }
            Step::Wait(millis) => self.now = self.now + Duration::from_millis(millis),
        }
        self.compare();
    }

    fn dispatched(&mut self, batch: &Batch<u64>) {
        let bounds = [model(100, 4), model(60, 8)][usize::from(batch.model.0)].clone();
        assert!(!batch.members.is_empty() && batch.members.len() <= bounds.batch_sequences_max);
        assert!(batch.tokens <= bounds.batch_tokens_max);
        assert_eq!(batch.tokens, batch.members.iter().map(|entry| entry.request.tokens).sum());
        for entry in &batch.members {
            assert_eq!(entry.request.model, batch.model, "a batch mixes no models");
            assert!(entry.request.deadline > self.now, "dispatched past its deadline");
            self.end(entry.id);
        }
        self.in_flight.push(batch.id);
        assert!(self.in_flight.len() <= 4, "two batches on each of two devices");
    }

    fn compare(&self) {
        let snapshot = self.scheduler.snapshot(self.now);
        for (index, model) in snapshot.models.iter().enumerate() {
            let mine: Vec<_> =
                self.queued.values().filter(|(model, _, _)| usize::from(*model) == index).collect();
            assert_eq!(model.queued_requests, mine.len());
            assert_eq!(model.queued_tokens.0, mine.iter().map(|(_, tokens, _)| tokens).sum::<u32>());
            assert!(model.queued_requests <= 50 && model.queued_tokens.0 <= 2000);
        }
        let first = self.queued.iter().map(|(_, (_, _, deadline))| *deadline).min();
        assert_eq!(self.scheduler.next_expiry(), first);
        assert_eq!(self.scheduler.is_idle(), self.queued.is_empty() && self.in_flight.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked in whatever order: each request ends once, no bound is broken, the counts are right.
    #[test]
    fn accounts_agree(steps in proptest::collection::vec(step(), 1..300)) {
        let mut account = Account::new();
        for step in steps {
            account.take(&step);
        }
        // Left alone, everything drains.
        for _ in 0..400 {
            account.take(&Step::Wait(10));
            account.take(&Step::Expire);
            account.take(&Step::Poll(0));
            account.take(&Step::Poll(1));
            account.take(&Step::Complete(0));
        }
        prop_assert!(account.scheduler.is_idle());
    }

    /// Tenants that always have work are served within one batch and one request of each other.
    #[test]
    fn backlogged_tenants_are_served_alike(sizes in proptest::collection::vec(1u32..=100, 4), turns in 10usize..80) {
        let bounds = ModelConfig { queue_requests_max: 1000, queue_tokens_max: Tokens(100_000), ..model(100, 8) };
        let mut scheduler = Scheduler::new(Config { models: vec![bounds], devices: 1, batches_in_flight_max: 1 }).unwrap();
        let largest = u64::from(*sizes.iter().max().unwrap());
        let mut served = vec![0u64; sizes.len()];
        let mut waiting = vec![0u32; sizes.len()];
        for _ in 0..turns {
            for (tenant, size) in sizes.iter().enumerate() {
                while waiting[tenant] < 120 {
                    let request = Request { tenant: TenantId(tenant as u32), ..request(*size, 0) };
                    scheduler.enqueue(ms(0), request).unwrap();
                    waiting[tenant] += 1;
                }
            }
            let Decision::Dispatch(batch) = scheduler.poll(ms(0), DEVICE) else { panic!("work is left") };
            for entry in &batch.members {
                served[entry.request.tenant.0 as usize] += u64::from(entry.request.tokens.0);
                waiting[entry.request.tenant.0 as usize] -= 1;
            }
            scheduler.complete(ms(0), batch.id);
        }
        let spread = served.iter().max().unwrap() - served.iter().min().unwrap();
        prop_assert!(spread <= largest + 100, "{served:?}");
    }
}

#[test]
fn ids_are_never_reused() {
    let mut scheduler = scheduler(vec![model(100, 8)]);
    let mut seen = BTreeSet::new();
    for payload in 0..100 {
        let id = scheduler.enqueue(ms(0), request(1, payload)).unwrap();
        assert!(seen.insert(id));
        scheduler.cancel(id).unwrap();
    }
}
