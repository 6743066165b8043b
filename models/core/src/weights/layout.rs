//! Where checkpoints of an architecture keep an encoder's tensors.

use super::lora::{LoraAdapter, Target};
use super::parts::{DisentangledWeights, EmbeddingWeights, LayerWeights, Tensors};
use super::position;
use super::{LinearWeights, NormWeights};
use crate::error::ModelError;
use crate::spec::{AttentionBias, EncoderSpec, FeedForward, NormKind};

/// Names of an architecture's tensors, and what it calls what is around the encoder. Names of layers and
/// tables are without `.weight` and `.bias`, and all are without the prefix.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What stands before all names in files of models around the encoder.
    pub prefix: &'static str,
    /// The same in files of other writers.
    pub other_prefix: Option<&'static str>,
    /// Classes of transformers that are an encoder, with or without what it was pre-trained by.
    pub encoder_classes: &'static [&'static str],
    /// Other classes, whose answers are made by a head over the encoder, and what the names of its tensors
    /// begin with.
    pub head_classes: &'static [(&'static str, &'static str)],
    /// Classes beside these that `auto_map` may name, where repositories bring the architecture's code: it is
    /// not run.
    pub code_classes: &'static [&'static str],
    /// The table of words, which every file has.
    pub words: &'static str,
    /// The table of positions.
    pub positions: Option<PositionTable>,
    /// The table of segments.
    pub segments: Option<SegmentTable>,
    /// Behind the sum of the tables.
    pub embedding_norm: Option<Name>,
    /// From `E` to `H`.
    pub projection: Option<Name>,
    /// Where layers are.
    pub layer: LayerName,
    /// Linear layers of a transformer layer.
    pub modules: Vec<Module>,
    /// Whether the half of a gated feed-forward block that the activation is applied to comes last in its
    /// tensor.
    pub is_gate_last: bool,
    /// Of a layer's attention.
    pub attention_norm: Name,
    /// Whether the first layer's attention takes hidden states as they are.
    pub skips_first_norm: bool,
    /// Of a layer's feed-forward block.
    pub output_norm: Name,
    /// Of queries and of keys.
    pub query_key_norms: Option<[Name; 2]>,
    /// Behind the last layer.
    pub final_norm: Option<Name>,
    /// Numbers for distances.
    pub distance: Option<DistanceNumbers>,
    /// Embeddings of distances.
    pub relative: Option<RelativeTable>,
    /// Tables of numbers that old versions of transformers kept; they say nothing.
    pub buffers: &'static [&'static str],
}

/// A layer's name, and whether it has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// Without `.weight` and `.bias`.
    pub name: &'static str,
    /// Whether there is a `.bias`.
    pub has_bias: bool,
}

/// A linear layer of a transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// What it is.
    pub target: Target,
    /// Its name within the layer.
    pub name: Name,
}

/// A table of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionTable {
    /// Its name.
    pub name: &'static str,
    /// Rows before that of the first token.
    pub offset: usize,
}

/// A table of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentTable {
    /// Its name.
    pub name: &'static str,
    /// Its rows, of which the first two are used.
    pub rows: usize,
}

/// Transformer layers are called `before`, a number, `behind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerName {
    /// Ends in a point.
    pub before: &'static str,
    /// Begins and ends in a point.
    pub behind: &'static str,
    /// So many layers in a row have the same number, and so the same weights.
    pub together: usize,
}

/// Where the numbers of [`AttentionBias::Distance`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistanceNumbers {
    /// A table `[buckets, heads]`, with the buckets of T5.
    Buckets {
        /// Its name.
        name: &'static str,
        /// Its rows.
        buckets: usize,
        /// Farther ones share a bucket.
        distance_max: usize,
    },
    /// The distance times a slope that is each head's own, <https://arxiv.org/abs/2108.12409>.
    Slopes,
}

/// What position keys and queries are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeTable {
    /// `[2 k, H]`
    pub name: &'static str,
    /// Behind it.
    pub norm: Option<Name>,
    /// Projections of a layer's own for position keys and for position queries, instead of those of its keys
    /// and queries.
    pub projections: Option<[Name; 2]>,
}

impl Name {
    /// With a bias.
    pub const fn biased(name: &'static str) -> Self {
        Self { name, has_bias: true }
    }

    /// Without.
    pub const fn plain(name: &'static str) -> Self {
        Self { name, has_bias: false }
    }
}

impl LayerName {
    /// Layers with weights of their own.
    pub const fn each(before: &'static str) -> Self {
        Self { before, behind: ".", together: 1 }
    }

    /// The number in the names of a layer's tensors.
    fn number(&self, index: usize) -> usize {
        index.checked_div(self.together).unwrap_or(0)
    }

    /// Number and rest of a tensor's name.
    fn split<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        let (number, rest) = name.strip_prefix(self.before)?.split_once(self.behind)?;
        Some((number.parse().ok()?, rest))
    }
}

impl Layout {
    /// A tensor that every file has.
    pub(super) fn landmark(&self) -> String {
        format!("{}.weight", self.words)
    }

