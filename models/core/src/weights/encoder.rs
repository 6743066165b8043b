//! The weights of an encoder, read piece by piece out of whatever its architecture calls them.

use super::NormWeights;
use super::layout::Layout;
use super::lora::LoraAdapter;
use super::parts::{EmbeddingWeights, LayerWeights, Tensors};
use super::tensors::TensorFile;
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

    /// Reads the numbers of [`AttentionBias::Distance`](crate::spec::AttentionBias::Distance): for each head
    /// a row of `2 n - 1`, where `n` is the longest sequence, by the key's place less the query's, from `1 -
    /// n` on. `[heads, 2 n - 1]`
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
