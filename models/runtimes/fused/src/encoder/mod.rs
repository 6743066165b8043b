//! The encoder: embeddings, transformer layers, and the order in which threads go through them.

mod attention;
mod embed;
mod layer;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use models_core::spec::{FeedForward, LayerSpec, NormKind, NormPlace};
use models_core::weights::{EncoderWeights, LoraAdapter, NormWeights};
use models_core::{EncoderSpec, HiddenActivation, ModelError, TokenBatch};

use super::buffer::Buffer;
use super::kernels::{Activation, Compiled, Kernels, NormalizeTask, Output, TILE_COLUMNS_MAX};
use super::packing::PackedLinear;
use super::pieces::{AttentionPiece, Split, block_rows};
use super::threads::Worker;
use super::workspace::Buffers;
use attention::Tables;
pub(super) use embed::Embeddings;
use layer::{Layer, known};

/// Layers that are packed at once: each is in memory twice while it is.
const PACKERS_MAX: usize = 4;

/// A transformer encoder, packed for the kernels of one instruction set. Cheap to clone: weights are shared.
pub(super) struct Encoder<N: 'static> {
    pub(super) spec: Arc<EncoderSpec>,
    kernels: &'static Kernels<N>,
    embeddings: Arc<Embeddings<N>>,
    /// Layers with the same weights are one.
    layers: Arc<[Arc<Layer<N>>]>,
    final_norm: Option<Arc<NormWeights>>,
    tables: Arc<Tables>,
    activation: Activation,
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
            spec: Arc::clone(&self.spec),
            kernels: self.kernels,
            embeddings: Arc::clone(&self.embeddings),
            layers: Arc::clone(&self.layers),
            final_norm: self.final_norm.clone(),
            tables: Arc::clone(&self.tables),
            activation: self.activation,
        }
    }
}

impl<N: Compiled> Encoder<N> {
    /// Packs an encoder's layers over an embedding layer that others may share.
    pub(super) fn new(
        weights: &EncoderWeights,
        embeddings: Arc<Embeddings<N>>,
        adapter: Option<&LoraAdapter>,
        kernels: &'static Kernels<N>,
    ) -> Result<Self, ModelError> {
        let spec = Arc::new(weights.spec.clone());
        let layers = pack_layers(weights, &spec, adapter, kernels)?;
        let activation = match spec.hidden_act {
            HiddenActivation::Gelu => Activation::Gelu,
            HiddenActivation::GeluTanh => Activation::GeluTanh,
            HiddenActivation::Relu => Activation::Relu,
            HiddenActivation::Silu => Activation::Silu,
        };
        Ok(Self {
            kernels,
            embeddings,
            layers: layers.into(),
            final_norm: weights.final_norm()?.map(|norm| Arc::new(known(norm, &spec))),
            tables: Arc::new(Tables::new(&spec, weights.distance_bias()?)?),
            activation,
            spec,
        })
    }

    /// Numbers in a row of hidden states.
    pub(super) fn width(&self) -> usize {
        self.spec.hidden_size.max(self.spec.embedding_size).next_multiple_of(TILE_COLUMNS_MAX)
    }

    /// Makes the buffers large enough for a batch.
    pub(super) fn grow(&self, buffers: &mut Buffers, batch: &TokenBatch, split: Split) {
        let (tokens, width) = (batch.tokens(), self.width());
        let threads = buffers.scratch.len();
        buffers.hidden.grow::<f32>(tokens * width);
        buffers.operand.grow::<N>(tokens * width);
        buffers.query_key_value.grow::<N>((tokens + self.kernels.lanes) * self.query_key_value_width());
        buffers.context.grow::<N>(tokens * self.context_width());
        buffers.inner.grow::<N>(split.inner_rows(tokens, threads) * self.inner_width());
        self.grow_scratch(buffers, batch.max_seq_len);
    }

