//! The scheduler's steps, by how much is queued: 500 tenants, five models, three classes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;
use std::time::Duration;

use batching::{Config, DeadlinePolicy, Decision, Entry, ModelConfig, Policy, Scheduler, Sequence, Work};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};

const QUEUED: [u32; 3] = [10, 1_000, 100_000];
const TENANTS: u32 = 500;
const MODELS: u16 = 5;
/// A batch is cut to so many sequences, so that it has as many members however much is queued.
const MEMBERS: usize = 64;

fn request(number: u32) -> Sequence<u32> {
    Sequence {
        model: ModelId((number % u32::from(MODELS)) as u16),
        tenant: TenantId(number.wrapping_mul(2_654_435_761) % TENANTS),
        weight: 1,
        priority: [Priority::High, Priority::Normal, Priority::Low][number as usize % 3],
        tokens: Tokens(8 + number % 120),
        deadline: Timestamp::ZERO + Duration::from_secs(30_000 + u64::from(number % 1000)),
        payload: number,
    }
}

/// Everything can be in time, so that a batch is filled from what is entitled.
fn filled(queued: u32) -> Scheduler<u32> {
    let model = ModelConfig {
        batch_tokens_max: Tokens(1 << 16),
        batch_sequences_max: MEMBERS,
        queue_sequences_max: 1 << 20,
        queue_tokens_max: Tokens(1 << 30),
        latency_target: Duration::from_secs(10_000),
        is_target_hard: false,
        attention: 1.0 / (6.0 * 384.0),
    };
    let models = vec![model; usize::from(MODELS)];
    let policy = Policy::Deadline(DeadlinePolicy::default());
    let mut scheduler = Scheduler::new(Config { models, devices: 1, batches_in_flight_max: 1, policy })
        .expect("valid bounds");
    for model in (0..MODELS).map(ModelId) {
        for work in [16.0, 256.0, 4096.0] {
            let time = Duration::from_secs_f64(1e-3 + 1e-6 * work);
            scheduler.calibrate(DeviceId(0), model, Work(work), time);
        }
    }
    for number in 0..queued {
        scheduler.enqueue(Timestamp::ZERO, request(number)).expect("there is room");
    }
    scheduler
}

/// Takes one batch out.
fn decide(scheduler: &mut Scheduler<u32>, now: Timestamp) -> Vec<Entry<u32>> {
    let Decision::Dispatch(batch) = scheduler.poll(now, DeviceId(0)) else { panic!("work is queued") };
    scheduler.complete(now, batch.id, None);
    batch.members
}

fn scheduler(c: &mut Criterion) {
    let now = Timestamp::ZERO + Duration::from_millis(10);
    let mut group = c.benchmark_group("scheduler");
    for queued in QUEUED {
        let mut scheduler = filled(queued);
        let members = decide(&mut scheduler, now).len();
        eprintln!("{queued} queued: {members} members in a batch");
        let mut scheduler = filled(queued);
        // The batch's members go in again, so that the queue stays as long as it was.
        group.bench_function(BenchmarkId::new("batch out and back in", queued), |b| {
            b.iter(|| {
                for entry in decide(&mut scheduler, now) {
                    scheduler.enqueue(now, entry.sequence).expect("there is room");
                }
            });
        });
        let mut scheduler = filled(queued);
        group.bench_function(BenchmarkId::new("batch out", queued), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let began = begin();
                    let members = black_box(decide(&mut scheduler, now));
                    total += began.elapsed();
                    for entry in members {
                        scheduler.enqueue(now, entry.sequence).expect("there is room");
                    }
                }
                total
            });
        });
        let mut scheduler = filled(queued);
        group.bench_function(BenchmarkId::new("enqueue and cancel", queued), |b| {
            b.iter_batched(
                || request(7),
                |request| {
                    let id = scheduler.enqueue(now, black_box(request)).expect("there is room");
                    scheduler.cancel(id).expect("it is queued")
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]
fn begin() -> std::time::Instant {
    std::time::Instant::now()
}

criterion_group!(benches, scheduler);
criterion_main!(benches);
