//! The engine with real threads and an executor under the test's control. Nothing here measures time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batching::{
    Completion, Config, DeadlinePolicy, Engine, EngineConfig, Event, ExecuteError, Executor, Failure,
    ModelConfig, NoObserver, Observer, Overlap, Policy, RejectReason, Sequence, StartError, Ticket,
    UNDER_WAY_MAX,
};
use futures_util::FutureExt;
use futures_util::future::join_all;
use units::{Clock, DeviceId, ModelId, MonotonicClock, Priority, TenantId, Timestamp, Tokens};

const MODEL: ModelId = ModelId(0);

/// What the gated executor is told to do with a batch.
enum Order {
    Compute,
    Fail {
        is_fatal: bool,
    },
    Panic,
    LoseAnOutput,
    /// Fail if this input is in the batch, and compute it otherwise.
    FailFor(u64),
}

/// Announces each batch and computes it (n -> n + 1) only when told to.
struct Gated {
    batches: Sender<Vec<u64>>,
    orders: Receiver<Order>,
}

/// The same, beside the thread that drives it: announces a batch when it begins.
struct Overlapping {
    gated: Gated,
    under_way: VecDeque<Vec<u64>>,
    /// What is to be done with the first of them, once that is known.
    order: Option<Order>,
}

impl Executor for Gated {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, _: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        self.batches.send(inputs.to_vec()).unwrap();
        let order = self.orders.recv().unwrap();
        order.obey(inputs)
    }

    fn sample(&self, _: ModelId, _: Tokens) -> Option<u64> {
        None
    }
}

impl Order {
    fn obey(self, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        let mut outputs: Vec<u64> = inputs.iter().map(|n| n + 1).collect();
        match self {
            Order::Compute => Ok(outputs),
            Order::Fail { is_fatal } => {
                Err(ExecuteError { source: Arc::from(Box::from("as ordered")), is_fatal })
            }
            Order::Panic => panic!("as ordered"),
            Order::LoseAnOutput => {
                outputs.pop();
                Ok(outputs)
            }
            Order::FailFor(poison) if inputs.contains(&poison) => {
                Err(ExecuteError { source: Arc::from(Box::from("as ordered")), is_fatal: false })
            }
            Order::FailFor(_) => Ok(outputs),
        }
    }
}

impl Executor for Overlapping {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, model: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        assert!(self.under_way.is_empty(), "{inputs:?} beside what is under way");
        self.gated.execute(model, inputs)
    }

    fn sample(&self, _: ModelId, _: Tokens) -> Option<u64> {
        None
    }

    fn overlap(&mut self) -> Option<&mut dyn Overlap<u64, u64>> {
        Some(self)
    }
}

impl Overlap<u64, u64> for Overlapping {
    fn begin(&mut self, _: ModelId, inputs: &[u64]) -> Result<(), ExecuteError> {
        self.under_way.push_back(inputs.to_vec());
        assert!(self.under_way.len() <= UNDER_WAY_MAX);
        self.gated.batches.send(inputs.to_vec()).unwrap();
        Ok(())
    }

    fn is_finished(&mut self) -> bool {
        self.order = self.order.take().or_else(|| self.gated.orders.try_recv().ok());
        self.order.is_some()
    }

    fn finish(&mut self) -> Result<Vec<u64>, ExecuteError> {
        let order = self.order.take().unwrap_or_else(|| self.gated.orders.recv().unwrap());
        order.obey(&self.under_way.pop_front().unwrap())
    }
}

/// Computes at once.
struct Eager;

impl Executor for Eager {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, _: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        Ok(inputs.iter().map(|n| n + 1).collect())
    }

    fn sample(&self, _: ModelId, _: Tokens) -> Option<u64> {
        None
    }
}

