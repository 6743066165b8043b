//! Heads: from last hidden states to results, in float32 whatever the encoder multiplies in.

use std::ops::Range;
use std::sync::Arc;

use models_core::card::Pooling;
use models_core::weights::{HeadActivation, HeadLayer, HeadRows, HeadWeights, NormWeights};
use models_core::{HostTensor, TokenBatch};

use super::buffer::Buffer;
use super::encoder::Pass;
use super::kernels::{Activation, Kernels, Output};
use super::packing::PackedLinear;
use super::threads::Worker;
use super::workspace::Buffers;

/// Rows that one thread takes through the layers at a time.
const ROWS: usize = 32;

/// What is computed from the last hidden states `[T, H]`; see [`HeadWeights`]. Cheap to clone: weights are
/// shared.
#[derive(Clone)]
pub(super) struct Head {
    rows: HeadRows,
    layers: Arc<[Layer]>,
    kernels: &'static Kernels<f32>,
    hidden: usize,
    /// Numbers in a row of hidden states.
    width: usize,
    /// Numbers in a row that is pooled.
    pooled: usize,
    /// Numbers in a row that layers write.
    stride: usize,
    columns: usize,
}

enum Layer {
    /// With its outputs and its activation; what kernels have no function for is applied behind them.
    Linear(PackedLinear<f32>, usize, Activation, Option<HeadActivation>),
    Norm(NormWeights),
    Normalize,
}

/// Where the rows are that a layer takes, and how far apart.
#[derive(Clone, Copy)]
struct Place<'a> {
    buffer: &'a Buffer,
    stride: usize,
}

impl Head {
    /// `width` is that of a row of hidden states.
    pub(super) fn new(
        weights: &HeadWeights,
        hidden: usize,
        width: usize,
        kernels: &'static Kernels<f32>,
    ) -> Self {
        let layer = |layer: &HeadLayer| match layer {
            HeadLayer::Linear(weights, activation) => {
                let (here, behind) = split(*activation);
                Layer::Linear(PackedLinear::new(kernels, weights), weights.outputs(), here, behind)
            }
            HeadLayer::Norm(weights) => Layer::Norm(weights.clone()),
            HeadLayer::Normalize => Layer::Normalize,
        };
        let layers: Arc<[Layer]> = weights.layers.iter().map(layer).collect();
        let packed = layers.iter().map(|layer| match layer {
            Layer::Linear(linear, ..) => linear.width(),
            Layer::Norm(_) | Layer::Normalize => 0,
        });
        let stride = packed.max().unwrap_or(0);
        let pooled = match &weights.rows {
            HeadRows::Pooled(ways) if ways.len() > 1 => ways.len() * hidden,
            HeadRows::Pooled(_) | HeadRows::Tokens => width,
        };
        let (rows, columns) = (weights.rows.clone(), weights.columns(hidden));
        Self { rows, layers, kernels, hidden, width, pooled, stride, columns }
    }

    /// Columns of a result.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Whether it can give what it pools.
    pub(super) fn gives_tokens(&self) -> bool {
        self.layers.is_empty() && matches!(&self.rows, HeadRows::Pooled(ways) if ways.len() == 1)
    }

    /// Makes the buffers large enough for a batch.
    pub(super) fn grow(&self, buffers: &mut Buffers, batch: &TokenBatch) {
        buffers.means.grow::<f32>(batch.sequences() * self.pooled);
        let rows = self.rows(batch) * self.stride;
        if self.linear_layers() > 0 {
            buffers.logits.grow::<f32>(rows);
        }
        if self.linear_layers() > 1 {
            buffers.dense.grow::<f32>(rows);
        }
    }

    /// One thread's part in computing the result, into `buffers.means` or `buffers.logits`.
    pub(super) fn work(&self, worker: &Worker<'_>, pass: &Pass<'_>) {
        let batch = pass.batch;
        if let HeadRows::Pooled(ways) = &self.rows
            && !self.is_per_token(batch)
        {
            worker.for_each(batch.sequences(), |index| {
                let (start, end) = (batch.cu_seqlens[index], batch.cu_seqlens[index + 1]);
                let rows = start as usize..end as usize;
                let unpooled = batch.unpooled.get(index).map_or(0, |tokens| *tokens as usize);
                for (place, way) in ways.iter().enumerate() {
                    let to = index * self.pooled + place * self.hidden;
                    self.pool(pass.buffers, to, *way, rows.clone(), unpooled);
                }
            });
        }
        if !self.layers.is_empty() {
            let rows = self.rows(batch);
            worker.for_each(rows.div_ceil(ROWS), |piece| {
                self.layers(pass.buffers, batch, piece * ROWS..rows.min((piece + 1) * ROWS));
            });
        }
    }

    /// Copies the result, without the padding of its rows.
    pub(super) fn copy(&self, buffers: &mut Buffers, batch: &TokenBatch, result: &mut HostTensor) {
        let (from, stride) = match self.linear_layers() {
            0 if self.is_per_token(batch) => (&mut buffers.hidden, self.width),
            0 => (&mut buffers.means, self.pooled),
            _ => (&mut buffers.logits, self.stride),
        };
        let rows = self.rows(batch);
        result.data.clear();
        for row in from.as_mut_slice::<f32>().chunks_exact(stride).take(rows) {
            result.data.extend_from_slice(&row[..self.columns]);
        }
        result.shape.clear();
        result.shape.extend([rows, self.columns]);
    }

    fn rows(&self, batch: &TokenBatch) -> usize {
        if self.is_per_token(batch) { batch.tokens() } else { batch.sequences() }
    }

