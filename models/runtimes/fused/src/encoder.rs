//! The encoder: embeddings, transformer layers, and the order in which threads go through them.

use std::ops::Range;
use std::sync::Arc;

use models_core::weights::{
    EmbeddingWeights, EncoderWeights, LayerWeights, LinearWeights, LoraAdapter, NormWeights,
};
use models_core::{EncoderSpec, HiddenActivation, ModelError, TokenBatch, Unsupported};

use super::buffer::Buffer;
use super::kernels::{
    Activation, AttentionScratch, AttentionTask, Compiled, Kernels, NormalizeTask, Output, TILE_COLUMNS_MAX,
    WEIGHTS_LEN, keys_len, sums_len, values_len,
};
use super::packing::PackedLinear;
use super::plan::{AttentionPiece, Split, block_rows};
use super::threads::Worker;
use super::workspace::{Buffers, Scratch};

/// A transformer encoder, packed for the kernels of one instruction set. Cheap to clone: weights are shared.
pub(super) struct Encoder<N: 'static> {
    pub(super) spec: EncoderSpec,
    kernels: &'static Kernels<N>,
    embeddings: Arc<EmbeddingWeights>,
    layers: Arc<[Layer<N>]>,
    activation: Activation,
}

struct Layer<N> {
    /// The queries' scale is in its weights.
    query_key_value: PackedLinear<N>,
    attention_output: PackedLinear<N>,
    attention_norm: NormWeights,
    intermediate: PackedLinear<N>,
    output: PackedLinear<N>,
    output_norm: NormWeights,
}

/// One batch on its way through the encoder.
pub(super) struct Pass<'a> {
    pub(super) batch: &'a TokenBatch,
    pub(super) attention: &'a [AttentionPiece],
    pub(super) buffers: &'a Buffers,
    pub(super) split: Split,
}

/// Some rows of a product, and some panels of its weight's columns.
struct Part {
    rows: Range<usize>,
    panels: Range<usize>,
}

impl<N> Clone for Encoder<N> {
    fn clone(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            kernels: self.kernels,
            embeddings: Arc::clone(&self.embeddings),
            layers: Arc::clone(&self.layers),
            activation: self.activation,
        }
    }
}

impl<N: Compiled> Encoder<N> {
    /// Packs an encoder's layers over an embedding layer that others may share.
    pub(super) fn new(
        weights: &EncoderWeights,
        embeddings: Arc<EmbeddingWeights>,
        adapter: Option<&LoraAdapter>,
        kernels: &'static Kernels<N>,
    ) -> Result<Self, ModelError> {
        let spec = weights.spec.clone();
        let layer = |index| Ok(Layer::new(weights.layer(index, adapter)?, &spec, kernels));
        let layers = (0..spec.num_hidden_layers).map(layer).collect::<Result<_, ModelError>>()?;
        let activation = match spec.hidden_act {
            HiddenActivation::Gelu => Activation::Gelu,
            HiddenActivation::GeluTanh => Activation::GeluTanh,
            HiddenActivation::Relu => Activation::Relu,
            other @ HiddenActivation::Silu => {
                let supported = ["Gelu", "GeluTanh", "Relu"];
                return Err(Unsupported::new("hidden_act", format!("{other:?}"), &supported).into());
            }
        };
        Ok(Self { spec, kernels, embeddings, layers, activation })
    }

    /// Numbers in a row of hidden states.
    pub(super) fn width(&self) -> usize {
        self.spec.hidden_size.next_multiple_of(TILE_COLUMNS_MAX)
    }

