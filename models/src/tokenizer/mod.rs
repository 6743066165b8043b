//! Text to token ids, without truncation and without padding.
//!
//! The tokenizer files of sentence-transformers models carry a truncation and a fixed padding of 128 tokens;
//! both are switched off here, because windows are planned by [`crate::tasks`] and batches are ragged.
//!
//! Texts are tokenised in pieces (`cuts`), so that memory is bounded by what is kept of them, and work ends
//! where the limit is passed or nobody waits for it any more. Where a card asks for it they are put into
//! plain characters first (`normalized`).
//!
//! A caller's text is text: the names of special tokens in it are read letter by letter.

mod cuts;
mod long_word;
mod normalized;
mod pairs;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tokenizers::{ModelWrapper, Tokenizer};

use crate::pool::Pace;
use cuts::Cuts;
use normalized::{Normalized, Normalizer, end_of_chunk};
pub use pairs::PairCut;
use pairs::PairTemplate;

/// Bytes of a piece: large enough that a call costs little beside it.
const PIECE_BYTES: usize = 2048;
/// Bytes that are looked through, and no more, in the time that one is tokenised in: by a rough measurement.
const SCANNED_PER_TOKENISED: usize = 64;
/// Bytes that are normalised in that time.
const NORMALIZED_PER_TOKENISED: usize = 8;

/// A model's tokenizer. Cheap to clone; encoding takes `&self` and may run on many threads.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Arc<Inner>,
    /// Whether texts are put into plain characters first.
    is_normalizing: bool,
    /// Whether the model is told which of two texts a token is of.
    tells_segments: bool,
}

/// A text as token ids without special tokens. The three vectors have the same length.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedText {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The bytes of the text each token stands for, start and end, as offsets into the original text.
    pub offsets: Vec<(usize, usize)>,
    /// The pre-tokenised word each token belongs to.
    pub words: Vec<Option<u32>>,
}

/// What is kept of a text's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    All,
    /// So many at the start.
    First(usize),
    /// So many at the end.
    Last(usize),
}

/// A text tokenised up to a limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    pub text: EncodedText,
    /// Tokens found; a character of private use that the tokenizer drops is one, though it has no id.
    pub tokens: usize,
    /// Those of them that stand for what the tokenizer does not know, or have no id.
    pub unknown: usize,
    /// Those of them that have no id.
    pub dropped: usize,
    /// Whether the text was read to its end; otherwise it has more tokens than were found.
    pub is_whole: bool,
}

/// Why a text, or a tokenizer file, could not be used. No variant carries input text.
#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    /// The tokenizer file could not be read.
    #[error("tokenizer file {file}: {message}")]
    File {
        file: String,
        /// What the reader said.
        message: String,
    },
    /// The file's post-processor does not wrap a sequence in fixed special tokens.
    #[error("tokenizer file {file}: adding special tokens does not wrap the ids of a text unchanged")]
    SpecialTokens { file: String },
    /// The tokenizer refused a text.
    #[error("the tokenizer could not encode the input")]
    Encode,
}

