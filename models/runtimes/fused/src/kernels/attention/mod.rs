//! Self-attention of one head over one sequence, streaming over blocks of keys.
//!
//! `softmax(Q K^T) V` (<https://arxiv.org/abs/1706.03762>; the scale is in the query's weights already) is
//! computed for a tile of queries at a time, and over one block of keys after another with the online softmax
//! of <https://arxiv.org/abs/1805.02867>, so that what is in flight fits the first cache whatever the
//! sequence's length.
//!
//! Keys and values are packed in chunks. Every tile of queries passes a chunk before the next one is packed,
//! so that no memory grows with the sequence; a sequence of no more than [`CHUNK`] tokens has but one.
//!
//! Keys that no query of a tile sees (behind it where the encoder is causal, or outside its window) are not
//! computed. Only the blocks at the edges of what it sees have keys that some of its queries see and others
//! do not: their scores are overwritten.

mod bias;
mod packing;

use std::ops::Range;

use super::linear::{TILE_COLUMNS_MAX, TILE_ROWS_MAX, tile_of};
use super::math::exp;
use super::vector::{Number, Product, Vector};
pub(crate) use bias::{Bias, Disentangled, from_keys_len, from_queries_len};
use packing::{pack_keys, pack_values};

/// Keys whose scores are in flight at once; a multiple of every instruction set's panel.
pub(crate) const KEYS: usize = 128;
/// Keys and values that are packed at once, a multiple of [`KEYS`]: those of a head of 64 fill a quarter of a
/// second cache of 1 MiB in float32.
pub(crate) const CHUNK: usize = 512;
/// Most queries of a task.
pub(crate) const QUERIES_MAX: usize = 512;

/// Some queries of the heads of one sequence that share keys and values. Strides are in numbers, between
/// rows.
#[derive(Clone, Copy)]
pub(crate) struct AttentionTask<N> {
    /// First row of the sequence, first number of the first head. `LANES` rows behind the last one must be
    /// readable.
    pub(crate) query: *const N,
    pub(crate) key: *const N,
    pub(crate) value: *const N,
    /// Between rows of the three.
    pub(crate) stride: usize,
    /// Rows of the sequence.
    pub(crate) length: usize,
    /// Numbers of a head in a row.
    pub(crate) head: usize,
    /// Heads of queries, side by side.
    pub(crate) heads: usize,
    /// Queries, at most [`QUERIES_MAX`].
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// Keys that a query sees before its own place, and behind it.
    pub(crate) before: usize,
    pub(crate) behind: usize,
    /// Of the first head.
    pub(crate) bias: Bias<N>,
    /// First row of the sequence, first number of the first head.
    pub(crate) output: *mut N,
    pub(crate) output_stride: usize,
    pub(crate) scratch: AttentionScratch<N>,
}

/// Where one thread keeps what it is working on. For each the numbers there must be room for.
#[derive(Clone, Copy)]
pub(crate) struct AttentionScratch<N> {
    /// Keys transposed, in panels, [`keys_len`].
    pub(crate) keys: *mut N,
    /// Values, in panels, [`values_len`].
    pub(crate) values: *mut N,
    /// Weights of a tile's queries, [`WEIGHTS_LEN`].
    pub(crate) weights: *mut N,
    /// Scores of a tile's queries, [`WEIGHTS_LEN`].
    pub(crate) scores: *mut f32,
    /// Weighted sums of values of the queries under way, [`sums_len`].
    pub(crate) sums: *mut f32,
    /// Largest score of each query so far, then the sum of its weights, [`STATE_LEN`].
    pub(crate) state: *mut f32,
    /// Products of a tile's queries and positions, [`from_queries_len`] where they are asked for.
    pub(crate) from_queries: *mut f32,
    /// Products of a chunk's keys and positions, [`from_keys_len`] where they are asked for.
    pub(crate) from_keys: *mut f32,
}

/// Numbers in [`AttentionScratch::weights`] and `scores`.
pub(crate) const WEIGHTS_LEN: usize = TILE_ROWS_MAX * KEYS;

/// Values in [`AttentionScratch::state`].
pub(crate) const STATE_LEN: usize = 2 * QUERIES_MAX;

/// Numbers in [`AttentionScratch::keys`] for sequences of up to this length.
pub(crate) fn keys_len(length: usize, head: usize) -> usize {
    length.min(CHUNK).next_multiple_of(KEYS) * head.next_multiple_of(2)
}

/// Numbers in [`AttentionScratch::values`] for sequences of up to this length.
pub(crate) fn values_len(length: usize, head: usize) -> usize {
    length.min(CHUNK).next_multiple_of(2) * head.next_multiple_of(TILE_COLUMNS_MAX)
}

/// Values in [`AttentionScratch::sums`] for sequences of up to this length.
pub(crate) fn sums_len(length: usize, head: usize) -> usize {
    let queries = if length > CHUNK { QUERIES_MAX } else { TILE_ROWS_MAX };
    queries * head.next_multiple_of(TILE_COLUMNS_MAX)
}

