//! The weights of a model in device memory.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr};
use models_core::spec::{AttentionBias, LayerSpec, NormKind};
use models_core::weights::{
    EncoderWeights, HeadActivation, HeadLayer, HeadRows, HeadWeights, LayerWeights, LinearWeights,
    LoraAdapter, NormWeights,
};
use models_core::{EncoderSpec, ModelError, RuntimeError};

use super::arrangement::{Arrangement, head_size};
use super::device::{Fault, Format};

/// A linear layer on the device.
pub(super) struct DeviceLinear {
    /// `[outputs, inputs]` in 16 bits.
    pub(super) weight: CudaSlice<u16>,
    /// `[outputs]`
    pub(super) bias: CudaSlice<u16>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

pub(super) struct DeviceNorm {
    pub(super) weight: CudaSlice<u16>,
    /// Zeros where it adds none.
    pub(super) bias: CudaSlice<u16>,
    pub(super) epsilon: f32,
}

/// The weights of an encoder and its head, in one number format.
pub(super) struct DeviceWeights {
    pub(super) spec: EncoderSpec,
    pub(super) format: Format,
    pub(super) embeddings: DeviceEmbeddings,
    /// Layers with the same weights are one.
    pub(super) layers: Vec<Arc<DeviceLayer>>,
    pub(super) final_norm: Option<DeviceNorm>,
    pub(super) tables: DeviceTables,
    pub(super) head: DeviceHead,
}

/// See [`EmbeddingWeights`](models_core::weights::EmbeddingWeights).
pub(super) struct DeviceEmbeddings {
    pub(super) words: CudaSlice<u16>,
    pub(super) positions: Option<CudaSlice<u16>>,
    pub(super) second_segment: Option<CudaSlice<u16>>,
    pub(super) norm: Option<DeviceNorm>,
    pub(super) projection: Option<DeviceLinear>,
}

/// One layer, its heads as [`Arrangement`] has them.
pub(super) struct DeviceLayer {
    pub(super) query_key_value: DeviceLinear,
    pub(super) query_norm: Option<DeviceNorm>,
    pub(super) key_norm: Option<DeviceNorm>,
    /// `[rows, heads, D]`, where queries meet positions.
    pub(super) position_keys: Option<CudaSlice<u16>>,
    /// The same, where keys do.
    pub(super) position_queries: Option<CudaSlice<u16>>,
    pub(super) attention_output: DeviceLinear,
    pub(super) attention_norm: Option<DeviceNorm>,
    pub(super) intermediate: DeviceLinear,
    pub(super) output: DeviceLinear,
    pub(super) output_norm: DeviceNorm,
}

/// Tables by position and distance, as all layers have them.
pub(super) struct DeviceTables {
    /// For each rotation `[positions, 2, pairs]`: cosines of its pairs' angles, then their sines.
    pub(super) angles: Vec<CudaSlice<f32>>,
    /// `[heads, 2 n - 1]` in units of log 2, by the key's place less the query's.
    pub(super) distance_bias: Option<CudaSlice<f32>>,
    /// Rows of positions in disentangled attention, `[2 n - 1]` by the query's place less the key's.
    pub(super) position_rows: Option<CudaSlice<i32>>,
}

/// What is computed from the last hidden states; see [`HeadWeights`].
pub(super) struct DeviceHead {
    pub(super) rows: HeadRows,
    pub(super) layers: Vec<DeviceHeadLayer>,
}

/// A head's layer, in float32.
pub(super) enum DeviceHeadLayer {
    /// `[outputs, inputs]` and `[outputs]`.
    Linear {
        weight: CudaSlice<f32>,
        bias: CudaSlice<f32>,
        outputs: usize,
        activation: HeadActivation,
    },
    /// Weight, bias and epsilon.
    Norm(CudaSlice<f32>, CudaSlice<f32>, f32),
    Normalize,
}

/// Puts weights where kernels read them.
struct Upload<'a> {
    stream: &'a Arc<CudaStream>,
    format: Format,
    spec: &'a EncoderSpec,
}

