//! Self-attention of one head over one sequence, streaming over blocks of keys.
//!
//! `softmax(Q K^T) V` (<https://arxiv.org/abs/1706.03762>; the scale is in the query's weights already) is
//! computed for a tile of queries at a time, and over one block of keys after another with the online softmax
//! of <https://arxiv.org/abs/1805.02867>, so that what is in flight fits the first cache whatever the
//! sequence's length.

use super::linear::{TILE_COLUMNS_MAX, TILE_ROWS_MAX, tile_of};
use super::math::exp;
use super::vector::{Number, Product, Vector};

/// Keys whose scores are in flight at once; a multiple of every instruction set's panel.
pub(crate) const KEYS: usize = 128;

/// Some queries of one head of one sequence. Strides are in numbers, between rows.
#[derive(Clone, Copy)]
pub(crate) struct AttentionTask<N> {
    /// First row of the sequence, first number of the head. `LANES` rows behind the last one must be
    /// readable.
    pub(crate) query: *const N,
    pub(crate) key: *const N,
    pub(crate) value: *const N,
    /// Between rows of the three.
    pub(crate) stride: usize,
    /// Rows of the sequence.
    pub(crate) length: usize,
    /// Numbers of the head in a row.
    pub(crate) head: usize,
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// First row of the sequence, first number of the head.
    pub(crate) output: *mut N,
    pub(crate) output_stride: usize,
    pub(crate) scratch: AttentionScratch<N>,
}

/// Where one thread keeps what it is working on.
#[derive(Clone, Copy)]
pub(crate) struct AttentionScratch<N> {
    /// Keys transposed, in panels, [`keys_len`] numbers.
    pub(crate) keys: *mut N,
    /// Values, in panels, [`values_len`] numbers.
    pub(crate) values: *mut N,
    /// Weights of a tile's queries, [`WEIGHTS_LEN`] numbers.
    pub(crate) weights: *mut N,
    /// Scores of a tile's queries, [`WEIGHTS_LEN`] values.
    pub(crate) scores: *mut f32,
    /// Weighted sums of values of a tile's queries, [`sums_len`] values.
    pub(crate) sums: *mut f32,
}

/// Numbers in [`AttentionScratch::weights`] and `scores`.
pub(crate) const WEIGHTS_LEN: usize = TILE_ROWS_MAX * KEYS;

/// Numbers in [`AttentionScratch::keys`].
pub(crate) fn keys_len(length: usize, head: usize) -> usize {
    length.next_multiple_of(KEYS) * head.next_multiple_of(2)
}

/// Numbers in [`AttentionScratch::values`].
pub(crate) fn values_len(length: usize, head: usize) -> usize {
    length.next_multiple_of(2) * head.next_multiple_of(TILE_COLUMNS_MAX)
}

/// Values in [`AttentionScratch::sums`].
pub(crate) fn sums_len(head: usize) -> usize {
    TILE_ROWS_MAX * head.next_multiple_of(TILE_COLUMNS_MAX)
}

/// # Safety
/// As [`Vector`]; the task's pointers must be valid for what it names, and nobody else may touch its output
/// or scratch.
#[inline(always)]
pub(super) unsafe fn attend<V: Product<N>, N: Number, const TILE_ROWS: usize>(task: &AttentionTask<N>) {
    // SAFETY: the same contract.
    unsafe {
        pack_keys::<V, N>(task);
        pack_values::<V, N>(task);
        let mut first = task.first;
        while first < task.end {
            let tiles = (task.end - first).div_ceil(TILE_ROWS);
            let rows = (task.end - first).div_ceil(tiles);
            attend_tile::<V, N, TILE_ROWS>(task, first, rows);
            first += rows;
        }
    }
}