struct Inner {
    tokenizer: Tokenizer,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    /// How it joins two texts, if it does.
    pairs: Option<PairTemplate>,
    vocabulary_size: usize,
    cuts: Cuts,
    /// The token of what is not known.
    unknown: Option<u32>,
    /// The other special tokens, which no text stands for.
    control: Vec<u32>,
    /// The token that fills up rows, if it is for nothing else.
    padding: Option<u32>,
    /// Whether characters of private use, which people may see, are dropped.
    drops_private: bool,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json` and switches its truncation and padding off.
    ///
    /// # Errors
    /// When the file is not a tokenizer, or its post-processor does more than wrap ids in special tokens.
    pub fn from_file(path: &Path) -> Result<Self, TokenizeError> {
        let file = || path.display().to_string();
        let as_error =
            |error: tokenizers::Error| TokenizeError::File { file: file(), message: error.to_string() };
        let mut tokenizer = Tokenizer::from_file(path).map_err(as_error)?;
        let cuts_start = pairs::cuts_start(&tokenizer);
        let padding = padding_token(&tokenizer);
        tokenizer.with_truncation(None).map_err(as_error)?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let (prefix, suffix) =
            special_tokens(&tokenizer).ok_or_else(|| TokenizeError::SpecialTokens { file: file() })?;
        let pairs = PairTemplate::of(&tokenizer, cuts_start);
        // Ids may have gaps, so it is the largest that counts.
        let vocabulary_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let cuts = Cuts::of(&tokenizer);
        let unknown = unknown_token(&tokenizer);
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let control = added.filter(|(id, token)| token.special && Some(*id) != unknown);
        let control = control.map(|(id, _)| id).collect();
        // Some models fill up rows with the token at the end of texts.
        let is_of_texts = |id: &u32| prefix.contains(id) || suffix.contains(id) || Some(*id) == unknown;
        let padding = padding.filter(|id| !is_of_texts(id));
        let private = tokenizer.encode(PRIVATE.to_string(), false).map_err(as_error)?;
        let drops_private = private.get_ids().is_empty();
        let inner = Inner {
            tokenizer,
            drops_private,
            prefix,
            suffix,
            pairs,
            vocabulary_size,
            cuts,
            unknown,
            control,
            padding,
        };
        Ok(Self { inner: Arc::new(inner), is_normalizing: false, tells_segments: true })
    }

    /// The same tokenizer, which puts texts into plain characters first, or does not.
    #[must_use]
    pub fn normalizing(&self, is_normalizing: bool) -> Self {
        Self { inner: Arc::clone(&self.inner), is_normalizing, ..*self }
    }

    /// The same tokenizer, which tells the model the segments of pairs, or does not.
    #[must_use]
    pub fn telling_segments(&self, tells_segments: bool) -> Self {
        Self { inner: Arc::clone(&self.inner), tells_segments, ..*self }
    }

    /// Encodes a text of any length, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<EncodedText, TokenizeError> {
        if !self.is_normalizing {
            return self.encode_as_is(text);
        }
        let normalized = Normalizer::new(text, self.words()).finish();
        let mut encoded = self.encode_as_is(&normalized.text)?;
        for offsets in &mut encoded.offsets {
            *offsets = normalized.original(offsets.0, offsets.1);
        }
        Ok(encoded)
    }

    fn encode_as_is(&self, text: &str) -> Result<EncodedText, TokenizeError> {
        let encoding = self.inner.tokenizer.encode(text, false).map_err(|_| TokenizeError::Encode)?;
        let mut ids = encoding.get_ids().to_vec();
        // Some models have the names of their special tokens among their words.
        for id in ids.iter_mut().filter(|id| self.inner.control.contains(id)) {
            *id = self.inner.unknown.ok_or(TokenizeError::Encode)?;
        }
        let (offsets, words) = (encoding.get_offsets().to_vec(), encoding.get_word_ids().to_vec());
        Ok(EncodedText { ids, offsets, words })
    }

    /// Encodes a text until it has more than `limit` tokens, without special tokens. Gives what
    /// [`Self::encode`] gives, in memory for what is kept and one piece.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub async fn encode_within(
        &self,
        text: &str,
        keep: Keep,
        limit: usize,
        pace: &Pace,
    ) -> Result<Encoded, TokenizeError> {
        let mut found = Encoded::default();
        let (mut start, mut words) = (0, 0);
        while start < text.len() {
            let chunk = self.chunk(text, start);
            let normalized = self.normalized(&text[chunk.clone()], pace).await;
            let mut at = 0;
            while at < normalized.text.len() {
                let piece = self.inner.cuts.piece(&normalized.text, at, PIECE_BYTES);
                let read = &normalized.text[piece.clone()];
                let mut encoded = match self.long_word(read, pace).await? {
                    Some(encoded) => encoded,
                    None => self.encode_as_is(read)?,
                };
                for offsets in &mut encoded.offsets {
                    let (from, to) = normalized.original(offsets.0 + at, offsets.1 + at);
                    *offsets = (from + start, to + start);
                }
                found.tokens += encoded.ids.len();
                found.unknown += encoded.ids.iter().filter(|id| self.is_unknown(**id)).count();
                if self.inner.drops_private && !read.is_ascii() {
                    let dropped = read.chars().filter(|c| is_private(*c)).count();
                    found.dropped += dropped;
                    found.unknown += dropped;
                    found.tokens += dropped;
                }
                words = found.text.append(&encoded, words, keep);
                pace.spend(piece.len()).await;
                if found.tokens > limit {
                    return Ok(found);
                }
                at = piece.end;
            }
            start = chunk.end;
        }
        found.is_whole = true;
        Ok(found)
    }

    /// A number of tokens that a text has at least, by a look at its characters; counting ends where it is
    /// above `limit`.
    pub async fn tokens_at_least(&self, text: &str, limit: usize, pace: &Pace) -> usize {
        let (mut tokens, mut start) = (0, 0);
        while start < text.len() && tokens <= limit {
            let chunk = self.chunk(text, start);
            let normalized = self.normalized(&text[chunk.clone()], pace).await;
            let (more, bytes) = self.inner.cuts.at_least(&normalized.text, limit - tokens);
            tokens += more;
            pace.spend(bytes / SCANNED_PER_TOKENISED).await;
            start = chunk.end;
        }
        tokens
    }

    /// Whether a token stands for what the tokenizer does not know.
    pub fn is_unknown(&self, id: u32) -> bool {
        self.inner.unknown == Some(id)
    }

    /// What of a text is normalised at once: all, if it is not, or if it is not known where the tokenizer's
    /// words end.
    fn chunk(&self, text: &str, start: usize) -> Range<usize> {
        let is_whole = !self.is_normalizing || self.inner.cuts.is_unknown();
        start..if is_whole { text.len() } else { end_of_chunk(text, start) }
    }

    async fn normalized<'a>(&'a self, text: &'a str, pace: &Pace) -> Normalized<'a> {
        if !self.is_normalizing {
            return Normalized::same(text);
        }
        let mut normalizer = Normalizer::new(text, self.words());
        while normalizer.step(PIECE_BYTES) {
            pace.spend(PIECE_BYTES / NORMALIZED_PER_TOKENISED).await;
        }
        normalizer.finish()
    }

    /// Whether the parts of a word but its first are marked as such, `##` before them: its words are those of
    /// the text, parted at punctuation.
    pub fn marks_parts_of_words(&self) -> bool {
        self.words().is_some()
    }

