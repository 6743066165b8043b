//! Engines whose executors are under a test's control.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batching::{
    Completion, Config, DeadlinePolicy, Engine, EngineConfig, ExecuteError, Executor, Failure, ModelConfig,
    NoObserver, Observer, Overlap, Policy, Sequence, Ticket, UNDER_WAY_MAX,
};
use units::{Clock, ModelId, MonotonicClock, Priority, TenantId, Timestamp, Tokens};

pub(crate) const MODEL: ModelId = ModelId(0);

/// What the gated executor is told to do with a batch.
pub(crate) enum Order {
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
pub(crate) struct Gated {
    pub(crate) batches: Sender<Vec<u64>>,
    pub(crate) orders: Receiver<Order>,
}

/// The same, beside the thread that drives it: announces a batch when it begins.
pub(crate) struct Overlapping {
    pub(crate) gated: Gated,
    pub(crate) under_way: VecDeque<Vec<u64>>,
    /// What is to be done with the first of them, once that is known.
    pub(crate) order: Option<Order>,
}

impl Executor for Gated {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, _: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        self.batches.send(inputs.to_vec()).unwrap();
        let order = self.orders.recv().unwrap();
        order.obey(inputs)
    }

    fn sample(&mut self, _: ModelId, _: Tokens) -> Option<u64> {
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

    fn sample(&mut self, _: ModelId, _: Tokens) -> Option<u64> {
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
pub(crate) struct Eager;

impl Executor for Eager {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, _: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        Ok(inputs.iter().map(|n| n + 1).collect())
    }

    fn sample(&mut self, _: ModelId, _: Tokens) -> Option<u64> {
        None
    }
}

/// A clock that a test moves.
#[derive(Default)]
pub(crate) struct ManualClock(pub(crate) Mutex<Timestamp>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(crate) fn config(devices: u16, queue_sequences_max: usize) -> EngineConfig {
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

pub(crate) fn submission(input: u64) -> Sequence<u64> {
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

pub(crate) struct GatedEngine {
    pub(crate) engine: Engine<u64, u64>,
    pub(crate) batches: Receiver<Vec<u64>>,
    pub(crate) orders: Sender<Order>,
}

/// An engine of one device, whose executor is made of a gated one.
pub(crate) fn gated_as<E: Executor<Input = u64, Output = u64>>(
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

pub(crate) fn gated_with(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> GatedEngine {
    gated_as(|gated| gated, config(1, 50), clock, observer)
}

pub(crate) fn overlapping() -> GatedEngine {
    let executor = |gated| Overlapping { gated, under_way: VecDeque::new(), order: None };
    let mut config = config(1, 50);
    config.scheduler.batches_in_flight_max = UNDER_WAY_MAX;
    gated_as(executor, config, Arc::new(MonotonicClock::new()), Arc::new(NoObserver))
}

pub(crate) fn gated() -> GatedEngine {
    gated_with(Arc::new(MonotonicClock::new()), Arc::new(NoObserver))
}

pub(crate) fn wait(ticket: Ticket<u64>) -> Result<Completion<u64>, Failure> {
    block_on(ticket)
}

/// Drives one future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
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
pub(crate) fn until_queued(engine: &Engine<u64, u64>, sequences: usize) {
    while engine.snapshot().models[0].queued_sequences != sequences {
        std::thread::yield_now();
    }
}

/// What a gated device announces, and how it is ordered about.
pub(crate) type Gate = (Receiver<Vec<u64>>, Sender<Order>);

/// An engine with several gated devices; a test answers whichever announces a batch.
pub(crate) fn gated_devices(count: u16) -> (Engine<u64, u64>, Vec<Gate>) {
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
