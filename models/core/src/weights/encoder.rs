//! The weights of an encoder, read piece by piece out of whatever its architecture calls them.

use super::layout::Layout;
use super::lora::LoraAdapter;
use super::tensors::TensorFile;
use super::{LinearWeights, NormWeights};
use crate::card::Card;
use crate::error::ModelError;
use crate::spec::{EncoderSpec, Rotary};

/// An encoder's weights, read piece by piece.
pub struct EncoderWeights {
    /// The sizes.
    pub spec: EncoderSpec,
    tensors: TensorFile,
    layout: Layout,
    /// Before all names.
    prefix: &'static str,
}

/// Tensors of a file by their names without the prefix.
pub struct Tensors<'a> {
    file: &'a TensorFile,
    prefix: &'static str,
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

impl EncoderWeights {
    /// Joins weights and sizes; shapes are checked as tensors are read.
    ///
    /// # Errors
    /// When the sizes make no sense.
    pub fn new(tensors: TensorFile, spec: EncoderSpec, mut layout: Layout) -> Result<Self, ModelError> {
        check_sizes(&spec).map_err(|message| ModelError::Backend { message })?;
        let is_used = |prefix: &&str| tensors.has(&format!("{prefix}{}", layout.landmark()));
        let prefix = [Some(layout.prefix), layout.other_prefix].into_iter().flatten().find(is_used);
        layout.prefix = prefix.unwrap_or(layout.prefix);
        Ok(Self { spec, tensors, layout, prefix: prefix.unwrap_or("") })
    }

    /// Where its tensors are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Tensors of the file that the encoder is not made of.
    pub fn unused(&self) -> Vec<String> {
        let is_part = |name: &String| {
            let name = name.strip_prefix(self.prefix);
            name.is_some_and(|name| self.layout.is_part(&self.spec, name))
        };
        let mut unused: Vec<String> =
            self.tensors.names().into_iter().filter(|name| !is_part(name)).collect();
        unused.sort();
        unused
    }

    /// The file that the encoder is read from, which may hold a head as well.
    pub fn file(&self) -> &TensorFile {
        &self.tensors
    }

    /// Transformer layers.
    pub fn layers(&self) -> usize {
        self.spec.num_hidden_layers
    }

    /// Reads the embedding layer.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn embeddings(&self) -> Result<EmbeddingWeights, ModelError> {
        self.layout.embeddings(&self.spec, &self.tensors())
    }

    /// Reads one transformer layer, with an adapter merged into it.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the adapter does not fit.
    pub fn layer(&self, index: usize, adapter: Option<&LoraAdapter>) -> Result<LayerWeights, ModelError> {
        self.layout.layer(&self.spec, &self.tensors(), index, adapter)
    }

    /// Reads what normalises the last hidden states, where there is one:
    /// [`NormPlace::Before`](crate::spec::NormPlace::Before).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn final_norm(&self) -> Result<Option<NormWeights>, ModelError> {
        self.layout.final_norm(&self.spec, &self.tensors())
    }

    /// Reads the numbers of [`AttentionBias::Distance`](crate::spec::AttentionBias::Distance): for each head a
    /// row of `2 n - 1`, where `n` is the longest sequence, by the key's place less the query's, from `1 - n`
    /// on. `[heads, 2 n - 1]`
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn distance_bias(&self) -> Result<Option<Vec<f32>>, ModelError> {
        self.layout.distance_bias(&self.spec, &self.tensors())
    }

    /// Reads the adapter of a card, if it has one.
    ///
    /// # Errors
    /// When its files are not what the card says, or it does not fit.
    pub fn adapter(&self, card: &Card) -> Result<Option<LoraAdapter>, ModelError> {
        LoraAdapter::load(card, self.layers(), |module| self.layout.target(module))
    }

    fn tensors(&self) -> Tensors<'_> {
        Tensors { file: &self.tensors, prefix: self.prefix }
    }
}

fn check_sizes(spec: &EncoderSpec) -> Result<(), String> {
    let (heads, heads_of_keys) = (spec.num_attention_heads, spec.num_key_value_heads);
    let sizes = [
        ("vocab_size", spec.vocab_size),
        ("embedding_size", spec.embedding_size),
        ("hidden_size", spec.hidden_size),
        ("num_attention_heads", heads),
        ("num_key_value_heads", heads_of_keys),
        ("head_size", spec.head_size),
        ("intermediate_size", spec.intermediate_size),
        ("max_position_embeddings", spec.max_position_embeddings),
    ];
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return Err(format!("{name} must be at least 1"));
    }
    if !heads.is_multiple_of(heads_of_keys) {
        return Err(format!(
            "num_attention_heads {heads} is not a multiple of num_key_value_heads {heads_of_keys}"
        ));
    }
    let dimensions = |rotary: &Rotary| 2 * rotary.inverse_frequencies.len();
    match spec.rotary.iter().map(dimensions).find(|dimensions| *dimensions > spec.head_size) {
        Some(dimensions) => {
            Err(format!("the rotation turns {dimensions} of the {} numbers of a head", spec.head_size))
        }
        None => Ok(()),
    }
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

    /// `<name>.weight` and, if it has one, `<name>.bias` of a normalisation of rows of this width; checkpoints
    /// of BERT's first authors call them `gamma` and `beta`.
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
