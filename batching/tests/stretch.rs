//! How long calls wait beside what they would wait if all were served as they come, on a virtual clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod callers;

use std::time::Duration;

use batching::{DeadlinePolicy, Policy, TokenBudget};
use callers::{Caller, Loop, Outcome, Setup, World};
use units::{Priority, Timestamp, Tokens};

const TARGETS_MS: [u64; 5] = [20, 30, 50, 80, 500];
const ALL: [u16; 5] = [0, 1, 2, 3, 4];
/// Time before the counting begins, and time that is counted, in seconds.
const WARM_UP: u64 = 5;
const COUNTED: u64 = 20;
/// Calls by the second that the devices can answer.
const CAPACITY: f64 = 330.0;

fn deadlines() -> Policy {
    Policy::Deadline(DeadlinePolicy::default())
}

fn first_come() -> Policy {
    Policy::TokenBudget(TokenBudget { tokens: Tokens(1024) })
}

fn callers(kind: Loop, models: &[u16]) -> Caller {
    let models = models.to_vec();
    Caller { kind, models, ..Caller::default() }
}

fn closed(connections: u32, models: &[u16]) -> Caller {
    callers(Loop::Closed(connections, Duration::from_millis(1)), models)
}

fn setup(policy: Policy, slope: f64) -> Setup {
    let overhead = Duration::from_micros(250);
    Setup { targets_ms: TARGETS_MS.to_vec(), devices: 1, overhead, slope, stalls: 0.0, policy }
}

fn run(policy: Policy, caller: &Caller, seed: u64) -> Outcome {
    run_all(policy, std::slice::from_ref(caller), seed).remove(0)
}

fn run_all(policy: Policy, callers: &[Caller], seed: u64) -> Vec<Outcome> {
    let mut world = World::new(setup(policy, 28e-6), callers.to_vec(), seed);
    let after = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
    world.run(after(WARM_UP));
    world.start_counting();
    world.run(after(WARM_UP + COUNTED));
    world.outcomes
}

