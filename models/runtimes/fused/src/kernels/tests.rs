//! Every instruction set's kernels against plain loops in float64, at sizes that fit no register.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use half::bf16;
use models_core::weights::LinearWeights;

use super::super::buffer::Buffer;
use super::super::packing::PackedLinear;
use super::linear::{LinearTask, Output};
use super::math::Activation;
use super::*;

/// Stands where no kernel may write.
const UNTOUCHED: f32 = 123.0;

/// Values in -1..1, the same for the same seed.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// What a format makes of a value.
trait Rounded: Compiled {
    /// Relative distance of neighbouring numbers.
    const EPSILON: f64;
    fn value(self) -> f64;
}

impl Rounded for f32 {
    const EPSILON: f64 = 1e-6;
    fn value(self) -> f64 {
        f64::from(self)
    }
}

impl Rounded for bf16 {
    const EPSILON: f64 = 1.0 / 128.0;
    fn value(self) -> f64 {
        self.to_f64()
    }
}

/// A buffer of `rows` rows with `stride` numbers, of which the first `width` are given.
fn rows<N: Rounded>(values: &[f32], width: usize, stride: usize, spare: usize) -> Buffer {
    let rows = values.len() / width;
    let mut buffer = Buffer::zeroed::<N>((rows + spare) * stride);
    for (row, values) in values.chunks_exact(width).enumerate() {
        for (at, &value) in values.iter().enumerate() {
            buffer.as_mut_slice::<N>()[row * stride + at] = N::from_f32(value);
        }
    }
    buffer
}

fn assert_near(found: f64, expected: f64, tolerance: f64, context: &str) {
    assert!((found - expected).abs() <= tolerance, "{context}: {found} instead of {expected}");
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
    }
}

/// By its series, which is exact enough below 6 (<https://dlmf.nist.gov/7.6.E2>).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let mut term = 2.0 / std::f64::consts::PI.sqrt() * x * (-x * x).exp();
    let mut sum = term;
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum
}

