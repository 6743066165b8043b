//! What makes results of hidden states, as a card says it.

use std::path::PathBuf;

use serde::Deserialize;

use super::Sha256Digest;

/// What turns hidden states `[T, H]` into results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A vector of each sequence.
    Pooling(PoolingHead),
    /// Class logits of each sequence, `[B, C]`.
    SequenceClassification(ClassifierSource),
    /// Class logits of each token, `[T, C]`.
    TokenClassification(ClassifierSource),
}

/// A vector of each sequence, as sentence-transformers makes one
/// (<https://sbert.net/docs/sentence_transformer/usage/custom_models.html>): hidden states pooled, and what
/// comes behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolingHead {
    /// Ways to pool, whose vectors are put one behind the other: never none.
    pub pooling: Vec<Pooling>,
    /// Whether the tokens of a prompt are pooled with those of the text.
    pub includes_prompt: bool,
    /// Behind the pooling, in order.
    pub modules: Vec<Module>,
}

/// How hidden states of a sequence's tokens become one vector. Special tokens are tokens as any others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// That of the first token, behind a prompt that is not pooled.
    Cls,
    /// The largest number in each column.
    Max,
    /// Their mean.
    Mean,
    /// Their sum by the square root of their number.
    #[serde(rename = "mean_sqrt_len_tokens", alias = "mean_sqrt_len")]
    MeanSqrtLen,
    /// Their mean, the first weighted by 1, the next by 2 and so on (Muennighoff, "SGPT", 2022).
    #[serde(rename = "weightedmean")]
    WeightedMean,
    /// That of the last token.
    #[serde(rename = "lasttoken")]
    LastToken,
}

/// What is done to a pooled vector. Folders are the module's in the checkpoint, such as `2_Dense`, whose
/// `config.json` and `model.safetensors` are among the source's files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// A linear layer with an activation.
    Dense(PathBuf),
    /// A layer normalisation.
    LayerNorm(PathBuf),
    /// The vector scaled to length one. As the last module it is left to the call, which has it so unless it
    /// says otherwise.
    Normalize,
}

/// Where a classifier's weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassifierSource {
    /// In a file of their own: a classifier of the mean of the hidden states, or of each.
    File(HeadFile),
    /// Among the checkpoint's own, as its architecture has them.
    Checkpoint,
}

/// A head's weights: `classifier.weight [C, H]`, `classifier.bias [C]` and, if the head has a hidden layer
/// with tanh, `dense.weight [H, H]` and `dense.bias [H]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadFile {
    /// Relative to the card's folder, or to the source's.
    pub file: PathBuf,
    /// What the file must have on every start.
    pub sha256: Sha256Digest,
}

/// What makes a score of a logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreFunction {
    /// Against the logits of the other classes: they exclude each other.
    #[default]
    Softmax,
    /// Each by itself: `problem_type: multi_label_classification`, and most rerankers.
    Sigmoid,
    /// The logit is the score: `problem_type: regression`, and rerankers whose `activation_fn` says so.
    Identity,
}

impl ScoreFunction {
    /// The name in cards.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
            Self::Identity => "identity",
        }
    }
}

impl Head {
    /// The name used in cards.
    pub fn name(&self) -> &'static str {
        match self {
            Head::Pooling(head) if *head == PoolingHead::mean() => "mean_pooling",
            Head::Pooling(_) => "pooling",
            Head::SequenceClassification(_) => "sequence_classification",
            Head::TokenClassification(_) => "token_classification",
        }
    }

    /// The weights of the head, if it has any in a file of their own.
    pub fn weights(&self) -> Option<&HeadFile> {
        match self {
            Head::SequenceClassification(ClassifierSource::File(file))
            | Head::TokenClassification(ClassifierSource::File(file)) => Some(file),
            Head::Pooling(_) | Head::SequenceClassification(_) | Head::TokenClassification(_) => None,
        }
    }

    /// How it pools, if that is all it does but for a scale.
    pub fn pooling(&self) -> Option<&PoolingHead> {
        match self {
            Head::Pooling(head) => Some(head),
            Head::SequenceClassification(_) | Head::TokenClassification(_) => None,
        }
    }

    /// Whether its weights are among the checkpoint's own.
    pub fn is_of_checkpoint(&self) -> bool {
        matches!(
            self,
            Head::SequenceClassification(ClassifierSource::Checkpoint)
                | Head::TokenClassification(ClassifierSource::Checkpoint)
        )
    }

    /// Whether the head gives one row per token rather than one per sequence.
    pub fn is_per_token(&self) -> bool {
        matches!(self, Head::TokenClassification(_))
    }
}

impl PoolingHead {
    /// The mean over all tokens, and nothing behind it.
    pub fn mean() -> Self {
        Self { pooling: vec![Pooling::Mean], includes_prompt: true, modules: Vec::new() }
    }
}

impl Pooling {
    /// All there are, in the order in which sentence-transformers puts their vectors.
    pub const ALL: [Self; 6] =
        [Self::Cls, Self::Max, Self::Mean, Self::MeanSqrtLen, Self::WeightedMean, Self::LastToken];

    /// The name in cards and in sentence-transformers' `pooling_mode`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::LastToken => "lasttoken",
        }
    }
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
