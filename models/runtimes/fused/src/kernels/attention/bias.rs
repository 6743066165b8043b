//! What is added to scores for how far query and key are from one another.

use std::ops::Range;

use super::super::linear::{TILE_COLUMNS_MAX, TILE_ROWS_MAX, tile_of};
use super::super::vector::{Number, Product, Vector};
use super::{AttentionTask, CHUNK, KEYS, Tile};

/// What is added to the scores of a head. Distances are places of keys less those of queries.
#[derive(Clone, Copy)]
pub(crate) enum Bias<N> {
    None,
    /// A number for each distance.
    Distance {
        /// For distance 0. It must be readable for all distances of a sequence, and for
        /// [`TILE_COLUMNS_MAX`] beyond the farthest.
        table: *const f32,
        /// Between one head's and the next one's.
        stride: usize,
    },
    /// Products of queries and keys with positions.
    Disentangled(Disentangled<N>),
}

/// Products of each query with a row of position keys, and of each key with the same row of position queries:
/// that of their distance, <https://arxiv.org/abs/2006.03654>.
#[derive(Clone, Copy)]
pub(crate) struct Disentangled<N> {
    /// The rows in panels, as a linear layer's outputs; null where queries do not meet positions.
    pub(crate) position_keys: *const N,
    /// The same, null where keys do not meet positions.
    pub(crate) position_queries: *const N,
    /// Numbers between one head's panels and the next one's.
    pub(crate) stride: usize,
    /// Row of distance 0; it must be readable for all distances of a sequence, along which rows never
    /// increase.
    pub(crate) row_of: *const u32,
    /// How many rows there are.
    pub(crate) rows: usize,
}

/// Between rows of products with positions. Not a power of two, of which neighbouring rows would share few
/// places in the first cache.
fn products_stride(rows: usize) -> usize {
    rows.next_multiple_of(TILE_COLUMNS_MAX) + 16
}

/// Values in [`AttentionScratch::from_queries`](super::AttentionScratch::from_queries) for this many rows of
/// positions.
pub(crate) fn from_queries_len(rows: usize) -> usize {
    TILE_ROWS_MAX * products_stride(rows)
}

/// Values in [`AttentionScratch::from_keys`](super::AttentionScratch::from_keys) for sequences of up to this
/// length and this many rows of positions.
pub(crate) fn from_keys_len(length: usize, rows: usize) -> usize {
    length.min(CHUNK) * products_stride(rows)
}

impl<N: Number> Bias<N> {
    /// The bias of another head than the first.
    ///
    /// # Safety
    /// There must be such a head.
    pub(super) unsafe fn of_head(&self, index: usize) -> Self {
        // SAFETY: heads are `stride` from one another.
        unsafe {
            match *self {
                Bias::None => Bias::None,
                Bias::Distance { table, stride } => {
                    Bias::Distance { table: table.add(index * stride), stride }
                }
                Bias::Disentangled(positions) => {
                    let at = |panels: *const N| match panels.is_null() {
                        true => panels,
                        false => panels.add(index * positions.stride),
                    };
                    let (position_keys, position_queries) =
                        (at(positions.position_keys), at(positions.position_queries));
                    Bias::Disentangled(Disentangled { position_keys, position_queries, ..positions })
                }
            }
        }
    }

    /// Computes what a chunk's keys have for all queries of a task.
    ///
    /// # Safety
    /// As [`super::attend_chunk`].
    #[inline(always)]
    pub(super) unsafe fn prepare<V: Product<N>, const TILE_ROWS: usize>(
        &self,
        task: &AttentionTask<N>,
        chunk: &Range<usize>,
    ) {
        let Bias::Disentangled(positions) = self else { return };
        if positions.position_queries.is_null() {
            return;
        }
        let stride = products_stride(positions.rows);
        for first in (chunk.start..chunk.end).step_by(TILE_ROWS) {
            let keys = first..chunk.end.min(first + TILE_ROWS);
            // SAFETY: keys are of the chunk, for which the scratch has rows.
            unsafe {
                let rows = positions.rows_of(&(task.first..task.end), &keys);
                let left = task.key.add(keys.start * task.stride);
                let to = task.scratch.from_keys.add((keys.start - chunk.start) * stride);
                let panels = positions.position_queries;
                multiply::<V, N, TILE_ROWS>(task, left, keys.len(), panels, &rows, to, stride);
            }
        }
    }

