//! What crosses the border between a host and a device: ragged batches in, row-major results out.
//!
//! A batch is packed: the tokens of its sequences follow one another without padding, and `cu_seqlens` says
//! where each begins. Padding, where a backend needs it, is that backend's private matter.

use std::ops::Range;

/// One window of one text, as token ids with their special tokens: the unit of work of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Token ids, `[CLS]` and `[SEP]` (or their like) included.
    pub input_ids: Vec<u32>,
    /// Whether a model that gives one vector for it is to give one for each of its tokens.
    pub wants_tokens: bool,
    /// Tokens of the first segment of a pair, of which the others are the second; all of them where there is
    /// no pair.
    pub first_segment: Option<u32>,
    /// Leading tokens that are read, but not pooled: those of a prompt.
    pub unpooled: u32,
}

/// A ragged batch of `B` sequences with `T` tokens in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenBatch {
    /// Token ids, `[T]`.
    pub input_ids: Vec<u32>,
    /// Position of each token in its own sequence, from 0, `[T]`.
    pub position_ids: Vec<u32>,
    /// Where each sequence starts, and `T` at the end, `[B + 1]`.
    pub cu_seqlens: Vec<u32>,
    /// Tokens of the longest sequence.
    pub max_seq_len: usize,
    /// Which sequences want a vector for each token, `[B]`.
    pub per_token: Vec<bool>,
    /// Segment of each token, 0 or 1, `[T]`; empty where all are 0.
    pub token_type_ids: Vec<u8>,
    /// Leading tokens of each sequence that are not pooled, `[B]`.
    pub unpooled: Vec<u32>,
}

/// A row-major tensor in host memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostTensor {
    /// The values, the last dimension contiguous.
    pub data: Vec<f32>,
    /// The dimensions; their product is `data.len()`.
    pub shape: Vec<usize>,
}

/// What one sequence of a batch produced: a matrix of `rows() x columns`.
///
/// Mean pooling gives one row of hidden size `H`, or one per token where that is wanted; a sequence
/// classifier one row of `C` logits, a token classifier one row of `C` logits per token of the sequence,
/// special tokens included.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceOutput {
    /// The values, row-major.
    pub values: Vec<f32>,
    /// Values in a row.
    pub columns: usize,
}

impl Sequence {
    /// A sequence of these token ids, which include the special tokens.
    pub fn new(input_ids: Vec<u32>) -> Self {
        Self { input_ids, ..Self::default() }
    }

    /// Number of tokens, special tokens included.
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }
}

impl TokenBatch {
    /// Packs sequences in the order given.
    ///
    /// # Panics
    /// When the sequences hold more than `u32::MAX` tokens together; a batch is bounded far below that by the
    /// scheduler's token budget.
    pub fn from_sequences(sequences: &[Sequence]) -> Self {
        let mut batch = Self::default();
        batch.pack(sequences);
        batch
    }

    /// As [`Self::from_sequences`], into the memory of this batch, whose content is lost.
    ///
    /// # Panics
    /// As [`Self::from_sequences`].
    pub fn pack(&mut self, sequences: &[Sequence]) {
        let tokens: usize = sequences.iter().map(Sequence::len).sum();
        assert!(u32::try_from(tokens).is_ok(), "a batch of {tokens} tokens cannot be addressed");
        self.input_ids.clear();
        self.position_ids.clear();
        self.cu_seqlens.clear();
        self.cu_seqlens.push(0);
        self.per_token.clear();
        self.per_token.extend(sequences.iter().map(|sequence| sequence.wants_tokens));
        self.unpooled.clear();
        self.unpooled.extend(sequences.iter().map(|sequence| sequence.unpooled));
        self.token_type_ids.clear();
        if sequences.iter().any(|sequence| sequence.first_segment.is_some()) {
            for sequence in sequences {
                let first = sequence.first_segment.map_or(sequence.len(), |tokens| tokens as usize);
                let first = first.min(sequence.len());
                self.token_type_ids.extend(std::iter::repeat_n(0, first));
                self.token_type_ids.extend(std::iter::repeat_n(1, sequence.len() - first));
            }
        }
        self.max_seq_len = 0;
        for sequence in sequences {
            self.input_ids.extend_from_slice(&sequence.input_ids);
            self.position_ids.extend(0..sequence.len() as u32);
            self.cu_seqlens.push(self.input_ids.len() as u32);
            self.max_seq_len = self.max_seq_len.max(sequence.len());
        }
    }

    /// Number of sequences, `B`.
    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Number of tokens in all, `T`.
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether the result of a pooling model is to be what it would pool, `[T, H]`: some sequence wants it.
    pub fn wants_tokens(&self) -> bool {
        self.per_token.contains(&true)
    }

    /// Whether some token is of a second segment.
    pub fn has_pairs(&self) -> bool {
        !self.token_type_ids.is_empty()
    }

    /// The token range of each sequence, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.cu_seqlens.windows(2).map(|pair| pair[0] as usize..pair[1] as usize)
    }
}

impl SequenceOutput {
    /// Number of rows: 1 for a pooled vector or class logits, the sequence's tokens for token logits.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The rows in order, each of `columns` values.
    pub fn iter_rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_packed_without_padding() {
        let sequences = [vec![1, 2, 3], vec![], vec![4, 5]].map(Sequence::new);
        let batch = TokenBatch::from_sequences(&sequences);
        assert_eq!(batch.input_ids, [1, 2, 3, 4, 5]);
        assert_eq!(batch.position_ids, [0, 1, 2, 0, 1]);
        assert_eq!(batch.cu_seqlens, [0, 3, 3, 5]);
        assert_eq!((batch.sequences(), batch.tokens(), batch.max_seq_len), (3, 5, 3));
        assert_eq!(batch.ranges().collect::<Vec<_>>(), [0..3, 3..3, 3..5]);
    }

    #[test]
    fn segments_are_there_where_there_is_a_pair() {
        let mut sequences = [vec![1, 2, 3], vec![4, 5]].map(Sequence::new);
        assert!(!TokenBatch::from_sequences(&sequences).has_pairs());
        sequences[0].first_segment = Some(1);
        assert_eq!(TokenBatch::from_sequences(&sequences).token_type_ids, [0, 1, 1, 0, 0]);
        sequences[1].first_segment = Some(7);
        assert_eq!(TokenBatch::from_sequences(&sequences).token_type_ids, [0, 1, 1, 0, 0]);
    }

    #[test]
    fn an_empty_batch_has_no_sequences() {
        let batch = TokenBatch::from_sequences(&[]);
        assert_eq!((batch.sequences(), batch.tokens(), batch.max_seq_len), (0, 0, 0));
        assert_eq!(TokenBatch::default().sequences(), 0);
    }

    #[test]
    fn rows_follow_from_the_columns() {
        let output = SequenceOutput { values: vec![1.0, 2.0, 3.0, 4.0], columns: 2 };
        assert_eq!(output.rows(), 2);
        assert_eq!(output.iter_rows().collect::<Vec<_>>(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(SequenceOutput::default().rows(), 0);
    }
}
