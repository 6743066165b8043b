//! What is asked of a task and what it answers, in no protocol's terms.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod operation;
mod parameters;

pub use operation::Operation;
pub use parameters::{
    ClassifyParameters, DetokenizeParameters, EmbedParameters, EmbedTokensParameters, EntitiesParameters,
    Parameters, RerankParameters, SentimentParameters, SimilarityParameters, SummarizeParameters,
    TokenizeParameters,
};

/// Most inputs of one call, whatever is configured: who reads calls reads no more.
pub const INPUTS_MAX: usize = 65_536;

/// One input of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A text as it was sent.
    Text(String),
    /// Ids of the model's own tokenizer, with or without the special tokens that it puts around a text.
    Tokens(Vec<u32>),
}

impl Input {
    /// How large it is, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(ids) => size_of_val(ids.as_slice()),
        }
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What happens to a text longer than one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// It is read whole, in overlapping windows whose results are merged.
    Stride,
    /// It is refused.
    Error,
    /// Its end is cut off.
    End,
    /// Its start is cut off.
    Start,
}

/// How tokens become entities; names and meanings as in Hugging Face's token-classification pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// Every token by itself.
    None,
    /// Neighbouring tokens of one type.
    Simple,
    /// Words, labelled as their first token is.
    #[default]
    First,
    /// Words, labelled by the mean of their tokens' probabilities.
    Average,
    /// Words, labelled as their most certain token is.
    Max,
}

/// Unit of offsets into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OffsetUnit {
    /// Unicode codepoints: Python's strings.
    #[default]
    Codepoint,
    /// Bytes of UTF-8: Rust's and Go's strings.
    Byte,
    /// UTF-16 code units: JavaScript's and Java's strings.
    Utf16,
}

/// How a summary is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SummaryMethod {
    /// The best the model offers.
    #[default]
    Auto,
    /// Sentences of the document.
    Extractive,
    /// Newly worded.
    Abstractive,
}

/// What a fault of one input does to its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The call fails with it.
    #[default]
    Fail,
    /// The input has an error in the place of its result; the others are computed.
    Partial,
}

/// Inputs of a call that have an error in the place of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    /// Refused by a look at them.
    pub before_work: usize,
    /// Refused after texts were worked on for them.
    pub after_work: usize,
}

impl Refusals {
    /// Counts one refused input.
    pub fn add(&mut self, has_worked: bool) {
        let count = if has_worked { &mut self.after_work } else { &mut self.before_work };
        *count += 1;
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.before_work + self.after_work
    }
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRequest {
    /// Texts or token ids, answered in this order.
    pub inputs: Vec<Input>,
    /// What to do with them.
    pub parameters: Parameters,
    /// What a fault of one of them does to the others.
    pub on_error: OnError,
    /// How many there may be; as the card says if `None`.
    pub inputs_max: Option<usize>,
}

/// The results of a request, one for each input, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The results; an error is that input's alone, and only with [`OnError::Partial`].
    pub results: Vec<Result<TaskResult, InputError>>,
}

/// The result for one input.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResult {
    /// What was found.
    pub output: Output,
    /// Tokens of the input with its special tokens, each counted once however many windows overlap.
    pub tokens: usize,
    /// Whether some of them were not read.
    pub truncated: bool,
    /// Windows read.
    pub windows: usize,
    /// Tokens of the input that stand for what the model does not know, such as the words of a script that it
    /// never saw, and characters of private use, which some tokenizers drop. They are among `tokens`.
    pub unknown_tokens: usize,
    /// Whether nothing that was read is known to the model, so that its result says nothing of the text.
    pub nothing_recognized: bool,
}