/// Some queries, over some keys that are packed.
struct Tile<'a> {
    queries: Range<usize>,
    chunk: &'a Range<usize>,
    /// Keys of the chunk that one of them sees; begins with a panel.
    keys: Range<usize>,
    /// Whether there are none before these.
    is_first: bool,
    /// Whether there are none behind these.
    is_last: bool,
    /// Number of its first query among those that are kept for other chunks.
    kept: usize,
}

/// What the online softmax knows of a tile's queries.
struct Softmax {
    /// Largest score so far.
    largest: [f32; TILE_ROWS_MAX],
    /// Sum of weights so far, relative to the largest.
    total: [f32; TILE_ROWS_MAX],
}

impl<N: Number> AttentionTask<N> {
    /// The keys that one of these queries sees, from the panel on in which the first is.
    fn keys(&self, queries: &Range<usize>, columns: usize) -> Range<usize> {
        let first = queries.start.saturating_sub(self.before);
        first - first % columns..queries.end.saturating_add(self.behind).min(self.length)
    }

    /// This task for one of its heads.
    ///
    /// # Safety
    /// `index` must be below `heads`.
    unsafe fn of_head(&self, index: usize) -> Self {
        // SAFETY: heads are side by side.
        unsafe {
            Self {
                query: self.query.add(index * self.head),
                output: self.output.add(index * self.head),
                bias: self.bias.of_head(index),
                heads: 1,
                ..*self
            }
        }
    }
}

/// # Safety
/// As [`Vector`]; the task's pointers must be valid for what it names, and nobody else may touch its output
/// or scratch.
#[inline(always)]
pub(super) unsafe fn attend<V: Product<N>, N: Number, const TILE_ROWS: usize>(task: &AttentionTask<N>) {
    debug_assert!(task.end - task.first <= QUERIES_MAX);
    let columns = 2 * V::LANES;
    let seen = task.keys(&(task.first..task.end), columns);
    let mut packed = None;
    for head in 0..task.heads {
        // SAFETY: the same contract.
        let task = unsafe { &task.of_head(head) };
        for start in seen.clone().step_by(CHUNK) {
            let chunk = start..seen.end.min(start + CHUNK);
            // SAFETY: the chunk is of the sequence, and no longer than the scratch is for.
            unsafe {
                if packed != Some(start) {
                    pack_keys::<V, N>(task, &chunk);
                    pack_values::<V, N>(task, &chunk);
                    packed = Some(start);
                }
                task.bias.prepare::<V, TILE_ROWS>(task, &chunk);
                attend_chunk::<V, N, TILE_ROWS>(task, &chunk);
            }
        }
    }
}

/// All queries of one head over the keys of a chunk that they see.
///
/// # Safety
/// As [`attend`]; the chunk must be packed.
#[inline(always)]
unsafe fn attend_chunk<V: Product<N>, N: Number, const TILE_ROWS: usize>(
    task: &AttentionTask<N>,
    chunk: &Range<usize>,
) {
    let mut first = task.first;
    while first < task.end {
        let tiles = (task.end - first).div_ceil(TILE_ROWS);
        let queries = first..first + (task.end - first).div_ceil(tiles);
        first = queries.end;
        let seen = task.keys(&queries, 2 * V::LANES);
        let keys = seen.start.max(chunk.start)..seen.end.min(chunk.end);
        if keys.is_empty() {
            continue;
        }
        let (is_first, is_last) = (keys.start == seen.start, keys.end == seen.end);
        // What one chunk begins and ends needs no place of its own.
        let kept = if is_first && is_last { 0 } else { queries.start - task.first };
        let tile = Tile { queries, chunk, keys, is_first, is_last, kept };
        // SAFETY: the same contract.
        unsafe { attend_tile::<V, N, TILE_ROWS>(task, &tile) }
    }
}

