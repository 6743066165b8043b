//! A transformer encoder (<https://arxiv.org/abs/1706.03762>) over ragged batches.
//!
//! Everything but attention works on packed rows `[T, H]`, whatever sequence a row belongs to. Attention runs
//! on one sequence at a time, so there is neither padding nor a mask.

use std::ops::Range;

use candle_core::{Device, Error, Result, Tensor};
use rayon::prelude::*;

use models_core::spec::{EncoderSpec, FeedForward, HiddenActivation, LayerSpec, NormPlace};
use models_core::weights::{EmbeddingWeights, EncoderWeights, LayerWeights, LinearWeights, LoraAdapter};
use models_core::{ModelError, TokenBatch};

use super::attention::{self, Own, Shared};
use super::norm::Norm;

/// The embedding layer and the transformer layers. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct Encoder {
    spec: EncoderSpec,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    shared: Shared,
    final_norm: Option<Norm>,
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

/// The embedding layer. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct Embeddings {
    /// `[vocabulary, E]`
    words: Tensor,
    /// `[positions, E]`
    positions: Option<Tensor>,
    /// `[1, E]`
    second_segment: Option<Tensor>,
    norm: Option<Norm>,
    projection: Option<Linear>,
}

#[derive(Clone)]
struct Layer {
    spec: LayerSpec,
    /// Query, key and value as one product.
    query_key_value: Linear,
    attention: Own,
    attention_output: Linear,
    attention_norm: Option<Norm>,
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
        let mut layers: Vec<Layer> = Vec::new();
        for (index, layer_spec) in spec.layers.iter().enumerate() {
            let layer = match layers.first() {
                Some(first) if spec.is_shared => Layer { spec: *layer_spec, ..first.clone() },
                _ => Layer::new(&weights.layer(index, adapter)?, *layer_spec, &spec, device)
                    .map_err(|error| backend(&error))?,
            };
            layers.push(layer);
        }
        let final_norm = weights.final_norm()?.map(|norm| Norm::new(&norm, &spec, device));
        let final_norm = final_norm.transpose().map_err(|error| backend(&error))?;
        let shared = Shared::new(&spec, weights.distance_bias()?, device).map_err(|error| backend(&error))?;
        Ok(Self { spec, embeddings, layers, shared, final_norm, device: device.clone() })
    }

    /// Last hidden states `[T, H]` of a batch that passed [`check_batch`](models_core::runtime::check_batch).
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn forward(&self, batch: &TokenBatch) -> Result<Tensor> {
        let ranges: Vec<_> = batch.ranges().collect();
        let mut hidden = self.embeddings.forward(batch, &self.device)?;
        for layer in &self.layers {
            hidden = match self.spec.norm_place {
                NormPlace::Behind => layer.normed_behind(&hidden, &ranges, self)?,
                NormPlace::Before => layer.normed_before(&hidden, &ranges, self)?,
            };
        }
        match &self.final_norm {
            Some(norm) => norm.forward(&hidden),
            None => Ok(hidden),
        }
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
        let EmbeddingWeights { words, positions, second_segment, norm, projection } = weights;
        let (width, longest) = (spec.embedding_size, spec.max_position_embeddings);
        let positions = positions.map(|rows| Tensor::from_vec(rows, (longest, width), device));
        let second_segment = second_segment.map(|row| Tensor::from_vec(row, (1, width), device));
        Ok(Self {
            second_segment: second_segment.transpose()?,
            words: Tensor::from_vec(words, (spec.vocab_size, width), device)?,
            positions: positions.transpose()?,
            norm: norm.map(|norm| Norm::new(&norm, spec, device)).transpose()?,
            projection: projection.map(|projection| Linear::new(&projection, device)).transpose()?,
        })
    }

    fn forward(&self, batch: &TokenBatch, device: &Device) -> Result<Tensor> {
        let mut rows = self.words.index_select(&Tensor::new(batch.input_ids.as_slice(), device)?, 0)?;
        if let Some(positions) = &self.positions {
            rows =
                (rows + positions.index_select(&Tensor::new(batch.position_ids.as_slice(), device)?, 0)?)?;
        }
        if let Some(second) = self.second_segment.as_ref().filter(|_| batch.has_pairs()) {
            let is_second: Vec<f32> =
                batch.token_type_ids.iter().map(|&segment| f32::from(segment)).collect();
            let is_second = Tensor::from_vec(is_second, (batch.tokens(), 1), device)?;
            rows = (rows + is_second.matmul(second)?)?;
        }
        if let Some(norm) = &self.norm {
            rows = norm.forward(&rows)?;
        }
        match &self.projection {
            Some(projection) => projection.forward(&rows),
            None => Ok(rows),
        }
    }
}

