//! Weights of heads: what turns last hidden states into results.

use super::LinearWeights;
use super::tensors::TensorFile;
use crate::card::{Card, Head, HeadFile};
use crate::error::ModelError;
use crate::files;

/// What is computed from the last hidden states `[T, H]`.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadWeights {
    /// Mean over the tokens of each sequence, special tokens included, `[B, H]`.
    MeanPooling,
    /// Class logits of each sequence's mean, `[B, C]`.
    Sequence(ClassifierWeights),
    /// Class logits of each token, `[T, C]`.
    Token(ClassifierWeights),
}

/// An optional hidden layer with tanh, and a linear classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierWeights {
    /// `[H, H]`
    pub dense: Option<LinearWeights>,
    /// `[C, H]`
    pub classifier: LinearWeights,
}

impl HeadWeights {
    /// Reads the head of a card over an encoder of this hidden size.
    ///
    /// # Errors
    /// When its file is not what the card says.
    pub fn load(card: &Card, hidden: usize) -> Result<Self, ModelError> {
        let classifier = |file: &HeadFile| {
            let path = card.folder.join(&file.file);
            let weights = TensorFile::parse(&path, files::read_verified(&path, file.sha256)?)?;
            ClassifierWeights::new(&weights, hidden, card.labels.len())
        };
        Ok(match &card.head {
            Head::MeanPooling => HeadWeights::MeanPooling,
            Head::SequenceClassification(file) => HeadWeights::Sequence(classifier(file)?),
            Head::TokenClassification(file) => HeadWeights::Token(classifier(file)?),
        })
    }

    /// Columns of its result, over an encoder of this hidden size.
    pub fn columns(&self, hidden: usize) -> usize {
        self.classifier().map_or(hidden, |classifier| classifier.classifier.outputs())
    }

    /// Whether it gives one row per token rather than one per sequence.
    pub fn is_per_token(&self) -> bool {
        matches!(self, HeadWeights::Token(_))
    }

    /// The classifier, if it has one.
    pub fn classifier(&self) -> Option<&ClassifierWeights> {
        match self {
            HeadWeights::MeanPooling => None,
            HeadWeights::Sequence(classifier) | HeadWeights::Token(classifier) => Some(classifier),
        }
    }
}

impl ClassifierWeights {
    /// Takes a classifier for this many labels out of its file.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or does not belong there.
    pub fn new(weights: &TensorFile, hidden: usize, labels: usize) -> Result<Self, ModelError> {
        const KNOWN: [&str; 4] = ["dense.weight", "dense.bias", "classifier.weight", "classifier.bias"];
        if let Some(name) = weights.names().iter().find(|name| !KNOWN.contains(&name.as_str())) {
            let message = format!("tensor {name} does not belong in a head");
            return Err(ModelError::File { file: weights.file().to_owned(), message });
        }
        let rows = weights.dims("classifier.weight")?.first().copied().unwrap_or(0);
        if rows != labels {
            return Err(ModelError::Labels { file: weights.file().to_owned(), labels, rows });
        }
        let linear = |name: &str, outputs| -> Result<LinearWeights, ModelError> {
            Ok(LinearWeights {
                weight: weights.get(&format!("{name}.weight"), &[outputs, hidden])?,
                bias: weights.get(&format!("{name}.bias"), &[outputs])?,
            })
        };
        let has_dense = weights.has("dense.weight") || weights.has("dense.bias");
        let dense = has_dense.then(|| linear("dense", hidden)).transpose()?;
        Ok(Self { dense, classifier: linear("classifier", labels)? })
    }
}