    /// The tokenizer, if its tokens are words.
    fn words(&self) -> Option<&Tokenizer> {
        let tokenizer = &self.inner.tokenizer;
        matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)).then_some(tokenizer)
    }

    /// The ids of one window, wrapped in the model's special tokens: `[CLS] ids [SEP]` for BERT.
    pub fn with_special_tokens(&self, ids: &[u32]) -> Vec<u32> {
        [self.inner.prefix.as_slice(), ids, self.inner.suffix.as_slice()].concat()
    }

    /// How many tokens [`Self::with_special_tokens`] adds: 2 for BERT.
    pub fn special_tokens_count(&self) -> usize {
        self.inner.prefix.len() + self.inner.suffix.len()
    }

    /// How many of them come before the text's own tokens: 1 for BERT.
    pub fn special_tokens_before(&self) -> usize {
        self.inner.prefix.len()
    }

    /// The special tokens before and behind a text.
    pub fn special_tokens(&self) -> (&[u32], &[u32]) {
        (&self.inner.prefix, &self.inner.suffix)
    }

    /// Ids without the special tokens around them, if they are there.
    pub fn without_special_tokens<'t>(&self, ids: &'t [u32]) -> &'t [u32] {
        let (prefix, suffix) = self.special_tokens();
        let inner = ids.strip_prefix(prefix).and_then(|ids| ids.strip_suffix(suffix));
        inner.unwrap_or(ids)
    }

    /// Whether the special tokens are around ids, or around what is left of them without padding.
    pub fn is_wrapped(&self, ids: &[u32]) -> bool {
        let (prefix, suffix) = self.special_tokens();
        let is_text = |id: &u32| Some(*id) != self.inner.padding;
        let (start, end) = (ids.iter().position(is_text), ids.iter().rposition(is_text));
        let text = start.zip(end).and_then(|(start, end)| ids.get(start..=end)).unwrap_or_default();
        text.starts_with(prefix) && text.ends_with(suffix)
    }

    /// A token as the vocabulary has it; none if there is none of this number.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.tokenizer.id_to_token(id)
    }

    /// Whether the number is that of a token that texts have: not one that is kept free for later, such as
    /// BERT's `[unused0]`, and one at all.
    pub fn is_of_text(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| !is_unused(&token))
    }

    /// The token that fills up rows, if it is for nothing else: no text has it.
    pub fn padding(&self) -> Option<u32> {
        self.inner.padding
    }

    /// The text that tokens stand for.
    ///
    /// # Errors
    /// When the tokenizer refuses them.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizeError> {
        self.inner.tokenizer.decode(ids, skip_special_tokens).map_err(|_| TokenizeError::Encode)
    }

    /// All ids are below this; a model's embedding table must have as many rows.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.vocabulary_size
    }
}