/// Panels of `2 LANES` keys: for each step of the head's numbers, `STEP` numbers of each key.
///
/// As a step of any format is a multiple of 32 bits, this is a transposition of words.
#[inline(always)]
unsafe fn pack_keys<V: Product<N>, N: Number>(task: &AttentionTask<N>) {
    let columns = 2 * V::LANES;
    let steps = task.head.div_ceil(N::STEP);
    // Squares of words; a step is one word in both formats, as `WORDS` asserts.
    const { assert!(size_of::<N>() * N::STEP == size_of::<u32>()) };
    let whole = (task.head / N::STEP) / V::LANES * V::LANES;
    for first in (0..task.length).step_by(V::LANES) {
        let (panel, column) = (first / columns, first % columns);
        // SAFETY: `LANES` rows from `first` on are readable, at most `LANES - 1` of them behind the sequence;
        // `keys` holds whole panels.
        unsafe {
            let from = task.key.add(first * task.stride);
            let to = task.scratch.keys.add((panel * steps * columns + column) * N::STEP);
            for step in (0..whole).step_by(V::LANES) {
                V::transpose(
                    from.add(step * N::STEP).cast(),
                    task.stride / N::STEP,
                    to.add(step * columns * N::STEP).cast(),
                    columns,
                );
            }
            for at in whole * N::STEP..steps * N::STEP {
                let (step, part) = (at / N::STEP, at % N::STEP);
                for lane in 0..V::LANES {
                    let number =
                        if at < task.head { *from.add(lane * task.stride + at) } else { N::default() };
                    *to.add((step * columns + lane) * N::STEP + part) = number;
                }
            }
        }
    }
}

/// Panels of `2 LANES` of the head's numbers: for each step of keys, those of `STEP` keys side by side.
#[inline(always)]
unsafe fn pack_values<V: Product<N>, N: Number>(task: &AttentionTask<N>) {
    let columns = 2 * V::LANES;
    let steps = task.length.div_ceil(N::STEP);
    for panel in 0..task.head.div_ceil(columns) {
        let width = columns.min(task.head - panel * columns);
        // SAFETY: keys are below `length`, numbers below `head`; `values` holds whole panels.
        unsafe {
            let from = task.value.add(panel * columns);
            let to = task.scratch.values.add(panel * steps * columns * N::STEP);
            for step in 0..steps {
                let to = to.add(step * columns * N::STEP);
                let from = from.add(step * N::STEP * task.stride);
                if (step + 1) * N::STEP <= task.length && width == columns {
                    // The usual case, without conditions in the loop.
                    for column in 0..columns {
                        for part in 0..N::STEP {
                            *to.add(column * N::STEP + part) = *from.add(part * task.stride + column);
                        }
                    }
                    continue;
                }
                for at in 0..columns * N::STEP {
                    let (column, part) = (at / N::STEP, at % N::STEP);
                    let is_there = step * N::STEP + part < task.length && column < width;
                    *to.add(at) =
                        if is_there { *from.add(part * task.stride + column) } else { N::default() };
                }
            }
        }
    }
}

