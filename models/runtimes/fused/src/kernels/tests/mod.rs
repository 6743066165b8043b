//! Every instruction set's kernels against plain loops in float64, at sizes that fit no register.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attention;
mod linear;
mod rows;

use half::bf16;

use super::super::buffer::Buffer;
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
        Activation::Silu => x / (1.0 + (-x).exp()),
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
