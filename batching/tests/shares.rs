//! Shares among callers that wait for their answers, and beside callers that do not, on a virtual clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod callers;

use std::time::Duration;

use batching::{DeadlinePolicy, Policy};
use callers::{Caller, Loop, Outcome, Setup, World};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use units::{Priority, Timestamp};

const ALL: [u16; 5] = [0, 1, 2, 3, 4];
/// Time in which shares are found, and time that is counted, in seconds.
const WARM_UP: u64 = 5;
const COUNTED: u64 = 20;

/// Five models on devices like this project's engine on two cores.
fn setup(devices: u16) -> Setup {
    let (overhead, slope) = (Duration::from_micros(250), 28e-6);
    Setup {
        targets_ms: vec![20, 30, 50, 80, 500],
        devices,
        overhead,
        slope,
        stalls: 0.0,
        policy: Policy::Deadline(DeadlinePolicy::default()),
    }
}

fn closed(weight: u32, priority: Priority, connections: u32, models: &[u16], tokens: (u32, u32)) -> Caller {
    let kind = Loop::Closed(connections, Duration::from_millis(1));
    Caller { weight, priority, kind, models: models.to_vec(), tokens, ..Caller::default() }
}

fn open(weight: u32, priority: Priority, rate: f64) -> Caller {
    Caller { kind: Loop::Open(rate), ..closed(weight, priority, 1, &ALL, (100, 300)) }
}

fn run(setup: Setup, callers: Vec<Caller>, seed: u64) -> Vec<Outcome> {
    run_after(WARM_UP, setup, callers, seed)
}

fn run_after(warm_up: u64, setup: Setup, callers: Vec<Caller>, seed: u64) -> Vec<Outcome> {
    let mut world = World::new(setup, callers, seed);
    let after = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
    world.run(after(warm_up));
    world.start_counting();
    world.run(after(warm_up + COUNTED));
    world.outcomes
}

fn rate(outcome: &Outcome) -> f64 {
    outcome.latencies.len() as f64 / COUNTED as f64
}

/// What a tenant of weight 8 keeps of the rate that it has alone, beside one of weight 1 and low class with
/// more connections. Its share is 8/9.
#[test]
fn a_paying_tenant_keeps_its_rate() {
    let check = |mine: &[u16], others: &[u16], tokens: (u32, u32), connections: u32| {
        let payer = closed(8, Priority::Normal, 8, mine, tokens);
        let other = closed(1, Priority::Low, connections, others, tokens);
        let alone = rate(&run(setup(1), vec![payer.clone()], 1)[0]);
        let beside = run(setup(1), vec![payer, other], 1);
        let kept = rate(&beside[0]) / alone;
        // With short calls nearly all are in time, and by turns nothing is enforced.
        let kept_min = if tokens.1 < 100 { 0.55 } else { 0.8 };
        assert!(
            kept >= kept_min,
            "{kept:.2} of {alone:.0}/s, {connections}, {mine:?} beside {others:?}, {tokens:?} tokens"
        );
        assert!(!beside[1].latencies.is_empty(), "the other is served, too");
    };
    for tokens in [(800, 1000), (100, 300), (20, 60)] {
        for connections in [16, 64] {
            check(&ALL, &ALL, tokens, connections);
            check(&[0], &[0], tokens, connections);
            check(&[4], &[4], tokens, connections);
        }
        check(&[1], &[0], tokens, 16);
        check(&[1], &[4], tokens, 16);
        check(&[4], &[0], tokens, 16);
    }
}