/// Puts an encoder with its adapter, and a head, into device memory.
pub(super) fn upload(
    stream: &Arc<CudaStream>,
    format: Format,
    base: &EncoderWeights,
    adapter: Option<&LoraAdapter>,
    head: &HeadWeights,
) -> Result<DeviceWeights, RuntimeError> {
    let read = |error: ModelError| RuntimeError::Backend { message: error.to_string(), is_fatal: false };
    let spec = &base.spec;
    let to = Upload { stream, format, spec };
    let embeddings = base.embeddings().map_err(read)?;
    let mut layers: Vec<Arc<DeviceLayer>> = Vec::with_capacity(spec.layers.len());
    for (index, of_layer) in spec.layers.iter().enumerate() {
        let layer = match same_layer(spec, index) {
            Some(same) => Arc::clone(&layers[same]),
            None => {
                let weights = base.layer(index, adapter).map_err(read)?;
                let has_norms = weights.query_norm.is_some() || weights.key_norm.is_some();
                if has_norms && spec.norm != NormKind::Rms {
                    let message = "the runtime cuda brings queries and keys to no mean of 0".to_owned();
                    return Err(RuntimeError::Backend { message, is_fatal: false });
                }
                Arc::new(to.layer(&weights, of_layer)?)
            }
        };
        layers.push(layer);
    }
    Ok(DeviceWeights {
        spec: spec.clone(),
        format,
        embeddings: DeviceEmbeddings {
            words: to.numbers(&embeddings.words)?,
            positions: to.optional(embeddings.positions.as_deref())?,
            second_segment: to.optional(embeddings.second_segment.as_deref())?,
            norm: embeddings.norm.as_ref().map(|norm| to.norm(norm)).transpose()?,
            projection: embeddings.projection.as_ref().map(|linear| to.linear(linear)).transpose()?,
        },
        layers,
        final_norm: base.final_norm().map_err(read)?.map(|norm| to.norm(&norm)).transpose()?,
        tables: to.tables(base.distance_bias().map_err(read)?)?,
        head: to.head(head)?,
    })
}

/// The layer before this one that has the same weights, if any. Numbers of queries and keys have the order
/// of a rotation's pairs.
fn same_layer(spec: &EncoderSpec, index: usize) -> Option<usize> {
    let is_same = |other: &LayerSpec| spec.is_shared && other.rotary == spec.layers[index].rotary;
    spec.layers[..index].iter().position(is_same)
}

/// Bytes that [`upload`] takes, up to some thousand.
pub(super) fn bytes(spec: &EncoderSpec, head: &HeadWeights) -> usize {
    let (hidden, embedding, inner) = (spec.hidden_size, spec.embedding_size, spec.intermediate_size);
    let head_size = head_size(spec);
    let linear = |inputs: usize, outputs: usize| (inputs + 1) * outputs;
    let heads = spec.num_attention_heads;
    let position_tables = match &spec.bias {
        AttentionBias::None | AttentionBias::Distance => 0,
        AttentionBias::Disentangled(bias) => (bias.products() - 1) * bias.rows() * heads * head_size,
    };
    let layer = linear(hidden, (heads + 2 * spec.num_key_value_heads) * head_size)
        + linear(heads * head_size, hidden)
        + linear(hidden, spec.intermediate_width())
        + linear(inner, hidden)
        + 4 * hidden
        + position_tables;
    let layers = (0..spec.layers.len()).filter(|index| same_layer(spec, *index).is_none()).count();
    let positions = match spec.positions {
        models_core::spec::Positions::Absolute => spec.max_position_embeddings,
        models_core::spec::Positions::None => 0,
    };
    let projection = if embedding == hidden { 0 } else { linear(embedding, hidden) };
    let embeddings = (spec.vocab_size + positions) * embedding + projection + 2 * hidden;
    let longest = spec.max_position_embeddings;
    let angles: usize = spec.rotary.iter().map(|rotary| 2 * longest * rotary.inverse_frequencies.len()).sum();
    let by_distance = match &spec.bias {
        AttentionBias::None => 0,
        AttentionBias::Distance => heads * (2 * longest - 1),
        AttentionBias::Disentangled(_) => 2 * longest - 1,
    };
    let of_head = head.layers.iter().map(|layer| match layer {
        HeadLayer::Linear(linear, _) => linear.weight.len() + linear.bias.len(),
        HeadLayer::Norm(norm) => 2 * norm.weight.len(),
        HeadLayer::Normalize => 0,
    });
    2 * (embeddings + layers * layer) + 4 * (angles + by_distance + of_head.sum::<usize>())
}