    /// Computes what a tile's queries have for all keys that they see in a chunk.
    ///
    /// # Safety
    /// As [`super::attend_tile`].
    #[inline(always)]
    pub(super) unsafe fn prepare_tile<V: Product<N>, const TILE_ROWS: usize>(
        &self,
        task: &AttentionTask<N>,
        tile: &Tile<'_>,
    ) {
        let Bias::Disentangled(positions) = self else { return };
        if positions.position_keys.is_null() {
            return;
        }
        let stride = products_stride(positions.rows);
        // SAFETY: queries below `end`, and at most a tile, for which the scratch has rows.
        unsafe {
            let rows = positions.rows_of(&tile.queries, &tile.keys);
            let left = task.query.add(tile.queries.start * task.stride);
            let (panels, to) = (positions.position_keys, task.scratch.from_queries);
            multiply::<V, N, TILE_ROWS>(task, left, tile.queries.len(), panels, &rows, to, stride);
        }
    }

    /// Adds to the scores of a tile's queries for a block of keys.
    ///
    /// # Safety
    /// As [`super::attend_tile`]; `block` is part of the tile's keys, whose scores are in the scratch.
    #[inline(always)]
    pub(super) unsafe fn add<V: Vector>(
        &self,
        task: &AttentionTask<N>,
        tile: &Tile<'_>,
        block: &Range<usize>,
    ) {
        for (row, query) in tile.queries.clone().enumerate() {
            let distance = block.start.cast_signed() - query.cast_signed();
            // SAFETY: rows of the tile and keys of the block; tables have all distances between them, and
            // that of distances those to the end of the last vector too.
            unsafe {
                let scores = task.scratch.scores.add(row * KEYS);
                match self {
                    Bias::None => return,
                    Bias::Distance { table, .. } => {
                        let from = table.offset(distance);
                        for at in (0..block.len()).step_by(V::LANES) {
                            V::load(scores.add(at)).add(V::load(from.add(at))).store(scores.add(at));
                        }
                    }
                    Bias::Disentangled(positions) => {
                        let row_of = positions.row_of.offset(distance);
                        let stride = products_stride(positions.rows);
                        if !positions.position_keys.is_null() {
                            let from = task.scratch.from_queries.add(row * stride);
                            for at in 0..block.len() {
                                *scores.add(at) += *from.add(*row_of.add(at) as usize);
                            }
                        }
                        if !positions.position_queries.is_null() {
                            let from = task.scratch.from_keys.add((block.start - tile.chunk.start) * stride);
                            for at in 0..block.len() {
                                *scores.add(at) += *from.add(at * stride + *row_of.add(at) as usize);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<N: Number> Disentangled<N> {
    /// The rows of the distances from these queries to these keys.
    ///
    /// # Safety
    /// Both must be of one sequence, and not empty.
    #[inline(always)]
    unsafe fn rows_of(&self, queries: &Range<usize>, keys: &Range<usize>) -> Range<usize> {
        let distance = |key: usize, query: usize| key.cast_signed() - query.cast_signed();
        // SAFETY: distances of the sequence.
        unsafe {
            let first = *self.row_of.offset(distance(keys.end - 1, queries.start));
            let last = *self.row_of.offset(distance(keys.start, queries.end - 1));
            first as usize..last as usize + 1
        }
    }
}

/// Products of some rows (at most a tile) with the panels that hold some rows of positions.
///
/// # Safety
/// As [`tile_of`]; `to` has `stride` values for each row.
#[inline(always)]
unsafe fn multiply<V: Product<N>, N: Number, const TILE_ROWS: usize>(
    task: &AttentionTask<N>,
    left: *const N,
    count: usize,
    panels: *const N,
    rows: &Range<usize>,
    to: *mut f32,
    stride: usize,
) {
    let columns = 2 * V::LANES;
    let steps = task.head.div_ceil(N::STEP);
    for panel in rows.start / columns..rows.end.div_ceil(columns) {
        // SAFETY: as the caller vouches; a panel of positions is within the stride.
        unsafe {
            let right = panels.add(panel * steps * columns * N::STEP);
            tile_of::<V, N, TILE_ROWS>(
                count,
                left,
                task.stride,
                right,
                steps,
                to.add(panel * columns),
                stride,
            );
        }
    }
}