/// A class that a caller states takes nothing from other tenants, and nobody who has work waiting is left
/// without an answer for long.
#[test]
fn shares_are_the_plans_and_come_evenly() {
    let mine = Caller { inputs: 2, ..closed(8, Priority::Normal, 8, &[0], (60, 90)) };
    let alone = rate(&run(setup(1), vec![mine.clone()], 1)[0]);
    for (weight, priority, inputs) in [
        (4, Priority::Critical, 2),
        (1, Priority::Critical, 1),
        (1, Priority::High, 1),
        (8, Priority::Normal, 2),
        (4, Priority::Low, 2),
    ] {
        let other = Caller { inputs, ..closed(weight, priority, 16, &[0], (60, 90)) };
        let beside = run(setup(1), vec![mine.clone(), other], 1);
        let share = 8.0 / (8.0 + f64::from(weight));
        let kept = rate(&beside[0]) / alone / share;
        let others = rate(&beside[1]) / alone / (1.0 - share);
        assert!(kept >= 0.9 && others >= 0.9, "{kept:.2} and {others:.2} of their shares, {priority:?}");
        // A flow is ahead by the longest lag times its weight at most, and the other waits as long.
        let pauses = (beside[0].pause, beside[1].pause);
        assert!(pauses.0 <= 0.4 * f64::from(weight) && pauses.1 <= 0.4 * 8.0, "{pauses:?} {priority:?}");
    }
}

/// An open loop within its share is let be, however many connections the other has.
#[test]
fn an_open_loop_within_its_share_is_served_in_time() {
    // About 170 calls a second are all.
    let outcomes = run(
        setup(1),
        vec![open(8, Priority::Normal, 100.0), closed(1, Priority::Low, 16, &ALL, (100, 300))],
        1,
    );
    let mut latencies = outcomes[0].latencies.clone();
    latencies.sort_by(f64::total_cmp);
    assert!(latencies[latencies.len() / 2] < 0.03, "{}", latencies[latencies.len() / 2]);
    assert!(rate(&outcomes[0]) > 90.0 && rate(&outcomes[1]) > 50.0, "nothing is left idle");
}

/// Uneven demand that can be served in time is let be.
#[test]
fn uneven_but_feasible_open_loops_are_let_be() {
    let outcomes = run(setup(1), vec![open(1, Priority::Normal, 10.0), open(1, Priority::Normal, 110.0)], 1);
    let mut latencies = outcomes[1].latencies.clone();
    latencies.sort_by(f64::total_cmp);
    assert!(latencies[latencies.len() * 9 / 10] < 0.1, "{}", latencies[latencies.len() * 9 / 10]);
}

/// Random mixes: of two flows that always have late work waiting, service over weight over the counted time
/// differs by no more than twice the longest lag and the largest charge; [`World`] asserts that no device is
/// idle beside a queue. All callers begin at once, before anything is known of their shares: the first line,
/// of up to 240 calls of 28 ms, is served as it came, and then those wait who had more than their share of
/// it.
#[test]
fn flows_that_wait_are_served_by_weight() {
    const FIRST_LINES: u64 = 25;
    const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut callers = Vec::new();
        for _ in 0..rng.random_range(2..4) {
            let priority = PRIORITIES[rng.random_range(0..3)];
            // Three calls of 800 tokens and more for each model are later than any target.
            let connections = rng.random_range(40..80);
            let models = if rng.random() { ALL.to_vec() } else { vec![rng.random_range(0..4)] };
            callers.push(closed(rng.random_range(1..9), priority, connections, &models, (800, 1000)));
        }
        if rng.random() {
            callers.push(Caller { tokens: (20, 60), ..open(rng.random_range(1..9), Priority::Normal, 10.0) });
        }
        let devices = rng.random_range(1..3);
        let outcomes = run_after(FIRST_LINES, setup(devices), callers.clone(), seed);
        let closed =
            callers.iter().zip(&outcomes).filter(|(caller, _)| matches!(caller.kind, Loop::Closed(..)));
        let shares = closed.map(|(caller, outcome)| outcome.service / f64::from(caller.weight));
        let shares: Vec<_> = shares.collect();
        let (least, most) =
            (shares.iter().copied().fold(f64::MAX, f64::min), shares.iter().copied().fold(0.0, f64::max));
        // The longest lag, and a call of 28 ms of the least weight.
        let bound = 2.0 * (0.4 + 0.0283);
        assert!(most - least <= bound, "seed {seed}: {shares:?} of {callers:?}");
    }
}
