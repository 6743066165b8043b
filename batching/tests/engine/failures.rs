//! Batches that fail and devices that are lost.

use batching::Failure;

use crate::gate::{GatedEngine, Order, gated, gated_devices, overlapping, submission, until_queued, wait};

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