/// A clock that a test moves.
#[derive(Default)]
struct ManualClock(Mutex<Timestamp>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn config(devices: u16, queue_sequences_max: usize) -> EngineConfig {
    let model = ModelConfig {
        batch_tokens_max: Tokens(8),
        batch_sequences_max: 8,
        queue_sequences_max,
        queue_tokens_max: Tokens(100_000),
        // Far away, so that how long a gate is kept shut decides nothing.
        latency_target: Duration::from_secs(3600),
        is_target_hard: false,
        attention: 0.0,
    };
    let policy = Policy::Deadline(DeadlinePolicy::default());
    let scheduler = Config { models: vec![model], devices, batches_in_flight_max: 1, policy };
    EngineConfig { scheduler, commands_max: 10_000 }
}

fn submission(input: u64) -> Sequence<u64> {
    Sequence {
        model: MODEL,
        tenant: TenantId(0),
        weight: 1,
        priority: Priority::Normal,
        tokens: Tokens(1),
        deadline: Timestamp::MAX,
        payload: input,
    }
}

struct GatedEngine {
    engine: Engine<u64, u64>,
    batches: Receiver<Vec<u64>>,
    orders: Sender<Order>,
}

/// An engine of one device, whose executor is made of a gated one.
fn gated_as<E: Executor<Input = u64, Output = u64>>(
    executor: impl FnOnce(Gated) -> E,
    config: EngineConfig,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
) -> GatedEngine {
    let (batches, announced) = channel();
    let (orders, orders_in) = channel();
    let executor = Box::new(executor(Gated { batches, orders: orders_in }));
    let engine = Engine::start(config, vec![executor], clock, observer).unwrap();
    GatedEngine { engine, batches: announced, orders }
}

fn gated_with(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> GatedEngine {
    gated_as(|gated| gated, config(1, 50), clock, observer)
}

fn overlapping() -> GatedEngine {
    let executor = |gated| Overlapping { gated, under_way: VecDeque::new(), order: None };
    let mut config = config(1, 50);
    config.scheduler.batches_in_flight_max = UNDER_WAY_MAX;
    gated_as(executor, config, Arc::new(MonotonicClock::new()), Arc::new(NoObserver))
}

fn gated() -> GatedEngine {
    gated_with(Arc::new(MonotonicClock::new()), Arc::new(NoObserver))
}

fn wait(ticket: Ticket<u64>) -> Result<Completion<u64>, Failure> {
    block_on(ticket)
}

/// Drives one future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

/// Waits until the engine's published snapshot shows this many sequences waiting.
fn until_queued(engine: &Engine<u64, u64>, sequences: usize) {
    while engine.snapshot().models[0].queued_sequences != sequences {
        std::thread::yield_now();
    }
}

#[test]
fn many_submitters_are_each_answered_once() {
    let executors: Vec<Box<dyn Executor<Input = u64, Output = u64>>> = vec![Box::new(Eager), Box::new(Eager)];
    let clock = Arc::new(MonotonicClock::new());
    let engine = Engine::start(config(2, 10_000), executors, clock, Arc::new(NoObserver)).unwrap();
    let threads: Vec<_> = (0..8u64)
        .map(|thread| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                let inputs: Vec<u64> = (0..500).map(|n| thread * 1000 + n).collect();
                let tickets: Vec<_> = inputs.iter().map(|n| engine.submit(submission(*n)).unwrap()).collect();
                let answers = block_on(join_all(tickets));
                for (input, answer) in inputs.iter().zip(answers) {
                    assert_eq!(answer.unwrap().output, input + 1);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    engine.shutdown();
    assert!(engine.is_healthy());
}

#[test]
fn requests_that_wait_together_go_together() {
    let GatedEngine { engine, batches, orders } = gated();
    let first = engine.submit(submission(1)).unwrap();
    assert_eq!(batches.recv().unwrap(), [1]);
    let others: Vec<_> = (2..12).map(|n| engine.submit(submission(n)).unwrap()).collect();
    until_queued(&engine, 10);
    for _ in 0..3 {
        orders.send(Order::Compute).unwrap();
    }
    assert_eq!(batches.recv().unwrap(), (2..10).collect::<Vec<_>>(), "up to the token budget of 8");
    assert_eq!(batches.recv().unwrap(), [10, 11]);
    assert_eq!(wait(first).unwrap().output, 2);
    let answers: Vec<_> = others.into_iter().map(|ticket| wait(ticket).unwrap()).collect();
    assert!(answers.iter().take(8).all(|answer| answer.batch_sequences == 8));
    engine.shutdown();
}

#[test]
fn a_dropped_ticket_frees_its_place() {
    let GatedEngine { engine, batches, orders } = gated();
    let running = engine.submit(submission(1)).unwrap();
    batches.recv().unwrap();
    let kept = engine.submit(submission(2)).unwrap();
    let left = engine.submit(submission(3)).unwrap();
    until_queued(&engine, 2);
    drop(left);
    until_queued(&engine, 1);
    orders.send(Order::Compute).unwrap();
    orders.send(Order::Compute).unwrap();
    assert_eq!(batches.recv().unwrap(), [2]);
    assert_eq!((wait(running).unwrap().output, wait(kept).unwrap().output), (2, 3));
    engine.shutdown();
}

#[test]
fn deadlines_end_what_waits() {
    let clock = Arc::new(ManualClock::default());
    let GatedEngine { engine, batches, orders } = gated_with(clock.clone(), Arc::new(NoObserver));
    let running = engine.submit(submission(1)).unwrap();
    batches.recv().unwrap();
    let deadline = Timestamp::ZERO + Duration::from_millis(5);
    let late = engine.submit(Sequence { deadline, ..submission(2) }).unwrap();
    until_queued(&engine, 1);
    *clock.0.lock().unwrap() = deadline;
    orders.send(Order::Compute).unwrap();
    assert!(matches!(wait(late), Err(Failure::DeadlineExceeded)));
    assert_eq!(wait(running).unwrap().output, 2);
    let refused = wait(engine.submit(Sequence { deadline, ..submission(3) }).unwrap());
    assert!(matches!(refused, Err(Failure::Rejected(r)) if r.reason == RejectReason::DeadlinePassed));
    engine.shutdown();
}

#[test]
fn a_call_is_taken_whole_or_not_at_all() {
    let GatedEngine { engine, batches, orders } = gated();
    let running = engine.submit(submission(1)).unwrap();
    batches.recv().unwrap();
    let call = |inputs: std::ops::Range<u64>| engine.submit_all(inputs.map(submission).collect()).unwrap();
    // The queue has 50 places: three calls of 20 do not fit, and 10 more do.
    let (first, second, refused, last) = (call(100..120), call(200..220), call(300..320), call(400..410));
    assert_eq!((refused.len(), call(0..0).len()), (20, 0));
    for ticket in refused {
        assert!(
            matches!(wait(ticket), Err(Failure::Rejected(r)) if r.reason == RejectReason::QueueFull),
            "none of it is computed"
        );
    }
    drop(second);
    until_queued(&engine, 30);
    for _ in 0..5 {
        orders.send(Order::Compute).unwrap();
    }
    let outputs: Vec<_> = first.into_iter().chain(last).map(|ticket| wait(ticket).unwrap().output).collect();
    assert_eq!(outputs, (101..121).chain(401..411).collect::<Vec<_>>());
    assert_eq!(wait(running).unwrap().output, 2);
    engine.shutdown();
}

/// What a gated device announces, and how it is ordered about.
type Gate = (Receiver<Vec<u64>>, Sender<Order>);

/// An engine with several gated devices; a test answers whichever announces a batch.
fn gated_devices(count: u16) -> (Engine<u64, u64>, Vec<Gate>) {
    let (mut executors, mut handles) =
        (Vec::<Box<dyn Executor<Input = u64, Output = u64>>>::new(), Vec::new());
    for _ in 0..count {
        let (batches, announced) = channel();
        let (orders, orders_in) = channel();
        executors.push(Box::new(Gated { batches, orders: orders_in }));
        handles.push((announced, orders));
    }
    let clock = Arc::new(MonotonicClock::new());
    (Engine::start(config(count, 50), executors, clock, Arc::new(NoObserver)).unwrap(), handles)
}

#[test]
fn a_failed_batch_fails_its_members_only() {
    let GatedEngine { engine, batches, orders } = gated();
    let failed = engine.submit(submission(1)).unwrap();
    batches.recv().unwrap();
    let next = engine.submit(submission(2)).unwrap();
    orders.send(Order::Fail { is_fatal: false }).unwrap();
    orders.send(Order::Compute).unwrap();
    assert!(matches!(wait(failed), Err(Failure::Execution(error)) if !error.is_fatal));
    assert_eq!(wait(next).unwrap().output, 3);
    assert!(engine.is_healthy());
    engine.shutdown();
}

#[test]
fn a_poisonous_input_fails_alone() {
    for poison in [1, 4, 8] {
        let GatedEngine { engine, batches, orders } = gated();
        let running = engine.submit(submission(0)).unwrap();
        batches.recv().unwrap();
        let tickets: Vec<_> = (1..=8).map(|n| engine.submit(submission(n)).unwrap()).collect();
        until_queued(&engine, 8);
        orders.send(Order::Compute).unwrap();
        for _ in 0..16 {
            orders.send(Order::FailFor(poison)).unwrap();
        }
        assert_eq!(wait(running).unwrap().output, 1);
        for (n, ticket) in (1..).zip(tickets) {
            match wait(ticket) {
                Ok(completion) => assert_eq!(completion.output, n + 1),
                Err(Failure::Execution(error)) => assert!(n == poison && !error.is_fatal),
                Err(other) => panic!("{other}"),
            }
        }
        let sizes: Vec<_> = batches.try_iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes.iter().max(), Some(&8));
        assert!(sizes.len() <= 7, "halved, not tried one by one: {sizes:?}");
        assert!(engine.is_healthy());
        engine.shutdown();
    }
}

#[test]
fn a_batch_begins_while_the_one_before_it_computes() {
    let GatedEngine { engine, batches, orders } = overlapping();
    let first = engine.submit(submission(1)).unwrap();
    assert_eq!(batches.recv().unwrap(), [1]);
    let second = engine.submit(submission(2)).unwrap();
    assert_eq!(batches.recv().unwrap(), [2]);
    // A third waits in the queue: two are under way.
    let third = engine.submit(submission(3)).unwrap();
    until_queued(&engine, 1);
    orders.send(Order::Compute).unwrap();
    assert_eq!(wait(first).unwrap().output, 2);
    assert_eq!(batches.recv().unwrap(), [3]);
    for _ in 0..2 {
        orders.send(Order::Compute).unwrap();
    }
    assert_eq!((wait(second).unwrap().output, wait(third).unwrap().output), (3, 4));
    engine.shutdown();
    assert!(engine.is_healthy());
}

#[test]
fn halves_of_a_failed_batch_come_after_what_has_begun() {
    let GatedEngine { engine, batches, orders } = overlapping();
    let first = engine.submit(submission(1)).unwrap();
    assert_eq!(batches.recv().unwrap(), [1]);
    let second = engine.submit(submission(2)).unwrap();
    assert_eq!(batches.recv().unwrap(), [2]);
    let (good, poison) = (engine.submit(submission(3)).unwrap(), engine.submit(submission(4)).unwrap());
    until_queued(&engine, 2);
    orders.send(Order::Compute).unwrap();
    assert_eq!(batches.recv().unwrap(), [3, 4]);
    let last = engine.submit(submission(5)).unwrap();
    until_queued(&engine, 1);
    orders.send(Order::Compute).unwrap();
    assert_eq!(batches.recv().unwrap(), [5]);
    for order in [Order::FailFor(4), Order::Compute, Order::FailFor(4), Order::FailFor(4)] {
        orders.send(order).unwrap();
    }
    assert_eq!(batches.recv().unwrap(), [3]);
    assert_eq!(batches.recv().unwrap(), [4]);
    assert!(matches!(wait(poison), Err(Failure::Execution(error)) if !error.is_fatal));
    let outputs = [first, second, good, last].map(|ticket| wait(ticket).unwrap().output);
    assert_eq!(outputs, [2, 3, 4, 6]);
    engine.shutdown();
    assert!(engine.is_healthy());
}

#[test]
fn halves_are_not_run_on_a_device_that_is_lost_meanwhile() {
    let GatedEngine { engine, batches, orders } = overlapping();
    let first = engine.submit(submission(1)).unwrap();
    assert_eq!(batches.recv().unwrap(), [1]);
    let second = engine.submit(submission(2)).unwrap();
    assert_eq!(batches.recv().unwrap(), [2]);
    let together = [3, 4].map(|input| engine.submit(submission(input)).unwrap());
    until_queued(&engine, 2);
    orders.send(Order::Compute).unwrap();
    assert_eq!(batches.recv().unwrap(), [3, 4]);
    let last = engine.submit(submission(5)).unwrap();
    until_queued(&engine, 1);
    orders.send(Order::Compute).unwrap();
    assert_eq!(batches.recv().unwrap(), [5]);
    for order in [Order::Fail { is_fatal: false }, Order::Fail { is_fatal: true }] {
        orders.send(order).unwrap();
    }
    // Whoever asked for another order would panic.
    drop(orders);
    for ticket in together.into_iter().chain([last]) {
        assert!(matches!(wait(ticket), Err(Failure::Execution(error)) if error.is_fatal));
    }
    assert_eq!([first, second].map(|ticket| wait(ticket).unwrap().output), [2, 3]);
    engine.shutdown();
    assert!(batches.try_recv().is_err(), "something was run on the lost device");
}

#[test]
fn a_lost_device_loses_all_that_it_had_begun() {
    for order in [Order::Fail { is_fatal: true }, Order::Panic, Order::LoseAnOutput] {
        let GatedEngine { engine, batches, orders } = overlapping();
        let first = engine.submit(submission(1)).unwrap();
        assert_eq!(batches.recv().unwrap(), [1]);
        let second = engine.submit(submission(2)).unwrap();
        assert_eq!(batches.recv().unwrap(), [2]);
        let third = engine.submit(submission(3)).unwrap();
        until_queued(&engine, 1);
        orders.send(order).unwrap();
        for ticket in [first, second, third] {
            assert!(matches!(wait(ticket), Err(Failure::Execution(error)) if error.is_fatal));
        }
        assert!(!engine.is_healthy());
        engine.shutdown();
    }
}

#[test]
fn a_lost_device_makes_the_engine_unhealthy_and_answers_everyone() {
    for order in [Order::Fail { is_fatal: true }, Order::Panic, Order::LoseAnOutput] {
        let GatedEngine { engine, batches, orders } = gated();
        let failed = engine.submit(submission(1)).unwrap();
        batches.recv().unwrap();
        let waiting: Vec<_> = (0..20).map(|n| engine.submit(submission(n)).unwrap()).collect();
        orders.send(order).unwrap();
        for ticket in std::iter::once(failed).chain(waiting) {
            assert!(matches!(wait(ticket), Err(Failure::Execution(error)) if error.is_fatal));
        }
        assert!(!engine.is_healthy());
        let late = wait(engine.submit(submission(1)).unwrap());
        assert!(matches!(late, Err(Failure::Execution(_) | Failure::Rejected(_))), "{late:?}");
        engine.shutdown();
    }
}

#[test]
fn a_lost_devices_batch_is_computed_by_another() {
    let (engine, devices) = gated_devices(2);
    let ticket = engine.submit(submission(5)).unwrap();
    let first = loop {
        if let Some(first) = devices.iter().position(|(batches, _)| batches.try_recv().is_ok()) {
            break first;
        }
        std::thread::yield_now();
    };
    let (other_batches, other_orders) = &devices[1 - first];
    devices[first].1.send(Order::Panic).unwrap();
    assert_eq!(other_batches.recv().unwrap(), [5]);
    other_orders.send(Order::Compute).unwrap();
    assert_eq!(wait(ticket).unwrap().output, 6);
    assert!(!engine.is_healthy(), "the node is to be replaced all the same");
    engine.shutdown();
}

#[test]
fn what_may_have_killed_two_devices_is_not_tried_on_a_third() {
    let (engine, devices) = gated_devices(3);
    for (_, orders) in &devices {
        orders.send(Order::Panic).unwrap();
    }
    let result = wait(engine.submit(submission(5)).unwrap());
    assert!(matches!(result, Err(Failure::Execution(error)) if error.is_fatal));
    let tried = devices.iter().filter(|(batches, _)| batches.try_recv().is_ok()).count();
    assert_eq!(tried, 2);
    engine.shutdown();
}

#[test]
fn a_full_queue_refuses_with_a_hint() {
    let GatedEngine { engine, batches, orders } = gated();
    let running = engine.submit(submission(0)).unwrap();
    batches.recv().unwrap();
    let queued: Vec<_> = (0..50).map(|n| engine.submit(submission(n)).unwrap()).collect();
    until_queued(&engine, 50);
    let refused = wait(engine.submit(submission(99)).unwrap());
    let Err(Failure::Rejected(rejection)) = refused else { panic!("{refused:?}") };
    assert_eq!(rejection.reason, RejectReason::QueueFull);
    assert!(rejection.retry_after > Duration::ZERO);
    // Shut down while full: everything accepted is still answered.
    let stopping = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.shutdown())
    };
    for _ in 0..8 {
        orders.send(Order::Compute).unwrap();
    }
    assert_eq!(wait(running).unwrap().output, 1);
    for ticket in queued {
        wait(ticket).unwrap();
    }
    stopping.join().unwrap();
    let refused = engine.submit(submission(1)).map(|_| ()).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Draining);
}

