//! Normalisation of rows: to mean 0 and variance 1, <https://arxiv.org/abs/1607.06450>, or to a mean square
//! of 1, <https://arxiv.org/abs/1910.07467>.

use super::vector::{Number, Vector};

/// Rows to normalise into a copy in the products' number format, and perhaps in place. Strides are in
/// numbers.
#[derive(Clone, Copy)]
pub(crate) struct NormalizeTask<N> {
    pub(crate) rows: usize,
    /// Values in a row.
    pub(crate) width: usize,
    pub(crate) values: *mut f32,
    pub(crate) stride: usize,
    pub(crate) copy: *mut N,
    pub(crate) copy_stride: usize,
    /// One for each value of a row.
    pub(crate) weight: *const f32,
    /// One for each value of a row.
    pub(crate) bias: *const f32,
    pub(crate) epsilon: f32,
    /// Whether the mean is taken off first.
    pub(crate) is_centred: bool,
    /// Whether the values are changed too.
    pub(crate) is_in_place: bool,
}

/// # Safety
/// As [`Vector`]; the task's pointers must be valid for its rows, and nobody else may touch them at the same
/// time.
#[inline(always)]
pub(super) unsafe fn normalize<V: Vector, N: Number>(task: &NormalizeTask<N>) {
    let width = task.width;
    for row in 0..task.rows {
        // SAFETY: all offsets are below `width` in rows below `rows`.
        unsafe {
            let values = task.values.add(row * task.stride);
            let mean = match task.is_centred {
                true => sum_of::<V>(values, width, |x| x, |x| x) / width as f32,
                false => 0.0,
            };
            let centre = V::splat(mean);
            let squares = sum_of::<V>(
                values,
                width,
                |x| {
                    let distance = x.sub(centre);
                    distance.mul(distance)
                },
                |x| (x - mean) * (x - mean),
            );
            let scale = 1.0 / (squares / width as f32 + task.epsilon).sqrt();
            match task.is_in_place {
                true => write::<V, N, true>(task, row, mean, scale),
                false => write::<V, N, false>(task, row, mean, scale),
            }
        }
    }
}

/// `(x - mean) * scale * weight + bias` of a row.
///
/// # Safety
/// As [`normalize`], with `row` below its rows.
#[inline(always)]
unsafe fn write<V: Vector, N: Number, const IN_PLACE: bool>(
    task: &NormalizeTask<N>,
    row: usize,
    mean: f32,
    scale: f32,
) {
    let NormalizeTask { width, weight, bias, .. } = *task;
    let whole = width - width % V::LANES;
    // SAFETY: all offsets are below `width` in a row below `rows`.
    unsafe {
        let (values, copy) = (task.values.add(row * task.stride), task.copy.add(row * task.copy_stride));
        let (centre, factor) = (V::splat(mean), V::splat(scale));
        for at in (0..whole).step_by(V::LANES) {
            let value = V::load(values.add(at)).sub(centre).mul(factor);
            let value = value.multiply_add(V::load(weight.add(at)), V::load(bias.add(at)));
            if IN_PLACE {
                value.store(values.add(at));
            }
            N::store(value, copy.add(at));
        }
        for at in whole..width {
            let value = (*values.add(at) - mean) * scale * *weight.add(at) + *bias.add(at);
            if IN_PLACE {
                *values.add(at) = value;
            }
            *copy.add(at) = N::from_f32(value);
        }
    }
}

/// The sum over a row of a function of its values, given for vectors and for the single values of the row's
/// end.
///
/// # Safety
/// As [`Vector`]; `values` must be valid for `width` values.
#[inline(always)]
unsafe fn sum_of<V: Vector>(
    values: *const f32,
    width: usize,
    of_vector: impl Fn(V) -> V,
    of_value: impl Fn(f32) -> f32,
) -> f32 {
    // SAFETY: all offsets are below `width`.
    unsafe {
        let whole = width - width % V::LANES;
        // Two sums, so that one addition need not wait for the other.
        let mut sums = [V::splat(0.0); 2];
        for (index, at) in (0..whole).step_by(V::LANES).enumerate() {
            sums[index % 2] = sums[index % 2].add(of_vector(V::load(values.add(at))));
        }
        let rest: f32 = (whole..width).map(|at| of_value(*values.add(at))).sum();
        sums[0].add(sums[1]).sum() + rest
    }
}
