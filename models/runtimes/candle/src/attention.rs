//! Self-attention within one sequence: `softmax(s Q K^T + bias) V`, <https://arxiv.org/abs/1706.03762>.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops;

use models_core::spec::{AttentionBias, Disentangled, EncoderSpec, LayerSpec, Rotary, RotaryPairs};
use models_core::weights::{DisentangledWeights, LayerWeights};

use super::norm::Norm;

/// What all layers have. Cheap to clone: tensors are shared.
#[derive(Clone)]
pub(super) struct Shared {
    rotations: Vec<Rotation>,
    /// `[heads, 2 n - 1]`, by the key's place less the query's.
    distance_bias: Option<Tensor>,
}

/// What a layer has for its own.
#[derive(Clone)]
pub(super) struct Own {
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    /// `[heads, d, 2 k]` each.
    position_keys: Option<Tensor>,
    position_queries: Option<Tensor>,
}

/// A rotation's cosines and sines, `[positions, pairs]`.
#[derive(Clone)]
struct Rotation {
    cosines: Tensor,
    sines: Tensor,
    pairs: RotaryPairs,
}

impl Shared {
    pub(super) fn new(spec: &EncoderSpec, distance_bias: Option<Vec<f32>>, device: &Device) -> Result<Self> {
        let positions = spec.max_position_embeddings;
        let rotation = |rotary: &Rotary| {
            let (table, shape) = (rotary.table(positions), (positions, rotary.inverse_frequencies.len()));
            Ok(Rotation {
                cosines: Tensor::from_vec(table.cosines, shape, device)?,
                sines: Tensor::from_vec(table.sines, shape, device)?,
                pairs: rotary.pairs,
            })
        };
        let shape = (spec.num_attention_heads, 2 * positions - 1);
        Ok(Self {
            rotations: spec.rotary.iter().map(rotation).collect::<Result<_>>()?,
            distance_bias: distance_bias.map(|bias| Tensor::from_vec(bias, shape, device)).transpose()?,
        })
    }
}

impl Own {
    pub(super) fn new(weights: &LayerWeights, spec: &EncoderSpec, device: &Device) -> Result<Self> {
        let norm = |norm: &Option<_>| norm.as_ref().map(|norm| Norm::new(norm, spec, device)).transpose();
        let of_heads = |rows: &Option<Vec<f32>>| {
            let Some(rows) = rows else { return Ok(None) };
            let (heads, head_size) = (spec.num_attention_heads, spec.head_size);
            let count = rows.len() / spec.attention_width();
            let rows = Tensor::from_slice(rows, (count, heads, head_size), device)?;
            rows.permute((1, 2, 0))?.contiguous().map(Some)
        };
        let (position_keys, position_queries) = match &weights.disentangled {
            Some(DisentangledWeights { position_keys, position_queries }) => {
                (of_heads(position_keys)?, of_heads(position_queries)?)
            }
            None => (None, None),
        };
        Ok(Self {
            query_norm: norm(&weights.query_norm)?,
            key_norm: norm(&weights.key_norm)?,
            position_keys,
            position_queries,
        })
    }
}