/// One tile of queries over the keys of a chunk that it sees.
///
/// # Safety
/// As [`attend_chunk`].
#[inline(always)]
unsafe fn attend_tile<V: Product<N>, N: Number, const TILE_ROWS: usize>(
    task: &AttentionTask<N>,
    tile: &Tile<'_>,
) {
    let columns = 2 * V::LANES;
    let steps = task.head.div_ceil(N::STEP);
    let sums_stride = task.head.next_multiple_of(columns);
    let rows = tile.queries.len();
    let AttentionScratch { keys, weights, scores, state, .. } = task.scratch;
    // SAFETY: queries below `end`, keys below `length` rounded up to a panel; the scratch holds one tile and
    // one block, and sums and state of every query that is kept.
    unsafe {
        let sums = task.scratch.sums.add(tile.kept * sums_stride);
        let mut softmax = Softmax::new();
        if !tile.is_first {
            softmax.load(state.add(tile.kept), rows);
        }
        task.bias.prepare_tile::<V, TILE_ROWS>(task, tile);
        for start in tile.keys.clone().step_by(KEYS) {
            let block = start..tile.keys.end.min(start + KEYS);
            let panels = block.len().div_ceil(columns);
            let is_start = tile.is_first && start == tile.keys.start;
            for panel in 0..panels {
                let keys =
                    keys.add(((start - tile.chunk.start) / columns + panel) * steps * columns * N::STEP);
                let query = task.query.add(tile.queries.start * task.stride);
                let scores = scores.add(panel * columns);
                tile_of::<V, N, TILE_ROWS>(rows, query, task.stride, keys, steps, scores, KEYS);
            }
            task.bias.add::<V>(task, tile, &block);
            for row in 0..rows {
                let (scores, weights) = (scores.add(row * KEYS), weights.add(row * KEYS));
                hide(task, tile.queries.start + row, &block, panels * columns, scores);
                let before = softmax.largest[row];
                let largest = before.max(largest_of::<V>(scores, panels * columns));
                let sum = weigh::<V, N>(scores, weights, panels * columns, largest);
                let fade = (before - largest).exp();
                softmax.largest[row] = largest;
                softmax.total[row] = if is_start { sum } else { softmax.total[row] * fade + sum };
                if !is_start {
                    for at in (0..sums_stride).step_by(V::LANES) {
                        let to = sums.add(row * sums_stride + at);
                        V::load(to).mul(V::splat(fade)).store(to);
                    }
                }
            }
            add_values::<V, N, TILE_ROWS>(task, tile, &block, is_start, sums);
        }
        if tile.is_last {
            finish::<V, N>(task, tile, &softmax, sums);
        } else {
            softmax.store(state.add(tile.kept), rows);
        }
    }
}

/// Overwrites a query's scores for the keys of a block that it does not see, and for those that only fill the
/// last panel.
///
/// # Safety
/// `scores` must be valid for `width` values.
#[inline(always)]
unsafe fn hide<N: Number>(
    task: &AttentionTask<N>,
    query: usize,
    block: &Range<usize>,
    width: usize,
    scores: *mut f32,
) {
    let first = query.saturating_sub(task.before).saturating_sub(block.start).min(width);
    let end = query.saturating_add(task.behind).saturating_add(1).min(block.end).saturating_sub(block.start);
    for at in (0..first).chain(end..width) {
        // SAFETY: below `width`.
        unsafe { *scores.add(at) = f32::NEG_INFINITY }
    }
}

impl Softmax {
    #[inline(always)]
    fn new() -> Self {
        // Not infinite: there may be no key in the first block that a query sees.
        Self { largest: [f32::MIN; TILE_ROWS_MAX], total: [0.0; TILE_ROWS_MAX] }
    }

    /// # Safety
    /// `from` must be valid for this many queries, as part of [`AttentionScratch::state`].
    #[inline(always)]
    unsafe fn load(&mut self, from: *const f32, rows: usize) {
        for row in 0..rows.min(TILE_ROWS_MAX) {
            // SAFETY: as the caller vouches.
            unsafe {
                self.largest[row] = *from.add(row);
                self.total[row] = *from.add(QUERIES_MAX + row);
            }
        }
    }

    /// # Safety
    /// As [`Self::load`].
    #[inline(always)]
    unsafe fn store(&self, to: *mut f32, rows: usize) {
        for row in 0..rows.min(TILE_ROWS_MAX) {
            // SAFETY: as the caller vouches.
            unsafe {
                *to.add(row) = self.largest[row];
                *to.add(QUERIES_MAX + row) = self.total[row];
            }
        }
    }
}

/// Divides a tile's sums by the sums of their weights: what attention gives.
///
/// # Safety
/// As [`attend_tile`], of which this is a part.
#[inline(always)]
unsafe fn finish<V: Vector, N: Number>(
    task: &AttentionTask<N>,
    tile: &Tile<'_>,
    softmax: &Softmax,
    sums: *const f32,
) {
    let sums_stride = task.head.next_multiple_of(2 * V::LANES);
    let whole = task.head - task.head % V::LANES;
    for (row, query) in tile.queries.clone().enumerate() {
        let total = softmax.total[row];
        // SAFETY: the output is valid for the head's numbers in the tile's rows.
        unsafe {
            let from = sums.add(row * sums_stride);
            let to = task.output.add(query * task.output_stride);
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
///
/// # Safety
/// As [`attend_tile`], of which this is a part.
#[inline(always)]
unsafe fn add_values<V: Product<N>, N: Number, const TILE_ROWS: usize>(
    task: &AttentionTask<N>,
    tile: &Tile<'_>,
    block: &Range<usize>,
    is_start: bool,
    sums: *mut f32,
) {
    let columns = 2 * V::LANES;
    let rows = tile.queries.len();
    let panel_len = tile.chunk.len().div_ceil(N::STEP) * N::STEP * columns;
    let sums_stride = task.head.next_multiple_of(columns);
    let steps = block.len().div_ceil(N::STEP);
    let AttentionScratch { values, weights, .. } = task.scratch;
    let mut part = [0.0_f32; TILE_ROWS_MAX * TILE_COLUMNS_MAX];
    for panel in 0..sums_stride / columns {
        // SAFETY: as the caller vouches.
        unsafe {
            let values = values.add(panel * panel_len + (block.start - tile.chunk.start) * columns);
            let sums = sums.add(panel * columns);
            if is_start {
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