#[test]
fn linear_layers() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for (rows_count, inputs, outputs) in
                [(1, 1, 1), (3, 7, 5), (13, 64, 33), (25, 31, 70), (12, 384, 32)]
            {
                for activation in [
                    Activation::None,
                    Activation::Gelu,
                    Activation::GeluTanh,
                    Activation::Relu,
                    Activation::Tanh,
                ] {
                    linear_layer::<N>(kernels, rows_count, inputs, outputs, activation);
                }
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

fn linear_layer<N: Rounded>(
    kernels: &Kernels<N>,
    rows_count: usize,
    inputs: usize,
    outputs: usize,
    activation: Activation,
) {
    let context = format!("{} {rows_count} x {inputs} x {outputs} {activation:?}", kernels.name);
    let (left, weight) = (random(1, rows_count * inputs), random(2, outputs * inputs));
    let weights = LinearWeights { weight: weight.clone(), bias: random(3, outputs) };
    let packed = PackedLinear::<N>::new(kernels, &weights);
    let left_stride = inputs.next_multiple_of(2) + 2;
    let left_rows = rows::<N>(&left, inputs, left_stride, 0);
    let stride = packed.width() + 1;
    let mut stored = Buffer::zeroed::<N>((rows_count + 1) * stride);
    stored.as_mut_slice::<N>().fill(N::from_f32(UNTOUCHED));
    let mut added = Buffer::zeroed::<f32>((rows_count + 1) * stride);
    added.as_mut_slice::<f32>().fill(UNTOUCHED);
    for output in [
        Output::Store { to: stored.pointer(0), stride, activation },
        Output::Add { to: added.pointer(0), stride },
    ] {
        // Panel by panel, as threads share them.
        for panel in 0..packed.panel_count() {
            let task: LinearTask<N> =
                packed.task(left_rows.pointer(0), left_stride, rows_count, panel..panel + 1, output);
            // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
            unsafe { (kernels.linear)(&task) }
        }
    }
    for row in 0..rows_count {
        for column in 0..outputs {
            let sum: f64 = (0..inputs)
                .map(|at| {
                    let (a, b) = (left[row * inputs + at], weight[column * inputs + at]);
                    N::from_f32(a).value() * N::from_f32(b).value()
                })
                .sum();
            let sum = sum + f64::from(weights.bias[column]);
            // Sums are float32 in both formats; only what is stored is rounded to the format.
            let tolerance = 2e-6 * (inputs as f64).sqrt();
            let found = stored.as_mut_slice::<N>()[row * stride + column].value();
            let expected = activate(activation, sum);
            assert_near(found, expected, tolerance + N::EPSILON * expected.abs(), &context);
            let found = f64::from(added.as_mut_slice::<f32>()[row * stride + column]);
            assert_near(found, f64::from(UNTOUCHED) + sum, tolerance + 1e-5, &context);
        }
        assert_eq!(added.as_mut_slice::<f32>()[row * stride + packed.width()], UNTOUCHED, "{context}");
    }
    let behind = &added.as_mut_slice::<f32>()[rows_count * stride..];
    assert!(behind.iter().all(|&value| value == UNTOUCHED), "{context}: wrote behind its rows");
}

#[test]
fn attention() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for (length, head) in [
                (1, 1),
                (2, 4),
                (5, 3),
                (16, 32),
                (33, 7),
                (127, 16),
                (128, 32),
                (129, 32),
                (300, 20),
                (140, 64),
            ] {
                attention_head::<N>(kernels, length, head, 0..length);
                attention_head::<N>(kernels, length, head, length / 3..length.div_ceil(2));
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

fn attention_head<N: Rounded>(
    kernels: &Kernels<N>,
    length: usize,
    head: usize,
    queries: std::ops::Range<usize>,
) {
    let context = format!("{} {length} keys of {head}, queries {queries:?}", kernels.name);
    let width = 3 * head;
    let stride = width.next_multiple_of(32);
    let mut values = random(5, length * width);
    // Scores of some ten, so that the largest of one block of keys differs from the next one's.
    values.chunks_exact_mut(width).for_each(|row| row[..head].iter_mut().for_each(|q| *q *= 6.0));
    let mut buffer = rows::<N>(&values, width, stride, kernels.lanes);
    // What is behind the last row must not matter.
    buffer.as_mut_slice::<N>()[length * stride..].fill(N::from_f32(f32::NAN));
    let mut output = Buffer::zeroed::<N>((length + 1) * stride);
    output.as_mut_slice::<N>().fill(N::from_f32(UNTOUCHED));
    let scratch = [
        Buffer::zeroed::<N>(keys_len(length, head)),
        Buffer::zeroed::<N>(values_len(length, head)),
        Buffer::zeroed::<N>(WEIGHTS_LEN),
        Buffer::zeroed::<f32>(WEIGHTS_LEN),
        Buffer::zeroed::<f32>(sums_len(head)),
    ];
    let [keys, packed, weights, scores, sums] = &scratch;
    let task = AttentionTask {
        query: buffer.pointer::<N>(0),
        key: buffer.pointer::<N>(head),
        value: buffer.pointer::<N>(2 * head),
        stride,
        length,
        head,
        first: queries.start,
        end: queries.end,
        output: output.pointer::<N>(0),
        output_stride: stride,
        scratch: AttentionScratch {
            keys: keys.pointer(0),
            values: packed.pointer(0),
            weights: weights.pointer(0),
            scores: scores.pointer(0),
            sums: sums.pointer(0),
        },
    };
    // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
    unsafe { (kernels.attend)(&task) }
    let number =
        |row: usize, part: usize, at: usize| N::from_f32(values[row * width + part * head + at]).value();
    for query in 0..length {
        let found = &output.as_mut_slice::<N>()[query * stride..(query + 1) * stride];
        if !queries.contains(&query) {
            assert!(
                found.iter().all(|found| found.value() == f64::from(UNTOUCHED)),
                "{context}: query {query}"
            );
            continue;
        }
        let scores: Vec<f64> = (0..length)
            .map(|key| (0..head).map(|at| number(query, 0, at) * number(key, 1, at)).sum())
            .collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        for (at, found) in found.iter().enumerate().take(head) {
            let expected: f64 = scores
                .iter()
                .enumerate()
                .map(|(key, score)| (score - largest).exp() / total * number(key, 2, at))
                .sum();
            assert_near(found.value(), expected, 5e-5 + 2.0 * N::EPSILON, &context);
        }
        assert!(
            found[head..].iter().all(|found| found.value() == f64::from(UNTOUCHED)),
            "{context}: padding"
        );
    }
}

#[test]
fn normalization() {
    fn check<N: Rounded>() {
        for kernels in N::available() {
            for width in [1, 3, 16, 35, 384] {
                normalized::<N>(kernels, width);
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

fn normalized<N: Rounded>(kernels: &Kernels<N>, width: usize) {
    let (count, stride, epsilon) = (3, width + 5, 1e-5_f32);
    let mut values = random(7, count * width);
    // A mean far from zero and a row without variance.
    values[..width].iter_mut().for_each(|value| *value += 100.0);
    values[width..2 * width].fill(4.0);
    let (weight, bias) = (random(8, width), random(9, width));
    let mut buffer = rows::<f32>(&values, width, stride, 0);
    let mut copy = Buffer::zeroed::<N>(count * stride);
    let task = NormalizeTask {
        rows: count,
        width,
        values: buffer.pointer(0),
        stride,
        copy: copy.pointer::<N>(0),
        copy_stride: stride,
        weight: weight.as_ptr(),
        bias: bias.as_ptr(),
        epsilon,
    };
    // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
    unsafe { (kernels.normalize)(&task) }
    for row in 0..count {
        let values: Vec<f64> = values[row * width..(row + 1) * width].iter().map(|&v| f64::from(v)).collect();
        let mean = values.iter().sum::<f64>() / width as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
        for at in 0..width {
            let expected = (values[at] - mean) / (variance + f64::from(epsilon)).sqrt()
                * f64::from(weight[at])
                + f64::from(bias[at]);
            let context = format!("{} row {row} of {width}", kernels.name);
            let found = f64::from(buffer.as_mut_slice::<f32>()[row * stride + at]);
            assert_near(found, expected, 2e-4, &context);
            let copied = copy.as_mut_slice::<N>()[row * stride + at].value();
            assert_near(copied, found, N::EPSILON * found.abs(), &context);
        }
    }
}

/// Exp, erf and tanh over their whole range, by way of a linear layer that only adds a bias.
#[test]
fn activations_are_as_exact_as_promised() {
    let values: Vec<f32> = (-4000..=4000).map(|step| step as f32 / 200.0).collect();
    for kernels in f32::available() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Tanh] {
            let weights = LinearWeights { weight: vec![0.0; values.len()], bias: values.clone() };
            let packed = PackedLinear::<f32>::new(kernels, &weights);
            let left = Buffer::zeroed::<f32>(1);
            let mut output = Buffer::zeroed::<f32>(packed.width());
            let to = Output::Store { to: output.pointer(0), stride: packed.width(), activation };
            let task = packed.task(left.pointer(0), 1, 1, 0..packed.panel_count(), to);
            // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
            unsafe { (kernels.linear)(&task) }
            for (&x, &found) in values.iter().zip(output.as_mut_slice::<f32>().iter()) {
                let expected = activate(activation, f64::from(x));
                let context = format!("{} {activation:?} of {x}", kernels.name);
                assert_near(f64::from(found), expected, 1e-6 * f64::from(x).abs().max(1.0), &context);
            }
        }
    }
}
