//! The engine's threads under shuttle: every run takes the threads' steps in another random order, and a run
//! that breaks a promise, or in which nobody can go on, is printed so that `shuttle::replay` repeats it.
//!
//! `cargo test --release -p batching --features shuttle --test interleavings`; `RUNS=` sets how many a test
//! has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batching::{
    Completion, Config, DeadlinePolicy, Engine, EngineConfig, Event, ExecuteError, Executor, Failure,
    ModelConfig, Observer, Overlap, Policy, RejectReason, Rejection, Sequence, Ticket, UNDER_WAY_MAX,
};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;
use units::{Clock, ModelId, Priority, TenantId, Timestamp, Tokens};

const MODEL: ModelId = ModelId(0);

/// Half of the runs take random steps, and half let threads go on until a few chosen points (Burckhardt et
/// al., "A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010).
fn check(promise: impl Fn() + Send + Sync + 'static) {
    let runs = std::env::var("RUNS").map_or(2_000, |runs| runs.parse().expect("RUNS is a number"));
    let promise = Arc::new(promise);
    let again = Arc::clone(&promise);
    shuttle::check_random(move || promise(), runs / 2);
    shuttle::check_pct(move || again(), runs / 2, 4);
}

/// Every look at it is a millisecond later than the one before.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// What the engine said of its sequences, and what its executors were given.
#[derive(Default)]
struct Record {
    enqueued: u64,
    refused: u64,
    /// Cancelled, expired or shed in the queue.
    ended: u64,
    dequeued: u64,
    requeued: u64,
    executed: Vec<u64>,
    /// Batches given to executors already lost.
    given_to_lost: u64,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        read(&self.0.lock().unwrap())
    }
}

impl Observer for Recorder {
    fn on_event(&self, event: &Event) {
        let mut record = self.0.lock().unwrap();
        match event {
            Event::Enqueued { .. } => record.enqueued += 1,
            Event::Rejected { .. } => record.refused += 1,
            Event::Cancelled { .. } | Event::Expired { .. } | Event::Shed { .. } => record.ended += 1,
            Event::Dequeued { .. } => record.dequeued += 1,
            Event::Requeued { .. } => record.requeued += 1,
            _ => {}
        }
    }
}

/// Computes n -> n + 1; is lost with its `lives`th batch.
struct Mortal {
    lives: Option<u32>,
    is_lost: bool,
    recorder: Recorder,
    /// Batches that it has, if it computes beside its thread.
    under_way: Option<VecDeque<Vec<u64>>>,
}

impl Executor for Mortal {
    type Input = u64;
    type Output = u64;

    fn execute(&mut self, _: ModelId, inputs: &[u64]) -> Result<Vec<u64>, ExecuteError> {
        thread::yield_now();
        if let Some(lives) = &mut self.lives {
            *lives = lives.saturating_sub(1);
            if *lives == 0 {
                self.recorder.0.lock().unwrap().given_to_lost +=
                    u64::from(std::mem::replace(&mut self.is_lost, true));
                return Err(ExecuteError { source: Arc::from(Box::from("dead")), is_fatal: true });
            }
        }
        self.recorder.0.lock().unwrap().executed.extend(inputs);
        Ok(inputs.iter().map(|n| n + 1).collect())
    }

    fn sample(&mut self, _: ModelId, _: Tokens) -> Option<u64> {
        None
    }

    fn overlap(&mut self) -> Option<&mut dyn Overlap<u64, u64>> {
        self.under_way.is_some().then_some(self)
    }
}

impl Overlap<u64, u64> for Mortal {
    fn begin(&mut self, _: ModelId, inputs: &[u64]) -> Result<(), ExecuteError> {
        self.recorder.0.lock().unwrap().given_to_lost += u64::from(self.is_lost);
        let under_way = self.under_way.as_mut().unwrap();
        under_way.push_back(inputs.to_vec());
        assert!(under_way.len() <= UNDER_WAY_MAX);
        Ok(())
    }

    fn is_finished(&mut self) -> bool {
        thread_rng().gen_bool(0.5)
    }

    fn finish(&mut self) -> Result<Vec<u64>, ExecuteError> {
        let inputs = self.under_way.as_mut().and_then(VecDeque::pop_front).unwrap();
        self.execute(MODEL, &inputs)
    }
}

