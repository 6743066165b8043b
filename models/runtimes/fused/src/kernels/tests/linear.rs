//! Linear layers and what follows them.

use half::bf16;
use models_core::weights::LinearWeights;

use super::super::super::buffer::Buffer;
use super::super::super::packing::PackedLinear;
use super::super::*;
use super::*;

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
                    Activation::Silu,
                    Activation::Tanh,
                ] {
                    linear_layer::<N>(kernels, rows_count, inputs, outputs, activation);
                    gated_layer::<N>(kernels, rows_count, inputs, outputs, activation);
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

/// `activation(gate) * other`, the gates being the first half of the outputs.
fn gated_layer<N: Rounded>(
    kernels: &Kernels<N>,
    rows_count: usize,
    inputs: usize,
    half: usize,
    activation: Activation,
) {
    let context = format!("{} gated {rows_count} x {inputs} x {half} {activation:?}", kernels.name);
    let (left, weight) = (random(1, rows_count * inputs), random(2, 2 * half * inputs));
    let weights = LinearWeights { weight: weight.clone(), bias: random(3, 2 * half) };
    let packed = PackedLinear::<N>::gated(kernels, &weights);
    let left_stride = inputs.next_multiple_of(2) + 2;
    let left_rows = rows::<N>(&left, inputs, left_stride, 0);
    let stride = packed.width() / 2 + 1;
    let mut stored = Buffer::zeroed::<N>((rows_count + 1) * stride);
    stored.as_mut_slice::<N>().fill(N::from_f32(UNTOUCHED));
    let output = Output::Gate { to: stored.pointer(0), stride, activation };
    for panel in 0..packed.panel_count() {
        let task = packed.task(left_rows.pointer(0), left_stride, rows_count, panel..panel + 1, output);
        // SAFETY: buffers of the task's sizes; the CPU has the instruction set.
        unsafe { (kernels.linear)(&task) }
    }
    let sum = |row: usize, output: usize| -> f64 {
        let product = |at: usize| {
            let (a, b) = (left[row * inputs + at], weight[output * inputs + at]);
            N::from_f32(a).value() * N::from_f32(b).value()
        };
        (0..inputs).map(product).sum::<f64>() + f64::from(weights.bias[output])
    };
    for row in 0..rows_count {
        let found = &stored.as_mut_slice::<N>()[row * stride..(row + 1) * stride];
        for (column, found) in found.iter().enumerate().take(half) {
            let (gate, other) = (activate(activation, sum(row, column)), sum(row, half + column));
            let tolerance = 2e-6 * (inputs as f64).sqrt() * (1.0 + gate.abs() + other.abs());
            let expected = gate * other;
            assert_near(found.value(), expected, tolerance + N::EPSILON * expected.abs(), &context);
        }
        assert!(found[half..stride - 1].iter().all(|found| found.value() == 0.0), "{context}: padding");
        assert_eq!(found[stride - 1].value(), f64::from(UNTOUCHED), "{context}");
    }
    let behind = &stored.as_mut_slice::<N>()[rows_count * stride..];
    assert!(behind.iter().all(|value| value.value() == f64::from(UNTOUCHED)), "{context}");
}

/// Exp, erf and tanh over their whole range, by way of a linear layer that only adds a bias.
#[test]
fn activations_are_as_exact_as_promised() {
    let values: Vec<f32> = (-4000..=4000).map(|step| step as f32 / 200.0).collect();
    for kernels in f32::available() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh] {
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
