//! A BERT encoder (<https://arxiv.org/abs/1810.04805>) over ragged batches.
//!
//! Everything but attention works on packed rows `[T, H]`, whatever sequence a row belongs to. Attention runs on one
//! sequence at a time, so there is neither padding nor a mask.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops;
use candle_transformers::models::bert::{Config, HiddenAct};
use rayon::prelude::*;
use std::ops::Range;

use super::lora::{LoraAdapter, Target};
use super::tensors::TensorFile;
use crate::batch::TokenBatch;
use crate::error::ModelError;
use crate::runtimes::RuntimeError;

/// The embedding layer and the transformer layers. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub struct Encoder {
    sizes: Sizes,
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

#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    intermediate: usize,
    heads: usize,
    vocabulary: usize,
    positions: usize,
    activation: HiddenAct,
}

#[derive(Clone)]
struct Embeddings {
    /// `[vocabulary, H]`
    words: Tensor,
    /// `[positions, H]`, the embedding of token type 0 added: a text is always the first segment.
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
    /// Takes the encoder out of a file of weights, checking every shape against the configuration.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the configuration makes no sense.
    pub fn load(
        weights: TensorFile,
        config: &Config,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        let sizes = Sizes::new(config)?;
        let prefix = if weights.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        let reader = Reader { weights, hidden: sizes.hidden, epsilon: config.layer_norm_eps as f32, device };
        let embeddings =
            Embeddings::load(&reader, &format!("{prefix}embeddings"), &sizes, config.type_vocab_size)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&reader, &format!("{prefix}encoder.layer.{index}"), sizes.intermediate))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { sizes, embeddings, layers, device: device.clone() })
    }

    /// The same encoder with an adapter merged into its linear layers. Tensors the adapter does not touch are shared.
    ///
    /// # Errors
    /// When the adapter does not fit the encoder's sizes.
    pub fn with_adapter(&self, adapter: &LoraAdapter) -> std::result::Result<Self, ModelError> {
        adapter.check_layers(self.layers.len())?;
        let mut merged = self.clone();
        for (index, layer) in merged.layers.iter_mut().enumerate() {
            layer.merge(index, adapter, self.sizes.hidden)?;
        }
        Ok(merged)
    }

    /// Refuses a batch that would read outside the embedding tables.
    ///
    /// # Errors
    /// Names the sequence or token that does not fit.
    pub fn check(&self, batch: &TokenBatch) -> std::result::Result<(), RuntimeError> {
        let tokens = batch.input_ids.len();
        let is_whole = batch.cu_seqlens.first() == Some(&0)
            && batch.cu_seqlens.last().is_some_and(|&end| end as usize == tokens)
            && batch.cu_seqlens.is_sorted();
        if !is_whole || batch.position_ids.len() != tokens {
            return Err(RuntimeError::MalformedBatch("cu_seqlens and position_ids must cover the tokens"));
        }
        if batch.sequences() == 0 {
            return Err(RuntimeError::MalformedBatch("no sequence"));
        }
        let limit = self.sizes.positions;
        for (index, range) in batch.ranges().enumerate() {
            if range.is_empty() {
                return Err(RuntimeError::EmptySequence { index });
            }
            let position_last =
                batch.position_ids[range.clone()].iter().max().map_or(0, |&last| last as usize);
            let length = range.len().max(position_last + 1);
            if length > limit {
                return Err(RuntimeError::TooLong { index, length, limit });
            }
        }
        let vocabulary = self.sizes.vocabulary;
        match batch.input_ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(RuntimeError::UnknownToken { id, vocabulary }),
            None => Ok(()),
        }
    }

    /// Last hidden states `[T, H]` of a batch that passed [`Self::check`].
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn forward(&self, batch: &TokenBatch) -> Result<Tensor> {
        let ranges: Vec<_> = batch.ranges().collect();
        let mut hidden = self.embeddings.forward(batch, &self.device)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &ranges, &self.sizes)?;
        }
        Ok(hidden)
    }

    /// Longest sequence, in tokens.
    pub fn positions_max(&self) -> usize {
        self.sizes.positions
    }

    /// `H`.
    pub fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    /// Rows of the embedding table.
    pub fn vocabulary_size(&self) -> usize {
        self.sizes.vocabulary
    }
}

impl Sizes {
    fn new(config: &Config) -> std::result::Result<Self, ModelError> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) {
            let message = format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}");
            return Err(ModelError::Backend { message });
        }
        Ok(Self {
            hidden,
            intermediate: config.intermediate_size,
            heads,
            vocabulary: config.vocab_size,
            positions: config.max_position_embeddings,
            activation: config.hidden_act,
        })
    }
}

