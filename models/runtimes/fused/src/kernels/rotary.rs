//! What is done to queries and keys behind their product: normalisation of each head, and rotation by the
//! token's position, <https://arxiv.org/abs/2104.09864>.

use super::vector::{Number, Vector};

/// Some neighbouring heads of some rows, to be changed in place. Strides are in numbers, between rows.
#[derive(Clone, Copy)]
pub(crate) struct RotaryTask<N> {
    /// First row, first head.
    pub(crate) values: *mut N,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) heads: usize,
    /// Numbers of a head.
    pub(crate) head: usize,
    /// Weights of a head's numbers, which are first brought to a mean square of 1; null where they are not.
    pub(crate) norm: *const f32,
    /// Added to the mean square.
    pub(crate) epsilon: f32,
    /// One for each row.
    pub(crate) positions: *const u32,
    /// For each position the cosines of the pairs' angles, then their sines.
    pub(crate) angles: *const f32,
    /// Pairs are the numbers `i` and `pairs + i` of a head; the others stay as they are.
    pub(crate) pairs: usize,
}

/// # Safety
/// As [`Vector`]; the task's pointers must be valid for its rows, heads and positions, and nobody else may
/// touch the values at the same time.
#[inline(always)]
pub(super) unsafe fn rotate<V: Vector, N: Number>(task: &RotaryTask<N>) {
    for row in 0..task.rows {
        // SAFETY: rows and heads are below the task's; there are angles for every position.
        unsafe {
            let position = *task.positions.add(row) as usize;
            let cosines = task.angles.add(position * 2 * task.pairs);
            for head in 0..task.heads {
                let values = task.values.add(row * task.stride + head * task.head);
                if task.norm.is_null() {
                    turn::<V, N, false>(task, values, cosines, 1.0);
                } else {
                    let square = square_sum::<V, N>(values, task.head) / task.head as f32;
                    turn::<V, N, true>(task, values, cosines, 1.0 / (square + task.epsilon).sqrt());
                }
            }
        }
    }
}

/// Turns one head's pairs, scaled before by `scale` and the norm's weights where there are any.
///
/// # Safety
/// As [`rotate`]; `values` are one head's, `cosines` (and the sines behind them) one position's.
#[inline(always)]
unsafe fn turn<V: Vector, N: Number, const NORM: bool>(
    task: &RotaryTask<N>,
    values: *mut N,
    cosines: *const f32,
    scale: f32,
) {
    let RotaryTask { norm, pairs, head, .. } = *task;
    let whole = pairs - pairs % V::LANES;
    let rest = 2 * pairs;
    // SAFETY: all offsets are below `head`, of which `2 pairs` are turned, and below `pairs` for angles.
    unsafe {
        let sines = cosines.add(pairs);
        for at in (0..whole).step_by(V::LANES) {
            let x = scaled::<V, N, NORM>(values, norm, at, scale);
            let y = scaled::<V, N, NORM>(values, norm, pairs + at, scale);
            let (cosine, sine) = (V::load(cosines.add(at)), V::load(sines.add(at)));
            N::store(x.mul(cosine).sub(y.mul(sine)), values.add(at));
            N::store(y.mul(cosine).add(x.mul(sine)), values.add(pairs + at));
        }
        for at in whole..pairs {
            let x = scaled_one::<N, NORM>(values, norm, at, scale);
            let y = scaled_one::<N, NORM>(values, norm, pairs + at, scale);
            let (cosine, sine) = (*cosines.add(at), *sines.add(at));
            *values.add(at) = N::from_f32(x * cosine - y * sine);
            *values.add(pairs + at) = N::from_f32(y * cosine + x * sine);
        }
        if NORM {
            let end = head - (head - rest) % V::LANES;
            for at in (rest..end).step_by(V::LANES) {
                N::store(scaled::<V, N, NORM>(values, norm, at, scale), values.add(at));
            }
            for at in end..head {
                *values.add(at) = N::from_f32(scaled_one::<N, NORM>(values, norm, at, scale));
            }
        }
    }
}

/// # Safety
/// As [`Vector`], for both pointers behind `at`; `norm` is not read without `NORM`.
#[inline(always)]
unsafe fn scaled<V: Vector, N: Number, const NORM: bool>(
    values: *const N,
    norm: *const f32,
    at: usize,
    scale: f32,
) -> V {
    // SAFETY: as the caller vouches.
    unsafe {
        let value: V = N::load(values.add(at));
        if NORM { value.mul(V::splat(scale)).mul(V::load(norm.add(at))) } else { value }
    }
}

/// As [`scaled`], for one number.
///
/// # Safety
/// Both pointers must be valid at `at`; `norm` is not read without `NORM`.
#[inline(always)]
unsafe fn scaled_one<N: Number, const NORM: bool>(
    values: *const N,
    norm: *const f32,
    at: usize,
    scale: f32,
) -> f32 {
    // SAFETY: as the caller vouches.
    unsafe {
        let value = (*values.add(at)).to_f32();
        if NORM { value * scale * *norm.add(at) } else { value }
    }
}

/// # Safety
/// As [`Vector`]; `values` must be valid for `count` numbers.
#[inline(always)]
unsafe fn square_sum<V: Vector, N: Number>(values: *const N, count: usize) -> f32 {
    // SAFETY: all offsets are below `count`.
    unsafe {
        let whole = count - count % V::LANES;
        let mut sum = V::splat(0.0);
        for at in (0..whole).step_by(V::LANES) {
            let value: V = N::load(values.add(at));
            sum = value.multiply_add(value, sum);
        }
        let mut rest = 0.0;
        for at in whole..count {
            let value = (*values.add(at)).to_f32();
            rest += value * value;
        }
        sum.sum() + rest
    }
}
