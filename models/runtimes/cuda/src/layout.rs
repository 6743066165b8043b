//! How a batch lies in device memory, and how much memory it takes. Pure, so that it is tested without a GPU.

use models_core::{EncoderSpec, TokenBatch};

/// Queries of a block of attention, and numbers that describe one.
const TILE_ROWS: usize = 64;
const TILE: usize = 4;
/// Shapes for graphs have multiples of an eighth of the next power of two tokens, and at least of so many:
/// less than an eighth is computed in vain, and up to 2,048 tokens there are 24 of them.
const TOKENS_STEP: usize = 16;
const TOKENS_STEPS: usize = 8;
/// They have as many sequences as a power of this.
const SEQUENCES_STEP: usize = 8;

/// How many of what the kernels are started for: as many as a batch has, or more, so that few shapes do for
/// all. What there is in excess is computed like the rest and read by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) tokens: usize,
    pub(super) sequences: usize,
    /// Blocks of up to 64 queries of one sequence.
    pub(super) tiles: usize,
}

/// Numbers that each buffer has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// 32-bit words of input.
    pub(super) input: usize,
    /// `[T, H]` in 16 bits, twice.
    pub(super) state: usize,
    /// `[T, 3 H]` and `[T, I]` in 16 bits.
    pub(super) wide: usize,
    /// `[B, H]` in float32, twice.
    pub(super) pooled: usize,
    /// `[B, H]`, `[B, C]` or `[T, C]` in float32.
    pub(super) result: usize,
}

/// What of a model decides how much memory its batches take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    pub(super) hidden: usize,
    pub(super) intermediate: usize,
    /// Columns of the result, and whether there is a row of them for each token rather than each sequence.
    pub(super) columns: usize,
    pub(super) is_per_token: bool,
}

impl Widths {
    pub(super) fn new(spec: &EncoderSpec, columns: usize, is_per_token: bool) -> Self {
        Self { hidden: spec.hidden_size, intermediate: spec.intermediate_size, columns, is_per_token }
    }

    /// Rows and columns of the result.
    pub(super) fn result(&self, shape: Shape) -> [usize; 2] {
        [if self.is_per_token { shape.tokens } else { shape.sequences }, self.columns]
    }
}

impl Shape {
    pub(super) fn of(batch: &TokenBatch) -> Self {
        let tiles = batch.ranges().map(|range| range.len().div_ceil(TILE_ROWS)).sum();
        Self { tokens: batch.tokens(), sequences: batch.sequences(), tiles }
    }

    /// Has room for every batch of so many tokens and sequences.
    pub(super) fn largest(tokens: usize, sequences: usize) -> Self {
        Self { tokens, sequences, tiles: sequences + tokens / TILE_ROWS }
    }

    /// The one of few shapes that this batch fits best.
    pub(super) fn rounded(self) -> Self {
        let step = (self.tokens.next_power_of_two() / TOKENS_STEPS).max(TOKENS_STEP);
        let mut sequences = SEQUENCES_STEP;
        while sequences < self.sequences {
            sequences *= SEQUENCES_STEP;
        }
        Self::largest(self.tokens.next_multiple_of(step), sequences)
    }

    /// Where in the input positions, ends of sequences and tiles begin.
    pub(super) fn positions(self) -> usize {
        self.tokens
    }

    pub(super) fn ends(self) -> usize {
        2 * self.tokens
    }

    pub(super) fn tiles_from(self) -> usize {
        self.ends() + self.sequences + 1
    }

    pub(super) fn words(self) -> usize {
        self.tiles_from() + TILE * self.tiles
    }

    /// Writes a batch that passed [`check_batch`](models_core::runtime::check_batch) one after the other: ids
    /// `[T]`, positions `[T]`, ends `[B + 1]`, and for every 64 queries of a sequence its start, its length,
    /// and the first of the queries. Tokens in excess are the vocabulary's first, sequences in excess have
    /// none, and tiles in excess no length.
    ///
    /// `words` has [`words`](Self::words) of them.
    pub(super) fn write(self, batch: &TokenBatch, words: &mut [u32]) {
        words.fill(0);
        let tokens = batch.tokens();
        words[..tokens].copy_from_slice(&batch.input_ids);
        words[self.positions()..][..tokens].copy_from_slice(&batch.position_ids);
        let ends = &mut words[self.ends()..self.tiles_from()];
        ends.fill(tokens as u32);
        ends[..batch.cu_seqlens.len()].copy_from_slice(&batch.cu_seqlens);
        let mut tiles = words[self.tiles_from()..].chunks_exact_mut(TILE);
        for range in batch.ranges() {
            for (query, tile) in (0..range.len()).step_by(TILE_ROWS).zip(&mut tiles) {
                tile.copy_from_slice(&[range.start as u32, range.len() as u32, query as u32, 0]);
            }
        }
    }
}