type Answer = Result<Completion<u64>, Failure>;

/// An engine with a device for each of `lives`, little room everywhere, and batches of at most two.
fn model_config() -> ModelConfig {
    ModelConfig {
        batch_tokens_max: Tokens(2),
        batch_sequences_max: 2,
        queue_sequences_max: 4,
        queue_tokens_max: Tokens(4),
        latency_target: Duration::from_secs(3600),
        is_target_hard: false,
        attention: 0.0,
    }
}

fn start(lives: &[Option<u32>], commands_max: usize) -> (Engine<u64, u64>, Recorder) {
    let policy = Policy::Deadline(DeadlinePolicy::default());
    let devices = lives.len() as u16;
    let scheduler = Config { models: vec![model_config()], devices, batches_in_flight_max: 2, policy };
    let recorder = Recorder::default();
    let executor = |&lives| {
        let under_way = thread_rng().gen_bool(0.5).then(VecDeque::new);
        let executor = Mortal { lives, is_lost: false, recorder: recorder.clone(), under_way };
        Box::new(executor) as Box<dyn Executor<Input = u64, Output = u64>>
    };
    let executors = lives.iter().map(executor).collect();
    let config = EngineConfig { scheduler, commands_max };
    let engine = Engine::start(config, executors, Arc::new(Ticking::default()), Arc::new(recorder.clone()));
    (engine.unwrap(), recorder)
}

fn submission(input: u64, deadline: Timestamp) -> Sequence<u64> {
    let (tenant, priority) = (TenantId(input as u32 % 2), Priority::Normal);
    Sequence { model: MODEL, tenant, weight: 1, priority, tokens: Tokens(1), deadline, payload: input }
}

/// What a caller saw of an input.
fn assert_answer(input: u64, answer: &Answer) {
    match answer {
        Ok(completion) => assert_eq!(completion.output, input + 1, "an answer to another sequence"),
        Err(Failure::Rejected(rejection)) => assert_ne!(rejection.reason, RejectReason::Draining),
        Err(Failure::DeadlineExceeded | Failure::ShutDown | Failure::Execution(_)) => {}
    }
}

/// After the end: whatever was taken in was answered, given up or computed, and nothing was computed twice.
fn assert_conserved(recorder: &Recorder) {
    recorder.read(|record| {
        assert_eq!(record.given_to_lost, 0);
        assert_eq!(record.enqueued + record.requeued, record.ended + record.dequeued);
        let mut executed = record.executed.clone();
        executed.sort_unstable();
        executed.dedup();
        assert_eq!(executed.len(), record.executed.len(), "computed twice: {:?}", record.executed);
    });
}

#[test]
fn submitters_and_a_shutdown_among_them() {
    check(|| {
        let (engine, recorder) = start(&[None], 3);
        let submitters: Vec<_> = (0..3)
            .map(|thread| {
                let engine = engine.clone();
                thread::spawn(move || {
                    let inputs = [thread * 2, thread * 2 + 1];
                    let tickets =
                        inputs.map(|input| (input, engine.submit(submission(input, Timestamp::MAX))));
                    let mut answered = Vec::new();
                    for (input, ticket) in tickets {
                        let Ok(ticket) = ticket else { continue };
                        let answer = block_on(ticket);
                        assert_answer(input, &answer);
                        answered.extend(answer.is_ok().then_some(input));
                    }
                    answered
                })
            })
            .collect();
        engine.shutdown();
        let mut answered: Vec<u64> =
            submitters.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_conserved(&recorder);
        // Exactly what was computed was answered.
        answered.sort_unstable();
        let executed = recorder.read(|record| {
            let mut executed = record.executed.clone();
            executed.sort_unstable();
            executed
        });
        assert_eq!(answered, executed);
        // Once it has ended, it says so at once.
        assert!(engine.submit(submission(99, Timestamp::MAX)).is_err());
    });
}