    /// One thread's part in computing the last hidden states, into `buffers.hidden`.
    pub(super) fn work(&self, worker: &Worker<'_>, pass: &Pass<'_>) {
        let tokens = pass.batch.tokens();
        match pass.split {
            _ if self.layers.is_empty() => worker.for_each(1, |_| {
                self.embed(pass, 0..tokens);
                if let Some(norm) = &self.final_norm {
                    self.normalize(norm, true, self.spec.hidden_size, pass, 0..tokens);
                }
            }),
            Split::Rows(blocks) => {
                worker.for_each(blocks, |block| {
                    let rows = block_rows(tokens, blocks, block);
                    self.embed(pass, rows.clone());
                    self.begin(0, pass, &rows);
                });
                for index in 0..self.layers.len() {
                    self.attend(worker, index, pass);
                    worker.for_each(blocks, |block| {
                        self.block(worker.index, index, pass, &block_rows(tokens, blocks, block));
                    });
                }
            }
            Split::Columns => {
                worker.for_each(tokens, |row| self.embed(pass, row..row + 1));
                for index in 0..self.layers.len() {
                    self.columns(worker, index, pass);
                }
            }
        }
    }

    /// The beginning of a layer for some rows, up to attention.
    fn begin(&self, index: usize, pass: &Pass<'_>, rows: &Range<usize>) {
        let layer = &*self.layers[index];
        self.query_key_value(layer, pass, Part::whole(rows, &layer.query_key_value));
        if self.is_turned(index) {
            self.turn(index, pass, rows);
        }
    }

    /// All of a layer behind attention, and the beginning of the next, for some rows: nothing in it waits for
    /// other rows.
    fn block(&self, thread: usize, index: usize, pass: &Pass<'_>, rows: &Range<usize>) {
        let layer = &*self.layers[index];
        let inner = thread * pass.inner_rows();
        self.attention_output(layer, pass, Part::whole(rows, &layer.attention_output));
        self.normalize_attended(layer, pass, rows.clone());
        self.intermediate(layer, pass, inner, Part::whole(rows, &layer.intermediate));
        self.output(layer, pass, inner, Part::whole(rows, &layer.output));
        self.normalize_output(index, pass, rows.clone());
        if index + 1 < self.layers.len() {
            self.begin(index + 1, pass, rows);
        }
    }

    /// A whole layer for all rows, the columns of each linear layer shared between the threads.
    fn columns(&self, worker: &Worker<'_>, index: usize, pass: &Pass<'_>) {
        let layer = &*self.layers[index];
        let tokens = pass.batch.tokens();
        let part = |panel| Part { rows: 0..tokens, panels: panel..panel + 1 };
        worker.for_each(layer.query_key_value.panel_count(), |panel| {
            self.query_key_value(layer, pass, part(panel));
        });
        if self.is_turned(index) {
            worker.for_each(tokens, |row| self.turn(index, pass, &(row..row + 1)));
        }
        self.attend(worker, index, pass);
        worker.for_each(layer.attention_output.panel_count(), |panel| {
            self.attention_output(layer, pass, part(panel));
        });
        worker.for_each(tokens, |row| self.normalize_attended(layer, pass, row..row + 1));
        worker.for_each(layer.intermediate.panel_count(), |panel| {
            self.intermediate(layer, pass, 0, part(panel));
        });
        worker.for_each(layer.output.panel_count(), |panel| self.output(layer, pass, 0, part(panel)));
        worker.for_each(tokens, |row| self.normalize_output(index, pass, row..row + 1));
    }

    /// Between attention and the feed-forward block: writes that one's operand.
    fn normalize_attended(&self, layer: &Layer<N>, pass: &Pass<'_>, rows: Range<usize>) {
        let hidden = self.spec.hidden_size;
        match (self.spec.norm_place, &layer.attention_norm) {
            (NormPlace::Behind, Some(norm)) => self.normalize(norm, true, hidden, pass, rows),
            (NormPlace::Behind, None) => self.copy(hidden, pass, rows),
            (NormPlace::Before, _) => self.normalize(&layer.output_norm, false, hidden, pass, rows),
        }
    }

    /// Behind a layer: writes the operand of the next, or the last hidden states.
    fn normalize_output(&self, index: usize, pass: &Pass<'_>, rows: Range<usize>) {
        let hidden = self.spec.hidden_size;
        let layer = &*self.layers[index];
        if self.spec.norm_place == NormPlace::Behind {
            self.normalize(&layer.output_norm, true, hidden, pass, rows.clone());
        }
        let Some(next) = self.layers.get(index + 1) else {
            if let Some(norm) = &self.final_norm {
                self.normalize(norm, true, hidden, pass, rows);
            }
            return;
        };
        if self.spec.norm_place == NormPlace::Before {
            match &next.attention_norm {
                Some(norm) => self.normalize(norm, false, hidden, pass, rows),
                None => self.copy(hidden, pass, rows),
            }
        }
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
        self.linear(&layer.attention_output, &pass.buffers.context, self.context_width(), part, output);
    }

