//! Normalisation of rows.

use candle_core::{Device, Result, Tensor};
use candle_nn::ops;
use models_core::EncoderSpec;
use models_core::spec::NormKind;
use models_core::weights::NormWeights;

#[derive(Clone)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
    kind: NormKind,
}

impl Norm {
    pub(super) fn new(weights: &NormWeights, spec: &EncoderSpec, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: Tensor::from_slice(&weights.weight, weights.weight.len(), device)?,
            bias: Tensor::from_slice(&weights.bias, weights.bias.len(), device)?,
            epsilon: weights.epsilon,
            kind: spec.norm,
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match self.kind {
            NormKind::LayerNorm => ops::layer_norm(rows, &self.weight, &self.bias, self.epsilon),
            NormKind::Rms => ops::rms_norm(rows, &self.weight, self.epsilon),
        }
    }
}
