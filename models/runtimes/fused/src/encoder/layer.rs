//! A transformer layer's weights, made ready for the kernels.

use models_core::spec::{FeedForward, NormKind, Rotary, RotaryPairs};
use models_core::weights::{DisentangledWeights, LayerWeights, LinearWeights, NormWeights};
use models_core::{EncoderSpec, ModelError};

use super::super::kernels::{Compiled, Kernels};
use super::super::packing::PackedLinear;

/// One transformer layer, packed.
pub(super) struct Layer<N> {
    /// The queries' scale is in its weights, or in those of [`Self::query_norm`].
    pub(super) query_key_value: PackedLinear<N>,
    pub(super) query_norm: Option<NormWeights>,
    pub(super) key_norm: Option<NormWeights>,
    pub(super) positions: Option<PackedPositions<N>>,
    pub(super) attention_output: PackedLinear<N>,
    pub(super) attention_norm: Option<NormWeights>,
    pub(super) intermediate: PackedLinear<N>,
    pub(super) output: PackedLinear<N>,
    pub(super) output_norm: NormWeights,
}

/// What the heads of a layer with disentangled attention know of positions: for each head the rows as one
/// linear layer's outputs.
pub(super) struct PackedPositions<N> {
    pub(super) keys: Option<PackedLinear<N>>,
    /// With the scale.
    pub(super) queries: Option<PackedLinear<N>>,
}

impl<N: Compiled> Layer<N> {
    /// Packs a layer whose queries and keys are turned by `rotary`.
    pub(super) fn new(
        weights: LayerWeights,
        spec: &EncoderSpec,
        rotary: Option<&Rotary>,
        kernels: &Kernels<N>,
    ) -> Result<Self, ModelError> {
        let LayerWeights {
            mut query_key_value,
            mut query_norm,
            mut key_norm,
            disentangled,
            attention_output,
            attention_norm,
            intermediate,
            output,
            output_norm,
        } = weights;
        if spec.norm != NormKind::Rms && (query_norm.is_some() || key_norm.is_some()) {
            let message = "the runtime fused brings queries and keys to no mean of 0".to_owned();
            return Err(ModelError::Backend { message });
        }
        // The scores' factor goes into the queries once, at load: before or behind their normalisation.
        let scale = spec.attention_scale() as f32;
        match &mut query_norm {
            Some(norm) => norm.weight.iter_mut().for_each(|value| *value *= scale),
            None => scale_queries(&mut query_key_value, spec, scale),
        }
        let neighbours = match rotary {
            Some(Rotary { inverse_frequencies, pairs: RotaryPairs::Neighbours }) => inverse_frequencies.len(),
            Some(Rotary { pairs: RotaryPairs::Halves, .. }) | None => 0,
        };
        let order: Vec<usize> = order(spec.head_size, neighbours).collect();
        if neighbours > 0 {
            query_key_value = in_order(&query_key_value, spec, &order);
            for norm in [&mut query_norm, &mut key_norm].into_iter().flatten() {
                norm.weight = order.iter().map(|&at| norm.weight[at]).collect();
            }
        }
        let positions =
            disentangled.map(|weights| PackedPositions::new(weights, spec, scale, &order, kernels));
        Ok(Self {
            query_key_value: PackedLinear::new(kernels, &query_key_value),
            query_norm,
            key_norm,
            positions,
            attention_output: PackedLinear::new(kernels, &attention_output),
            attention_norm: attention_norm.map(|norm| known(norm, spec)),
            intermediate: match spec.feed_forward {
                FeedForward::Plain => PackedLinear::new(kernels, &intermediate),
                FeedForward::Gated => PackedLinear::gated(kernels, &intermediate),
            },
            output: PackedLinear::new(kernels, &output),
            output_norm: known(output_norm, spec),
        })
    }
}

impl<N: Compiled> PackedPositions<N> {
    fn new(
        weights: DisentangledWeights,
        spec: &EncoderSpec,
        scale: f32,
        order: &[usize],
        kernels: &Kernels<N>,
    ) -> Self {
        let DisentangledWeights { position_keys, position_queries } = weights;
        let (head, width) = (spec.head_size, spec.attention_width());
        // Rows that fill a head's last panel are zeros, so that the next head begins with a panel.
        let pack = |rows: &Vec<f32>, factor: f32| {
            let count = (rows.len() / width).next_multiple_of(kernels.columns);
            let mut weight = vec![0.0; spec.num_attention_heads * count * head];
            for (index, row) in rows.chunks_exact(width).enumerate() {
                for (of_head, numbers) in row.chunks_exact(head).enumerate() {
                    let to = (of_head * count + index) * head;
                    let to = weight[to..to + head].iter_mut();
                    to.zip(order).for_each(|(to, &at)| *to = factor * numbers[at]);
                }
            }
            let bias = vec![0.0; spec.num_attention_heads * count];
            PackedLinear::new(kernels, &LinearWeights { weight, bias })
        };
        Self {
            keys: position_keys.as_ref().map(|rows| pack(rows, 1.0)),
            queries: position_queries.as_ref().map(|rows| pack(rows, scale)),
        }
    }
}

/// A normalisation as the kernel takes it, which adds the bias of every kind.
pub(super) fn known(norm: NormWeights, spec: &EncoderSpec) -> NormWeights {
    match spec.norm {
        NormKind::LayerNorm => norm,
        NormKind::Rms => NormWeights { bias: vec![0.0; norm.weight.len()], ..norm },
    }
}

fn scale_queries(query_key_value: &mut LinearWeights, spec: &EncoderSpec, scale: f32) {
    let (width, inputs) = (spec.attention_width(), query_key_value.inputs());
    let LinearWeights { weight, bias } = query_key_value;
    let queries = weight[..width * inputs].iter_mut().chain(&mut bias[..width]);
    queries.for_each(|value| *value *= scale);
}

/// The numbers of a head in the order in which what was a pair of neighbours is as far apart as there are
/// pairs. Scores are the same, as all that is multiplied has the same order.
fn order(head: usize, pairs: usize) -> impl Iterator<Item = usize> {
    let turned = (0..2 * pairs).map(move |at| if at < pairs { 2 * at } else { 2 * (at - pairs) + 1 });
    turned.chain(2 * pairs..head)
}

/// The layer with each query's and key's numbers in this order.
fn in_order(query_key_value: &LinearWeights, spec: &EncoderSpec, order: &[usize]) -> LinearWeights {
    let (head, inputs) = (spec.head_size, query_key_value.inputs());
    let turned = spec.num_attention_heads + spec.num_key_value_heads;
    let rows = (0..turned).flat_map(|index| order.iter().map(move |at| index * head + at));
    let rows = rows.chain(turned * head..query_key_value.outputs());
    let row = |at: usize| &query_key_value.weight[at * inputs..(at + 1) * inputs];
    LinearWeights {
        weight: rows.clone().flat_map(row).copied().collect(),
        bias: rows.map(|at| query_key_value.bias[at]).collect(),
    }
}
