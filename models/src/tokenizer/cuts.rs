//! Where a text may be cut so that its pieces, tokenised one after another, give what the whole gives.
//!
//! That holds beside a character which the pre-tokenizer takes for a word of its own, or for nothing: white
//! space and, for BERT's, punctuation and Chinese characters, since its normaliser works character by
//! character. It does not hold inside an added token that is no special one; those are read as text. A
//! tokenizer of which it is not known is not cut.

use std::ops::Range;

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};
use unicode_categories::UnicodeCategories;

/// How a tokenizer's texts may be cut.
#[derive(Debug, Clone)]
pub(super) struct Cuts {
    separators: Separators,
    /// Added tokens; no cut goes through one.
    added: Vec<String>,
    /// Whether every word gives at least one token.
    counts_words: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separators {
    /// It is not known.
    None,
    WhiteSpace,
    /// White space, punctuation, and what BERT's normaliser makes punctuation of or puts white space around.
    Bert {
        is_chinese_apart: bool,
        is_stripped: bool,
    },
}

/// What a character is to the pre-tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    /// A word of its own.
    Alone,
    Inside,
}

impl Cuts {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let mut added = Vec::new();
        let (mut is_plain, mut is_normalized) = (true, false);
        let is_special_text = tokenizer.get_encode_special_tokens();
        for token in tokenizer.get_added_tokens_decoder().into_values() {
            if token.special && is_special_text {
                continue;
            }
            let has_space = token.content.chars().any(char::is_whitespace);
            is_plain &=
                !(token.lstrip || token.rstrip || token.single_word || has_space || token.content.is_empty());
            is_normalized |= token.normalized;
            added.push(token.content);
        }
        let is_word_piece = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_));
        let separators = match (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer()) {
            _ if !is_plain => Separators::None,
            (
                Some(NormalizerWrapper::BertNormalizer(normalizer)),
                Some(PreTokenizerWrapper::BertPreTokenizer(_)),
            ) if !is_normalized => Separators::Bert {
                is_chinese_apart: normalizer.handle_chinese_chars,
                is_stripped: normalizer.strip_accents.unwrap_or(normalizer.lowercase),
            },
            (
                None | Some(NormalizerWrapper::BertNormalizer(_) | NormalizerWrapper::Lowercase(_)),
                Some(
                    PreTokenizerWrapper::BertPreTokenizer(_)
                    | PreTokenizerWrapper::Whitespace(_)
                    | PreTokenizerWrapper::WhitespaceSplit(_),
                ),
            ) => Separators::WhiteSpace,
            _ => Separators::None,
        };
        let counts_words = is_word_piece && matches!(separators, Separators::Bert { .. });
        Self { separators, added, counts_words }
    }

    /// Whether nothing is known of where texts may be cut.
    pub(super) fn is_unknown(&self) -> bool {
        self.separators == Separators::None
    }

    /// The next piece of a text from `start`: of about `target` bytes, longer only if it cannot be cut
    /// before.
    pub(super) fn piece(&self, text: &str, start: usize, target: usize) -> Range<usize> {
        if self.is_unknown() || text.len() - start <= target {
            return start..text.len();
        }
        let mut last = None;
        let mut before = Kind::Inside;
        for (offset, c) in text[start..].char_indices() {
            let kind = self.kind(c);
            let can_cut = offset > 0 && (kind != Kind::Inside || before != Kind::Inside);
            if can_cut && !self.is_inside_added(text, start + offset) {
                last = Some(start + offset);
            }
            before = kind;
            if offset >= target
                && let Some(end) = last
            {
                return start..end;
            }
        }
        start..text.len()
    }

    /// A number of tokens that a text has at least; counting ends where it is above `limit`. Also the bytes
    /// that were looked at.
    pub(super) fn at_least(&self, text: &str, limit: usize) -> (usize, usize) {
        if !self.counts_words {
            return (0, 0);
        }
        let (mut tokens, mut has_letter) = (0, false);
        for (offset, c) in text.char_indices() {
            let kind = match self.kind(c) {
                // Its parts may be one token.
                Kind::Alone if self.added.iter().any(|added| added.contains(c)) => Kind::Inside,
                kind => kind,
            };
            if kind == Kind::Inside {
                // A letter or a number is never dropped; what stands for nothing may be.
                has_letter = has_letter || (c.is_alphanumeric() && !c.is_mark_nonspacing() && !c.is_other());
                continue;
            }
            tokens += usize::from(std::mem::take(&mut has_letter)) + usize::from(kind == Kind::Alone);
            if tokens > limit {
                return (tokens, offset);
            }
        }
        (tokens + usize::from(has_letter), text.len())
    }

    /// Whether these normalised characters are one word to the pre-tokenizer.
    pub(super) fn is_one_word(&self, normalized: &str) -> bool {
        matches!(self.separators, Separators::Bert { .. })
            && normalized.chars().all(|c| self.kind(c) == Kind::Inside && !c.is_whitespace())
    }

    fn kind(&self, c: char) -> Kind {
        // White space that is a control character is dropped by BERT's normaliser, and joins what is beside
        // it.
        let is_space =
            matches!(c, ' ' | '\t' | '\n' | '\r') || (!c.is_ascii() && c.is_whitespace() && !c.is_other());
        match self.separators {
            _ if is_space => Kind::Space,
            Separators::Bert { .. } if c.is_ascii_punctuation() => Kind::Alone,
            Separators::Bert { .. } if c.is_ascii() => Kind::Inside,
            Separators::Bert { is_chinese_apart, is_stripped } => {
                // Their canonical decompositions begin with ASCII punctuation.
                let is_built_on = is_stripped && matches!(c, '\u{1fef}' | '≠' | '≮' | '≯');
                let is_alone = c.is_punctuation() || is_built_on || (is_chinese_apart && is_chinese(c));
                if is_alone { Kind::Alone } else { Kind::Inside }
            }
            Separators::None | Separators::WhiteSpace => Kind::Inside,
        }
    }

    fn is_inside_added(&self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        self.added.iter().any(|added| {
            let added = added.as_bytes();
            (1..added.len().min(at + 1)).any(|before| {
                // The byte before the cut tells most cases.
                added[before - 1] == bytes[at - 1] && bytes[at - before..].starts_with(added)
            })
        })
    }
}

/// What BERT's normaliser takes for a Chinese character: those of the CJK Unified Ideographs blocks.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F
    )
}