/// What was found, by task.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Classes, best first.
    Labels(Vec<LabelScore>),
    /// The mood.
    Sentiment(Sentiment),
    /// Names, in the order of the text.
    Entities(Vec<Entity>),
    /// Sentences that carry the document.
    Summary(Summary),
    /// The vector.
    Embedding(Vec<f32>),
    /// A vector for each token that was read, special tokens included.
    TokenEmbeddings(Vec<Vec<f32>>),
    /// How near the input is to what the call compares it with: the cosine of their vectors, from -1 to 1.
    Similarity(f32),
    /// The input's tokens.
    Tokens(Vec<Token>),
    /// The text that tokens stand for.
    Text(String),
}

/// One token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: u32,
    /// It as the vocabulary has it.
    pub text: String,
    /// Whether the tokenizer put it there.
    pub is_special: bool,
    /// Where it starts and ends in the text, in the unit asked for; none of a special one.
    pub span: Option<(usize, usize)>,
}

/// A label with its probability.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LabelScore {
    /// One of the card's labels.
    pub label: Arc<str>,
    /// From 0 to 1.
    pub score: f32,
    /// What the score is made of: before softmax, or before the sigmoid where labels are scored one by one.
    #[serde(skip)]
    pub logit: f32,
}

/// The mood of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentiment {
    /// The most probable label.
    pub label: Arc<str>,
    /// Its probability.
    pub score: f32,
    /// All labels in the order of the card.
    pub scores: Vec<LabelScore>,
}

/// A name in a text. The slice of the text from `start` to `end` is `text`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Entity {
    /// The name as it stands in the text.
    pub text: String,
    /// Its type, such as `PER`; of a token by itself the model's label, such as `B-PER`.
    pub label: Arc<str>,
    /// Where it starts, in the unit asked for.
    pub start: usize,
    /// Where it ends, exclusive.
    pub end: usize,
    /// Mean probability of its parts.
    pub score: f32,
}

/// A shortened text.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// The summary: its sentences, joined by spaces, line breaks inside them folded.
    pub summary: String,
    /// How it was made.
    pub method: SummaryMethod,
    /// Its sentences in the order of the text.
    pub sentences: Vec<SummarySentence>,
}

/// A sentence of a text. The slice of the text from `start` to `end` is `text`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SummarySentence {
    /// The sentence as it stands in the text.
    pub text: String,
    /// Where it starts, in the unit asked for.
    pub start: usize,
    /// Where it ends, exclusive.
    pub end: usize,
}

/// What a length limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthUnit {
    /// Tokens, special tokens included.
    Tokens,
    /// Words between spaces.
    Words,
}

