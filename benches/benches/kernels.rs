//! Linear layers of the embedded encoder on one thread: the fused kernels against the `gemm` crate, and what
//! a low-rank branch beside a layer would cost.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemm::Parallelism;
use models::runtimes::fused;
use models::runtimes::fused::standalone::{self, StandaloneLinear};
use models::weights::LinearWeights;
use models::{DeviceConfig, Dtype, open_device};

/// Inputs and outputs of the layers: query, key and value; attention's output; the two of the feed-forward
/// block.
const SHAPES: [(usize, usize); 4] = [(384, 1152), (384, 384), (384, 1536), (1536, 384)];
const ROWS: [usize; 3] = [16, 96, 512];
const RANK: usize = 16;
const DTYPES: [Dtype; 2] = [Dtype::Float32, Dtype::Bfloat16];
/// Of products in registers, in one iteration.
const ROUNDS: usize = 10_000;
/// Short, because there are many and each is a fraction of a millisecond.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASUREMENT: Duration = Duration::from_secs(1);

fn values(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|index| ((index * step) % 1013) as f32 / 1013.0 - 0.5).collect()
}

fn layer(dtype: Dtype, inputs: usize, outputs: usize, rows: usize) -> Box<dyn StandaloneLinear> {
    let weights = LinearWeights { weight: values(inputs * outputs, 7), bias: vec![0.0; outputs] };
    let mut layer = standalone::linear(dtype, &weights).expect("the format is known");
    layer.set_rows(&values(rows * inputs, 11));
    layer
}

fn linear(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    group.sample_size(20).warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
    for (inputs, outputs) in SHAPES {
        for rows in ROWS {
            group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64));
            let shape = format!("{rows} x {inputs} x {outputs}");
            for dtype in DTYPES {
                let mut layer = layer(dtype, inputs, outputs, rows);
                group.bench_function(BenchmarkId::new(dtype.as_str(), &shape), |b| b.iter(|| layer.run()));
            }
            let (left, weight) = (values(rows * inputs, 11), values(inputs * outputs, 7));
            let mut output = vec![0.0_f32; rows * outputs];
            group.bench_function(BenchmarkId::new("gemm", &shape), |b| {
                b.iter(|| multiply(&left, &weight, &mut output, rows, inputs, outputs));
            });
            let mut ours = layer(Dtype::Float32, inputs, outputs, rows);
            ours.run();
            multiply(&left, &weight, &mut output, rows, inputs, outputs);
            let last = output[rows * outputs - 1];
            assert!((ours.value(rows - 1, outputs - 1) - last).abs() < 1e-3, "both compute the same");
        }
    }
    group.finish();
}

/// `output = left weight^T`, with the weight as checkpoints have it, `[out, in]`.
#[allow(unsafe_code, reason = "the crate's interface is raw pointers")]
fn multiply(left: &[f32], weight: &[f32], output: &mut [f32], rows: usize, inputs: usize, outputs: usize) {
    assert!(
        left.len() == rows * inputs && weight.len() == inputs * outputs && output.len() == rows * outputs
    );
    // SAFETY: the strides stay within the slices, whose lengths are checked above.
    unsafe {
        gemm::gemm(
            rows,
            outputs,
            inputs,
            output.as_mut_ptr(),
            1,
            outputs as isize,
            false,
            left.as_ptr(),
            1,
            inputs as isize,
            weight.as_ptr(),
            inputs as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// A layer alone, and with the two products of a rank-16 adapter beside it.
fn adapter(c: &mut Criterion) {
    let mut group = c.benchmark_group("adapter");
    group.sample_size(20).warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
    for (inputs, outputs) in SHAPES {
        for rows in ROWS {
            let shape = format!("{rows} x {inputs} x {outputs}");
            let mut base = layer(Dtype::Bfloat16, inputs, outputs, rows);
            group.bench_function(BenchmarkId::new("merged", &shape), |b| b.iter(|| base.run()));
            let mut down = layer(Dtype::Bfloat16, inputs, RANK, rows);
            let mut up = layer(Dtype::Bfloat16, RANK, outputs, rows);
            group.bench_function(BenchmarkId::new("beside", &shape), |b| {
                b.iter(|| {
                    base.run();
                    down.run();
                    up.run();
                });
            });
        }
    }
    group.finish();
}

/// What the multipliers could do at most, on one thread.
fn peak(c: &mut Criterion) {
    let device = open_device(DeviceConfig { threads: 1, ..DeviceConfig::default() }).expect("one thread");
    let mut group = c.benchmark_group("peak");
    for dtype in DTYPES {
        let run = |rounds| fused::multiply_in_registers(&device, dtype, rounds).expect("the format is known");
        group.throughput(Throughput::Elements(run(ROUNDS) as u64));
        group.bench_function(dtype.as_str(), |b| b.iter(|| run(ROUNDS)));
    }
    group.finish();
}

criterion_group!(benches, peak, linear, adapter);
criterion_main!(benches);