impl EncodedText {
    /// Appends a piece whose words begin at this one; returns the word after it.
    fn append(&mut self, piece: &Self, word: u32, keep: Keep) -> u32 {
        let room = match keep {
            Keep::All | Keep::Last(_) => piece.ids.len(),
            Keep::First(count) => count.saturating_sub(self.ids.len()).min(piece.ids.len()),
        };
        self.ids.extend(&piece.ids[..room]);
        self.offsets.extend(&piece.offsets[..room]);
        self.words.extend(piece.words[..room].iter().map(|number| number.map(|number| number + word)));
        if let Keep::Last(count) = keep {
            let surplus = self.ids.len().saturating_sub(count);
            self.ids.drain(..surplus);
            self.offsets.drain(..surplus);
            self.words.drain(..surplus);
        }
        piece.words.iter().flatten().max().map_or(word, |last| word + last + 1)
    }
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TextTokenizer").field("vocabulary_size", &self.vocabulary_size()).finish()
    }
}

/// A character of private use.
const PRIVATE: char = '\u{e000}';

/// Whether a character is of private use, or stands for one that was lost before.
fn is_private(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fffd}' | '\u{f0000}'..='\u{ffffd}' | '\u{100000}'..='\u{10fffd}')
}

/// Whether a token is one of those that BERT's vocabularies keep free.
fn is_unused(token: &str) -> bool {
    let number = token.strip_prefix("[unused").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The token that a model gives for what it does not know, if it has one.
fn unknown_token(tokenizer: &Tokenizer) -> Option<u32> {
    let name = match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => model.unk_token.as_str(),
        ModelWrapper::WordLevel(model) => model.unk_token.as_str(),
        ModelWrapper::BPE(model) => model.unk_token.as_deref()?,
        // It has the number alone, which is not shown.
        ModelWrapper::Unigram(_) => "<unk>",
    };
    tokenizer.token_to_id(name)
}

/// The token that fills up rows: the one that the file fills up with, or else one of the usual name.
fn padding_token(tokenizer: &Tokenizer) -> Option<u32> {
    let stated = tokenizer.get_padding().map(|padding| padding.pad_token.as_str());
    stated.into_iter().chain(["[PAD]", "<pad>"]).find_map(|name| tokenizer.token_to_id(name))
}

/// The ids the post-processor puts before and after a sequence, found by encoding a probe both ways: this
/// holds for every post-processor that wraps, whatever its special tokens are called.
fn special_tokens(tokenizer: &Tokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    let plain = tokenizer.encode("a", false).ok()?;
    let wrapped = tokenizer.encode("a", true).ok()?;
    let (plain, wrapped) = (plain.get_ids(), wrapped.get_ids());
    let start = wrapped.windows(plain.len().max(1)).position(|window| window == plain)?;
    Some((wrapped[..start].to_vec(), wrapped[start + plain.len()..].to_vec()))
}
