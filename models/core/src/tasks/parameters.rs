//! The parameters of each task, defined once: the structs that the tasks read, their defaults, and what
//! protocols make of them.
//!
//! `with_parameters!` hands the definition of one task to another macro. A protocol that writes a macro for
//! one field has all fields of all tasks, and a field that is added here is in every protocol, or does not
//! compile there.

use crate::card::Limits;
use crate::tasks::{Aggregation, OffsetUnit, Operation, SummaryMethod, Truncation};

/// Hands the parameters of a task to the macro `then`, after whatever else is given for it:
/// `then! { [given] /// doc struct Name { /// doc field: Type = default, … } }`.
#[macro_export]
macro_rules! with_parameters {
    (Classify, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of document classification.
        struct ClassifyParameters {
            /// How many labels to give; all if `None`.
            top_k: Option<usize> = None,
            /// The caller's own labels (zero-shot) instead of the model's.
            labels: Option<Vec<String>> = None,
            /// Score every label by itself rather than against the others.
            multi_label: bool = false,
            /// What happens to a text that is longer than one window.
            truncation: Truncation = Truncation::Stride,
        }
    } };
    (Sentiment, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of sentiment analysis.
        struct SentimentParameters {
            /// What happens to a text that is longer than one window.
            truncation: Truncation = Truncation::Stride,
        }
    } };
    (Entities, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of named-entity recognition.
        struct EntitiesParameters {
            /// How tokens become entities.
            aggregation: Aggregation = Aggregation::First,
            /// Unit of `start` and `end`.
            offset_unit: OffsetUnit = OffsetUnit::Codepoint,
            /// What happens to a text that is longer than one window.
            truncation: Truncation = Truncation::Stride,
        }
    } };
    (Summarize, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of summarization.
        struct SummarizeParameters {
            /// Most sentences in a summary.
            max_sentences: usize = 3,
            /// Most tokens in a summary, without special tokens.
            max_tokens: Option<usize> = None,
            /// How it is made.
            method: SummaryMethod = SummaryMethod::Auto,
            /// Unit of `start` and `end`.
            offset_unit: OffsetUnit = OffsetUnit::Codepoint,
        }
    } };
    (Embed, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of embedding.
        struct EmbedParameters {
            /// Keep only the first dimensions; all if `None`.
            dimensions: Option<usize> = None,
            /// Scale vectors to length one.
            normalize: bool = true,
            /// Whether texts are put into plain characters first; as the card says if `None`.
            normalize_text: Option<bool> = None,
            /// Name of the prompt that is put before each text; as the card says if `None`.
            prompt_name: Option<String> = None,
            /// What happens to a text that is longer than one window.
            truncation: Truncation = Truncation::Error,
        }
    } };
    (Rerank, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of reranking. The inputs are the documents.
        struct RerankParameters {
            /// What the documents are to answer.
            query: String = String::new(),
            /// Whether a reranker gives its logits (true) or their sigmoid (false); its own score if `None`.
            /// An embedding model's score is a cosine in any case.
            raw_scores: Option<bool> = None,
            /// What happens to a text that is longer than one window. A reranker reads query and document in
            /// one window, of which `stride` cuts what its tokenizer cuts.
            truncation: Truncation = Truncation::Stride,
        }
    } };
    (Similarity, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of similarity.
        struct SimilarityParameters {
            /// The text that each input is compared with.
            reference: String = String::new(),
            /// What happens to a text that is longer than one window.
            truncation: Truncation = Truncation::Stride,
        }
    } };
    (Tokenize, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of tokenising.
        struct TokenizeParameters {
            /// Whether the special tokens are there that the model reads around a text.
            add_special_tokens: bool = true,
            /// Unit of `start` and `end`.
            offset_unit: OffsetUnit = OffsetUnit::Codepoint,
        }
    } };
    (Detokenize, $then:ident $($given:tt)*) => { $then! { [$($given)*]
        /// Parameters of making text of tokens.
        struct DetokenizeParameters {
            /// Whether special tokens are left out.
            skip_special_tokens: bool = true,
        }
    } };
}