impl Layer {
    fn new(weights: &LayerWeights, layer: LayerSpec, spec: &EncoderSpec, device: &Device) -> Result<Self> {
        debug_assert_eq!(weights.query_key_value.outputs(), spec.query_key_value_width());
        let attention_norm = weights.attention_norm.as_ref();
        Ok(Self {
            spec: layer,
            query_key_value: Linear::new(&weights.query_key_value, device)?,
            attention: Own::new(weights, spec, device)?,
            attention_output: Linear::new(&weights.attention_output, device)?,
            attention_norm: attention_norm.map(|norm| Norm::new(norm, spec, device)).transpose()?,
            intermediate: Linear::new(&weights.intermediate, device)?,
            output: Linear::new(&weights.output, device)?,
            output_norm: Norm::new(&weights.output_norm, spec, device)?,
        })
    }

    fn normed_behind(&self, hidden: &Tensor, ranges: &[Range<usize>], encoder: &Encoder) -> Result<Tensor> {
        let mut hidden = (self.attend(hidden, ranges, encoder)? + hidden)?;
        if let Some(norm) = &self.attention_norm {
            hidden = norm.forward(&hidden)?;
        }
        self.output_norm.forward(&(self.feed_forward(&hidden, &encoder.spec)? + hidden)?)
    }

    fn normed_before(&self, hidden: &Tensor, ranges: &[Range<usize>], encoder: &Encoder) -> Result<Tensor> {
        let attended = match &self.attention_norm {
            Some(norm) => self.attend(&norm.forward(hidden)?, ranges, encoder)?,
            None => self.attend(hidden, ranges, encoder)?,
        };
        let hidden = (attended + hidden)?;
        self.feed_forward(&self.output_norm.forward(&hidden)?, &encoder.spec)? + hidden
    }

    fn attend(&self, rows: &Tensor, ranges: &[Range<usize>], encoder: &Encoder) -> Result<Tensor> {
        let query_key_value = self.query_key_value.forward(rows)?;
        let Encoder { spec, shared, .. } = encoder;
        let attend = |range: &Range<usize>| {
            let rows = query_key_value.narrow(0, range.start, range.len())?;
            attention::attend(&rows, spec, self.spec, shared, &self.attention)
        };
        let attended = ranges.par_iter().map(attend).collect::<Result<Vec<_>>>()?;
        self.attention_output.forward(&Tensor::cat(&attended, 0)?)
    }

    fn feed_forward(&self, rows: &Tensor, spec: &EncoderSpec) -> Result<Tensor> {
        let inner = self.intermediate.forward(rows)?;
        let inner = match spec.feed_forward {
            FeedForward::Plain => activate(&inner, spec.hidden_act)?,
            FeedForward::Gated => {
                let half = |which| inner.narrow(1, which * spec.intermediate_size, spec.intermediate_size);
                (activate(&half(0)?, spec.hidden_act)? * half(1)?)?
            }
        };
        self.output.forward(&inner)
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
        HiddenActivation::Silu => rows.silu(),
    }
}