    /// `inner` is the row of the inner matrix that belongs to the first of the part's.
    fn intermediate(&self, layer: &Layer<N>, pass: &Pass<'_>, inner: usize, part: Part) {
        let stride = self.inner_width();
        let to = pass.buffers.inner.pointer(inner * stride);
        let activation = self.activation;
        let output = match self.spec.feed_forward {
            FeedForward::Plain => Output::Store { to, stride, activation },
            FeedForward::Gated => Output::Gate { to, stride, activation },
        };
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

    /// Normalises the first `width` numbers of hidden states into the operand, and perhaps themselves.
    fn normalize(
        &self,
        norm: &NormWeights,
        is_in_place: bool,
        width: usize,
        pass: &Pass<'_>,
        rows: Range<usize>,
    ) {
        let stride = self.width();
        assert!(norm.weight.len() == width && norm.bias.len() == width);
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
            is_centred: self.spec.norm == NormKind::LayerNorm,
            is_in_place,
        };
        // SAFETY: as in `linear`.
        unsafe { (self.kernels.normalize)(&task) }
        self.clear_padding(&pass.buffers.operand, stride, width, rows);
    }

    /// A product of `STEP` numbers may read behind a row's last one; what it meets there must not be NaN.
    fn clear_padding(&self, buffer: &Buffer, stride: usize, width: usize, rows: Range<usize>) {
        for row in rows {
            for at in width..width.next_multiple_of(N::STEP) {
                // SAFETY: within the row, which is this thread's.
                unsafe { *buffer.pointer::<N>(row * stride + at) = N::default() }
            }
        }
    }

    fn query_key_value_width(&self) -> usize {
        self.spec.query_key_value_width().next_multiple_of(TILE_COLUMNS_MAX)
    }

    fn context_width(&self) -> usize {
        self.spec.attention_width().next_multiple_of(TILE_COLUMNS_MAX)
    }

    fn inner_width(&self) -> usize {
        self.spec.intermediate_size.next_multiple_of(TILE_COLUMNS_MAX)
    }
}

/// Reads and packs all layers, several at once: most of the time goes into making room for them.
fn pack_layers<N: Compiled>(
    weights: &EncoderWeights,
    spec: &EncoderSpec,
    adapter: Option<&LoraAdapter>,
    kernels: &'static Kernels<N>,
) -> Result<Vec<Arc<Layer<N>>>, ModelError> {
    // Numbers of queries and keys have the order of a rotation's pairs, so that shared layers differ by it.
    let first_like = |index: usize| {
        let is_same = |other: &LayerSpec| spec.is_shared && other.rotary == spec.layers[index].rotary;
        spec.layers[..index].iter().position(is_same).unwrap_or(index)
    };
    let distinct: Vec<usize> = (0..spec.layers.len()).filter(|index| first_like(*index) == *index).collect();
    let packed: Vec<OnceLock<Result<Layer<N>, ModelError>>> =
        distinct.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let pack_some = || {
        let mine = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        for at in mine.take_while(|at| *at < distinct.len()) {
            let of_layer = &spec.layers[distinct[at]];
            let rotary = of_layer.rotary.map(|rotary| &spec.rotary[rotary]);
            let layer = weights.layer(distinct[at], adapter);
            let _ = packed[at].set(layer.and_then(|layer| Layer::new(layer, spec, rotary, kernels)));
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..cores.min(PACKERS_MAX).min(distinct.len()) {
            // Without another thread it takes longer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, pack_some);
        }
        pack_some();
    });
    let mut layers: Vec<Arc<Layer<N>>> = Vec::with_capacity(spec.layers.len());
    let mut packed = packed.into_iter().filter_map(OnceLock::into_inner);
    for index in 0..spec.layers.len() {
        match layers.get(first_like(index)) {
            Some(same) => layers.push(Arc::clone(same)),
            None => layers.extend(packed.next().transpose()?.map(Arc::new)),
        }
    }
    Ok(layers)
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

    /// Whether a token is of the second segment.
    fn is_second(&self, row: usize) -> bool {
        self.batch.token_type_ids.get(row) == Some(&1)
    }
}
