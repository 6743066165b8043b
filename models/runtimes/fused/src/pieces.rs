//! How the work of one batch is cut into pieces for the threads.
//!
//! Attention is cut by its estimated cost: whole heads of short sequences together, long sequences by heads,
//! the longest by queries. All else works on packed rows and is cut in one of two ways, see [`Split`].

use std::ops::Range;

use models_core::TokenBatch;

use super::kernels::QUERIES_MAX;

/// Rows that pass through the feed-forward block together: its inside then stays in the second cache. Not
/// critical: 48 and 192 were within 1 % at 16, 64 and 256 tokens.
const BLOCK_ROWS_MAX: usize = 96;
/// With fewer rows a thread, all threads read all weights for too little work: they share the columns
/// instead.
const COLUMNS_ROWS_MAX: usize = 24;
/// Pieces of attention for each thread, so that threads end at about the same time.
const PIECES_PER_THREAD: usize = 4;
/// Fewest queries of a piece: each piece packs all keys and values of its sequence.
const QUERIES_MIN: usize = 48;
/// What packing a key costs, in products of a query and a key.
const PACKING_COST: usize = 16;

/// How the linear layers are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// Into this many blocks of rows, each of which goes through a whole layer without waiting.
    Rows(usize),
    /// Into panels of columns: for few rows, where reading the weights is most of the work.
    Columns,
}

/// Some queries of some heads of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttentionPiece {
    /// Rows of the sequence.
    pub(super) rows: Range<usize>,
    pub(super) heads: Range<usize>,
    /// Queries, counted from the first row of the sequence.
    pub(super) queries: Range<usize>,
}

/// The pieces of one batch.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pub(super) attention: Vec<AttentionPiece>,
}

impl Split {
    pub(super) fn new(tokens: usize, threads: usize) -> Self {
        if threads > 1 && tokens <= COLUMNS_ROWS_MAX * threads {
            return Split::Columns;
        }
        let blocks = tokens.div_ceil(BLOCK_ROWS_MAX);
        Split::Rows(blocks.next_multiple_of(threads).clamp(1, tokens.max(1)))
    }

    /// Rows that are inside of a feed-forward block at the same time.
    pub(super) fn inner_rows(self, tokens: usize, threads: usize) -> usize {
        match self {
            Split::Columns => tokens,
            Split::Rows(blocks) => threads * tokens.div_ceil(blocks),
        }
    }
}

pub(super) fn block_rows(tokens: usize, blocks: usize, block: usize) -> Range<usize> {
    tokens * block / blocks..tokens * (block + 1) / blocks
}

impl Pieces {
    /// Cuts a batch's attention into pieces for this many threads; each `group` of heads shares keys.
    pub(super) fn cut(&mut self, batch: &TokenBatch, heads: usize, group: usize, threads: usize) {
        self.attention.clear();
        let cost = |rows: &Range<usize>| rows.len() * (rows.len() + PACKING_COST);
        let total: usize = batch.ranges().map(|rows| heads * cost(&rows)).sum();
        let target = total.div_ceil(threads * PIECES_PER_THREAD).max(1);
        for rows in batch.ranges() {
            let length = rows.len();
            let parts = match threads {
                1 => 1,
                _ => cost(&rows).div_ceil(target).min(length.div_ceil(QUERIES_MIN)).max(1),
            };
            let parts = parts.max(length.div_ceil(QUERIES_MAX));
            let heads_each = match threads {
                1 => heads,
                _ => (target / cost(&rows).max(1)).clamp(1, heads).next_multiple_of(group),
            };
            for first in (0..heads).step_by(heads_each) {
                for part in 0..parts {
                    self.attention.push(AttentionPiece {
                        rows: rows.clone(),
                        heads: first..heads.min(first + heads_each),
                        queries: length * part / parts..length * (part + 1) / parts,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use models_core::batch::Sequence;

    proptest! {
        /// Every query of every head of every sequence is in exactly one piece.
        #[test]
        fn pieces_cover_a_batch(
            lengths in prop::collection::vec(1_usize..1300, 1..12),
            groups in 1_usize..13,
            group in 1_usize..4,
            threads in 1_usize..9,
        ) {
            let heads = groups * group;
            let sequences: Vec<_> = lengths.iter().map(|&length| Sequence::new(vec![0; length])).collect();
            let batch = TokenBatch::from_sequences(&sequences);
            let mut pieces = Pieces::default();
            pieces.cut(&batch, heads, group, threads);
            let mut counts = vec![0; heads * batch.tokens()];
            for piece in &pieces.attention {
                prop_assert!(piece.queries.len() <= QUERIES_MAX && piece.heads.start % group == 0);
                for head in piece.heads.clone() {
                    for query in piece.queries.clone() {
                        counts[head * batch.tokens() + piece.rows.start + query] += 1;
                    }
                }
            }
            prop_assert!(counts.iter().all(|&count| count == 1));
            let most: usize = lengths.iter().map(|length| length.div_ceil(QUERIES_MIN)).sum();
            prop_assert!(pieces.attention.len() <= heads * most);
        }

        #[test]
        fn blocks_cover_the_rows(tokens in 1_usize..2000, threads in 1_usize..9) {
            if let Split::Rows(blocks) = Split::new(tokens, threads) {
                let rows: Vec<_> = (0..blocks).flat_map(|block| block_rows(tokens, blocks, block)).collect();
                prop_assert_eq!(rows, (0..tokens).collect::<Vec<_>>());
                let rows = |block| block_rows(tokens, blocks, block);
                prop_assert!((0..blocks).all(|block| rows(block).len() <= BLOCK_ROWS_MAX));
            }
        }
    }
}
