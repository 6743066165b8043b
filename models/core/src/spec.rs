//! What a runtime needs to know of an encoder, whatever architecture its checkpoint has.

mod bias;
mod rotary;

use serde::Deserialize;

pub use bias::{AttentionBias, Disentangled};
pub use rotary::{Rotary, RotaryPairs, RotaryTable};

/// A transformer encoder: embeddings, then layers of self-attention and a feed-forward block, each with a
/// residual connection and a normalisation (<https://arxiv.org/abs/1706.03762>). An architecture is a value
/// of this and no more. Named as in `config.json` of transformers, where that has a name.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderSpec {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// `E`, numbers in a row of the embedding tables; `H` where they are not projected.
    pub embedding_size: usize,
    /// `H`
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Heads of attention.
    pub num_attention_heads: usize,
    /// Heads of keys and values, each for as many neighbouring heads of queries
    /// (<https://arxiv.org/abs/2305.13245>); a divisor of `num_attention_heads`, and equal to it in most.
    pub num_key_value_heads: usize,
    /// `d`, numbers of a query; `H / heads` in most.
    pub head_size: usize,
    /// `I`, the width of the feed-forward blocks.
    pub intermediate_size: usize,
    /// How the feed-forward blocks are built.
    pub feed_forward: FeedForward,
    /// Activation of the feed-forward blocks.
    pub hidden_act: HiddenActivation,
    /// What normalises hidden states.
    pub norm: NormKind,
    /// Where the layers normalise them.
    pub norm_place: NormPlace,
    /// Added to variances in normalisation.
    pub layer_norm_eps: f64,
    /// Tokens of the longest sequence.
    pub max_position_embeddings: usize,
    /// What is added to the embeddings of words for their positions.
    pub positions: Positions,
    /// Rotations of queries and keys, which [`LayerSpec::rotary`] chooses from.
    pub rotary: Vec<Rotary>,
    /// What differs between the layers, `[num_hidden_layers]`.
    pub layers: Vec<LayerSpec>,
    /// Whether a token sees only itself and those before it.
    pub is_causal: bool,
    /// What is added to the scores of attention.
    pub bias: AttentionBias,
    /// Whether all layers have the weights of the first.
    pub is_shared: bool,
}

/// What one layer has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSpec {
    /// Tokens that a query sees on each side of its own, all where there is none. Those behind it are not
    /// seen where the encoder is causal.
    pub window: Option<usize>,
    /// Which of [`EncoderSpec::rotary`] turns its queries and keys.
    pub rotary: Option<usize>,
}

/// The sizes of an encoder as BERT has them; see [`EncoderSpec`].
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderSizes {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// `H`
    pub hidden_size: usize,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Heads of attention.
    pub num_attention_heads: usize,
    /// `I`
    pub intermediate_size: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: HiddenActivation,
    /// Tokens of the longest sequence.
    pub max_position_embeddings: usize,
    /// Added to variances in normalisation.
    pub layer_norm_eps: f64,
}

/// How a feed-forward block is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// `W2 act(W1 x)`
    Plain,
    /// `W2 (act(Wg x) * (Wu x))`, <https://arxiv.org/abs/2002.05202>. `Wg` and `Wu` are one matrix `[2 I,
    /// H]`, the rows of `Wg` first.
    Gated,
}

/// Activation of the feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum HiddenActivation {
    /// By the error function.
    #[serde(rename = "gelu", alias = "gelu_python")]
    Gelu,
    /// By its approximation with tanh.
    #[serde(
        rename = "gelu_new",
        alias = "gelu_pytorch_tanh",
        alias = "gelu_approximate",
        alias = "gelu_fast"
    )]
    GeluTanh,
    /// `max(x, 0)`
    #[serde(rename = "relu")]
    Relu,
    /// `x / (1 + exp(-x))`
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

/// What normalises a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// To mean 0 and variance 1, then a weight and a bias, <https://arxiv.org/abs/1607.06450>.
    LayerNorm,
    /// To a mean square of 1, then a weight, <https://arxiv.org/abs/1910.07467>. Biases are not added.
    Rms,
}

/// Where a layer normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlace {
    /// `norm(x + block(x))`
    Behind,
    /// `x + block(norm(x))`, and once more behind the last layer.
    Before,
}

/// What is added to the embeddings of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A row of a table for each position, the first for the first token.
    Absolute,
    /// Nothing.
    None,
}

impl EncoderSizes {
    /// An encoder as BERT is one (<https://arxiv.org/abs/1810.04805>): absolute positions, normalisation
    /// behind the residual connections, every token seen by all.
    pub fn spec(self) -> EncoderSpec {
        let Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act,
            max_position_embeddings,
            layer_norm_eps,
        } = self;
        EncoderSpec {
            vocab_size,
            embedding_size: hidden_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: num_attention_heads,
            head_size: hidden_size.checked_div(num_attention_heads).unwrap_or(0),
            intermediate_size,
            feed_forward: FeedForward::Plain,
            hidden_act,
            norm: NormKind::LayerNorm,
            norm_place: NormPlace::Behind,
            layer_norm_eps,
            max_position_embeddings,
            positions: Positions::Absolute,
            rotary: Vec::new(),
            layers: vec![LayerSpec::default(); num_hidden_layers],
            is_causal: false,
            bias: AttentionBias::None,
            is_shared: false,
        }
    }
}

impl EncoderSpec {
    /// Numbers that the heads of queries have together: `heads d`.
    pub fn attention_width(&self) -> usize {
        self.num_attention_heads * self.head_size
    }

    /// Rows of query, key and value as one layer: `(heads + 2 heads of keys) d`.
    pub fn query_key_value_width(&self) -> usize {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_size
    }

    /// Rows of the feed-forward block's first layer.
    pub fn intermediate_width(&self) -> usize {
        match self.feed_forward {
            FeedForward::Plain => self.intermediate_size,
            FeedForward::Gated => 2 * self.intermediate_size,
        }
    }

    /// What the product of a query and a key is multiplied by: `1 / sqrt(d)`, and `1 / sqrt(d n)` where `n`
    /// such products are summed (<https://arxiv.org/abs/2006.03654>, equation 4).
    pub fn attention_scale(&self) -> f64 {
        let products = match &self.bias {
            AttentionBias::None | AttentionBias::Distance => 1,
            AttentionBias::Disentangled(bias) => bias.products(),
        };
        1.0 / ((self.head_size * products) as f64).sqrt()
    }
}
