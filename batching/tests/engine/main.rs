//! The engine with real threads and an executor under the test's control. Nothing here measures time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failures;
mod gate;
mod models;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use batching::{
    Engine, EngineConfig, Event, Executor, Failure, NoObserver, Observer, RejectReason, Sequence, StartError,
};
use futures_util::FutureExt;
use futures_util::future::join_all;
use units::{DeviceId, MonotonicClock, Timestamp};

use gate::{
    Eager, GatedEngine, ManualClock, Order, block_on, config, gated, gated_with, submission, until_queued,
    wait,
};

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
                Event::Dispatched { .. } => return,
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