fn sorted(mut latencies: Vec<f64>) -> Vec<f64> {
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// Answers within a second, by the second.
fn goodput(outcome: &Outcome) -> f64 {
    outcome.latencies.iter().filter(|latency| **latency < 1.0).count() as f64 / COUNTED as f64
}

/// The promise: a call whose target cannot be met waits 1.1 times what it would have waited if all were
/// served as they come, and little longer, since batches are not interrupted.
#[test]
fn nobody_who_waits_for_answers_waits_much_longer_than_in_a_line() {
    for connections in [16, 64, 256] {
        for models in [&ALL[..], &[0], &[2], &[3], &[4]] {
            for seed in 0..4 {
                let caller = closed(connections, models);
                let ours = run(deadlines(), &caller, seed);
                let target = models.iter().map(|model| TARGETS_MS[usize::from(*model)]).max().unwrap();
                for (took, as_they_came) in ours.latencies.iter().zip(&ours.as_they_came) {
                    let bound = (1.25 * as_they_came).max(target as f64 / 1e3) + 0.06;
                    assert!(*took <= bound, "{took:.3} of {bound:.3} s, {connections} on {models:?}, {seed}");
                }
                let line = sorted(run(first_come(), &caller, seed).latencies);
                let ours = sorted(ours.latencies);
                let in_time = target as f64 / 1e3 + 0.02;
                let ratio = |share: f64| quantile(&ours, share) / quantile(&line, share).max(in_time);
                let (tail, most) = (ratio(0.99), ratio(1.0));
                // Of several models those with long targets wait for the others.
                let tail_max = if models.len() == 1 { 1.25 } else { 1.5 };
                assert!(tail <= tail_max && most <= 1.4, "{tail:.2} {most:.2}, {connections} on {models:?}");
                let rate = ours.len() as f64 / line.len() as f64;
                assert!(rate > 0.95, "{rate:.2} of the rate, {connections} on {models:?}");
            }
        }
    }
}

/// On a device whose batches take a seventh of a text's time beside their work, as a CPU does: many short
/// batches would leave less time for the work than a line takes, just when there is most of it.
#[test]
fn batches_are_long_enough_for_their_overhead() {
    let run = |policy: Policy, callers: &[Caller], seed| {
        let setup = Setup { overhead: Duration::from_micros(700), ..setup(policy, 42e-6) };
        let mut world = World::new(setup, callers.to_vec(), seed);
        world.run(Timestamp::ZERO + Duration::from_secs(WARM_UP));
        world.start_counting();
        world.run(Timestamp::ZERO + Duration::from_secs(WARM_UP + COUNTED));
        world.outcomes
    };
    for models in [&ALL[..], &[0], &[2]] {
        let caller = Caller { tokens: (10, 200), ..closed(64, models) };
        for seed in 0..3 {
            let rate = |policy| run(policy, std::slice::from_ref(&caller), seed)[0].latencies.len() as f64;
            let ratio = rate(deadlines()) / rate(first_come());
            assert!(ratio >= 0.95, "{ratio:.3} of a line's rate on {models:?}, seed {seed}");
        }
    }
    // At nine tenths of what a line can answer more are in time than in a line.
    let callers = ALL.map(|model| Caller {
        tenant: Some(0),
        tokens: (10, 200),
        ..callers(Loop::Open(0.9 * 223.0 / 5.0), &[model])
    });
    let in_time = |policy: fn() -> Policy| {
        let of_model = |(outcome, target): (&Outcome, u64)| {
            outcome.latencies.iter().filter(|took| **took <= target as f64 / 1e3).count()
        };
        let of_seed = |seed| {
            let outcomes = run(policy(), &callers, seed);
            outcomes.iter().zip(TARGETS_MS).map(of_model).sum::<usize>()
        };
        (0..3).map(of_seed).sum::<usize>()
    };
    let (ours, line) = (in_time(deadlines), in_time(first_come));
    assert!(ours as f64 >= 1.1 * line as f64, "{ours} in time, of a line {line}");
}

/// Where more is asked for than can be served not everybody can be, and those are served who can be in time.
#[test]
fn in_overload_most_are_in_time() {
    let check = |load: f64, least: f64| {
        for seed in 0..3 {
            let ours = goodput(&run(deadlines(), &callers(Loop::Open(load * CAPACITY), &ALL), seed));
            assert!(ours >= least * CAPACITY, "{ours:.0} answers a second in time at {load} of capacity");
        }
    };
    check(0.7, 0.69);
    check(1.06, 0.7);
    check(1.25, 0.8);
    check(2.5, 0.9);
    // Of many tenants that are alike none is taken for one that asks for little.
    for load in [1.1, 1.35, 2.0] {
        let each = callers(Loop::Open(load * CAPACITY / 50.0), &ALL);
        let ours: f64 = run_all(deadlines(), &vec![each; 50], 1).iter().map(goodput).sum();
        assert!(ours >= 0.8 * CAPACITY, "{ours:.0} answers a second in time at {load} of capacity");
    }
}

/// Each flow has a line of its own, which moves at the flow's share, and whoever stands in it is served in
/// turn.
#[test]
fn nobody_is_passed_over_within_a_share() {
    let flow = |weight, priority, connections, inputs, tokens| {
        let kind = Loop::Closed(connections, Duration::from_millis(1));
        Caller { weight, priority, kind, models: vec![2], inputs, tokens, ..Caller::default() }
    };
    let long = |weight, priority, connections| flow(weight, priority, connections, 2, (330, 370));
    let short = |weight, connections, inputs| flow(weight, Priority::Normal, connections, inputs, (60, 150));
    let check = |callers: &[Caller], longest: f64| {
        for seed in 0..4 {
            let outcomes = run_all(deadlines(), callers, seed);
            let last = outcomes.last().unwrap();
            let Loop::Closed(connections, _) = callers.last().unwrap().kind else { panic!() };
            let rate = last.latencies.len() as f64 / COUNTED as f64;
            // By Little's law.
            let mean = f64::from(connections) / rate;
            let most = last.latencies.iter().copied().fold(0.0, f64::max);
            assert!(
                most <= longest * mean,
                "{most:.2} s where the mean is {mean:.2}, seed {seed}, {callers:?}"
            );
        }
    };
    check(&[long(1, Priority::Normal, 24)], 1.2);
    check(&[long(8, Priority::Normal, 8), long(2, Priority::Normal, 16)], 1.3);
    check(&[long(8, Priority::Normal, 8), long(2, Priority::Low, 16)], 1.3);
    check(&[long(2, Priority::Low, 16), long(8, Priority::Normal, 8)], 1.6);
    check(&[long(8, Priority::Normal, 8), long(4, Priority::Critical, 16)], 1.4);
    check(&[short(8, 8, 1), short(1, 64, 1)], 1.5);
    check(&[short(1, 2, 1), short(1, 64, 32)], 1.2);
}

/// At the edge of what can be served the slowest wait twice as long as in a line, since some are in time;
/// beyond it nobody waits for longer than is stated: who cannot be served by then is refused.
#[test]
fn in_overload_nobody_waits_for_ever() {
    let stated = DeadlinePolicy::default().late_wait_max.as_secs_f64() + 0.1;
    for seed in 0..3 {
        for load in [0.7, 0.85, 1.0, 1.06, 1.1, 1.25, 2.5] {
            let caller = callers(Loop::Open(load * CAPACITY), &ALL);
            let ours = run(deadlines(), &caller, seed);
            let most = ours.latencies.iter().copied().fold(0.0, f64::max);
            assert!(most <= stated, "{most:.2} s at {load} of capacity, seed {seed}");
            if load <= 1.0 {
                // Nobody who asks for the model with the longest target is in a hurry before that.
                let line = sorted(run(first_come(), &caller, seed).latencies);
                let (ours, line) = (quantile(&sorted(ours.latencies), 0.99), quantile(&line, 0.99));
                assert!(ours <= (2.0 * line).max(0.55), "{ours:.3} and {line:.3} s at {load}, seed {seed}");
            }
        }
    }
}

/// A tenant's short calls of one model do not stand behind its own bulk calls of another, nor do they before
/// it is known how much it asks for.
#[test]
fn models_take_turns_within_a_share() {
    for slope in [10e-6, 28e-6, 70e-6, 150e-6] {
        for seed in 0..3 {
            let of_one =
                |inputs, tokens, models| Caller { tenant: Some(0), inputs, tokens, ..closed(1, models) };
            let callers = vec![of_one(64, (390, 410), &[2]), of_one(1, (5, 8), &[0])];
            let mut world = World::new(setup(deadlines(), slope), callers, seed);
            world.run(Timestamp::ZERO + Duration::from_secs(COUNTED));
            let most = world.outcomes[1].latencies.iter().copied().fold(0.0, f64::max);
            // The target, and a batch of one long text that is not interrupted.
            let bound = 0.03 + 410.0 * slope;
            assert!(most <= bound, "{most:.3} of {bound:.3} s, {slope} s a token, seed {seed}");
        }
    }
}

/// Of a tenant that is ahead of its share nobody is left behind by its own newcomers, whatever the target.
#[test]
fn nobody_is_passed_over_by_newcomers() {
    let short = |weight, connections| Caller { weight, ..closed(connections, &[0]) };
    for target in [50, 200] {
        for seed in 0..4 {
            let mut setup = setup(deadlines(), 28e-6);
            setup.targets_ms = vec![target];
            let mut world = World::new(setup, vec![short(8, 8), short(1, 64)], seed);
            world.run(Timestamp::ZERO + Duration::from_secs(COUNTED));
            // What 64 take in turn with a ninth of the devices.
            let in_turn = 64.0 * 9.0 / CAPACITY;
            for outcome in &world.outcomes {
                let most = outcome.latencies.iter().copied().fold(0.0, f64::max);
                assert!(most <= 2.0 * in_turn, "{most:.2} s at a target of {target} ms, seed {seed}");
            }
        }
    }
}

/// Callers who give up early and ask again ask for more than they are given; whoever asks within a share is
/// answered all the same, but for one in a hundred.
#[test]
fn short_deadlines_of_others_harm_nobody() {
    let caller = |weight, connections, timeout| {
        let timeout = Duration::from_millis(timeout);
        Caller { weight, tokens: (260, 280), timeout, ..closed(connections, &[2]) }
    };
    for seed in 0..3 {
        let check = |others: Caller| {
            let outcomes = run_all(deadlines(), &[caller(8, 8, 2_000), others], seed);
            let (ended, answered) = (outcomes[0].ended, outcomes[0].latencies.len());
            assert!(ended * 100 <= answered, "{ended} ended and {answered} answered, seed {seed}");
        };
        check(caller(1, 16, 30_000));
        check(caller(1, 16, 500));
        check(caller(1, 32, 300));
        // 64 are answered in turn after 0.52 s.
        let alone = run(deadlines(), &caller(1, 64, 550), seed);
        assert_eq!(alone.ended, 0, "a deadline little longer than the line");
    }
}

/// Many callers who begin at once, and wait: that is no surge, which would go on.
#[test]
fn a_burst_of_callers_who_wait_is_no_overload() {
    for slope in [28e-6, 50e-6, 80e-6] {
        for (connections, stalls) in [(16, 0.0), (64, 0.0), (256, 0.0), (256, 0.1)] {
            for model in [0, 4] {
                for seed in 0..6 {
                    let run = |policy| {
                        let kind = |connections| {
                            let tokens = (10, 270);
                            Caller { tenant: Some(0), tokens, ..closed(connections, &[model]) }
                        };
                        let mut world =
                            World::new(setup(policy, slope), vec![kind(1), kind(connections)], seed);
                        world.setup.stalls = stalls;
                        world.run(Timestamp::ZERO + Duration::from_secs(4));
                        quantile(&sorted(world.outcomes[1].latencies.clone()), 1.0)
                    };
                    let (ours, line) = (run(deadlines()), run(first_come()));
                    let in_time = TARGETS_MS[usize::from(model)] as f64 / 1e3 + 0.02;
                    let ratio = ours / line.max(in_time);
                    assert!(ratio <= 1.45, "{ratio:.2}: {connections} on {model}, {slope}, seed {seed}");
                }
            }
        }
    }
}
