//! Models that come and go while the engine runs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use batching::{
    ConfigError, Engine, EngineConfig, ExecuteError, Executor, Failure, ModelChangeError, ModelConfig,
    NoObserver, RejectReason, Sequence,
};
use futures_util::FutureExt;
use units::{Clock, ModelId, MonotonicClock, Timestamp, Tokens};

use crate::gate::{
    GatedEngine, MODEL, ManualClock, Order, block_on, config, gated, gated_devices, submission, wait,
};

const NEW: ModelId = ModelId(7);

/// Takes 1 ms and 32 us for each sequence, by a clock that it moves; can be asked for samples, of 32 tokens.
struct Timed(Arc<ManualClock>);

impl Executor for Timed {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, model: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        let mut now = self.0.0.lock().unwrap();
        *now = *now + Duration::from_micros(1000 + 32 * inputs.len() as u64);
        Ok(inputs.iter().map(|n| n + u64::from(model.0)).collect())
    }

    fn sample(&mut self, _: ModelId, _: Tokens) -> Option<u64> {
        Some(0)
    }
}

/// What a [`Logging`] executor was asked.
#[derive(Debug, PartialEq)]
enum Asked {
    Execute(ModelId),
    Forget(ModelId),
}

/// Tells what it is asked, and begins with no batch before it may.
struct Logging {
    asked: Sender<Asked>,
    turns: Receiver<()>,
}

impl Executor for Logging {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, model: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        self.asked.send(Asked::Execute(model)).unwrap();
        self.turns.recv().unwrap();
        Ok(inputs.to_vec())
    }

    fn sample(&mut self, model: ModelId, _: Tokens) -> Option<u64> {
        (model == NEW).then_some(0)
    }

    fn forget(&mut self, model: ModelId) {
        self.asked.send(Asked::Forget(model)).unwrap();
    }
}

fn model_config() -> ModelConfig {
    config(1, 50).scheduler.models.remove(0)
}

fn of(model: ModelId, input: u64) -> Sequence<u64> {
    Sequence { model, ..submission(input) }
}

#[test]
fn a_model_that_is_added_is_measured_and_serves() {
    let clock = Arc::new(ManualClock::default());
    let executors: Vec<Box<dyn Executor<Input = u64, Output = u64>>> =
        (0..2).map(|_| Box::new(Timed(Arc::clone(&clock))) as _).collect();
    let told: Arc<dyn Clock> = clock;
    let engine = Engine::start(config(2, 50), executors, told, Arc::new(NoObserver)).unwrap();
    let refused = wait(engine.submit(of(NEW, 1)).unwrap());
    assert!(matches!(refused, Err(Failure::Rejected(r)) if r.reason == RejectReason::UnknownModel));
    let large = ModelConfig { batch_tokens_max: Tokens(1024), batch_sequences_max: 64, ..model_config() };
    block_on(engine.add_model(NEW, large)).unwrap();
    assert_eq!(wait(engine.submit(of(NEW, 1)).unwrap()).unwrap().output, 8);
    engine.shutdown();
    let costs = engine.snapshot().models[usize::from(NEW.0)];
    assert!((costs.batch_overhead.as_secs_f64() / 1e-3 - 1.0).abs() < 0.01, "{costs:?}");
    assert!((costs.token_seconds / 1e-6 - 1.0).abs() < 0.1, "{costs:?}");
}

/// Batches of other models come between those by which a model is measured; and what was removed is forgotten
/// before that is told.
#[test]
fn others_go_on_while_a_model_comes_and_goes() {
    let ((asked, asked_of_it), (turn, turns)) = (channel(), channel());
    let executor: Box<dyn Executor<Input = u64, Output = u64>> = Box::new(Logging { asked, turns });
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let engine = Engine::start(config(1, 50), vec![executor], clock, Arc::new(NoObserver)).unwrap();
    let large = ModelConfig { batch_tokens_max: Tokens(1024), batch_sequences_max: 16, ..model_config() };
    let added = engine.add_model(NEW, large);
    assert_eq!(asked_of_it.recv().unwrap(), Asked::Execute(NEW));
    let other = engine.submit(submission(1)).unwrap();
    while engine.snapshot().models[0].in_flight_sequences == 0 {
        std::thread::yield_now();
    }
    turn.send(()).unwrap();
    assert_eq!(asked_of_it.recv().unwrap(), Asked::Execute(MODEL), "before the rest of the measurement");
    turn.send(()).unwrap();
    assert_eq!(wait(other).unwrap().output, 1);
    // 1, 4 and 16 sequences, each twice.
    for _ in 1..6 {
        assert_eq!(asked_of_it.recv().unwrap(), Asked::Execute(NEW));
        turn.send(()).unwrap();
    }
    block_on(added).unwrap();
    block_on(engine.remove_model(NEW)).unwrap();
    assert_eq!(asked_of_it.try_recv().unwrap(), Asked::Forget(NEW), "before it is told");
    engine.shutdown();
}

