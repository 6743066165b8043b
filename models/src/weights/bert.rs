//! Weights of a BERT encoder (<https://arxiv.org/abs/1810.04805>) in the names and layout of the model hub.

use std::path::Path;

use serde::Deserialize;

use super::lora::{LoraAdapter, Target};
use super::tensors::TensorFile;
use super::{LinearWeights, NormWeights};
use crate::batch::TokenBatch;
use crate::error::ModelError;
use crate::files;
use crate::runtimes::RuntimeError;

/// `config.json`: the sizes of an encoder. Other keys are left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
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
    /// Rows of the table of segments, of which the first is used.
    pub type_vocab_size: usize,
    /// Added to variances in layer normalisation.
    pub layer_norm_eps: f64,
    /// Name of the architecture.
    #[serde(default)]
    pub model_type: Option<String>,
    /// How positions are told apart; only absolute positions are supported.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
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

/// An encoder's weights, read piece by piece.
pub struct BertWeights {
    /// The sizes.
    pub config: BertConfig,
    tensors: TensorFile,
    /// Before all names.
    prefix: &'static str,
}

/// The embedding layer.
pub struct EmbeddingWeights {
    /// `[vocabulary, H]`
    pub words: Vec<f32>,
    /// `[positions, H]`, the embedding of segment 0 added: a text is always the first segment.
    pub positions: Vec<f32>,
    /// Behind their sum.
    pub norm: NormWeights,
}

/// One transformer layer.
pub struct LayerWeights {
    /// Query, key and value as one layer, `[3 H, H]`.
    pub query_key_value: LinearWeights,
    /// Behind the heads, `[H, H]`.
    pub attention_output: LinearWeights,
    /// Behind the attention's residual connection.
    pub attention_norm: NormWeights,
    /// `[I, H]`
    pub intermediate: LinearWeights,
    /// `[H, I]`
    pub output: LinearWeights,
    /// Behind the feed-forward block's residual connection.
    pub output_norm: NormWeights,
}

impl BertConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When it cannot be read, is of another architecture, or asks for what no runtime here computes.
    pub fn from_file(path: &Path, architecture: &str) -> Result<Self, ModelError> {
        let fault = |message: String| ModelError::File { file: path.display().to_string(), message };
        let config: Self =
            serde_json::from_slice(&files::read(path)?).map_err(|error| fault(error.to_string()))?;
        match (config.model_type.as_deref(), config.position_embedding_type.as_deref()) {
            (None, _) => Err(fault(format!("model_type is missing, the card says {architecture:?}"))),
            (Some(model_type), _) if model_type != architecture => {
                Err(fault(format!("model_type is {model_type:?}, the card says {architecture:?}")))
            }
            (_, Some(positions)) if positions != "absolute" => {
                Err(fault(format!("position_embedding_type {positions:?} is not supported")))
            }
            _ => Ok(config),
        }
    }

    /// Refuses a batch that would read outside the embedding tables.
    ///
    /// # Errors
    /// Names the sequence or token that does not fit.
    pub fn check(&self, batch: &TokenBatch) -> Result<(), RuntimeError> {
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
        let limit = self.max_position_embeddings;
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
        let vocabulary = self.vocab_size;
        match batch.input_ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(RuntimeError::UnknownToken { id, vocabulary }),
            None => Ok(()),
        }
    }
}