/// Why a request cannot be run. Names inputs by index and never quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// There are no inputs.
    #[error("inputs is empty: send at least one text")]
    None,
    /// There are too many.
    #[error("inputs has {inputs} texts, the limit is {limit}")]
    TooMany {
        /// Texts sent.
        inputs: usize,
        /// Texts allowed.
        limit: usize,
    },
    /// An input has no content.
    #[error("inputs[{index}] is empty")]
    Empty {
        /// Position of the input in the call, from 0.
        index: usize,
    },
    /// An input has characters, but none that is seen.
    #[error(
        "inputs[{index}] has only characters that are not seen: white space, controls or zero-width characters"
    )]
    Invisible {
        /// Position of the input in the call, from 0.
        index: usize,
    },
    /// An input has a NUL character.
    #[error("inputs[{index}] contains a NUL character at codepoint {offset}")]
    Nul {
        /// Position of the input in the call, from 0.
        index: usize,
        /// Codepoints before it.
        offset: usize,
    },
    /// An input is too long.
    #[error(
        "inputs[{index}] has {}{length} {}, the limit is {limit}{}: {remedy}",
        if *.is_counted { "" } else { "at least " }, .unit.name(), .unit.hint()
    )]
    TooLong {
        /// Position of the input in the call, from 0.
        index: usize,
        /// Length found, in the unit of the limit.
        length: usize,
        /// Whether it was counted to the end; otherwise it is at least so long.
        is_counted: bool,
        /// The longest allowed.
        limit: usize,
        /// What is counted.
        unit: LengthUnit,
        /// How it can be read.
        remedy: Remedy,
    },
    /// The tokens that are to have vectors are too many.
    #[error(
        "inputs has {vectors} tokens or more in all, the limit for vectors of single tokens is {limit}: send fewer at once"
    )]
    TooManyVectors {
        /// Tokens found.
        vectors: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// A parameter's value makes no sense for this model.
    #[error("parameters.{name}: {message}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The tokenizer refused an input.
    #[error("inputs[{index}] could not be tokenized")]
    Tokenize {
        /// Position of the input in the call, from 0.
        index: usize,
    },
    /// An input is token ids where a text is needed, or a text where they are.
    #[error("inputs[{index}] is {found}, and this needs {needed}")]
    Form {
        /// Position of the input in the call, from 0.
        index: usize,
        /// Kind of input that was sent.
        found: &'static str,
        /// Kind of input that the operation takes.
        needed: &'static str,
    },
    /// An id is not one of the model's tokenizer.
    #[error(
        "inputs[{index}] has the token id {id}, which no text has in the model's tokenizer: these are ids of another one, so send the text itself (with LangChain's OpenAIEmbeddings, check_embedding_ctx_length=False)"
    )]
    ForeignToken {
        /// Position of the input in the call, from 0.
        index: usize,
        /// Token id that the vocabulary lacks.
        id: u32,
    },
    /// An id is that of padding, which would be read as a part of the text.
    #[error(
        "inputs[{index}] has the token id {id}, with which the model's tokenizer fills up rows and which no text has: leave it out, or mask it where there is an attention_mask"
    )]
    Padding {
        /// Position of the input in the call, from 0.
        index: usize,
        /// Token id of padding.
        id: u32,
    },
}

/// How a text can be read that is too long as the call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// In windows, by the parameter `truncation`, up to a limit of tokens.
    Windows {
        /// The longest text that is read so.
        limit: usize,
    },
    /// In part, by the parameter `truncation`.
    Part,
    /// In several inputs: the task has no parameter that cuts a text.
    Inputs,
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Windows { limit } => write!(
                f,
                "parameters.truncation \"stride\" reads it whole (up to {limit} tokens), \"end\" or \"start\" cuts it off there"
            ),
            Self::Part => f.write_str("parameters.truncation \"end\" or \"start\" cuts it off there"),
            Self::Inputs => f.write_str("send it in parts, there is no parameter that cuts it"),
        }
    }
}

impl LengthUnit {
    const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Words => "words",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Tokens => " (special tokens included)",
            Self::Words => "",
        }
    }
}

impl InputError {
    /// The field of the request that is wrong, such as `inputs[3]`.
    pub fn field(&self) -> String {
        match self {
            Self::None | Self::TooMany { .. } | Self::TooManyVectors { .. } => "inputs".to_owned(),
            Self::Empty { index }
            | Self::Invisible { index }
            | Self::Nul { index, .. }
            | Self::TooLong { index, .. }
            | Self::Tokenize { index }
            | Self::Form { index, .. }
            | Self::ForeignToken { index, .. }
            | Self::Padding { index, .. } => format!("inputs[{index}]"),
            Self::Parameter { name, .. } => format!("parameters.{name}"),
        }
    }
}

/// Why outputs are not an answer: a fault of the service, not of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is not one output for each job.
    #[error("{found} outputs for {expected} jobs")]
    Count {
        /// Outputs given.
        found: usize,
        /// Jobs taken.
        expected: usize,
    },
    /// An output has another shape than the model's head gives.
    #[error("output {job} has {found:?} rows and columns, expected {expected:?}")]
    Shape {
        /// Position of the job in its call, from 0.
        job: usize,
        /// Its rows and columns.
        found: (usize, usize),
        /// What they should be.
        expected: (usize, usize),
    },
    /// An output holds a value that is not finite.
    #[error("output {job} holds a value that is not finite")]
    NotFinite {
        /// Position of the job in its call, from 0.
        job: usize,
    },
}