#[test]
fn numbers_are_used_once() {
    let GatedEngine { engine, .. } = gated();
    block_on(engine.add_model(NEW, model_config())).unwrap();
    let used = |model| Err(ModelChangeError::Config(ConfigError::ModelNumber(model)));
    assert_eq!(block_on(engine.add_model(NEW, model_config())), used(NEW));
    assert_eq!(block_on(engine.add_model(MODEL, model_config())), used(MODEL));
    block_on(engine.remove_model(NEW)).unwrap();
    assert_eq!(block_on(engine.add_model(NEW, model_config())), used(NEW), "not after it went, either");
    let senseless = ModelConfig { batch_sequences_max: 0, ..model_config() };
    let outcome = block_on(engine.add_model(ModelId(8), senseless));
    assert!(matches!(outcome, Err(ModelChangeError::Config(ConfigError::Model { .. }))));
    engine.shutdown();
}

#[test]
fn a_model_that_is_removed_finishes_what_it_took() {
    let GatedEngine { engine, batches, orders } = gated();
    let running = engine.submit(submission(1)).unwrap();
    assert_eq!(batches.recv().unwrap(), [1]);
    let waiting = engine.submit(submission(2)).unwrap();
    let mut removed = std::pin::pin!(engine.remove_model(MODEL));
    let refused = wait(engine.submit(submission(3)).unwrap());
    assert!(matches!(refused, Err(Failure::Rejected(r)) if r.reason == RejectReason::UnknownModel));
    assert!(removed.as_mut().now_or_never().is_none(), "one runs and one waits");
    orders.send(Order::Compute).unwrap();
    assert_eq!(wait(running).unwrap().output, 2);
    assert_eq!(batches.recv().unwrap(), [2]);
    assert!(removed.as_mut().now_or_never().is_none(), "one runs");
    orders.send(Order::Compute).unwrap();
    assert_eq!(wait(waiting).unwrap().output, 3);
    block_on(removed).unwrap();
    assert_eq!(engine.snapshot().models[0].in_flight_sequences, 0);
    engine.shutdown();
}

/// A device that is lost while a removed model's batch runs: its members are tried elsewhere all the same.
#[test]
fn a_removed_models_batch_outlives_its_device() {
    let (engine, mut devices) = gated_devices(2);
    let ticket = engine.submit(submission(1)).unwrap();
    let first = devices.iter().position(|(batches, _)| batches.try_recv().is_ok());
    let first = first.unwrap_or_else(|| {
        loop {
            if let Some(found) = devices.iter().position(|(batches, _)| batches.try_recv().is_ok()) {
                break found;
            }
            std::thread::yield_now();
        }
    });
    let removed = engine.remove_model(MODEL);
    let (_, lost) = devices.remove(first);
    lost.send(Order::Fail { is_fatal: true }).unwrap();
    let (batches, orders) = &devices[0];
    assert_eq!(batches.recv().unwrap(), [1]);
    orders.send(Order::Compute).unwrap();
    assert_eq!(wait(ticket).unwrap().output, 2);
    block_on(removed).unwrap();
    // A lost device measures nothing, and keeps nobody waiting.
    block_on(engine.add_model(NEW, model_config())).unwrap();
    engine.shutdown();
}

#[test]
fn nothing_comes_or_goes_once_the_engine_ends() {
    let executors: Vec<Box<dyn Executor<Input = u64, Output = u64>>> =
        vec![Box::new(Timed(Arc::new(ManualClock::default())))];
    let clock = Arc::new(MonotonicClock::new());
    let config: EngineConfig = config(1, 50);
    let engine = Engine::start(config, executors, clock, Arc::new(NoObserver)).unwrap();
    engine.shutdown();
    assert_eq!(block_on(engine.add_model(NEW, model_config())), Err(ModelChangeError::ShutDown));
    assert_eq!(block_on(engine.remove_model(MODEL)), Err(ModelChangeError::ShutDown));
    assert!(engine.now() < Timestamp::MAX);
}