    /// Whether the encoder is made of a tensor, by its name without the prefix.
    pub(super) fn is_part(&self, spec: &EncoderSpec, tensor: &str) -> bool {
        if self.buffers.contains(&tensor) {
            return true;
        }
        if let Some((number, part)) = self.layer.split(tensor) {
            let numbers = spec.num_hidden_layers.div_ceil(self.layer.together.max(1));
            return number < numbers && (self.is_of_layer(part) || self.buffers.contains(&part));
        }
        let tables = [self.positions.map(|table| table.name), self.segments.map(|table| table.name)];
        let tables = tables.into_iter().flatten().chain([self.words]).map(Name::plain);
        let distance = self.distance.and_then(|distance| match distance {
            DistanceNumbers::Buckets { name, .. } => Some(Name::plain(name)),
            DistanceNumbers::Slopes => None,
        });
        let relative = self.relative.map(|relative| [Some(Name::plain(relative.name)), relative.norm]);
        let named = [self.embedding_norm, self.projection, self.final_norm, distance];
        let mut names = tables.chain(named.into_iter().chain(relative.into_iter().flatten()).flatten());
        names.any(|name| name.is_of(tensor))
    }

    fn is_of_layer(&self, part: &str) -> bool {
        let norms = [self.attention_norm, self.output_norm];
        let own = self.query_key_norms.into_iter().flatten();
        let positions = self.relative.and_then(|relative| relative.projections).into_iter().flatten();
        let modules = self.modules.iter().map(|module| module.name);
        norms.into_iter().chain(own).chain(positions).chain(modules).any(|name| name.is_of(part))
    }

    /// Layer and linear layer that a module's name, with or without the prefix, stands for. Layers of the
    /// same weights have one number.
    pub fn target(&self, module: &str) -> Option<(usize, Target)> {
        let (number, rest) = self.layer.split(module.strip_prefix(self.prefix).unwrap_or(module))?;
        let module = self.modules.iter().find(|module| module.name.name == rest)?;
        Some((number, module.target))
    }

    pub(super) fn embeddings(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
    ) -> Result<EmbeddingWeights, ModelError> {
        let width = spec.embedding_size;
        let table = |name: &str, rows: usize| tensors.get(&format!("{name}.weight"), &[rows, width]);
        let mut words = table(self.words, spec.vocab_size)?;
        let mut positions = match self.positions {
            Some(PositionTable { name, offset }) => {
                let mut rows = table(name, offset + spec.max_position_embeddings)?;
                rows.drain(..offset * width);
                Some(rows)
            }
            None => None,
        };
        let mut second_segment = None;
        if let Some(SegmentTable { name, rows }) = self.segments {
            let segments = table(name, rows)?;
            let mut rows = segments.chunks_exact(width);
            let first = rows.next().unwrap_or_default();
            let difference = |second: &[f32]| second.iter().zip(first).map(|(a, b)| a - b).collect();
            second_segment = rows.next().map(difference);
            for row in positions.as_mut().unwrap_or(&mut words).chunks_exact_mut(width) {
                row.iter_mut().zip(first).for_each(|(value, segment)| *value += segment);
            }
        }
        let norm = self.embedding_norm.map(|name| self.norm(spec, tensors, name.name, name, width));
        let projection = self.projection.map(|Name { name, has_bias }| {
            tensors.linear(name, has_bias, [spec.hidden_size, spec.embedding_size])
        });
        Ok(EmbeddingWeights {
            words,
            positions,
            second_segment,
            norm: norm.transpose()?,
            projection: projection.transpose()?,
        })
    }

    pub(super) fn layer(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
        index: usize,
        adapter: Option<&LoraAdapter>,
    ) -> Result<LayerWeights, ModelError> {
        let number = self.layer.number(index);
        let place = format!("{}{number}{}", self.layer.before, self.layer.behind);
        let join = |targets: &[Target]| {
            let mut joined = LinearWeights { weight: Vec::new(), bias: Vec::new() };
            for target in targets {
                let Some(module) = self.modules.iter().find(|module| module.target == *target) else {
                    continue;
                };
                let name = format!("{place}{}", module.name.name);
                let mut part =
                    tensors.linear(&name, module.name.has_bias, self.shape(spec, module.target))?;
                if let Some(adapter) = adapter {
                    adapter.merge(number, module.target, &mut part)?;
                }
                if joined.bias.is_empty() {
                    joined = part;
                } else {
                    joined.weight.extend(part.weight);
                    joined.bias.extend(part.bias);
                }
            }
            Ok::<_, ModelError>(joined)
        };
        let norm =
            |name: Name, width| self.norm(spec, tensors, &format!("{place}{}", name.name), name, width);
        let query_key_value = join(&[Target::QueryKeyValue, Target::Query, Target::Key, Target::Value])?;
        let mut intermediate = join(&[Target::Gate, Target::Intermediate])?;
        if self.is_gate_last {
            intermediate.weight.rotate_left(spec.intermediate_size * spec.hidden_size);
            intermediate.bias.rotate_left(spec.intermediate_size);
        }
        let head_norm = |which: usize| {
            let name = self.query_key_norms.and_then(|names| names.get(which).copied());
            name.map(|name| norm(name, spec.head_size)).transpose()
        };
        let attention_norm = (index > 0 || !self.skips_first_norm)
            .then(|| norm(self.attention_norm, spec.hidden_size))
            .transpose()?;
        Ok(LayerWeights {
            disentangled: self.disentangled(spec, tensors, &place, &query_key_value)?,
            query_key_value,
            query_norm: head_norm(0)?,
            key_norm: head_norm(1)?,
            attention_output: join(&[Target::AttentionOutput])?,
            attention_norm,
            intermediate,
            output: join(&[Target::Output])?,
            output_norm: norm(self.output_norm, spec.hidden_size)?,
        })
    }

