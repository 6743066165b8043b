//! Weights as their files have them: named float32 tensors in host memory, with every shape checked.
//!
//! Runtimes take from here what they compute with, in whatever form they need. Files are read tensor by
//! tensor, so that loading a model never holds the whole file in memory.

pub mod encoder;
pub mod heads;
mod linear;
pub mod lora;
pub mod tensors;

pub use encoder::{EmbeddingWeights, EncoderWeights, LayerWeights, Layout, Tensors};
pub use heads::{ClassifierWeights, HeadWeights};
pub use linear::LinearWeights;
pub use lora::{LoraAdapter, Target};
pub use tensors::TensorFile;

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
