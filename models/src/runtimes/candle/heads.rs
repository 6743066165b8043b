//! Heads: from last hidden states to results, so that only results leave the device.

use candle_core::{Result, Tensor};

use super::encoder::Linear;
use super::tensors::TensorFile;
use crate::batch::TokenBatch;
use crate::card::{self, Card, HeadFile};
use crate::error::ModelError;
use crate::files;

/// What is computed from the last hidden states `[T, H]`.
#[derive(Clone)]
pub enum Head {
    /// Mean over the tokens of each sequence, special tokens included, `[B, H]`.
    MeanPooling,
    /// Class logits of each sequence's mean, `[B, C]`.
    Sequence(Classifier),
    /// Class logits of each token, `[T, C]`.
    Token(Classifier),
}

/// An optional hidden layer with tanh, and a linear classifier.
#[derive(Clone)]
pub struct Classifier {
    dense: Option<Linear>,
    classifier: Linear,
    labels: usize,
}

impl Head {
    pub(super) fn load(card: &Card, hidden: usize) -> std::result::Result<Self, ModelError> {
        let classifier = |file: &HeadFile| {
            let path = card.folder.join(&file.file);
            let weights = TensorFile::parse(&path, &files::read_verified(&path, file.sha256)?)?;
            Classifier::new(&weights, hidden, card.labels.len())
        };
        Ok(match &card.head {
            card::Head::MeanPooling => Head::MeanPooling,
            card::Head::SequenceClassification(file) => Head::Sequence(classifier(file)?),
            card::Head::TokenClassification(file) => Head::Token(classifier(file)?),
        })
    }

    /// Classes of a classifier.
    pub(super) fn columns(&self) -> Option<usize> {
        match self {
            Head::MeanPooling => None,
            Head::Sequence(classifier) | Head::Token(classifier) => Some(classifier.labels),
        }
    }

    pub(super) fn forward(&self, hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
        match self {
            Head::MeanPooling => mean_pooling(hidden, batch),
            Head::Sequence(classifier) => classifier.forward(&mean_pooling(hidden, batch)?),
            Head::Token(classifier) => classifier.forward(hidden),
        }
    }
}

impl Classifier {
    /// Takes a classifier for this many labels out of its file.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape, or does not belong there.
    pub fn new(weights: &TensorFile, hidden: usize, labels: usize) -> std::result::Result<Self, ModelError> {
        const KNOWN: [&str; 4] = ["dense.weight", "dense.bias", "classifier.weight", "classifier.bias"];
        if let Some(name) = weights.names().find(|name| !KNOWN.contains(name)) {
            let message = format!("tensor {name} does not belong in a head");
            return Err(ModelError::File { file: weights.file().to_owned(), message });
        }
        let rows = weights.dims("classifier.weight")?.first().copied().unwrap_or(0);
        if rows != labels {
            return Err(ModelError::Labels { file: weights.file().to_owned(), labels, rows });
        }
        let linear = |name: &str, out| -> std::result::Result<Linear, ModelError> {
            Ok(Linear {
                weight: weights.get(&format!("{name}.weight"), &[out, hidden])?,
                bias: weights.get(&format!("{name}.bias"), &[out])?,
            })
        };
        let has_dense = weights.has("dense.weight") || weights.has("dense.bias");
        let dense = has_dense.then(|| linear("dense", hidden)).transpose()?;
        Ok(Self { dense, classifier: linear("classifier", labels)?, labels })
    }

    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.dense {
            Some(dense) => self.classifier.forward(&dense.forward(rows)?.tanh()?),
            None => self.classifier.forward(rows),
        }
    }
}

fn mean_pooling(hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
    let means = batch
        .ranges()
        .map(|range| hidden.narrow(0, range.start, range.len())?.mean_keepdim(0))
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&means, 0)
}