impl Upload<'_> {
    fn copy<T: DeviceRepr>(&self, values: &[T]) -> Result<CudaSlice<T>, Fault> {
        Ok(self.stream.clone_htod(values)?)
    }

    fn numbers(&self, values: &[f32]) -> Result<CudaSlice<u16>, Fault> {
        self.copy(&self.format.bits(values))
    }

    fn optional(&self, values: Option<&[f32]>) -> Result<Option<CudaSlice<u16>>, Fault> {
        values.map(|values| self.numbers(values)).transpose()
    }

    fn linear(&self, weights: &LinearWeights) -> Result<DeviceLinear, Fault> {
        Ok(DeviceLinear {
            weight: self.numbers(&weights.weight)?,
            bias: self.numbers(&weights.bias)?,
            inputs: weights.inputs(),
            outputs: weights.outputs(),
        })
    }

    fn norm(&self, weights: &NormWeights) -> Result<DeviceNorm, Fault> {
        let bias = match self.spec.norm {
            NormKind::LayerNorm => self.numbers(&weights.bias)?,
            NormKind::Rms => self.numbers(&vec![0.0; weights.weight.len()])?,
        };
        Ok(DeviceNorm { weight: self.numbers(&weights.weight)?, bias, epsilon: weights.epsilon })
    }

    fn layer(&self, weights: &LayerWeights, of_layer: &LayerSpec) -> Result<DeviceLayer, Fault> {
        let heads = Arrangement::new(self.spec, of_layer.rotary.map(|index| &self.spec.rotary[index]));
        let norm = |norm: &NormWeights| self.norm(norm);
        let norm_of_head = |norm: &NormWeights| {
            self.norm(&NormWeights {
                weight: heads.turned(&norm.weight),
                bias: Vec::new(),
                epsilon: norm.epsilon,
            })
        };
        let positions = |table: Option<&Vec<f32>>| self.optional(table.map(|t| heads.turned(t)).as_deref());
        let disentangled = weights.disentangled.as_ref();
        Ok(DeviceLayer {
            query_key_value: self.linear(&heads.query_key_value(&weights.query_key_value))?,
            query_norm: weights.query_norm.as_ref().map(norm_of_head).transpose()?,
            key_norm: weights.key_norm.as_ref().map(norm_of_head).transpose()?,
            position_keys: positions(disentangled.and_then(|tables| tables.position_keys.as_ref()))?,
            position_queries: positions(disentangled.and_then(|tables| tables.position_queries.as_ref()))?,
            attention_output: self.linear(&heads.output(&weights.attention_output))?,
            attention_norm: weights.attention_norm.as_ref().map(norm).transpose()?,
            intermediate: self.linear(&weights.intermediate)?,
            output: self.linear(&weights.output)?,
            output_norm: self.norm(&weights.output_norm)?,
        })
    }

    fn tables(&self, distance_bias: Option<Vec<f32>>) -> Result<DeviceTables, Fault> {
        let longest = self.spec.max_position_embeddings;
        let angles = self.spec.rotary.iter().map(|rotary| {
            let (pairs, table) = (rotary.inverse_frequencies.len().max(1), rotary.table(longest));
            let rows = table.cosines.chunks_exact(pairs).zip(table.sines.chunks_exact(pairs));
            let angles: Vec<f32> =
                rows.flat_map(|(cosines, sines)| cosines.iter().chain(sines)).copied().collect();
            self.copy(&angles)
        });
        let position_rows = match &self.spec.bias {
            AttentionBias::None | AttentionBias::Distance => None,
            AttentionBias::Disentangled(bias) => {
                let last = longest.cast_signed() - 1;
                let rows: Vec<i32> = (-last..=last).map(|distance| bias.row(distance) as i32).collect();
                Some(self.copy(&rows)?)
            }
        };
        // exp2 in place of exp: the base's logarithm goes into what is added, as it does into the scale.
        let in_log2 = |biases: Vec<f32>| -> Vec<f32> {
            biases.into_iter().map(|value| value * std::f32::consts::LOG2_E).collect()
        };
        Ok(DeviceTables {
            angles: angles.collect::<Result<_, _>>()?,
            distance_bias: distance_bias.map(|biases| self.copy(&in_log2(biases))).transpose()?,
            position_rows,
        })
    }

    fn head(&self, weights: &HeadWeights) -> Result<DeviceHead, Fault> {
        let layer = |layer: &HeadLayer| {
            Ok::<_, Fault>(match layer {
                HeadLayer::Linear(linear, activation) => DeviceHeadLayer::Linear {
                    weight: self.copy(&linear.weight)?,
                    bias: self.copy(&linear.bias)?,
                    outputs: linear.outputs(),
                    activation: *activation,
                },
                HeadLayer::Norm(norm) => {
                    DeviceHeadLayer::Norm(self.copy(&norm.weight)?, self.copy(&norm.bias)?, norm.epsilon)
                }
                HeadLayer::Normalize => DeviceHeadLayer::Normalize,
            })
        };
        Ok(DeviceHead {
            rows: weights.rows.clone(),
            layers: weights.layers.iter().map(layer).collect::<Result<_, _>>()?,
        })
    }
}