    /// Makes the buffers large enough for a batch.
    pub(super) fn grow(&self, buffers: &mut Buffers, batch: &TokenBatch, split: Split) {
        let (tokens, width, head) = (batch.tokens(), self.width(), self.spec.head_size);
        let threads = buffers.scratch.len();
        buffers.hidden.grow::<f32>(tokens * width);
        buffers.operand.grow::<N>(tokens * width);
        buffers.query_key_value.grow::<N>((tokens + self.kernels.lanes) * self.query_key_value_width());
        buffers.context.grow::<N>(tokens * width);
        buffers.inner.grow::<N>(split.inner_rows(tokens, threads) * self.inner_width());
        for Scratch { keys, values, weights, scores, sums } in &mut buffers.scratch {
            keys.grow::<N>(keys_len(batch.max_seq_len, head));
            values.grow::<N>(values_len(batch.max_seq_len, head));
            weights.grow::<N>(WEIGHTS_LEN);
            scores.grow::<f32>(WEIGHTS_LEN);
            sums.grow::<f32>(sums_len(head));
        }
    }

    /// One thread's part in computing the last hidden states, into `buffers.hidden`.
    pub(super) fn work(&self, worker: &Worker<'_>, pass: &Pass<'_>) {
        let tokens = pass.batch.tokens();
        let Some(first) = self.layers.first() else {
            return worker.for_each(1, |_| self.embed(pass, 0..tokens));
        };
        match pass.split {
            Split::Rows(blocks) => {
                worker.for_each(blocks, |block| {
                    let rows = block_rows(tokens, blocks, block);
                    self.embed(pass, rows.clone());
                    self.query_key_value(first, pass, Part::whole(&rows, &first.query_key_value));
                });
                for (index, layer) in self.layers.iter().enumerate() {
                    self.attend(worker, pass);
                    let next = self.layers.get(index + 1);
                    worker.for_each(blocks, |block| {
                        self.block(worker.index, layer, next, pass, &block_rows(tokens, blocks, block));
                    });
                }
            }
            Split::Columns => {
                worker.for_each(tokens, |row| self.embed(pass, row..row + 1));
                for layer in self.layers.iter() {
                    self.columns(worker, layer, pass);
                }
            }
        }
    }

    /// All of a layer behind attention, and the beginning of the next, for some rows: nothing in it waits for
    /// other rows.
    fn block(
        &self,
        thread: usize,
        layer: &Layer<N>,
        next: Option<&Layer<N>>,
        pass: &Pass<'_>,
        rows: &Range<usize>,
    ) {
        let inner = thread * pass.inner_rows();
        self.attention_output(layer, pass, Part::whole(rows, &layer.attention_output));
        self.normalize(&layer.attention_norm, pass, rows.clone());
        self.intermediate(layer, pass, inner, Part::whole(rows, &layer.intermediate));
        self.output(layer, pass, inner, Part::whole(rows, &layer.output));
        self.normalize(&layer.output_norm, pass, rows.clone());
        if let Some(next) = next {
            self.query_key_value(next, pass, Part::whole(rows, &next.query_key_value));
        }
    }

    /// A whole layer for all rows, the columns of each linear layer shared between the threads.
    fn columns(&self, worker: &Worker<'_>, layer: &Layer<N>, pass: &Pass<'_>) {
        let tokens = pass.batch.tokens();
        let part = |panel| Part { rows: 0..tokens, panels: panel..panel + 1 };
        worker.for_each(layer.query_key_value.panel_count(), |panel| {
            self.query_key_value(layer, pass, part(panel));
        });
        self.attend(worker, pass);
        worker.for_each(layer.attention_output.panel_count(), |panel| {
            self.attention_output(layer, pass, part(panel));
        });
        worker.for_each(tokens, |row| self.normalize(&layer.attention_norm, pass, row..row + 1));
        worker.for_each(layer.intermediate.panel_count(), |panel| {
            self.intermediate(layer, pass, 0, part(panel));
        });
        worker.for_each(layer.output.panel_count(), |panel| self.output(layer, pass, 0, part(panel)));
        worker.for_each(tokens, |row| self.normalize(&layer.output_norm, pass, row..row + 1));
    }