#[test]
fn two_shutdowns_at_once() {
    check(|| {
        let (engine, recorder) = start(&[None, None], 3);
        let ticket = engine.submit(submission(1, Timestamp::MAX)).unwrap();
        let other = engine.clone();
        let thread = thread::spawn(move || other.shutdown());
        engine.shutdown();
        thread.join().unwrap();
        assert_eq!(
            block_on(ticket).unwrap().output,
            2,
            "accepted before the shutdown, computed before its end"
        );
        assert_conserved(&recorder);
    });
}

#[test]
fn callers_who_leave() {
    check(|| {
        let (engine, recorder) = start(&[None], 8);
        let tickets: Vec<Ticket<u64>> =
            (0..4).map(|input| engine.submit(submission(input, Timestamp::MAX)).unwrap()).collect();
        let mut stayed = Vec::new();
        for (input, ticket) in (0..).zip(tickets) {
            if thread_rng().gen_bool(0.5) {
                drop(ticket);
            } else {
                stayed.push(input);
                assert_eq!(block_on(ticket).unwrap().output, input + 1, "others' leaving is no loss");
            }
        }
        engine.shutdown();
        assert_conserved(&recorder);
        recorder.read(|record| assert!(stayed.iter().all(|input| record.executed.contains(input))));
    });
}

#[test]
fn deadlines_that_pass_meanwhile() {
    check(|| {
        let (engine, recorder) = start(&[None], 8);
        let tickets = (0..4).map(|input| {
            let deadline = engine.now() + Duration::from_millis(thread_rng().gen_range(1..30));
            (input, engine.submit(submission(input, deadline)).unwrap())
        });
        for (input, ticket) in tickets.collect::<Vec<_>>() {
            assert_answer(input, &block_on(ticket));
        }
        engine.shutdown();
        assert_conserved(&recorder);
    });
}

#[test]
fn a_device_lost_at_any_moment_takes_nobodys_answer_along() {
    check(|| {
        let (engine, recorder) = start(&[Some(thread_rng().gen_range(1..3)), None], 8);
        let tickets: Vec<_> =
            (0..4).map(|input| (input, engine.submit(submission(input, Timestamp::MAX)).unwrap())).collect();
        for (input, ticket) in tickets {
            assert_eq!(block_on(ticket).expect("the other device is well").output, input + 1);
        }
        engine.shutdown();
        assert_conserved(&recorder);
    });
}

#[test]
fn when_the_last_device_is_lost_everyone_is_told() {
    check(|| {
        let (engine, recorder) = start(&[Some(2)], 8);
        let tickets: Vec<_> =
            (0..6).map(|input| (input, engine.submit(submission(input, Timestamp::MAX)).unwrap())).collect();
        let answers = tickets.into_iter().map(|(input, ticket)| {
            let answer = block_on(ticket);
            assert_answer(input, &answer);
            answer
        });
        let answered = answers.filter(Result::is_ok).count();
        assert!(answered <= 2, "one batch of two was computed");
        engine.shutdown();
        assert_eq!(answered, recorder.read(|record| record.executed.len()));
        assert_conserved(&recorder);
    });
}

#[test]
fn a_model_comes_and_goes_among_submitters() {
    const NEW: ModelId = ModelId(5);
    check(|| {
        let (engine, recorder) = start(&[Some(2), None], 16);
        let submitter = {
            let engine = engine.clone();
            thread::spawn(move || {
                for input in 0..4 {
                    let model = if input % 2 == 0 { MODEL } else { NEW };
                    let ticket = engine.submit(Sequence { model, ..submission(input, Timestamp::MAX) });
                    assert_answer(input, &block_on(ticket.unwrap()));
                }
            })
        };
        block_on(engine.add_model(NEW, model_config())).unwrap();
        let taken = engine.submit(Sequence { model: NEW, ..submission(50, Timestamp::MAX) }).unwrap();
        block_on(engine.remove_model(NEW)).unwrap();
        assert_eq!(block_on(taken).expect("taken before the model went").output, 51);
        let late = engine.submit(Sequence { model: NEW, ..submission(51, Timestamp::MAX) }).unwrap();
        let is_refused = |r: &Rejection| r.reason == RejectReason::UnknownModel;
        assert!(matches!(block_on(late), Err(Failure::Rejected(r)) if is_refused(&r)));
        submitter.join().unwrap();
        engine.shutdown();
        assert_conserved(&recorder);
    });
}