impl BertWeights {
    /// Joins weights and sizes; shapes are checked as tensors are read.
    ///
    /// # Errors
    /// When the sizes make no sense.
    pub fn new(tensors: TensorFile, config: BertConfig) -> Result<Self, ModelError> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) {
            let message = format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}");
            return Err(ModelError::Backend { message });
        }
        if config.intermediate_size == 0 || config.type_vocab_size == 0 {
            let message = "intermediate_size and type_vocab_size must be at least 1".to_owned();
            return Err(ModelError::Backend { message });
        }
        let prefix = if tensors.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        Ok(Self { config, tensors, prefix })
    }

    /// Tensors of the file that no layer is made of. Tables of numbers that old versions of transformers kept are none of them.
    pub(crate) fn unused(&self) -> Vec<String> {
        const PARTS: [&str; 8] = [
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "attention.output.LayerNorm",
            "intermediate.dense",
            "output.dense",
            "output.LayerNorm",
        ];
        const EMBEDDINGS: [&str; 7] = [
            "embeddings.word_embeddings.weight",
            "embeddings.position_embeddings.weight",
            "embeddings.token_type_embeddings.weight",
            "embeddings.LayerNorm.weight",
            "embeddings.LayerNorm.bias",
            "embeddings.position_ids",
            "embeddings.token_type_ids",
        ];
        let is_of_layer = |name: &str| {
            let Some((layer, part)) = name.strip_prefix("encoder.layer.").and_then(|n| n.split_once('.'))
            else {
                return false;
            };
            let part = part.strip_suffix(".weight").or_else(|| part.strip_suffix(".bias"));
            layer.parse().is_ok_and(|layer: usize| layer < self.layers())
                && part.is_some_and(|part| PARTS.contains(&part))
        };
        let is_used = |name: &String| {
            let name = name.strip_prefix(self.prefix);
            name.is_some_and(|name| EMBEDDINGS.contains(&name) || is_of_layer(name))
        };
        let mut unused: Vec<String> =
            self.tensors.names().into_iter().filter(|name| !is_used(name)).collect();
        unused.sort();
        unused
    }

    /// Transformer layers.
    pub fn layers(&self) -> usize {
        self.config.num_hidden_layers
    }

    /// Reads the embedding layer.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn embeddings(&self) -> Result<EmbeddingWeights, ModelError> {
        let config = &self.config;
        let table =
            |table: &str, rows| self.get(&format!("embeddings.{table}.weight"), &[rows, config.hidden_size]);
        let segments = table("token_type_embeddings", config.type_vocab_size)?;
        let mut positions = table("position_embeddings", config.max_position_embeddings)?;
        for row in positions.chunks_exact_mut(config.hidden_size) {
            row.iter_mut().zip(&segments).for_each(|(value, segment)| *value += segment);
        }
        let norm = self.norm("embeddings.LayerNorm")?;
        Ok(EmbeddingWeights { words: table("word_embeddings", config.vocab_size)?, positions, norm })
    }

    /// Reads one transformer layer, with an adapter merged into it.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the adapter does not fit.
    pub fn layer(&self, index: usize, adapter: Option<&LoraAdapter>) -> Result<LayerWeights, ModelError> {
        let (hidden, intermediate) = (self.config.hidden_size, self.config.intermediate_size);
        let name = format!("encoder.layer.{index}");
        let linear = |target: Target, outputs: usize, inputs: usize| {
            let mut linear = self.linear(&format!("{name}.{}", target.as_str()), outputs, inputs)?;
            if let Some(adapter) = adapter {
                adapter.merge(index, target, &mut linear)?;
            }
            Ok::<_, ModelError>(linear)
        };
        let mut query_key_value = linear(Target::Query, hidden, hidden)?;
        for target in [Target::Key, Target::Value] {
            let part = linear(target, hidden, hidden)?;
            query_key_value.weight.extend(part.weight);
            query_key_value.bias.extend(part.bias);
        }
        Ok(LayerWeights {
            query_key_value,
            attention_output: linear(Target::AttentionOutput, hidden, hidden)?,
            attention_norm: self.norm(&format!("{name}.attention.output.LayerNorm"))?,
            intermediate: linear(Target::Intermediate, intermediate, hidden)?,
            output: linear(Target::Output, hidden, intermediate)?,
            output_norm: self.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.tensors.get(&format!("{}{name}", self.prefix), shape)
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<LinearWeights, ModelError> {
        Ok(LinearWeights {
            weight: self.get(&format!("{name}.weight"), &[outputs, inputs])?,
            bias: self.get(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn norm(&self, name: &str) -> Result<NormWeights, ModelError> {
        let hidden = self.config.hidden_size;
        Ok(NormWeights {
            weight: self.get(&format!("{name}.weight"), &[hidden])?,
            bias: self.get(&format!("{name}.bias"), &[hidden])?,
            epsilon: self.config.layer_norm_eps as f32,
        })
    }
}