    /// Whether there is a row for each token: of hidden states themselves, where a pooling model is to give
    /// them.
    fn is_per_token(&self, batch: &TokenBatch) -> bool {
        match self.rows {
            HeadRows::Pooled(_) => self.gives_tokens() && batch.wants_tokens(),
            HeadRows::Tokens => true,
        }
    }

    fn linear_layers(&self) -> usize {
        self.layers.iter().filter(|layer| matches!(layer, Layer::Linear(..))).count()
    }

    /// Pools rows of hidden states into `buffers.means` from the number at `to` on.
    fn pool(&self, buffers: &Buffers, to: usize, way: Pooling, rows: Range<usize>, unpooled: usize) {
        let first = rows.start + unpooled.min(rows.len() - 1);
        let rows = match way {
            Pooling::Cls => first..first + 1,
            Pooling::LastToken => rows.end - 1..rows.end,
            _ => rows,
        };
        let from = first.saturating_sub(rows.start).min(rows.len() - 1);
        let divisor = way.divisor(from, rows.len());
        // SAFETY: a row of means is one thread's, in a phase of its own behind the one that wrote the hidden
        // states.
        unsafe {
            let to: *mut f32 = buffers.means.pointer(to);
            let to = std::slice::from_raw_parts_mut(to, self.hidden);
            to.fill(if way == Pooling::Max { f32::NEG_INFINITY } else { 0.0 });
            for (place, row) in rows.enumerate().skip(from) {
                let from: *const f32 = buffers.hidden.pointer(row * self.width);
                let from = std::slice::from_raw_parts(from, self.hidden);
                let pairs = to.iter_mut().zip(from);
                match way {
                    Pooling::Max => pairs.for_each(|(largest, value)| *largest = largest.max(*value)),
                    Pooling::WeightedMean => {
                        let weight = place as f32 + 1.0;
                        pairs.for_each(|(sum, value)| *sum += weight * value);
                    }
                    _ => pairs.for_each(|(sum, value)| *sum += value),
                }
            }
            to.iter_mut().for_each(|sum| *sum /= divisor);
        }
    }

    /// Takes some rows through all layers. Linear layers write to `logits` and `dense` in turns, so that the
    /// last one writes to `logits`; the others write where they read.
    fn layers(&self, buffers: &Buffers, batch: &TokenBatch, rows: Range<usize>) {
        let mut here = match self.is_per_token(batch) {
            true => Place { buffer: &buffers.hidden, stride: self.width },
            false => Place { buffer: &buffers.means, stride: self.pooled },
        };
        let mut width = match &self.rows {
            HeadRows::Pooled(ways) => ways.len() * self.hidden,
            HeadRows::Tokens => self.hidden,
        };
        let mut left = self.linear_layers();
        for layer in &*self.layers {
            match layer {
                Layer::Linear(linear, outputs, activation, behind) => {
                    left -= 1;
                    let buffer = if left.is_multiple_of(2) { &buffers.logits } else { &buffers.dense };
                    let to = buffer.pointer(rows.start * self.stride);
                    let output = Output::Store { to, stride: self.stride, activation: *activation };
                    self.linear(linear, here, &rows, output);
                    here = Place { buffer, stride: self.stride };
                    width = *outputs;
                    if let Some(activation) = *behind {
                        let change =
                            |row: &mut [f32]| row.iter_mut().for_each(|x| *x = apply(activation, *x));
                        each_row(here, &rows, width, change);
                    }
                }
                Layer::Norm(weights) => each_row(here, &rows, width, |row| normalize(row, weights)),
                Layer::Normalize => each_row(here, &rows, width, scale),
            }
        }
    }

    fn linear(&self, layer: &PackedLinear<f32>, from: Place<'_>, rows: &Range<usize>, output: Output<f32>) {
        let left = from.buffer.pointer(rows.start * from.stride);
        let task = layer.task(left, from.stride, rows.len(), 0..layer.panel_count(), output);
        // SAFETY: `grow` has made room for all rows, each of which is one thread's; what is read was written
        // in a phase before or by this thread. The CPU has the instruction set, or `available` had not given
        // it.
        unsafe { (self.kernels.linear)(&task) }
    }
}

/// What kernels apply, and what is left for behind them.
fn split(activation: HeadActivation) -> (Activation, Option<HeadActivation>) {
    match activation {
        HeadActivation::Identity => (Activation::None, None),
        HeadActivation::Tanh => (Activation::Tanh, None),
        HeadActivation::Relu => (Activation::Relu, None),
        HeadActivation::Gelu => (Activation::Gelu, None),
        HeadActivation::GeluTanh => (Activation::GeluTanh, None),
        HeadActivation::Silu | HeadActivation::Sigmoid => (Activation::None, Some(activation)),
    }
}

/// The value of what [`split`] leaves.
fn apply(activation: HeadActivation, x: f32) -> f32 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    if activation == HeadActivation::Silu { x * sigmoid } else { sigmoid }
}

fn each_row(place: Place<'_>, rows: &Range<usize>, width: usize, change: impl Fn(&mut [f32])) {
    for row in rows.clone() {
        // SAFETY: a row is one thread's, and `grow` has made room for it.
        change(unsafe {
            let row: *mut f32 = place.buffer.pointer(row * place.stride);
            std::slice::from_raw_parts_mut(row, width)
        });
    }
}

fn normalize(row: &mut [f32], weights: &NormWeights) {
    let count = row.len() as f64;
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + f64::from(weights.epsilon)).sqrt();
    for (x, (weight, bias)) in row.iter_mut().zip(weights.weight.iter().zip(&weights.bias)) {
        *x = ((f64::from(*x) - mean) * scale) as f32 * weight + bias;
    }
}

fn scale(row: &mut [f32]) {
    let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}
