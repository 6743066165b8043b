//! Model cards: the Hugging Face card of a model, whose front matter is the manifest this server reads.
//!
//! A card is `model-cards/<name>/README.md`. Its YAML front matter keeps the hub's own keys (`license`,
//! `base_model`, `pipeline_tag`, …), of which unknown ones are left alone, and one key of ours,
//! `ml_inference`, in which an unknown key is an error. Every path in a card is relative to the card's folder
//! (or to the model's repository) and stays inside it. Format of the hub's part:
//! <https://huggingface.co/docs/hub/model-cards>.

mod digest;
mod head;
mod manifest;
mod prompts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use digest::Sha256Digest;
pub use head::{ClassifierSource, Head, HeadFile, Module, Pooling, PoolingHead, ScoreFunction};
pub use prompts::{PromptKind, Prompts, UnknownPrompt};
pub use units::MicroDollars;

use crate::kinds::{Architecture, Dtype, RuntimeKind};

/// Encoder weights among the files of a [`Source`].
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Tokenizer among the files of a [`Source`].
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Architecture sizes among the files of a [`Source`].
pub const CONFIG_FILE: &str = "config.json";

/// Everything the server knows about a model before it reads a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Unique name, which is also the card's folder: lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Version of the model, given back with every answer.
    pub version: String,
    /// What it does.
    pub task: Task,
    /// What computes it.
    pub runtime: RuntimeKind,
    /// What it is computed in.
    pub dtype: Dtype,
    /// The encoder's architecture.
    pub architecture: Architecture,
    /// Where the base encoder, its sizes and its tokenizer come from.
    pub source: Source,
    /// Low-rank weights merged into the base encoder at load.
    pub adapter: Option<Adapter>,
    /// What turns hidden states into results.
    pub head: Head,
    /// Names of a classifier's outputs in the order of its rows; empty for heads without classes.
    pub labels: Vec<String>,
    /// What makes scores of a classifier's logits.
    pub score_function: ScoreFunction,
    /// What is put before texts that are embedded.
    pub prompts: Prompts,
    /// What one request may ask for.
    pub limits: Limits,
    /// 99 % of requests are to be answered within this time.
    pub p99_target: Duration,
    /// Whether the target is a deadline too: what cannot be answered within it is refused.
    pub p99_target_is_deadline: bool,
    /// What 1,000 inputs cost, in micro-dollars.
    pub price_per_1000_requests: MicroDollars,
    /// SPDX identifier of the weights' licence, from the hub's key `license`.
    pub license: String,
    /// The model this one was trained from, from the hub's key `base_model`.
    pub base_model: Option<String>,
    /// How a classifier scores label names that the caller brings.
    pub zero_shot: Option<ZeroShot>,
    /// How a classifier scores each of its own classes by itself; `None` if it cannot: trained to exclude
    /// each other, the outputs of classes are no probabilities one by one.
    pub multi_label: Option<MultiLabel>,
    /// Whether texts are put into plain characters before they are tokenised: symbols as words of their own,
    /// ligatures and wide letters as letters (the module `tokenizer::normalized`). It departs from the
    /// checkpoint's own tokenizer. For embeddings a call may say otherwise.
    pub normalize_text: bool,
    /// Whether it answers where the caller names no model for the task.
    pub is_default: bool,
    /// Whether the server is not ready without it.
    pub is_required: bool,
    /// How the authors of an encoder pool, where no file of theirs says it.
    pub pooling: Option<Pooling>,
    /// Names, or what names begin with, of tensors in the weights file that the answers are made without.
    pub ignore_tensors: Vec<String>,
    /// The card's folder: where adapter and head files are.
    pub folder: PathBuf,
}

/// What a model does; decides the shape of its parameters and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Task {
    /// Sorts documents into classes.
    #[serde(rename = "document-classification")]
    Classify,
    /// Finds the mood of a text.
    #[serde(rename = "sentiment")]
    Sentiment,
    /// Finds names in a text.
    #[serde(rename = "entities")]
    Entities,
    /// Shortens a document to its main sentences.
    #[serde(rename = "summarization")]
    Summarize,
    /// Turns a text into a vector.
    #[serde(rename = "embeddings")]
    Embed,
    /// Scores how well a document answers a query, both read at once.
    #[serde(rename = "rerank")]
    Rerank,
}

/// Where a model's files come from, and what they must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The place.
    pub origin: Origin,
    /// Each file with the digest it must have. Holds at least [`WEIGHTS_FILE`], [`TOKENIZER_FILE`] and
    /// [`CONFIG_FILE`].
    pub files: BTreeMap<String, Sha256Digest>,
}

