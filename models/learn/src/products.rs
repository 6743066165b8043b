//! Work on blocks of rows, by several threads, with results that do not depend on their number.

use std::ops::Range;
use std::panic::resume_unwind;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Fewest rows of a block: below, a thread costs more than it saves.
const BLOCK_ROWS_MIN: usize = 512;
/// Most blocks. Each has a gradient of its own in memory.
const BLOCKS_MAX: usize = 16;

/// Cuts ranges of rows into blocks, by their number of rows alone.
pub(crate) fn blocks(segments: &[Range<usize>]) -> Vec<Range<usize>> {
    let rows: usize = segments.iter().map(ExactSizeIterator::len).sum();
    let size = rows.div_ceil(BLOCKS_MAX).max(BLOCK_ROWS_MIN);
    let mut blocks = Vec::new();
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        // Of about the same size each, so that no thread waits long for another.
        let count = segment.len().div_ceil(size);
        let cut = |at: usize| segment.start + segment.len() * at / count;
        blocks.extend((0..count).map(|at| cut(at)..cut(at + 1)));
    }
    blocks
}

/// Does `work` on each item with so many threads, and gives the results in the order of the items.
pub(crate) fn each<I: Sync, T: Send>(items: &[I], threads: usize, work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let threads = threads.clamp(1, items.len().max(1));
    let share = |thread: usize| -> Vec<T> { items.iter().skip(thread).step_by(threads).map(&work).collect() };
    let mut shares: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        let mut shares = vec![share(0).into_iter()];
        for other in others {
            shares.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)).into_iter());
        }
        shares
    });
    let order = (0..items.len()).filter_map(|at| shares[at % threads].next());
    order.collect()
}

/// A matrix in consecutive rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) columns: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn slice(self, rows: &Range<usize>) -> Self {
        Self { values: &self.values[rows.start * self.columns..rows.end * self.columns], ..self }
    }

    fn view(self) -> ArrayView2<'a, f32> {
        let rows = self.values.len() / self.columns;
        // It cannot fail: rows and columns multiply to no more than there is.
        ArrayView2::from_shape((rows, self.columns), &self.values[..rows * self.columns])
            .unwrap_or_else(|_| ArrayView2::from(&[[0.0; 0]; 0]))
    }
}

/// `left * right^T`, `[rows of left x rows of right]`: each row with each row.
pub(crate) fn rows_by_rows(left: Rows<'_>, right: Rows<'_>, out: &mut [f32]) {
    multiply(&left.view(), &right.view().reversed_axes(), out);
}

/// `left^T * right`, `[columns of left x columns of right]`: summed over rows.
pub(crate) fn columns_by_columns(left: Rows<'_>, right: Rows<'_>, out: &mut [f32]) {
    multiply(&left.view().reversed_axes(), &right.view(), out);
}

fn multiply(left: &ArrayView2<'_, f32>, right: &ArrayView2<'_, f32>, out: &mut [f32]) {
    let shape = (left.nrows(), right.ncols());
    if let Ok(mut out) = ArrayViewMut2::from_shape(shape, out) {
        general_mat_mul(1.0, left, right, 0.0, &mut out);
    } else {
        debug_assert!(false, "the product has another shape");
    }
}

/// Sum of products. In lanes, which compilers turn into vectors, and whose sums are exact enough for vectors
/// of any length that occurs here.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    const LANES: usize = 16;
    /// Products that are summed before sums get wider.
    const RUN: usize = 4096;
    let mut total = 0.0;
    for (left, right) in left.chunks(RUN).zip(right.chunks(RUN)) {
        let mut lanes = [0.0_f32; LANES];
        let (left_lanes, right_lanes) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
        let rest = left_lanes.remainder().iter().zip(right_lanes.remainder());
        let rest: f64 = rest.map(|(left, right)| f64::from(*left) * f64::from(*right)).sum();
        for (left, right) in left_lanes.zip(right_lanes) {
            for lane in 0..LANES {
                lanes[lane] += left[lane] * right[lane];
            }
        }
        total += rest + lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
}

/// `y += a * x`.
pub(crate) fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_once() {
        for rows in [1, 511, 512, 1025, 10_003, 100_000] {
            let segments = [0..rows / 3, rows / 3..rows / 2, rows / 2 + rows / 8..rows];
            let blocks = blocks(&segments);
            let covered: Vec<usize> = blocks.iter().cloned().flatten().collect();
            assert_eq!(covered, segments.iter().cloned().flatten().collect::<Vec<_>>(), "{rows}");
            assert!(blocks.len() <= BLOCKS_MAX + segments.len(), "{rows}");
        }
    }

    #[test]
    fn order_does_not_depend_on_threads() {
        let items: Vec<u32> = (0..23).collect();
        for threads in [1, 2, 3, 64] {
            assert_eq!(each(&items, threads, |item| item * 2), (0..23).map(|i| i * 2).collect::<Vec<_>>());
        }
        assert!(each(&[] as &[u32], 2, |item| *item).is_empty());
    }

    #[test]
    fn products() {
        let (left, right) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, -1.0, 2.0, 1.0, 0.0]);
        let (left, right) = (Rows { values: &left, columns: 3 }, Rows { values: &right, columns: 3 });
        let mut out = [0.0; 4];
        rows_by_rows(left, right, &mut out);
        assert_eq!(out, [-2.0, 4.0, -2.0, 13.0]);
        let mut out = [0.0; 9];
        columns_by_columns(left, right, &mut out);
        assert_eq!(out, [9.0, 4.0, -1.0, 12.0, 5.0, -2.0, 15.0, 6.0, -3.0]);
        let long: Vec<f32> = (0..5003).map(|at| (at % 7) as f32).collect();
        assert_eq!(dot(&long, &long), long.iter().map(|value| f64::from(value * value)).sum::<f64>());
    }
}