    fn embed(&self, pass: &Pass<'_>, rows: Range<usize>) {
        let hidden = self.spec.hidden_size;
        let EmbeddingWeights { words, positions: Some(positions), norm: Some(norm), .. } = &*self.embeddings
        else {
            return;
        };
        for row in rows.clone() {
            let id = pass.batch.input_ids[row] as usize;
            let position = pass.batch.position_ids[row] as usize;
            let word = &words[id * hidden..(id + 1) * hidden];
            let position = &positions[position * hidden..(position + 1) * hidden];
            let to = pass.buffers.hidden.pointer::<f32>(row * self.width());
            // SAFETY: a row of hidden states, which is this thread's.
            let to = unsafe { std::slice::from_raw_parts_mut(to, hidden) };
            for ((to, word), position) in to.iter_mut().zip(word).zip(position) {
                *to = word + position;
            }
        }
        self.normalize(norm, pass, rows);
    }

    fn query_key_value(&self, layer: &Layer<N>, pass: &Pass<'_>, part: Part) {
        let stride = self.query_key_value_width();
        let to = pass.buffers.query_key_value.pointer(part.rows.start * stride);
        let output = Output::Store { to, stride, activation: Activation::None };
        self.linear(&layer.query_key_value, &pass.buffers.operand, self.width(), part, output);
    }

    fn attention_output(&self, layer: &Layer<N>, pass: &Pass<'_>, part: Part) {
        let stride = self.width();
        let output = Output::Add { to: pass.buffers.hidden.pointer(part.rows.start * stride), stride };
        self.linear(&layer.attention_output, &pass.buffers.context, stride, part, output);
    }

    /// `inner` is the row of the inner matrix that belongs to the first of the part's.
    fn intermediate(&self, layer: &Layer<N>, pass: &Pass<'_>, inner: usize, part: Part) {
        let stride = self.inner_width();
        let to = pass.buffers.inner.pointer(inner * stride);
        let output = Output::Store { to, stride, activation: self.activation };
        self.linear(&layer.intermediate, &pass.buffers.operand, self.width(), part, output);
    }

    fn output(&self, layer: &Layer<N>, pass: &Pass<'_>, inner: usize, part: Part) {
        let stride = self.width();
        let output = Output::Add { to: pass.buffers.hidden.pointer(part.rows.start * stride), stride };
        let part = Part { rows: inner..inner + part.rows.len(), ..part };
        self.linear(&layer.output, &pass.buffers.inner, self.inner_width(), part, output);
    }

    /// Multiplies a part's rows of `left` with its panels; `output` is for the first of the rows and of all
    /// columns.
    fn linear(
        &self,
        layer: &PackedLinear<N>,
        left: &Buffer,
        left_stride: usize,
        part: Part,
        output: Output<N>,
    ) {
        assert!(part.rows.end * left_stride <= left.len::<N>());
        let from = left.pointer(part.rows.start * left_stride);
        let task = layer.task(from, left_stride, part.rows.len(), part.panels, output);
        // SAFETY: `grow` has made room for all rows; a phase gives each row and panel to one thread, and what
        // it reads was written in a phase before or by this thread. The CPU has the instruction set, or
        // `available` had not given it.
        unsafe { (self.kernels.linear)(&task) }
    }

    fn normalize(&self, norm: &NormWeights, pass: &Pass<'_>, rows: Range<usize>) {
        let (width, stride) = (self.spec.hidden_size, self.width());
        let task = NormalizeTask {
            rows: rows.len(),
            width,
            values: pass.buffers.hidden.pointer(rows.start * stride),
            stride,
            copy: pass.buffers.operand.pointer::<N>(rows.start * stride),
            copy_stride: stride,
            weight: norm.weight.as_ptr(),
            bias: norm.bias.as_ptr(),
            epsilon: norm.epsilon,
        };
        // SAFETY: as in `linear`.
        unsafe { (self.kernels.normalize)(&task) }
        self.clear_padding(&pass.buffers.operand, rows);
    }

    /// A product of `STEP` numbers may read behind a row's last one; what it meets there must not be NaN.
    fn clear_padding(&self, buffer: &Buffer, rows: Range<usize>) {
        let width = self.spec.hidden_size;
        for row in rows {
            for at in width..width.next_multiple_of(N::STEP) {
                // SAFETY: within the row, which is this thread's.
                unsafe { *buffer.pointer::<N>(row * self.width() + at) = N::default() }
            }
        }
    }