/// One tile of queries over all keys.
#[inline(always)]
unsafe fn attend_tile<V: Product<N>, N: Number, const TILE_ROWS: usize>(
    task: &AttentionTask<N>,
    first: usize,
    rows: usize,
) {
    let columns = 2 * V::LANES;
    let steps = task.head.div_ceil(N::STEP);
    let sums_stride = task.head.next_multiple_of(columns);
    let mut largest = [f32::NEG_INFINITY; TILE_ROWS_MAX];
    let mut total = [0.0_f32; TILE_ROWS_MAX];
    let AttentionScratch { keys, values, weights, scores, sums } = task.scratch;
    for start in (0..task.length).step_by(KEYS) {
        let count = KEYS.min(task.length - start);
        let panels = count.div_ceil(columns);
        // SAFETY: queries below `end`, keys below `length` rounded up to a panel; the scratch holds one tile
        // and one block.
        unsafe {
            for panel in 0..panels {
                let keys = keys.add((start / columns + panel) * steps * columns * N::STEP);
                let query = task.query.add(first * task.stride);
                let scores = scores.add(panel * columns);
                tile_of::<V, N, TILE_ROWS>(rows, query, task.stride, keys, steps, scores, KEYS);
            }
            for row in 0..rows {
                let scores = scores.add(row * KEYS);
                for padding in count..panels * columns {
                    *scores.add(padding) = f32::NEG_INFINITY;
                }
                let before = largest[row];
                largest[row] = before.max(largest_of::<V>(scores, panels * columns));
                let sum = weigh::<V, N>(scores, weights.add(row * KEYS), panels * columns, largest[row]);
                let fade = (before - largest[row]).exp();
                total[row] = if start == 0 { sum } else { total[row] * fade + sum };
                if start > 0 {
                    for at in (0..sums_stride).step_by(V::LANES) {
                        let to = sums.add(row * sums_stride + at);
                        V::load(to).mul(V::splat(fade)).store(to);
                    }
                }
            }
            add_values::<V, N, TILE_ROWS>(task, rows, start, count, values, weights, sums);
        }
    }
    // SAFETY: as above; the output is valid for the head's numbers in the tile's rows.
    unsafe {
        for (row, total) in total.into_iter().enumerate().take(rows) {
            let from = sums.add(row * sums_stride);
            let to = task.output.add((first + row) * task.output_stride);
            let whole = task.head - task.head % V::LANES;
            let factor = V::splat(1.0 / total);
            for at in (0..whole).step_by(V::LANES) {
                N::store(V::load(from.add(at)).mul(factor), to.add(at));
            }
            for at in whole..task.head {
                *to.add(at) = N::from_f32(*from.add(at) / total);
            }
        }
    }
}

/// Adds the values of a block of keys, weighted, to the sums; the first block's sums are stored instead.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn add_values<V: Product<N>, N: Number, const TILE_ROWS: usize>(
    task: &AttentionTask<N>,
    rows: usize,
    start: usize,
    count: usize,
    values: *const N,
    weights: *const N,
    sums: *mut f32,
) {
    let columns = 2 * V::LANES;
    let panel_len = task.length.div_ceil(N::STEP) * N::STEP * columns;
    let sums_stride = task.head.next_multiple_of(columns);
    let steps = count.div_ceil(N::STEP);
    let mut part = [0.0_f32; TILE_ROWS_MAX * TILE_COLUMNS_MAX];
    for panel in 0..sums_stride / columns {
        // SAFETY: as in `attend_tile`, of which this is a part.
        unsafe {
            let values = values.add(panel * panel_len + start * columns);
            let sums = sums.add(panel * columns);
            if start == 0 {
                tile_of::<V, N, TILE_ROWS>(rows, weights, KEYS, values, steps, sums, sums_stride);
                continue;
            }
            tile_of::<V, N, TILE_ROWS>(rows, weights, KEYS, values, steps, part.as_mut_ptr(), columns);
            for row in 0..rows {
                for half in [0, V::LANES] {
                    let to = sums.add(row * sums_stride + half);
                    V::load(to).add(V::load(part.as_ptr().add(row * columns + half))).store(to);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn largest_of<V: Vector>(values: *const f32, count: usize) -> f32 {
    // SAFETY: `values` is valid for `count` values, a multiple of LANES and at least that.
    unsafe {
        let mut largest = V::load(values);
        for at in (V::LANES..count).step_by(V::LANES) {
            largest = largest.max(V::load(values.add(at)));
        }
        largest.largest()
    }
}

/// `e^(score - largest)` of a row; returns their sum.
#[inline(always)]
unsafe fn weigh<V: Vector, N: Number>(
    scores: *const f32,
    weights: *mut N,
    count: usize,
    largest: f32,
) -> f32 {
    // SAFETY: both are valid for `count` values, a multiple of LANES.
    unsafe {
        let mut sum = V::splat(0.0);
        let largest = V::splat(largest);
        for at in (0..count).step_by(V::LANES) {
            let weight = exp(V::load(scores.add(at)).sub(largest));
            sum = sum.add(weight);
            N::store(weight, weights.add(at));
        }
        sum.sum()
    }
}
