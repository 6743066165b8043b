//! One pass of the encoder, by length and batch, through the executor an engine thread drives.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use batching::Executor;
use benches::{LENGTHS, catalog, text_of};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::{DeviceConfig, Sequence, Task, open_device};

fn encoder(c: &mut Criterion) {
    let catalog = catalog().expect("the models load");
    let model = catalog.default_for(Task::Embed).expect("an embedding model").id;
    let tokenizer = catalog.tokenizer(model).expect("it is loaded");
    let mut executor =
        catalog.executor(&open_device(DeviceConfig::default()).unwrap()).expect("a CPU executor");
    let mut group = c.benchmark_group("encoder");
    group.sample_size(20);
    for sequences in [1usize, 8] {
        for tokens in LENGTHS {
            let ids = tokenizer.encode(&text_of(tokenizer, tokens)).unwrap().ids;
            let batch = vec![Sequence::new(tokenizer.with_special_tokens(&ids)); sequences];
            group.throughput(Throughput::Elements((sequences * tokens) as u64));
            let id = BenchmarkId::new(format!("batch {sequences}"), tokens);
            group.bench_with_input(id, &batch, |b, batch| {
                b.iter_batched(
                    || batch.clone(),
                    |batch| executor.execute(model, &batch).unwrap(),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, encoder);
criterion_main!(benches);
