//! The weights of a model in device memory.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};
use models_core::weights::{
    EmbeddingWeights, EncoderWeights, HeadLayer, HeadWeights, LayerWeights, LinearWeights, LoraAdapter,
    NormWeights, PlainHead,
};
use models_core::{EncoderSpec, ModelError, RuntimeError};

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
    pub(super) bias: CudaSlice<u16>,
    pub(super) epsilon: f32,
}

/// The weights of an encoder and its head, in one number format.
pub(super) struct DeviceWeights {
    pub(super) spec: EncoderSpec,
    pub(super) format: Format,
    pub(super) words: CudaSlice<u16>,
    pub(super) positions: CudaSlice<u16>,
    pub(super) norm: DeviceNorm,
    pub(super) layers: Vec<DeviceLayer>,
    pub(super) head: DeviceHead,
}

pub(super) struct DeviceLayer {
    pub(super) query_key_value: DeviceLinear,
    pub(super) attention_output: DeviceLinear,
    pub(super) attention_norm: DeviceNorm,
    pub(super) intermediate: DeviceLinear,
    pub(super) output: DeviceLinear,
    pub(super) output_norm: DeviceNorm,
}

/// A head's linear layer, in float32.
pub(super) struct HeadLinear {
    pub(super) weight: CudaSlice<f32>,
    pub(super) bias: CudaSlice<f32>,
    pub(super) outputs: usize,
}

/// What is computed from the last hidden states.
pub(super) enum DeviceHead {
    /// `[B, H]`
    MeanPooling,
    /// `[B, C]`, with a hidden layer before it or without.
    Sequence(Option<HeadLinear>, HeadLinear),
    /// `[T, C]`
    Token(HeadLinear),
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
    let EmbeddingWeights { words, positions, norm, .. } = base.embeddings().map_err(read)?;
    // `check_spec` refuses encoders without.
    let missing = |what: &str| RuntimeError::Backend { message: format!("no {what}"), is_fatal: false };
    let positions = positions.ok_or_else(|| missing("table of positions"))?;
    let norm = norm.ok_or_else(|| missing("normalisation of the embeddings"))?;
    let layer = |index| {
        let weights: LayerWeights = base.layer(index, adapter).map_err(read)?;
        let attention_norm = weights.attention_norm.as_ref();
        let attention_norm = attention_norm.ok_or_else(|| missing("normalisation of the attention"))?;
        let linear = |weights| DeviceLinear::new(stream, format, weights);
        Ok::<_, RuntimeError>(DeviceLayer {
            query_key_value: linear(&weights.query_key_value)?,
            attention_output: linear(&weights.attention_output)?,
            attention_norm: DeviceNorm::new(stream, format, attention_norm)?,
            intermediate: linear(&weights.intermediate)?,
            output: linear(&weights.output)?,
            output_norm: DeviceNorm::new(stream, format, &weights.output_norm)?,
        })
    };
    Ok(DeviceWeights {
        spec: base.spec.clone(),
        format,
        words: stream.clone_htod(&format.bits(&words)).map_err(Fault::from)?,
        positions: stream.clone_htod(&format.bits(&positions)).map_err(Fault::from)?,
        norm: DeviceNorm::new(stream, format, &norm)?,
        layers: (0..base.layers()).map(layer).collect::<Result<_, _>>()?,
        head: DeviceHead::new(stream, head)?,
    })
}

/// Bytes that [`upload`] takes.
pub(super) fn bytes(spec: &EncoderSpec, head: &HeadWeights) -> usize {
    let EncoderSpec { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: layers, .. } = *spec;
    let linear = |inputs: usize, outputs: usize| (inputs + 1) * outputs;
    let norm = 2 * hidden;
    let layer = linear(hidden, 3 * hidden) + linear(hidden, hidden) + linear(hidden, inner);
    let layer = layer + linear(inner, hidden) + 2 * norm;
    let embeddings = (spec.vocab_size + spec.max_position_embeddings) * hidden + norm;
    let of_head = |linear: &LinearWeights| 4 * (linear.weight.len() + linear.bias.len());
    let layers_of_head = head.layers.iter().map(|layer| match layer {
        HeadLayer::Linear(linear, _) => of_head(linear),
        HeadLayer::Norm(_) | HeadLayer::Normalize => 0,
    });
    let head: usize = layers_of_head.sum();
    2 * (embeddings + layers * layer) + head
}

impl DeviceLinear {
    fn new(stream: &Arc<CudaStream>, format: Format, weights: &LinearWeights) -> Result<Self, Fault> {
        Ok(Self {
            weight: stream.clone_htod(&format.bits(&weights.weight))?,
            bias: stream.clone_htod(&format.bits(&weights.bias))?,
            inputs: weights.inputs(),
            outputs: weights.outputs(),
        })
    }
}

impl DeviceNorm {
    fn new(stream: &Arc<CudaStream>, format: Format, weights: &NormWeights) -> Result<Self, Fault> {
        Ok(Self {
            weight: stream.clone_htod(&format.bits(&weights.weight))?,
            bias: stream.clone_htod(&format.bits(&weights.bias))?,
            epsilon: weights.epsilon,
        })
    }
}

impl HeadLinear {
    fn new(stream: &Arc<CudaStream>, weights: &LinearWeights) -> Result<Self, Fault> {
        let outputs = weights.outputs();
        let (weight, bias) = (stream.clone_htod(&weights.weight)?, stream.clone_htod(&weights.bias)?);
        Ok(Self { weight, bias, outputs })
    }
}

impl DeviceHead {
    /// A head's weights on the device. Others than these are refused by `assemble`.
    fn new(stream: &Arc<CudaStream>, weights: &HeadWeights) -> Result<Self, Fault> {
        let linear = |weights: &LinearWeights| HeadLinear::new(stream, weights);
        let PlainHead { dense, classifier } = weights.as_plain().unwrap_or_default();
        let dense = dense.map(linear).transpose()?;
        Ok(match classifier.map(linear).transpose()? {
            None => Self::MeanPooling,
            Some(classifier) if weights.is_per_token() => Self::Token(classifier),
            Some(classifier) => Self::Sequence(dense, classifier),
        })
    }
}
