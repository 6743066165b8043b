//! In the steady state a sequence costs the scheduler no allocation: only its batch does, a few however many
//! it holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use batching::{Config, DeadlinePolicy, Decision, Entry, ModelConfig, Policy, Scheduler, Sequence, Work};
use units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};

const MEMBERS: usize = 64;
const BATCHES: u64 = 200;
/// The list of members as it grows to 64, the lists of flows and of other models' work, the record of the
/// batch.
const ALLOCATIONS_PER_BATCH_MAX: u64 = 20;

fn sequence(number: u32) -> Sequence<u32> {
    Sequence {
        model: ModelId((number % 3) as u16),
        tenant: TenantId(number.wrapping_mul(2_654_435_761) % 50),
        weight: 1,
        priority: [Priority::High, Priority::Normal][number as usize % 2],
        tokens: Tokens(8 + number % 120),
        deadline: Timestamp::MAX,
        payload: number,
    }
}

fn scheduler(queued: u32) -> Scheduler<u32> {
    let model = ModelConfig {
        batch_tokens_max: Tokens(1 << 16),
        batch_sequences_max: MEMBERS,
        queue_sequences_max: 1 << 20,
        queue_tokens_max: Tokens(1 << 30),
        latency_target: Duration::from_secs(10_000),
        is_target_hard: false,
        attention: 0.0,
    };
    let policy = Policy::Deadline(DeadlinePolicy::default());
    let config = Config { models: vec![model; 3], devices: 1, batches_in_flight_max: 1, policy };
    let mut scheduler = Scheduler::new(config).unwrap();
    for model in (0..3).map(ModelId) {
        for work in [16.0, 4096.0] {
            scheduler.calibrate(DeviceId(0), model, Work(work), Duration::from_secs_f64(1e-3 + 1e-6 * work));
        }
    }
    for number in 0..queued {
        scheduler.enqueue(Timestamp::ZERO, sequence(number)).unwrap();
    }
    scheduler
}

/// A batch out, and its members in again, one of them cancelled and queued once more.
fn turn(scheduler: &mut Scheduler<u32>, now: Timestamp) -> usize {
    let Decision::Dispatch(batch) = scheduler.poll(now, DeviceId(0)) else { panic!("work is queued") };
    scheduler.complete(now, batch.id, Some(batch.predicted));
    let count = batch.members.len();
    for Entry { sequence, .. } in batch.members {
        let again = sequence.clone();
        let id = scheduler.enqueue(now, sequence).unwrap();
        scheduler.cancel(id).unwrap();
        scheduler.enqueue(now, again).unwrap();
    }
    count
}

#[test]
fn a_request_in_the_steady_state_costs_no_allocation() {
    let mut scheduler = scheduler(3000);
    // Slow enough that all that is asked for can be given.
    let moment = |turn: u64| Timestamp::ZERO + Duration::from_millis(20 * turn);
    for number in 0..BATCHES {
        turn(&mut scheduler, moment(number));
    }
    let mut sequences = 0;
    let counted = allocation_counter::measure(|| {
        for number in BATCHES..2 * BATCHES {
            sequences += turn(&mut scheduler, moment(number));
        }
    });
    assert_eq!(sequences as u64, BATCHES * MEMBERS as u64);
    let per_batch = counted.count_total / BATCHES;
    assert!(per_batch <= ALLOCATIONS_PER_BATCH_MAX, "{per_batch} allocations for each batch of {MEMBERS}");
}
