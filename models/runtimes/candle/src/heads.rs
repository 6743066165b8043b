//! Heads: from last hidden states to results, so that only results leave the device.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops;
use models_core::TokenBatch;
use models_core::card::Pooling;
use models_core::weights::{HeadActivation, HeadLayer, HeadRows, HeadWeights};

use super::encoder::Linear;

/// What is computed from the last hidden states `[T, H]`; see [`HeadWeights`].
#[derive(Clone)]
pub struct Head {
    rows: HeadRows,
    layers: Vec<Layer>,
}

#[derive(Clone)]
enum Layer {
    Linear(Linear, HeadActivation),
    Norm { weight: Tensor, bias: Tensor, epsilon: f32 },
    Normalize,
}

impl Head {
    /// Puts a head's weights on a device.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn new(weights: &HeadWeights, device: &Device) -> Result<Self> {
        let layer = |layer: &HeadLayer| {
            Ok(match layer {
                HeadLayer::Linear(weights, activation) => {
                    Layer::Linear(Linear::new(weights, device)?, *activation)
                }
                HeadLayer::Norm(weights) => Layer::Norm {
                    weight: Tensor::from_slice(&weights.weight, weights.weight.len(), device)?,
                    bias: Tensor::from_slice(&weights.bias, weights.bias.len(), device)?,
                    epsilon: weights.epsilon,
                },
                HeadLayer::Normalize => Layer::Normalize,
            })
        };
        let layers = weights.layers.iter().map(layer).collect::<Result<_>>()?;
        Ok(Self { rows: weights.rows.clone(), layers })
    }

    pub(super) fn forward(&self, hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
        let mut rows = match &self.rows {
            HeadRows::Pooled(ways) if ways.len() == 1 && self.layers.is_empty() && batch.wants_tokens() => {
                return Ok(hidden.clone());
            }
            HeadRows::Pooled(ways) => {
                let pooled = ways.iter().map(|way| pool(*way, hidden, batch)).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&pooled, D::Minus1)?
            }
            HeadRows::Tokens => hidden.clone(),
        };
        for layer in &self.layers {
            rows = match layer {
                Layer::Linear(linear, activation) => apply(*activation, &linear.forward(&rows)?)?,
                Layer::Norm { weight, bias, epsilon } => ops::layer_norm(&rows, weight, bias, *epsilon)?,
                Layer::Normalize => {
                    // Of zeros the quotient is nothing; they stay.
                    let length = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                    rows.broadcast_div(&length.maximum(f32::MIN_POSITIVE)?)?
                }
            };
        }
        Ok(rows)
    }
}

fn apply(activation: HeadActivation, rows: &Tensor) -> Result<Tensor> {
    match activation {
        HeadActivation::Identity => Ok(rows.clone()),
        HeadActivation::Tanh => rows.tanh(),
        HeadActivation::Relu => rows.relu(),
        HeadActivation::Gelu => rows.gelu_erf(),
        HeadActivation::GeluTanh => rows.gelu(),
        HeadActivation::Silu => rows.silu(),
        HeadActivation::Sigmoid => (rows.neg()?.exp()? + 1.0)?.recip(),
    }
}

/// `[B, H]`
fn pool(way: Pooling, hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
    let pooled = batch.ranges().enumerate().map(|(index, range)| {
        let rows = hidden.narrow(0, range.start, range.len())?;
        let unpooled = batch.unpooled.get(index).map_or(0, |tokens| *tokens as usize);
        let from = unpooled.min(range.len().saturating_sub(1));
        let read = || rows.narrow(0, from, range.len() - from);
        match way {
            Pooling::Cls => rows.narrow(0, from, 1),
            Pooling::LastToken => rows.narrow(0, range.len() - 1, 1),
            Pooling::Max => read()?.max_keepdim(0),
            Pooling::Mean => read()?.mean_keepdim(0),
            Pooling::MeanSqrtLen => read()?.sum_keepdim(0)? / ((range.len() - from) as f64).sqrt(),
            Pooling::WeightedMean => {
                let weights: Vec<f32> = (from..range.len()).map(|place| place as f32 + 1.0).collect();
                let sum: f32 = weights.iter().sum();
                let weights = Tensor::new(weights, hidden.device())?.unsqueeze(1)?;
                read()?.broadcast_mul(&weights)?.sum_keepdim(0)? / f64::from(sum)
            }
        }
    });
    Tensor::cat(&pooled.collect::<Result<Vec<_>>>()?, 0)
}