impl Embeddings {
    fn load(
        reader: &Reader,
        name: &str,
        sizes: &Sizes,
        types: usize,
    ) -> std::result::Result<Self, ModelError> {
        let table =
            |table: &str, rows| reader.tensor(&format!("{name}.{table}.weight"), &[rows, sizes.hidden]);
        let first_segment = table("token_type_embeddings", types)?.narrow(0, 0, 1)?;
        Ok(Self {
            words: table("word_embeddings", sizes.vocabulary)?,
            positions: table("position_embeddings", sizes.positions)?.broadcast_add(&first_segment)?,
            norm: reader.norm(&format!("{name}.LayerNorm"))?,
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
    fn load(reader: &Reader, name: &str, intermediate: usize) -> std::result::Result<Self, ModelError> {
        let hidden = reader.hidden;
        let linear =
            |target: Target, out, inside| reader.linear(&format!("{name}.{}", target.as_str()), out, inside);
        let attention = [Target::Query, Target::Key, Target::Value]
            .map(|target| linear(target, hidden, hidden))
            .into_iter()
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let weights: Vec<_> = attention.iter().map(|part| &part.weight).collect();
        let biases: Vec<_> = attention.iter().map(|part| &part.bias).collect();
        Ok(Self {
            query_key_value: Linear { weight: Tensor::cat(&weights, 0)?, bias: Tensor::cat(&biases, 0)? },
            attention_output: linear(Target::AttentionOutput, hidden, hidden)?,
            attention_norm: reader.norm(&format!("{name}.attention.output.LayerNorm"))?,
            intermediate: linear(Target::Intermediate, intermediate, hidden)?,
            output: linear(Target::Output, hidden, intermediate)?,
            output_norm: reader.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }

    fn merge(
        &mut self,
        layer: usize,
        adapter: &LoraAdapter,
        hidden: usize,
    ) -> std::result::Result<(), ModelError> {
        let parts = [Target::Query, Target::Key, Target::Value];
        let deltas = parts
            .map(|target| adapter.delta(layer, target, &[hidden, hidden]))
            .into_iter()
            .collect::<std::result::Result<Vec<_>, _>>()?;
        if deltas.iter().any(Option::is_some) {
            let zeros = Tensor::zeros((hidden, hidden), self.query_key_value.weight.dtype(), &Device::Cpu)?;
            let rows: Vec<_> =
                deltas.into_iter().map(|delta| delta.unwrap_or_else(|| zeros.clone())).collect();
            self.query_key_value.add(&Tensor::cat(&rows, 0)?)?;
        }
        for (target, linear) in [
            (Target::AttentionOutput, &mut self.attention_output),
            (Target::Intermediate, &mut self.intermediate),
            (Target::Output, &mut self.output),
        ] {
            if let Some(delta) = adapter.delta(layer, target, linear.weight.dims())? {
                linear.add(&delta)?;
            }
        }
        Ok(())
    }

    fn forward(&self, hidden: &Tensor, ranges: &[Range<usize>], sizes: &Sizes) -> Result<Tensor> {
        let query_key_value = self.query_key_value.forward(hidden)?;
        let attended = ranges
            .par_iter()
            .map(|range| attend(&query_key_value.narrow(0, range.start, range.len())?, sizes))
            .collect::<Result<Vec<_>>>()?;
        let attended = self.attention_output.forward(&Tensor::cat(&attended, 0)?)?;
        let hidden = self.attention_norm.forward(&(attended + hidden)?)?;
        let inner = activate(&self.intermediate.forward(&hidden)?, sizes.activation)?;
        self.output_norm.forward(&(self.output.forward(&inner)? + hidden)?)
    }
}

impl Linear {
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        rows.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }

    fn add(&mut self, delta: &Tensor) -> Result<()> {
        self.weight = (&self.weight + delta)?;
        Ok(())
    }
}

impl Norm {
    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        ops::layer_norm(rows, &self.weight, &self.bias, self.epsilon)
    }
}

/// Self-attention within one sequence of `L` tokens: `[L, 3 H]` to `[L, H]`.
/// `softmax(Q K^T / sqrt(d)) V` with `d = H / heads`, <https://arxiv.org/abs/1706.03762>.
fn attend(query_key_value: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let length = query_key_value.dim(0)?;
    let head_size = sizes.hidden / sizes.heads;
    // [L, 3 H] -> [3, heads, L, d]
    let parts =
        query_key_value.reshape((length, 3, sizes.heads, head_size))?.permute((1, 2, 0, 3))?.contiguous()?;
    // Scaling the queries touches L·H values, scaling the scores would touch heads·L².
    let query = (parts.get(0)? * (1.0 / (head_size as f64).sqrt()))?;
    let scores = query.matmul(&parts.get(1)?.transpose(D::Minus1, D::Minus2)?)?;
    let context = ops::softmax_last_dim(&scores)?.matmul(&parts.get(2)?)?;
    context.transpose(0, 1)?.contiguous()?.reshape((length, sizes.hidden))
}

fn activate(rows: &Tensor, activation: HiddenAct) -> Result<Tensor> {
    match activation {
        HiddenAct::Gelu => rows.gelu_erf(),
        HiddenAct::GeluApproximate => rows.gelu(),
        HiddenAct::Relu => rows.relu(),
    }
}

/// Takes tensors of known shape out of a file.
struct Reader<'a> {
    weights: TensorFile,
    hidden: usize,
    epsilon: f32,
    device: &'a Device,
}

impl Reader<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, ModelError> {
        Ok(self.weights.get(name, shape)?.to_device(self.device)?)
    }

    fn linear(&self, name: &str, out: usize, inside: usize) -> std::result::Result<Linear, ModelError> {
        Ok(Linear {
            weight: self.tensor(&format!("{name}.weight"), &[out, inside])?,
            bias: self.tensor(&format!("{name}.bias"), &[out])?,
        })
    }

    fn norm(&self, name: &str) -> std::result::Result<Norm, ModelError> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"), &[self.hidden])?,
            bias: self.tensor(&format!("{name}.bias"), &[self.hidden])?,
            epsilon: self.epsilon,
        })
    }
}