    fn attend(&self, worker: &Worker<'_>, pass: &Pass<'_>) {
        worker.for_each(pass.attention.len(), |index| {
            self.attend_piece(&pass.buffers.scratch[worker.index], &pass.attention[index], pass);
        });
    }

    fn attend_piece(&self, scratch: &Scratch, piece: &AttentionPiece, pass: &Pass<'_>) {
        let (hidden, head) = (self.spec.hidden_size, self.spec.head_size);
        let (stride, output_stride) = (self.query_key_value_width(), self.width());
        let first = piece.rows.start;
        for index in piece.heads.clone() {
            let part = |part: usize| {
                pass.buffers.query_key_value.pointer::<N>(first * stride + part * hidden + index * head)
            };
            let task = AttentionTask {
                query: part(0),
                key: part(1),
                value: part(2),
                stride,
                length: piece.rows.len(),
                head,
                first: piece.queries.start,
                end: piece.queries.end,
                output: pass.buffers.context.pointer(first * output_stride + index * head),
                output_stride,
                scratch: AttentionScratch {
                    keys: scratch.keys.pointer(0),
                    values: scratch.values.pointer(0),
                    weights: scratch.weights.pointer(0),
                    scores: scratch.scores.pointer(0),
                    sums: scratch.sums.pointer(0),
                },
            };
            // SAFETY: as in `linear`; the scratch is this thread's.
            unsafe { (self.kernels.attend)(&task) }
        }
        if piece.heads.end == self.spec.num_attention_heads {
            self.clear_padding(&pass.buffers.context, first + piece.queries.start..first + piece.queries.end);
        }
    }

    fn query_key_value_width(&self) -> usize {
        (3 * self.spec.hidden_size).next_multiple_of(TILE_COLUMNS_MAX)
    }

    fn inner_width(&self) -> usize {
        self.spec.intermediate_size.next_multiple_of(TILE_COLUMNS_MAX)
    }
}

impl Part {
    /// Some rows, and all panels of a layer.
    fn whole<N: Compiled>(rows: &Range<usize>, layer: &PackedLinear<N>) -> Self {
        Self { rows: rows.clone(), panels: 0..layer.panel_count() }
    }
}

impl Pass<'_> {
    /// Rows of the inner matrix for each thread.
    fn inner_rows(&self) -> usize {
        self.split.inner_rows(self.batch.tokens(), 1)
    }
}

impl<N: Compiled> Layer<N> {
    fn new(weights: LayerWeights, spec: &EncoderSpec, kernels: &Kernels<N>) -> Self {
        let LayerWeights {
            mut query_key_value,
            attention_output,
            attention_norm,
            intermediate,
            output,
            output_norm,
            ..
        } = weights;
        // An encoder whose attention takes hidden states as they are is refused.
        let nothing = || NormWeights { weight: Vec::new(), bias: Vec::new(), epsilon: 0.0 };
        let attention_norm = attention_norm.unwrap_or_else(nothing);
        scale_queries(&mut query_key_value, spec);
        Self {
            query_key_value: PackedLinear::new(kernels, &query_key_value),
            attention_output: PackedLinear::new(kernels, &attention_output),
            attention_norm,
            intermediate: PackedLinear::new(kernels, &intermediate),
            output: PackedLinear::new(kernels, &output),
            output_norm,
        }
    }
}

/// Scores are `Q K^T / sqrt(d)` with `d = H / heads`; the factor goes into the queries once, at load.
fn scale_queries(query_key_value: &mut LinearWeights, spec: &EncoderSpec) {
    let hidden = spec.hidden_size;
    let scale = 1.0 / (spec.head_size as f32).sqrt();
    let LinearWeights { weight, bias } = query_key_value;
    let queries = weight[..hidden * hidden].iter_mut().chain(&mut bias[..hidden]);
    queries.for_each(|value| *value *= scale);
}
