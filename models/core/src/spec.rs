//! What a runtime needs to know of an encoder, whatever architecture its checkpoint has.

use serde::Deserialize;

/// The sizes of a transformer encoder: embeddings of words and absolute positions, then layers of
/// self-attention and a feed-forward block, each with a residual connection and a normalisation behind it
/// (<https://arxiv.org/abs/1706.03762>). Named as in `config.json` of transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderSpec {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// `H`
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Heads of attention; a divisor of `H`.
    pub num_attention_heads: usize,
    /// `I`, the width of the feed-forward blocks.
    pub intermediate_size: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: HiddenActivation,
    /// Tokens of the longest sequence.
    pub max_position_embeddings: usize,
    /// Added to variances in layer normalisation.
    pub layer_norm_eps: f64,
}

/// Activation of the feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum HiddenActivation {
    /// By the error function.
    #[serde(rename = "gelu")]
    Gelu,
    /// By its approximation with tanh.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_approximate")]
    GeluTanh,
    /// `max(x, 0)`
    #[serde(rename = "relu")]
    Relu,
}

impl EncoderSpec {
    /// Numbers of a query: `H / heads`.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