/// `[L, (heads + 2 heads of keys) d]` to `[L, heads d]`.
pub(super) fn attend(
    query_key_value: &Tensor,
    spec: &EncoderSpec,
    layer: LayerSpec,
    shared: &Shared,
    own: &Own,
) -> Result<Tensor> {
    let (heads, heads_of_keys) = (spec.num_attention_heads, spec.num_key_value_heads);
    let length = query_key_value.dim(0)?;
    let of_heads = |first: usize, count: usize| {
        let part = query_key_value.narrow(1, first * spec.head_size, count * spec.head_size)?;
        part.reshape((length, count, spec.head_size))?.transpose(0, 1)?.contiguous()
    };
    let rotation = layer.rotary.and_then(|index| shared.rotations.get(index));
    let turned = |rows: Tensor, norm: &Option<Norm>| {
        let rows = norm.as_ref().map_or_else(|| Ok(rows.clone()), |norm| norm.forward(&rows))?;
        rotation.map_or_else(|| Ok(rows.clone()), |rotation| rotation.turn(&rows))
    };
    let query = turned(of_heads(0, heads)?, &own.query_norm)?;
    let key = turned(of_heads(heads, heads_of_keys)?, &own.key_norm)?;
    let value = of_heads(heads + heads_of_keys, heads_of_keys)?;
    // Each head of keys for as many neighbouring heads of queries.
    let spread = |rows: Tensor| {
        let group = (heads_of_keys, heads / heads_of_keys, length, spec.head_size);
        rows.unsqueeze(1)?.expand(group)?.contiguous()?.reshape((heads, length, spec.head_size))
    };
    let (key, value) = (spread(key)?, spread(value)?);
    // Scaling the queries touches L·H values, scaling the scores would touch heads·L².
    let scale = spec.attention_scale();
    let query = (query * scale)?;
    let mut scores = query.matmul(&key.transpose(D::Minus1, D::Minus2)?)?;
    if let Some(bias) = &shared.distance_bias {
        let first = spec.max_position_embeddings - 1;
        let row = |query: usize| bias.narrow(1, first - query, length);
        scores = (scores + Tensor::stack(&(0..length).map(row).collect::<Result<Vec<_>>>()?, 1)?)?;
    }
    if let AttentionBias::Disentangled(bias) = &spec.bias {
        let rows = Tensor::stack(&vec![rows_of(bias, length, query.device())?; heads], 0)?;
        if let Some(positions) = &own.position_keys {
            scores = (scores + query.matmul(positions)?.gather(&rows, D::Minus1)?)?;
        }
        if let Some(positions) = &own.position_queries {
            // Of key and query here, where `rows` has query and key.
            let rows = rows.transpose(1, 2)?.contiguous()?;
            let products = (key * scale)?.matmul(positions)?.gather(&rows, D::Minus1)?;
            scores = (scores + products.transpose(1, 2)?)?;
        }
    }
    if spec.is_causal || layer.window.is_some() {
        scores = scores.broadcast_add(&unseen(spec.is_causal, layer.window, length, scores.device())?)?;
    }
    let context = ops::softmax_last_dim(&scores)?.matmul(&value)?;
    context.transpose(0, 1)?.contiguous()?.reshape((length, spec.attention_width()))
}

/// `[L, L]`: minus infinity where a query does not see a key.
fn unseen(is_causal: bool, window: Option<usize>, length: usize, device: &Device) -> Result<Tensor> {
    let sees = |query: usize, key: usize| {
        let is_near = window.is_none_or(|window| query.abs_diff(key) <= window);
        is_near && !(is_causal && key > query)
    };
    let pairs = (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
    let values: Vec<f32> =
        pairs.map(|(query, key)| if sees(query, key) { 0.0 } else { f32::NEG_INFINITY }).collect();
    Tensor::from_vec(values, (length, length), device)
}

/// `[L, L]`: the row of the position keys for each query and key.
fn rows_of(bias: &Disentangled, length: usize, device: &Device) -> Result<Tensor> {
    let pairs = (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
    let row = |(query, key): (usize, usize)| bias.row(query.cast_signed() - key.cast_signed()) as u32;
    Tensor::from_vec(pairs.map(row).collect::<Vec<u32>>(), (length, length), device)
}

impl Rotation {
    /// Turns `[heads, L, d]`, where the `i`th row of a head is at position `i`.
    fn turn(&self, rows: &Tensor) -> Result<Tensor> {
        let (heads, length, head_size) = rows.dims3()?;
        let pairs = self.cosines.dim(1)?;
        let (cosines, sines) = (self.cosines.narrow(0, 0, length)?, self.sines.narrow(0, 0, length)?);
        let turn = |first: Tensor, second: Tensor| {
            let turned_first = (first.broadcast_mul(&cosines)? - second.broadcast_mul(&sines)?)?;
            let turned_second = (second.broadcast_mul(&cosines)? + first.broadcast_mul(&sines)?)?;
            Ok::<_, candle_core::Error>((turned_first, turned_second))
        };
        let rest = rows.narrow(2, 2 * pairs, head_size - 2 * pairs)?;
        let turned = match self.pairs {
            RotaryPairs::Halves => {
                let (first, second) = turn(rows.narrow(2, 0, pairs)?, rows.narrow(2, pairs, pairs)?)?;
                Tensor::cat(&[first, second], 2)?
            }
            RotaryPairs::Neighbours => {
                let numbers = rows.narrow(2, 0, 2 * pairs)?.reshape((heads, length, pairs, 2))?;
                let half = |which| numbers.narrow(3, which, 1)?.squeeze(3);
                let (first, second) = turn(half(0)?, half(1)?)?;
                Tensor::stack(&[first, second], 3)?.reshape((heads, length, 2 * pairs))?
            }
        };
        if head_size == 2 * pairs { Ok(turned) } else { Tensor::cat(&[turned, rest], 2) }
    }
}