macro_rules! define {
    ([] $(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

with_parameters!(Classify, define);
with_parameters!(Sentiment, define);
with_parameters!(Entities, define);
with_parameters!(Summarize, define);
with_parameters!(Embed, define);
with_parameters!(Rerank, define);
with_parameters!(Similarity, define);
with_parameters!(Tokenize, define);
with_parameters!(Detokenize, define);

/// Parameters of vectors of single tokens, which dialects of other servers have and our own API has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedTokensParameters {
    /// Keep only the first dimensions; all if `None`.
    pub dimensions: Option<usize>,
    /// Scale vectors to length one.
    pub normalize: bool,
    /// Name of the prompt that is put before each text; as the card says if `None`.
    pub prompt_name: Option<String>,
    /// What happens to a text that is longer than one window, which is never read in several.
    pub truncation: Truncation,
    /// Most vectors of a call.
    pub vectors_max: usize,
}

impl Default for EmbedTokensParameters {
    fn default() -> Self {
        let truncation = Truncation::Error;
        Self { dimensions: None, normalize: false, prompt_name: None, truncation, vectors_max: usize::MAX }
    }
}

/// What to do with the inputs, by task.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// Sort documents into classes.
    Classify(ClassifyParameters),
    /// Find the mood.
    Sentiment(SentimentParameters),
    /// Find names.
    Entities(EntitiesParameters),
    /// Shorten.
    Summarize(SummarizeParameters),
    /// Map to vectors.
    Embed(EmbedParameters),
    /// Map each token to a vector.
    EmbedTokens(EmbedTokensParameters),
    /// Score documents by a query.
    Rerank(RerankParameters),
    /// Compare with another text.
    Similarity(SimilarityParameters),
    /// Show the tokens.
    Tokenize(TokenizeParameters),
    /// Make text of tokens.
    Detokenize(DetokenizeParameters),
}

impl Parameters {
    /// What is asked for.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Classify(_) => Operation::Classify,
            Self::Sentiment(_) => Operation::Sentiment,
            Self::Entities(_) => Operation::Entities,
            Self::Summarize(_) => Operation::Summarize,
            Self::Embed(_) | Self::EmbedTokens(_) => Operation::Embed,
            Self::Rerank(_) => Operation::Rerank,
            Self::Similarity(_) => Operation::Similarity,
            Self::Tokenize(_) => Operation::Tokenize,
            Self::Detokenize(_) => Operation::Detokenize,
        }
    }

    /// The most tokens that are computed of one input, however long it is: those beyond are read and cut off,
    /// or refused.
    pub fn computed_tokens_max(&self, limits: &Limits) -> usize {
        let truncation = match self {
            Self::Classify(classify) => classify.truncation,
            Self::Sentiment(sentiment) => sentiment.truncation,
            Self::Entities(entities) => entities.truncation,
            Self::Embed(embed) => embed.truncation,
            Self::EmbedTokens(embed) => embed.truncation,
            Self::Rerank(rerank) => rerank.truncation,
            Self::Similarity(similarity) => similarity.truncation,
            Self::Summarize(_) => Truncation::Stride,
            Self::Tokenize(_) | Self::Detokenize(_) => return 0,
        };
        match truncation {
            Truncation::Stride => limits.document_tokens_max,
            Truncation::Error | Truncation::Start | Truncation::End => limits.tokens_max,
        }
    }

    /// Bytes of the texts that are read beside the inputs.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Classify(classify) => classify.labels.iter().flatten().map(String::len).sum(),
            Self::Rerank(rerank) => rerank.query.len(),
            Self::Similarity(similarity) => similarity.reference.len(),
            Self::Sentiment(_)
            | Self::Entities(_)
            | Self::Summarize(_)
            | Self::Embed(_)
            | Self::EmbedTokens(_)
            | Self::Tokenize(_)
            | Self::Detokenize(_) => 0,
        }
    }

    /// The parameters of an operation, each its default.
    pub fn default_of(operation: Operation) -> Self {
        match operation {
            Operation::Classify => Self::Classify(Default::default()),
            Operation::Sentiment => Self::Sentiment(Default::default()),
            Operation::Entities => Self::Entities(Default::default()),
            Operation::Summarize => Self::Summarize(Default::default()),
            Operation::Embed => Self::Embed(Default::default()),
            Operation::Rerank => Self::Rerank(Default::default()),
            Operation::Similarity => Self::Similarity(Default::default()),
            Operation::Tokenize => Self::Tokenize(Default::default()),
            Operation::Detokenize => Self::Detokenize(Default::default()),
        }
    }
}