/// A place that has a model's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A folder beside the card.
    Folder(PathBuf),
    /// A repository of the model hub, and a Python package that carries the same files.
    Repository {
        /// `owner/name`.
        repository: String,
        /// A commit, so that the files cannot change behind the card's back.
        revision: String,
        /// A second place, for machines from which the hub cannot be reached.
        package: Option<Package>,
    },
}

/// A package of a package registry that carries a model's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Where the revision is looked up.
    pub registry: Registry,
    /// Name of the package.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// Folder of the model's files inside the package.
    pub folder: String,
}

/// A package registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    /// The Python package index, or the mirror that `pip` is configured for.
    Pypi,
}

/// Low-rank weights in the layout of PEFT
/// (<https://huggingface.co/docs/peft/main/en/developer_guides/checkpoint>).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// The weights, `*.lora_A.weight [r, in]` and `*.lora_B.weight [out, r]`.
    pub file: PathBuf,
    /// Rank and scale.
    pub config: PathBuf,
    /// Digest of the weights.
    pub sha256: Sha256Digest,
    /// Digest of `config`, which scales the weights. None: it is not looked at.
    pub config_sha256: Option<Sha256Digest>,
}

/// What one request may ask of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tokens the model reads at once, special tokens included.
    pub tokens_max: usize,
    /// Tokens that neighbouring windows of a longer text share.
    pub window_overlap: usize,
    /// Tokens of the longest text, read in windows.
    pub document_tokens_max: usize,
    /// Words of the longest text, where the model counts words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_words_max: Option<usize>,
    /// Texts in one request.
    pub inputs_max: usize,
}

/// Scoring of label names that the caller brings.
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroShot {
    /// What is read for a label; `{label}` stands for its name.
    pub template: String,
    /// How.
    pub method: ZeroShotMethod,
}

/// How label names that the caller brings are scored.
#[derive(Debug, Clone, PartialEq)]
pub enum ZeroShotMethod {
    /// By similarity of embeddings.
    Similarity {
        /// Name of the embedding model.
        model: String,
        /// Factor from cosine similarity to logit.
        scale: f32,
    },
    /// By whether the text entails the template, by this model's own classes (Yin et al., 2019).
    Entailment {
        /// The class of hypotheses that follow, by its place among the labels.
        entailment: usize,
        /// That of those that cannot be true.
        contradiction: usize,
    },
}

/// How a classifier scores each of its classes by itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiLabel {
    /// It was trained to, one class against the rest (transformers'
    /// `problem_type: multi_label_classification`): a class has the sigmoid of its logit.
    Independent,
    /// By a calibration: a class has the sigmoid of a weighted sum of all logits and a bias, one against the
    /// rest.
    Calibrated(Calibration),
}

/// Matrix scaling of logits (Guo et al., "On Calibration of Modern Neural Networks", 2017), fitted on texts
/// of all classes and of none.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// For each class the weights of all logits, `[C][C]`.
    pub weights: Vec<Vec<f32>>,
    /// For each class.
    pub biases: Vec<f32>,
}

/// Why a card cannot be used; names the file, and the field where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The file could not be read.
    #[error("{file}: {source}")]
    Read {
        /// The card.
        file: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file does not begin with a front matter.
    #[error("{file}: does not begin with a front matter between two lines of ---")]
    NoFrontMatter {
        /// The card.
        file: String,
    },
    /// A field is missing, unknown, of the wrong type or has a value that makes no sense.
    #[error("{file}: {field}: {message}")]
    Field {
        /// The card.
        file: String,
        /// Path of the field in the front matter.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Card {
    /// Whether it reads two texts at once: a document with a query, or with a hypothesis.
    pub fn reads_pairs(&self) -> bool {
        let is_entailed = |zero_shot: &ZeroShot| zero_shot.model().is_none();
        self.task == Task::Rerank || self.zero_shot.as_ref().is_some_and(is_entailed)
    }
}

impl ZeroShot {
    /// The embedding model that it takes, if it does.
    pub fn model(&self) -> Option<&str> {
        match &self.method {
            ZeroShotMethod::Similarity { model, .. } => Some(model),
            ZeroShotMethod::Entailment { .. } => None,
        }
    }
}

impl Task {
    /// Every task, in the order in which they are listed.
    pub const ALL: [Task; 6] =
        [Task::Classify, Task::Sentiment, Task::Entities, Task::Summarize, Task::Embed, Task::Rerank];

    /// The name used in cards and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Task::Classify => "document-classification",
            Task::Sentiment => "sentiment",
            Task::Entities => "entities",
            Task::Summarize => "summarization",
            Task::Embed => "embeddings",
            Task::Rerank => "rerank",
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Folder(folder) => write!(formatter, "{}", folder.display()),
            Origin::Repository { repository, revision, .. } => write!(formatter, "{repository}@{revision}"),
        }
    }
}
