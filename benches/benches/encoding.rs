//! Writing embeddings as each format has them, by itself: JSON of floats, of base64 and of smaller numbers,
//! bytes, and protobuf.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use proto::v1;
use protocols::http::vectors::{Precision, Vector, little_endian};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Components of a vector of the embedding model.
const WIDTH: usize = 384;

/// Vectors of length one, the same every time.
fn vectors(count: usize) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let vector = |_| {
        let drawn: Vec<f32> = (0..WIDTH).map(|_| random.random_range(-1.0..1.0)).collect();
        let length = drawn.iter().map(|x| x * x).sum::<f32>().sqrt();
        drawn.into_iter().map(|x| x / length).collect()
    };
    (0..count).map(vector).collect()
}

fn json(vectors: &[Vector]) -> Vec<u8> {
    serde_json::to_vec(vectors).unwrap()
}

fn bytes(vectors: &[Vec<f32>]) -> Vec<u8> {
    let mut all = Vec::new();
    for vector in vectors {
        all.extend(Precision::Float.of(vector.clone()).bytes());
    }
    all
}

fn protobuf(vectors: &[Vec<f32>]) -> Vec<u8> {
    let result = |vector: &Vec<f32>| v1::EmbedResult { embedding: vector.clone(), ..Default::default() };
    let results = vectors.iter().map(result).collect();
    v1::EmbedResponse { results, ..Default::default() }.encode_to_vec()
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for count in [1, 32] {
        let vectors = vectors(count);
        group.throughput(Throughput::Elements(count as u64));
        let mut of = |name: &str, write: &dyn Fn(&[Vec<f32>]) -> Vec<u8>| {
            let id = BenchmarkId::new(name, count);
            group.bench_function(id, |bencher| bencher.iter(|| write(black_box(&vectors))));
        };
        let precise = |precision: Precision, vectors: &[Vec<f32>]| {
            json(&vectors.iter().map(|vector| precision.of(vector.clone())).collect::<Vec<_>>())
        };
        of("float", &|vectors| precise(Precision::Float, vectors));
        of("base64", &|vectors| {
            let written = |vector: &Vec<f32>| Precision::Float.of(vector.clone()).base64(little_endian);
            json(&vectors.iter().map(written).collect::<Vec<_>>())
        });
        of("int8", &|vectors| precise(Precision::Int8, vectors));
        of("ubinary", &|vectors| precise(Precision::Ubinary, vectors));
        of("octets", &bytes);
        of("protobuf", &protobuf);
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