#[test]
fn slow_consumers_hold_nobody_up() {
    let executors: Vec<Box<dyn Executor<Input = u64, Output = u64>>> = vec![Box::new(Eager)];
    let clock = Arc::new(MonotonicClock::new());
    let engine = Engine::start(config(1, 1000), executors, clock, Arc::new(NoObserver)).unwrap();
    let unread: Vec<_> = (0..500).map(|n| engine.submit(submission(n)).unwrap()).collect();
    assert_eq!(wait(engine.submit(submission(7)).unwrap()).unwrap().output, 8);
    engine.shutdown();
    for (n, ticket) in unread.into_iter().enumerate() {
        let answer = ticket.now_or_never().expect("answered before the shutdown ended").unwrap();
        assert_eq!(answer.output, n as u64 + 1);
    }
}

#[test]
fn events_balance() {
    #[derive(Default)]
    struct Tally {
        enqueued: AtomicUsize,
        ended: AtomicUsize,
        rejected: AtomicUsize,
    }
    impl Observer for Tally {
        fn on_event(&self, event: &Event) {
            let counter = match event {
                Event::Enqueued { .. } | Event::Requeued { .. } => &self.enqueued,
                Event::Cancelled { .. }
                | Event::Expired { .. }
                | Event::Shed { .. }
                | Event::Dequeued { .. } => &self.ended,
                Event::Rejected { .. } => &self.rejected,
                Event::Completed { device, .. } | Event::Failed { device, .. } => {
                    assert_eq!(*device, DeviceId(0));
                    return;
                }
                Event::Dispatched { .. } | Event::Queue { .. } => return,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    let tally = Arc::new(Tally::default());
    let executors: Vec<Box<dyn Executor<Input = u64, Output = u64>>> = vec![Box::new(Eager)];
    let engine =
        Engine::start(config(1, 20), executors, Arc::new(MonotonicClock::new()), tally.clone()).unwrap();
    let tickets: Vec<_> = (0..300).filter_map(|n| engine.submit(submission(n)).ok()).collect();
    let (kept, left): (Vec<_>, Vec<_>) = tickets.into_iter().enumerate().partition(|(n, _)| n % 3 > 0);
    drop(left);
    for (_, ticket) in kept {
        let _ = wait(ticket);
    }
    engine.shutdown();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert_eq!(count(&tally.enqueued), count(&tally.ended));
    assert_eq!(count(&tally.enqueued) + count(&tally.rejected), 300);
}

#[test]
fn bad_configurations() {
    let start = |config: EngineConfig, executors: usize| {
        let executors =
            (0..executors).map(|_| Box::new(Eager) as Box<dyn Executor<Input = u64, Output = u64>>);
        let engine =
            Engine::start(config, executors.collect(), Arc::new(MonotonicClock::new()), Arc::new(NoObserver));
        engine.map(|engine| engine.shutdown())
    };
    assert!(matches!(start(config(2, 10), 1), Err(StartError::Executors { devices: 2, executors: 1 })));
    assert!(matches!(start(config(0, 10), 0), Err(StartError::Config(_))));
    assert!(matches!(start(config(1, 0), 1), Err(StartError::Config(_))));
    assert!(start(config(1, 10), 1).is_ok());
}