impl Room {
    /// What batches of this shape take of a model of these widths.
    pub(super) fn of(widths: Widths, shape: Shape) -> Self {
        let [rows, columns] = widths.result(shape);
        Self {
            input: shape.words(),
            state: shape.tokens * widths.hidden,
            wide: shape.tokens * widths.intermediate.max(3 * widths.hidden),
            pooled: shape.sequences * widths.hidden,
            result: rows * columns,
        }
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            state: self.state.max(other.state),
            wide: self.wide.max(other.wide),
            pooled: self.pooled.max(other.pooled),
            result: self.result.max(other.result),
        }
    }

    /// Bytes of device memory, where `slots` batches have input and result of their own.
    pub(super) fn bytes(self, slots: usize) -> usize {
        2 * (2 * self.state + self.wide) + 4 * (2 * self.pooled + slots * (self.input + self.result))
    }
}

#[cfg(test)]
mod tests {
    use models_core::Sequence;

    use super::*;

    fn batch(lengths: &[usize]) -> TokenBatch {
        let sequences: Vec<_> = lengths.iter().map(|length| Sequence::new(vec![7; *length])).collect();
        TokenBatch::from_sequences(&sequences)
    }

    #[test]
    fn every_query_is_in_one_tile_whatever_the_shape() {
        let batch = batch(&[1, 63, 64, 65, 512, 130]);
        let exact = Shape::of(&batch);
        for shape in [exact, exact.rounded(), Shape::largest(1000, 9)] {
            let mut words = vec![u32::MAX; shape.words()];
            shape.write(&batch, &mut words);
            assert_eq!(words[..batch.tokens()], batch.input_ids);
            assert_eq!(words[shape.positions()..][..batch.tokens()], batch.position_ids);
            let ends = &words[shape.ends()..shape.tiles_from()];
            assert_eq!(ends[..batch.cu_seqlens.len()], batch.cu_seqlens);
            assert!(ends[batch.sequences()..].iter().all(|end| *end as usize == batch.tokens()));
            let tiles = &words[shape.tiles_from()..];
            assert_eq!(tiles.len(), TILE * shape.tiles);
            let mut covered = vec![0; batch.tokens()];
            for tile in tiles.chunks(TILE) {
                let (start, length, query) = (tile[0] as usize, tile[1] as usize, tile[2] as usize);
                for row in query..length.min(query + TILE_ROWS) {
                    covered[start + row] += 1;
                }
            }
            assert!(covered.iter().all(|count| *count == 1), "{shape:?}");
        }
    }

    #[test]
    fn few_shapes_do_for_all() {
        let mut shapes = std::collections::HashSet::new();
        for tokens in 1..=2048 {
            for sequences in [1, 2, 8, 9, 64, 65, 512].into_iter().filter(|count| *count <= tokens) {
                let exact = Shape::largest(tokens, sequences);
                let rounded = exact.rounded();
                assert!(
                    rounded.tokens >= tokens
                        && rounded.sequences >= sequences
                        && rounded.tiles >= exact.tiles
                );
                assert!(
                    rounded.tokens < tokens + TOKENS_STEP.max(tokens.div_ceil(4)),
                    "{tokens}: {rounded:?}"
                );
                assert_eq!(rounded.rounded(), rounded);
                shapes.insert(rounded);
            }
        }
        assert!(shapes.len() <= 24 * 3, "{}", shapes.len());
    }

    #[test]
    fn room_for_the_largest_is_room_for_all() {
        let widths = Widths { hidden: 384, intermediate: 1536, columns: 9, is_per_token: true };
        let largest = Room::of(widths, Shape::largest(700, 10))
            .max(Room::of(widths, Shape::largest(700, 10).rounded()));
        for lengths in [&[1][..], &[512, 100], &[64; 10], &[65; 10], &[70; 10], &[1; 10]] {
            let exact = Shape::of(&batch(lengths));
            for shape in [exact, exact.rounded()] {
                assert_eq!(largest.max(Room::of(widths, shape)), largest, "{lengths:?}");
            }
        }
    }
}
