//! Text to token ids, without truncation and without padding.
//!
//! The tokenizer files of sentence-transformers models carry a truncation and a fixed padding of 128 tokens; both are
//! switched off here, because windows are planned by [`crate::tasks`] and batches are ragged.

use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer;

/// A model's tokenizer. Cheap to clone; encoding takes `&self` and may run on many threads.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Arc<Inner>,
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

/// Why a text, or a tokenizer file, could not be used. No variant carries input text.
#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    /// The tokenizer file could not be read.
    #[error("tokenizer file {file}: {message}")]
    File {
        /// The file.
        file: String,
        /// What the reader said.
        message: String,
    },
    /// The file's post-processor does not wrap a sequence in fixed special tokens.
    #[error("tokenizer file {file}: adding special tokens does not wrap the ids of a text unchanged")]
    SpecialTokens {
        /// The file.
        file: String,
    },
    /// The tokenizer refused a text.
    #[error("the tokenizer could not encode the input")]
    Encode,
}

struct Inner {
    tokenizer: Tokenizer,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    vocabulary_size: usize,
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
        tokenizer.with_truncation(None).map_err(as_error)?;
        tokenizer.with_padding(None);
        let (prefix, suffix) =
            special_tokens(&tokenizer).ok_or_else(|| TokenizeError::SpecialTokens { file: file() })?;
        // Ids may have gaps, so it is the largest that counts.
        let vocabulary_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Ok(Self { inner: Arc::new(Inner { tokenizer, prefix, suffix, vocabulary_size }) })
    }

    /// Encodes a text of any length, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<EncodedText, TokenizeError> {
        let encoding = self.inner.tokenizer.encode(text, false).map_err(|_| TokenizeError::Encode)?;
        Ok(EncodedText {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
            words: encoding.get_word_ids().to_vec(),
        })
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

    /// All ids are below this; a model's embedding table must have as many rows.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.vocabulary_size
    }
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TextTokenizer").field("vocabulary_size", &self.vocabulary_size()).finish()
    }
}

/// The ids the post-processor puts before and after a sequence, found by encoding a probe both ways: this holds for
/// every post-processor that wraps, whatever its special tokens are called.
fn special_tokens(tokenizer: &Tokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    let plain = tokenizer.encode("a", false).ok()?;
    let wrapped = tokenizer.encode("a", true).ok()?;
    let (plain, wrapped) = (plain.get_ids(), wrapped.get_ids());
    let start = wrapped.windows(plain.len().max(1)).position(|window| window == plain)?;
    Some((wrapped[..start].to_vec(), wrapped[start + plain.len()..].to_vec()))
}
