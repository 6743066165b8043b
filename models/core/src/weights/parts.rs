//! What an encoder is made of, as its layout reads it out of a file.

use super::tensors::TensorFile;
use super::{LinearWeights, NormWeights};
use crate::error::ModelError;

/// Tensors of a file by their names without the prefix.
pub struct Tensors<'a> {
    pub(super) file: &'a TensorFile,
    /// Before all names.
    pub(super) prefix: &'static str,
}

/// The embedding layer: the sum of a word's row, its position's and its segment's, then the normalisation,
/// then the projection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmbeddingWeights {
    /// `[vocabulary, E]`
    pub words: Vec<f32>,
    /// `[positions, E]`, where positions have a table. Rows that no position uses are cut off.
    ///
    /// The embedding of the first segment is added to every row here, or to every word where there is no
    /// table: what is of no other segment is of the first.
    pub positions: Option<Vec<f32>>,
    /// `[E]`: what a token of the second segment has beyond one of the first, where there are segments.
    pub second_segment: Option<Vec<f32>>,
    /// Over `E`.
    pub norm: Option<NormWeights>,
    /// `[H, E]`
    pub projection: Option<LinearWeights>,
}

/// One transformer layer. Biases that an architecture has not are zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// Query, key and value as one layer, `[(heads + 2 heads of keys) d, H]`.
    pub query_key_value: LinearWeights,
    /// Over `d`, of every query before it is turned.
    pub query_norm: Option<NormWeights>,
    /// Over `d`, of every key before it is turned.
    pub key_norm: Option<NormWeights>,
    /// Of [`AttentionBias::Disentangled`](crate::spec::AttentionBias::Disentangled).
    pub disentangled: Option<DisentangledWeights>,
    /// Behind the heads, `[H, heads d]`.
    pub attention_output: LinearWeights,
    /// Of the attention; none where it takes hidden states as they are.
    pub attention_norm: Option<NormWeights>,
    /// `[I, H]`, or `[2 I, H]` where it is gated, what the activation is applied to first.
    pub intermediate: LinearWeights,
    /// `[H, I]`
    pub output: LinearWeights,
    /// Of the feed-forward block.
    pub output_norm: NormWeights,
}

/// What the embeddings of positions are for a layer's heads.
#[derive(Debug, Clone, PartialEq)]
pub struct DisentangledWeights {
    /// `[2 k, heads d]`, where queries meet positions.
    pub position_keys: Option<Vec<f32>>,
    /// `[2 k, heads d]`, where keys meet positions.
    pub position_queries: Option<Vec<f32>>,
}

impl Tensors<'_> {
    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.has(&format!("{}{name}", self.prefix))
    }

    /// The values of a tensor of exactly this shape, row-major.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.file.get(&format!("{}{name}", self.prefix), shape)
    }

    /// `<name>.weight` and, if it has one, `<name>.bias` of a linear layer.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn linear(&self, name: &str, has_bias: bool, shape: [usize; 2]) -> Result<LinearWeights, ModelError> {
        let [outputs, inputs] = shape;
        let bias = has_bias.then(|| self.get(&format!("{name}.bias"), &[outputs]));
        Ok(LinearWeights {
            weight: self.get(&format!("{name}.weight"), &[outputs, inputs])?,
            bias: bias.unwrap_or_else(|| Ok(vec![0.0; outputs]))?,
        })
    }

    /// `<name>.weight` and, if it has one, `<name>.bias` of a normalisation of rows of this width;
    /// checkpoints of BERT's first authors call them `gamma` and `beta`.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn norm(
        &self,
        name: &str,
        has_bias: bool,
        width: usize,
        epsilon: f64,
    ) -> Result<NormWeights, ModelError> {
        let is_old = self.has(&format!("{name}.gamma"));
        let [weight, bias] = if is_old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let bias = has_bias.then(|| self.get(&format!("{name}.{bias}"), &[width]));
        Ok(NormWeights {
            weight: self.get(&format!("{name}.{weight}"), &[width])?,
            bias: bias.unwrap_or_else(|| Ok(vec![0.0; width]))?,
            epsilon: epsilon as f32,
        })
    }
}
