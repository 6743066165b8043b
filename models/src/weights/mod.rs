//! Weights as their files have them: named float32 tensors in host memory, with every shape checked.
//!
//! Runtimes take from here what they compute with, in whatever form they need. Files are read tensor by tensor, so that
//! loading a model never holds the whole file in memory.

pub mod bert;
pub mod heads;
pub mod lora;
pub mod tensors;

pub use bert::{BertConfig, BertWeights, EmbeddingWeights, HiddenActivation, LayerWeights};
pub use heads::{ClassifierWeights, HeadWeights};
pub use lora::LoraAdapter;
pub use tensors::TensorFile;

/// A linear layer `y = x W^T + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearWeights {
    /// `[out, in]`, row-major.
    pub weight: Vec<f32>,
    /// `[out]`
    pub bias: Vec<f32>,
}

/// A layer normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct NormWeights {
    /// `[H]`
    pub weight: Vec<f32>,
    /// `[H]`
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl LinearWeights {
    /// Size of what it gives.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Size of what it takes.
    pub fn inputs(&self) -> usize {
        self.weight.len().checked_div(self.bias.len()).unwrap_or(0)
    }
}
