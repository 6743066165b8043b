//! One decision of the scheduler, and the way in and out of its queues, by how much is queued.

#![allow(missing_docs, reason = "criterion's macros declare undocumented functions")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;
use std::time::Duration;

use batching::{
    Config, Decision, DeviceId, ModelConfig, ModelId, Priority, Request, Scheduler, TenantId, Timestamp,
    Tokens,
};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

const QUEUED: [u32; 3] = [10, 1_000, 100_000];
const TENANTS: u32 = 500;
const MODELS: u16 = 5;

fn request(number: u32) -> Request<u32> {
    Request {
        model: ModelId((number % u32::from(MODELS)) as u16),
        tenant: TenantId(number.wrapping_mul(2_654_435_761) % TENANTS),
        priority: [Priority::High, Priority::Normal, Priority::Low][number as usize % 3],
        tokens: Tokens(8 + number % 120),
        deadline: Timestamp::ZERO + Duration::from_millis(30_000 + u64::from(number % 1000)),
        payload: number,
    }
}

fn filled(queued: u32) -> Scheduler<u32> {
    let model = ModelConfig {
        batch_tokens_max: Tokens(1024),
        batch_sequences_max: 64,
        queue_requests_max: 1 << 20,
        queue_tokens_max: Tokens(1 << 30),
        queue_delay_max: Duration::from_millis(5),
        latency_target: Duration::from_millis(50),
    };
    let models = vec![model; usize::from(MODELS)];
    let mut scheduler =
        Scheduler::new(Config { models, devices: 1, batches_in_flight_max: 1 }).expect("valid bounds");
    for number in 0..queued {
        scheduler.enqueue(Timestamp::ZERO, request(number)).expect("there is room");
    }
    scheduler
}

fn scheduler(c: &mut Criterion) {
    let now = Timestamp::ZERO + Duration::from_millis(10);
    let mut group = c.benchmark_group("scheduler");
    for queued in QUEUED {
        // One batch out and its members in again, so that the queue stays as long as it was.
        let mut scheduler = filled(queued);
        group.bench_function(BenchmarkId::new("batch out and back in", queued), |b| {
            b.iter(|| {
                let Decision::Dispatch(batch) = scheduler.poll(now, DeviceId(0)) else {
                    panic!("work is queued")
                };
                scheduler.complete(now, batch.id);
                for entry in batch.members {
                    scheduler.enqueue(now, entry.request).expect("there is room");
                }
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

criterion_group!(benches, scheduler);
criterion_main!(benches);
