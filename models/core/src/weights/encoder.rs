//! The weights of an encoder, read piece by piece out of whatever its architecture calls them.

use super::lora::{LoraAdapter, Target};
use super::tensors::TensorFile;
use super::{LinearWeights, NormWeights};
use crate::card::Card;
use crate::error::ModelError;
use crate::spec::EncoderSpec;

/// An encoder's weights, read piece by piece.
pub struct EncoderWeights {
    /// The sizes.
    pub spec: EncoderSpec,
    tensors: TensorFile,
    layout: Box<dyn Layout>,
    /// Before all names.
    prefix: &'static str,
}

/// Where checkpoints of an architecture keep an encoder's tensors, and what they call what is around it.
pub trait Layout: Send + Sync {
    /// Classes of transformers that are an encoder, with or without what it was pre-trained by.
    fn encoder_classes(&self) -> &'static [&'static str];

    /// Other classes, whose answers are made by a head over the encoder, and what the names of its tensors
    /// begin with.
    fn head_classes(&self) -> &'static [(&'static str, &'static str)];

    /// What stands before all names in files of models around the encoder.
    fn prefix(&self) -> &'static str;

    /// A tensor that every file has, without the prefix.
    fn landmark(&self) -> &'static str;

    /// Reads the embedding layer.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    fn embeddings(&self, spec: &EncoderSpec, tensors: &Tensors<'_>) -> Result<EmbeddingWeights, ModelError>;

    /// Reads one transformer layer, with an adapter merged into it.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the adapter does not fit.
    fn layer(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
        index: usize,
        adapter: Option<&LoraAdapter>,
    ) -> Result<LayerWeights, ModelError>;

    /// Whether the encoder is made of a tensor, by its name without the prefix. Tables of numbers that old
    /// versions of transformers kept count as well.
    fn is_part(&self, spec: &EncoderSpec, tensor: &str) -> bool;

    /// Layer and linear layer that a module's name, with or without the prefix, stands for.
    fn target(&self, module: &str) -> Option<(usize, Target)>;
}

/// Tensors of a file by their names without the prefix.
pub struct Tensors<'a> {
    file: &'a TensorFile,
    prefix: &'static str,
}

/// The embedding layer.
pub struct EmbeddingWeights {
    /// `[vocabulary, H]`
    pub words: Vec<f32>,
    /// `[positions, H]`, the embedding of the first segment added where there is one: a text is always the
    /// first segment.
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

impl EncoderWeights {
    /// Joins weights and sizes; shapes are checked as tensors are read.
    ///
    /// # Errors
    /// When the sizes make no sense.
    pub fn new(
        tensors: TensorFile,
        spec: EncoderSpec,
        layout: impl Layout + 'static,
    ) -> Result<Self, ModelError> {
        let (hidden, heads) = (spec.hidden_size, spec.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) {
            let message = format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}");
            return Err(ModelError::Backend { message });
        }
        if spec.intermediate_size == 0 {
            let message = "intermediate_size must be at least 1".to_owned();
            return Err(ModelError::Backend { message });
        }
        let is_prefixed = tensors.has(&format!("{}{}", layout.prefix(), layout.landmark()));
        let prefix = if is_prefixed { layout.prefix() } else { "" };
        Ok(Self { spec, tensors, layout: Box::new(layout), prefix })
    }

    /// Where its tensors are.
    pub fn layout(&self) -> &dyn Layout {
        &*self.layout
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

impl Tensors<'_> {
    /// The values of a tensor of exactly this shape, row-major.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.file.get(&format!("{}{name}", self.prefix), shape)
    }

    /// `<name>.weight` and `<name>.bias` of a linear layer.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<LinearWeights, ModelError> {
        Ok(LinearWeights {
            weight: self.get(&format!("{name}.weight"), &[outputs, inputs])?,
            bias: self.get(&format!("{name}.bias"), &[outputs])?,
        })
    }

    /// `<name>.weight` and `<name>.bias` of a normalisation of an encoder's hidden states.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn norm(&self, name: &str, spec: &EncoderSpec) -> Result<NormWeights, ModelError> {
        Ok(NormWeights {
            weight: self.get(&format!("{name}.weight"), &[spec.hidden_size])?,
            bias: self.get(&format!("{name}.bias"), &[spec.hidden_size])?,
            epsilon: spec.layer_norm_eps as f32,
        })
    }
}
