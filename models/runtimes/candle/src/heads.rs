//! Heads: from last hidden states to results, so that only results leave the device.

use candle_core::{Device, Result, Tensor};
use models_core::TokenBatch;
use models_core::weights::{ClassifierWeights, HeadWeights};

use super::encoder::Linear;

/// What is computed from the last hidden states `[T, H]`; see [`HeadWeights`].
#[derive(Clone)]
pub enum Head {
    /// `[B, H]`, or `[T, H]` where that is wanted
    MeanPooling,
    /// `[B, C]`
    Sequence(Classifier),
    /// `[T, C]`
    Token(Classifier),
}

/// An optional hidden layer with tanh, and a linear classifier.
#[derive(Clone)]
pub struct Classifier {
    dense: Option<Linear>,
    classifier: Linear,
}

impl Head {
    /// Puts a head's weights on a device.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn new(weights: &HeadWeights, device: &Device) -> Result<Self> {
        Ok(match weights {
            HeadWeights::MeanPooling => Head::MeanPooling,
            HeadWeights::Sequence(classifier) => Head::Sequence(Classifier::new(classifier, device)?),
            HeadWeights::Token(classifier) => Head::Token(Classifier::new(classifier, device)?),
        })
    }

    pub(super) fn forward(&self, hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
        match self {
            Head::MeanPooling if batch.wants_tokens() => Ok(hidden.clone()),
            Head::MeanPooling => mean_pooling(hidden, batch),
            Head::Sequence(classifier) => classifier.forward(&mean_pooling(hidden, batch)?),
            Head::Token(classifier) => classifier.forward(hidden),
        }
    }
}

impl Classifier {
    fn new(weights: &ClassifierWeights, device: &Device) -> Result<Self> {
        let dense = weights.dense.as_ref().map(|dense| Linear::new(dense, device)).transpose()?;
        Ok(Self { dense, classifier: Linear::new(&weights.classifier, device)? })
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
