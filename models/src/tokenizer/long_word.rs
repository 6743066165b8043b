//! Words of many thousand characters, which give one unknown token and are not held in the tokenizer's memory
//! for it: that takes some forty times their length.

use tokenizers::{ModelWrapper, NormalizedString, Normalizer};

use super::{EncodedText, PIECE_BYTES, TextTokenizer, TokenizeError};
use crate::pool::Pace;

/// Longer pieces than this are looked at: no cut was found in them.
const LONG_BYTES: usize = 4 * PIECE_BYTES;

/// What is known of a long word.
#[derive(Default)]
struct Parts {
    /// Where the parts begin that are not dropped by the normaliser, at most one more than the characters
    /// that a word may have.
    parts: Vec<usize>,
    last: usize,
    characters: usize,
}

impl TextTokenizer {
    /// The tokens of a piece that is one long word of BERT's. `None` if it is none.
    pub(super) async fn long_word(
        &self,
        piece: &str,
        pace: &Pace,
    ) -> Result<Option<EncodedText>, TokenizeError> {
        let tokenizer = &self.inner.tokenizer;
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return Ok(None) };
        if piece.len() <= LONG_BYTES {
            return Ok(None);
        }
        let Some(word) = self.parts_of(piece, model.max_input_chars_per_word, pace).await? else {
            return Ok(None);
        };
        let part = |start: usize| &piece[start..end_of_part(piece, start)];
        if word.characters <= model.max_input_chars_per_word {
            // Nearly all of it is dropped; the rest is a word as any other.
            let whole: String = word.parts.iter().map(|start| part(*start)).collect();
            let mut encoded = self.encode_as_is(&whole)?;
            for offsets in &mut encoded.offsets {
                let place = |at: usize| {
                    let mut before = 0;
                    for &start in &word.parts {
                        let length = part(start).len();
                        if at < before + length {
                            return start + at - before;
                        }
                        before += length;
                    }
                    piece.len()
                };
                *offsets = (place(offsets.0), place(offsets.1.saturating_sub(1)) + 1);
            }
            return Ok(Some(encoded));
        }
        let (first, last) = (self.encode_as_is(part(word.parts[0]))?, self.encode_as_is(part(word.last))?);
        let start = first.offsets.first().map_or(0, |offsets| offsets.0) + word.parts[0];
        let end = last.offsets.last().map_or(0, |offsets| offsets.1) + word.last;
        let id = tokenizer.token_to_id(&model.unk_token).ok_or(TokenizeError::Encode)?;
        Ok(Some(EncodedText { ids: vec![id], offsets: vec![(start, end)], words: vec![Some(0)] }))
    }

    /// Normalises a piece part by part. `None` if it is not one word.
    async fn parts_of(
        &self,
        piece: &str,
        characters_max: usize,
        pace: &Pace,
    ) -> Result<Option<Parts>, TokenizeError> {
        let mut word = Parts::default();
        let mut start = 0;
        while start < piece.len() {
            let end = end_of_part(piece, start);
            let mut part = NormalizedString::from(&piece[start..end]);
            if let Some(normalizer) = self.inner.tokenizer.get_normalizer() {
                normalizer.normalize(&mut part).map_err(|_| TokenizeError::Encode)?;
            }
            if !self.inner.cuts.is_one_word(part.get()) {
                return Ok(None);
            }
            if !part.get().is_empty() {
                word.last = start;
                if word.characters <= characters_max {
                    word.parts.push(start);
                    word.characters += part.get().chars().count();
                }
            }
            pace.spend((end - start) / 4).await;
            start = end;
        }
        Ok(Some(word))
    }
}

/// Parts are as long as pieces, at a character's boundary.
fn end_of_part(piece: &str, start: usize) -> usize {
    piece.ceil_char_boundary((start + PIECE_BYTES).min(piece.len()))
}
