//! Weights as their files have them: named float32 tensors in host memory, with every shape checked.
//!
//! Runtimes take from here what they compute with, in whatever form they need. Files are read tensor by
//! tensor, so that loading a model never holds the whole file in memory.

pub mod encoder;
pub mod heads;
pub mod layout;
mod linear;
pub mod lora;
mod parts;
mod position;
pub mod tensors;

pub use encoder::EncoderWeights;
pub use heads::{HeadActivation, HeadLayer, HeadRows, HeadWeights, PlainHead};
pub use layout::Layout;
pub use linear::LinearWeights;
pub use lora::{LoraAdapter, Target};
pub use parts::{DisentangledWeights, EmbeddingWeights, LayerWeights, Tensors};
pub use tensors::TensorFile;

/// A normalisation of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct NormWeights {
    /// As wide as a row.
    pub weight: Vec<f32>,
    /// As wide as a row; zeros where there is none.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}
