//! A transformer encoder (<https://arxiv.org/abs/1706.03762>) over ragged batches.
//!
//! Everything but attention works on packed rows `[T, H]`, whatever sequence a row belongs to. Attention runs
//! on one sequence at a time, so there is neither padding nor a mask.

use std::ops::Range;

use candle_core::{D, Device, Error, Result, Tensor};
use candle_nn::ops;
use rayon::prelude::*;

use models_core::weights::{
    EmbeddingWeights, EncoderWeights, LayerWeights, LinearWeights, LoraAdapter, NormWeights,
};
use models_core::{EncoderSpec, HiddenActivation, ModelError, TokenBatch};

/// The embedding layer and the transformer layers. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct Encoder {
    spec: EncoderSpec,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    device: Device,
}

/// `y = x W^T + b` on rows.
#[derive(Clone)]
pub(super) struct Linear {
    /// `[out, in]`
    pub(super) weight: Tensor,
    /// `[out]`
    pub(super) bias: Tensor,
}

#[derive(Clone)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

/// The embedding layer. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct Embeddings {
    /// `[vocabulary, H]`
    words: Tensor,
    /// `[positions, H]`
    positions: Tensor,
    norm: Norm,
}

#[derive(Clone)]
struct Layer {
    /// Query, key and value as one product, `[3 H, H]`.
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

impl Encoder {
    /// Builds an encoder over an embedding layer, which adapters leave alone and encoders may share.
    ///
    /// # Errors
    /// When a weight is missing or has another shape, or the adapter does not fit.
    pub fn new(
        weights: &EncoderWeights,
        embeddings: Embeddings,
        adapter: Option<&LoraAdapter>,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        let spec = weights.spec.clone();
        let layer = |index| {
            let weights = weights.layer(index, adapter)?;
            Layer::new(&weights, &spec, device).map_err(|error| backend(&error))
        };
        let layers = (0..spec.num_hidden_layers).map(layer).collect::<std::result::Result<_, _>>()?;
        Ok(Self { spec, embeddings, layers, device: device.clone() })
    }

    /// Last hidden states `[T, H]` of a batch that passed [`check_batch`](models_core::runtime::check_batch).
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn forward(&self, batch: &TokenBatch) -> Result<Tensor> {
        let ranges: Vec<_> = batch.ranges().collect();
        let mut hidden = self.embeddings.forward(batch, &self.device)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &ranges, &self.spec)?;
        }
        Ok(hidden)
    }

    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }
}

impl Embeddings {
    /// Builds the embedding layer.
    ///
    /// # Errors
    /// When a weight is missing or has another shape.
    pub fn new(weights: &EncoderWeights, device: &Device) -> std::result::Result<Self, ModelError> {
        Self::of(weights.embeddings()?, &weights.spec, device).map_err(|error| backend(&error))
    }

    fn of(weights: EmbeddingWeights, spec: &EncoderSpec, device: &Device) -> Result<Self> {
        let EmbeddingWeights { words, positions, norm } = weights;
        Ok(Self {
            words: Tensor::from_vec(words, (spec.vocab_size, spec.hidden_size), device)?,
            positions: Tensor::from_vec(positions, (spec.max_position_embeddings, spec.hidden_size), device)?,
            norm: Norm::new(&norm, device)?,
        })
    }

    fn forward(&self, batch: &TokenBatch, device: &Device) -> Result<Tensor> {
        let words = self.words.index_select(&Tensor::new(batch.input_ids.as_slice(), device)?, 0)?;
        let positions =
            self.positions.index_select(&Tensor::new(batch.position_ids.as_slice(), device)?, 0)?;
        self.norm.forward(&(words + positions)?)
    }
}

impl Layer {
    fn new(weights: &LayerWeights, spec: &EncoderSpec, device: &Device) -> Result<Self> {
        debug_assert_eq!(weights.query_key_value.outputs(), 3 * spec.hidden_size);
        Ok(Self {
            query_key_value: Linear::new(&weights.query_key_value, device)?,
            attention_output: Linear::new(&weights.attention_output, device)?,
            attention_norm: Norm::new(&weights.attention_norm, device)?,
            intermediate: Linear::new(&weights.intermediate, device)?,
            output: Linear::new(&weights.output, device)?,
            output_norm: Norm::new(&weights.output_norm, device)?,
        })
    }

    fn forward(&self, hidden: &Tensor, ranges: &[Range<usize>], spec: &EncoderSpec) -> Result<Tensor> {
        let query_key_value = self.query_key_value.forward(hidden)?;
        let attended = ranges
            .par_iter()
            .map(|range| attend(&query_key_value.narrow(0, range.start, range.len())?, spec))
            .collect::<Result<Vec<_>>>()?;
        let attended = self.attention_output.forward(&Tensor::cat(&attended, 0)?)?;
        let hidden = self.attention_norm.forward(&(attended + hidden)?)?;
        let inner = activate(&self.intermediate.forward(&hidden)?, spec.hidden_act)?;
        self.output_norm.forward(&(self.output.forward(&inner)? + hidden)?)
    }
}

impl Linear {
    pub(super) fn new(weights: &LinearWeights, device: &Device) -> Result<Self> {
        let shape = (weights.outputs(), weights.inputs());
        Ok(Self {
            weight: Tensor::from_slice(&weights.weight, shape, device)?,
            bias: Tensor::from_slice(&weights.bias, weights.outputs(), device)?,
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        rows.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

impl Norm {
    fn new(weights: &NormWeights, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: Tensor::from_slice(&weights.weight, weights.weight.len(), device)?,
            bias: Tensor::from_slice(&weights.bias, weights.bias.len(), device)?,
            epsilon: weights.epsilon,
        })
    }

    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        ops::layer_norm(rows, &self.weight, &self.bias, self.epsilon)
    }
}

/// Self-attention within one sequence of `L` tokens: `[L, 3 H]` to `[L, H]`.
/// `softmax(Q K^T / sqrt(d)) V` with `d = H / heads`, <https://arxiv.org/abs/1706.03762>.
fn attend(query_key_value: &Tensor, spec: &EncoderSpec) -> Result<Tensor> {
    let length = query_key_value.dim(0)?;
    let head_size = spec.head_size();
    // [L, 3 H] -> [3, heads, L, d]
    let parts = query_key_value
        .reshape((length, 3, spec.num_attention_heads, head_size))?
        .permute((1, 2, 0, 3))?
        .contiguous()?;
    // Scaling the queries touches L·H values, scaling the scores would touch heads·L².
    let query = (parts.get(0)? * (1.0 / (head_size as f64).sqrt()))?;
    let scores = query.matmul(&parts.get(1)?.transpose(D::Minus1, D::Minus2)?)?;
    let context = ops::softmax_last_dim(&scores)?.matmul(&parts.get(2)?)?;
    context.transpose(0, 1)?.contiguous()?.reshape((length, spec.hidden_size))
}

/// The tensor library failed. Its own text may carry a backtrace behind its first line.
pub(super) fn backend(error: &Error) -> ModelError {
    let text = error.to_string();
    ModelError::Backend { message: text.lines().next().unwrap_or_default().to_owned() }
}

fn activate(rows: &Tensor, activation: HiddenActivation) -> Result<Tensor> {
    match activation {
        HiddenActivation::Gelu => rows.gelu_erf(),
        HiddenActivation::GeluTanh => rows.gelu(),
        HiddenActivation::Relu => rows.relu(),
    }
}
