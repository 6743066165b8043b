//! Tokenising one text, by length.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::hint::black_box;

use benches::{LENGTHS, catalog, text_of};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::Task;

fn tokenizer(c: &mut Criterion) {
    let catalog = catalog().expect("the models load");
    let model = catalog.default_for(Task::Embed).expect("an embedding model").id;
    let tokenizer = catalog.tokenizer(model).expect("it is loaded");
    let mut group = c.benchmark_group("tokenize");
    for tokens in LENGTHS {
        let text = text_of(tokenizer, tokens);
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_with_input(BenchmarkId::from_parameter(tokens), &text, |b, text| {
            b.iter(|| tokenizer.encode(black_box(text)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, tokenizer);
criterion_main!(benches);
