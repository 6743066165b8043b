//! How a batch lies in device memory, and how much memory it takes. Pure, so that it is tested without a GPU.

use models_core::spec::NormPlace;
use models_core::weights::HeadWeights;
use models_core::{EncoderSpec, TokenBatch};

use super::arrangement::head_size;
use super::device::QUERY_ROWS;

/// Numbers that describe a block of attention.
const TILE: usize = 4;
/// In the word of a token's position: it is of the second segment.
const SECOND: u32 = 1 << 31;
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
    /// See [`Buffers`](super::memory::Buffers): in 16 bits, `residual` in float32.
    pub(super) state: usize,
    pub(super) residual: usize,
    pub(super) wide: usize,
    pub(super) narrow: usize,
    /// Rows between a head's layers in float32, twice.
    pub(super) pooled: usize,
    /// `[B, H]`, `[B, C]` or `[T, C]` in float32.
    pub(super) result: usize,
}

/// What of a model decides how much memory its batches take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    pub(super) hidden: usize,
    /// In float32 beside the hidden state; none where layers normalise behind their blocks.
    pub(super) residual: usize,
    pub(super) wide: usize,
    pub(super) narrow: usize,
    /// Numbers in the widest row between a head's layers.
    pub(super) between: usize,
    /// Columns of the result, and whether there is a row of them for each token rather than each sequence.
    pub(super) columns: usize,
    pub(super) is_per_token: bool,
}

impl Widths {
    pub(super) fn new(spec: &EncoderSpec, head: &HeadWeights) -> Self {
        let (hidden, head_size) = (spec.hidden_size, head_size(spec));
        let (heads, key_heads) = (spec.num_attention_heads, spec.num_key_value_heads);
        let is_per_token = head.is_per_token();
        let widths = head.widths(hidden);
        // Tokens' own rows are the hidden states, and the last layer's are the result.
        let first = usize::from(is_per_token);
        let between = widths.get(first..widths.len() - 1).unwrap_or_default();
        Self {
            hidden,
            residual: if spec.norm_place == NormPlace::Before { hidden } else { 0 },
            wide: hidden.max((heads + 2 * key_heads) * head_size).max(spec.intermediate_width()),
            narrow: hidden.max(heads * head_size).max(spec.embedding_size),
            between: between.iter().copied().max().unwrap_or(0),
            columns: head.columns(hidden),
            is_per_token,
        }
    }

    /// Rows and columns of the result.
    pub(super) fn result(&self, shape: Shape) -> [usize; 2] {
        [if self.is_per_token { shape.tokens } else { shape.sequences }, self.columns]
    }
}

impl Shape {
    pub(super) fn of(batch: &TokenBatch) -> Self {
        let tiles = batch.ranges().map(|range| range.len().div_ceil(QUERY_ROWS)).sum();
        Self { tokens: batch.tokens(), sequences: batch.sequences(), tiles }
    }

    /// Has room for every batch of so many tokens and sequences.
    pub(super) fn largest(tokens: usize, sequences: usize) -> Self {
        Self { tokens, sequences, tiles: sequences + tokens / QUERY_ROWS }
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

    /// Where in the input positions, ends of sequences, their tokens that are not pooled, and tiles begin.
    pub(super) fn positions(self) -> usize {
        self.tokens
    }

    pub(super) fn ends(self) -> usize {
        2 * self.tokens
    }

    pub(super) fn unpooled(self) -> usize {
        self.ends() + self.sequences + 1
    }

    pub(super) fn tiles_from(self) -> usize {
        self.unpooled() + self.sequences
    }

    pub(super) fn words(self) -> usize {
        self.tiles_from() + TILE * self.tiles
    }

    /// Writes a batch that passed [`check_batch`](models_core::runtime::check_batch) one after the other: ids
    /// `[T]`, positions `[T]` with segments, ends `[B + 1]`, leading tokens that are not pooled `[B]`, and
    /// for every 64 queries of a sequence its start, its length, and the first of the queries. Tokens in
    /// excess are the vocabulary's first, sequences in excess have none, and tiles in excess no length.
    ///
    /// `words` has [`words`](Self::words) of them.
    pub(super) fn write(self, batch: &TokenBatch, words: &mut [u32]) {
        words.fill(0);
        let tokens = batch.tokens();
        words[..tokens].copy_from_slice(&batch.input_ids);
        let positions = &mut words[self.positions()..][..tokens];
        positions.copy_from_slice(&batch.position_ids);
        for (position, segment) in positions.iter_mut().zip(&batch.token_type_ids) {
            *position |= SECOND * u32::from(*segment);
        }
        words[self.unpooled()..][..batch.unpooled.len()].copy_from_slice(&batch.unpooled);
        let ends = &mut words[self.ends()..self.unpooled()];
        ends.fill(tokens as u32);
        ends[..batch.cu_seqlens.len()].copy_from_slice(&batch.cu_seqlens);
        let mut tiles = words[self.tiles_from()..].chunks_exact_mut(TILE);
        for range in batch.ranges() {
            for (query, tile) in (0..range.len()).step_by(QUERY_ROWS).zip(&mut tiles) {
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
            residual: (shape.tokens * widths.residual).max(1),
            wide: shape.tokens * widths.wide,
            narrow: shape.tokens * widths.narrow,
            pooled: (rows * widths.between).max(1),
            result: rows * columns,
        }
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            state: self.state.max(other.state),
            residual: self.residual.max(other.residual),
            wide: self.wide.max(other.wide),
            narrow: self.narrow.max(other.narrow),
            pooled: self.pooled.max(other.pooled),
            result: self.result.max(other.result),
        }
    }

    /// Bytes of device memory, where `slots` batches have input and result of their own.
    pub(super) fn bytes(self, slots: usize) -> usize {
        let float32 = self.residual + 2 * self.pooled + slots * (self.input + self.result);
        2 * (self.state + self.wide + self.narrow) + 4 * float32
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
            let ends = &words[shape.ends()..shape.unpooled()];
            assert_eq!(ends[..batch.cu_seqlens.len()], batch.cu_seqlens);
            assert!(ends[batch.sequences()..].iter().all(|end| *end as usize == batch.tokens()));
            let tiles = &words[shape.tiles_from()..];
            assert_eq!(tiles.len(), TILE * shape.tiles);
            let mut covered = vec![0; batch.tokens()];
            for tile in tiles.chunks(TILE) {
                let (start, length, query) = (tile[0] as usize, tile[1] as usize, tile[2] as usize);
                for row in query..length.min(query + QUERY_ROWS) {
                    covered[start + row] += 1;
                }
            }
            assert!(covered.iter().all(|count| *count == 1), "{shape:?}");
        }
    }

    #[test]
    fn segments_and_prompts_are_beside_positions_and_ends() {
        let pair = Sequence { first_segment: Some(2), unpooled: 3, ..Sequence::new(vec![7; 4]) };
        let batch = TokenBatch::from_sequences(&[Sequence::new(vec![7; 2]), pair]);
        let shape = Shape::of(&batch).rounded();
        let mut words = vec![u32::MAX; shape.words()];
        shape.write(&batch, &mut words);
        let second = |position: u32| (1 << 31) + position;
        assert_eq!(words[shape.positions()..][..6], [0, 1, 0, 1, second(2), second(3)]);
        assert_eq!(words[shape.unpooled()..shape.tiles_from()], [0, 3, 0, 0, 0, 0, 0, 0]);
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
        let widths = Widths {
            hidden: 384,
            residual: 384,
            wide: 1536,
            narrow: 512,
            between: 384,
            columns: 9,
            is_per_token: true,
        };
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
