//! Numbers that follow from positions alone.

use super::{LinearWeights, NormWeights};

/// Sums that run side by side in a product of rows, so that a compiler puts them into one register.
const LANES: usize = 16;

/// Places of keys less those of queries, in sequences of this many tokens.
pub(super) fn offsets(longest: usize) -> impl Iterator<Item = isize> {
    let last = longest.saturating_sub(1).cast_signed();
    -last..=last
}

/// The bucket of T5 for a key `offset` tokens behind its query (<https://arxiv.org/abs/1910.10683>, section
/// 2.1): half of the buckets for either side, and of those half for the distances one by one, the others in
/// steps that grow by the logarithm. In float32, as transformers has it.
pub(super) fn bucket(offset: isize, buckets: usize, distance_max: usize) -> usize {
    let half = buckets / 2;
    let (side, exact) = (if offset > 0 { half } else { 0 }, half / 2);
    let distance = offset.unsigned_abs();
    if distance < exact {
        return side + distance;
    }
    let share = (distance as f32 / exact as f32).ln() / (distance_max as f64 / exact as f64).ln() as f32;
    let steps = (share * (half - exact) as f32) as usize;
    side + (exact + steps).min(half.saturating_sub(1))
}

/// `[heads, 2 n - 1]`: the distance times the slope of each head, as those who trained with it have them
/// (<https://github.com/ofirpress/attention_with_linear_biases>).
pub(super) fn linear_biases(heads: usize, longest: usize) -> Vec<f32> {
    let bias =
        |slope: f64| offsets(longest).map(move |offset| -(slope as f32) * offset.unsigned_abs() as f32);
    slopes(heads).into_iter().flat_map(bias).collect()
}

/// A geometric series for a power of two; otherwise that of the next smaller one, filled up with every other
/// member of that of the next larger.
fn slopes(heads: usize) -> Vec<f64> {
    let series = |count: usize| {
        let ratio = 2.0_f64.powf(-8.0 / count as f64);
        (0..count).map(move |index| ratio * ratio.powi(index as i32))
    };
    let whole = if heads == 0 { 0 } else { 1 << heads.ilog2() };
    series(whole).chain(series(2 * whole).step_by(2).take(heads - whole)).collect()
}

/// Layer normalisation of one row.
pub(super) fn normalize(row: &mut [f32], norm: &NormWeights) {
    let count = row.len() as f64;
    let mean = row.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = row.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
    for ((value, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
        *value = ((f64::from(*value) - mean) * scale) as f32 * weight + bias;
    }
}

/// Rows through a linear layer.
pub(super) fn project(rows: &[f32], linear: &LinearWeights) -> Vec<f32> {
    let inputs = linear.inputs().max(1);
    let each = |row| {
        let outputs = linear.weight.chunks_exact(inputs).zip(&linear.bias);
        outputs.map(move |(weight, bias)| dot(row, weight) + bias)
    };
    rows.chunks_exact(inputs).flat_map(each).collect()
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 32 buckets for 128 tokens, worked out with `relative_position_bucket` of transformers.
    #[test]
    fn buckets_of_offsets() {
        let cases = [(0, 0), (-1, 1), (1, 17), (-7, 7), (-8, 8), (-12, 9), (-16, 10), (-127, 15), (300, 31)];
        for (offset, expected) in cases {
            assert_eq!(bucket(offset, 32, 128), expected, "{offset}");
        }
    }

    #[test]
    fn slopes_of_heads() {
        assert_eq!(slopes(8), (1..=8).map(|power| 0.5_f64.powi(power)).collect::<Vec<_>>());
        let twelve = slopes(12);
        assert_eq!(twelve.len(), 12);
        assert!((twelve[8] - 0.5_f64.sqrt()).abs() < 1e-12 && (twelve[9] - 0.5_f64.powf(1.5)).abs() < 1e-12);
        assert_eq!(linear_biases(1, 3), [-2.0, -1.0, 0.0, -1.0, -2.0].map(|value: f32| value / 256.0));
    }

    #[test]
    fn products_of_rows() {
        let weight: Vec<f32> = (0..2 * 35).map(|value| value as f32 / 7.0).collect();
        let linear = LinearWeights { weight: weight.clone(), bias: vec![1.0, -1.0] };
        let row: Vec<f32> = (0..35).map(|value| 1.0 - value as f32 / 5.0).collect();
        let expected =
            |half: usize| -> f32 { row.iter().zip(&weight[half * 35..]).map(|(a, b)| a * b).sum() };
        let found = project(&row, &linear);
        assert!((found[0] - expected(0) - 1.0).abs() < 1e-2 && (found[1] - expected(1) + 1.0).abs() < 1e-2);
    }
}