    pub(super) fn final_norm(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
    ) -> Result<Option<NormWeights>, ModelError> {
        self.final_norm.map(|name| self.norm(spec, tensors, name.name, name, spec.hidden_size)).transpose()
    }

    pub(super) fn distance_bias(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        let (heads, longest) = (spec.num_attention_heads, spec.max_position_embeddings);
        Ok(match self.distance {
            None => None,
            Some(DistanceNumbers::Slopes) => Some(position::linear_biases(heads, longest)),
            Some(DistanceNumbers::Buckets { name, buckets, distance_max }) => {
                let table = tensors.get(&format!("{name}.weight"), &[buckets, heads])?;
                let bucket = |offset| position::bucket(offset, buckets, distance_max);
                let value = |head: usize| {
                    let table = &table;
                    position::offsets(longest)
                        .map(move |offset| table.get(bucket(offset) * heads + head).copied().unwrap_or(0.0))
                };
                Some((0..heads).flat_map(value).collect())
            }
        })
    }

    /// Position keys and queries of a layer.
    fn disentangled(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
        place: &str,
        query_key_value: &LinearWeights,
    ) -> Result<Option<DisentangledWeights>, ModelError> {
        let (Some(relative), AttentionBias::Disentangled(bias)) = (self.relative, &spec.bias) else {
            return Ok(None);
        };
        let (hidden, width) = (spec.hidden_size, spec.attention_width());
        let mut table = tensors.get(&format!("{}.weight", relative.name), &[bias.rows(), hidden])?;
        if let Some(name) = relative.norm {
            let norm = self.norm(spec, tensors, name.name, name, hidden)?;
            table.chunks_exact_mut(hidden).for_each(|row| position::normalize(row, &norm));
        }
        let own = |which: usize| {
            let name = relative.projections.and_then(|names| names.get(which).copied());
            name.map(|Name { name, has_bias }| {
                tensors.linear(&format!("{place}{name}"), has_bias, [width, hidden])
            })
        };
        // Rows of queries come first, then those of keys.
        let shared = |first: usize| LinearWeights {
            weight: query_key_value.weight[first * hidden..(first + width) * hidden].to_vec(),
            bias: query_key_value.bias[first..first + width].to_vec(),
        };
        let project = |which: usize, first: usize| {
            let linear = own(which).unwrap_or_else(|| Ok(shared(first)))?;
            Ok::<_, ModelError>(position::project(&table, &linear))
        };
        Ok(Some(DisentangledWeights {
            position_keys: bias.content_to_position.then(|| project(0, width)).transpose()?,
            position_queries: bias.position_to_content.then(|| project(1, 0)).transpose()?,
        }))
    }

    /// A normalisation as the encoder's are; `place` is its whole name.
    fn norm(
        &self,
        spec: &EncoderSpec,
        tensors: &Tensors<'_>,
        place: &str,
        name: Name,
        width: usize,
    ) -> Result<NormWeights, ModelError> {
        let has_bias = name.has_bias && spec.norm == NormKind::LayerNorm;
        tensors.norm(place, has_bias, width, spec.layer_norm_eps)
    }

    fn shape(&self, spec: &EncoderSpec, target: Target) -> [usize; 2] {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let keys = spec.num_key_value_heads * spec.head_size;
        let has_gate = self.modules.iter().any(|module| module.target == Target::Gate);
        match target {
            Target::Query => [spec.attention_width(), hidden],
            Target::Key | Target::Value => [keys, hidden],
            Target::QueryKeyValue => [spec.query_key_value_width(), hidden],
            Target::AttentionOutput => [hidden, spec.attention_width()],
            Target::Intermediate if spec.feed_forward == FeedForward::Gated && !has_gate => {
                [2 * inner, hidden]
            }
            Target::Gate | Target::Intermediate => [inner, hidden],
            Target::Output => [hidden, inner],
        }
    }
}

impl Name {
    /// Whether a tensor is its weight or its bias, which once were called otherwise in normalisations.
    fn is_of(self, tensor: &str) -> bool {
        match tensor.strip_prefix(self.name) {
            Some(".weight" | ".gamma") => true,
            Some(".bias" | ".beta") => self.has_bias,
            _ => false,
        }
    }
}
