//! Heads: from last hidden states to results, in float32 whatever the encoder multiplies in.

use std::ops::Range;
use std::sync::Arc;

use models_core::weights::{ClassifierWeights, HeadWeights, LinearWeights};
use models_core::{HostTensor, TokenBatch};

use super::encoder::Pass;
use super::kernels::{Activation, Kernels, Output};
use super::packing::PackedLinear;
use super::threads::Worker;
use super::workspace::Buffers;

/// Rows that one thread classifies at a time.
const ROWS: usize = 32;

/// What is computed from the last hidden states `[T, H]`; see [`HeadWeights`]. Cheap to clone: weights are
/// shared.
#[derive(Clone)]
pub(super) struct Head {
    kind: Kind,
    kernels: &'static Kernels<f32>,
    hidden: usize,
    /// Numbers in a row of hidden states.
    width: usize,
    columns: usize,
}

#[derive(Clone)]
enum Kind {
    MeanPooling,
    Sequence(Arc<Classifier>),
    Token(Arc<Classifier>),
}

struct Classifier {
    dense: Option<PackedLinear<f32>>,
    classifier: PackedLinear<f32>,
}

impl Head {
    /// `width` is that of a row of hidden states.
    pub(super) fn new(
        weights: &HeadWeights,
        hidden: usize,
        width: usize,
        kernels: &'static Kernels<f32>,
    ) -> Self {
        let classifier = |weights: &ClassifierWeights| {
            let pack = |weights: &LinearWeights| PackedLinear::new(kernels, weights);
            Arc::new(Classifier {
                dense: weights.dense.as_ref().map(pack),
                classifier: pack(&weights.classifier),
            })
        };
        let kind = match weights {
            HeadWeights::MeanPooling => Kind::MeanPooling,
            HeadWeights::Sequence(weights) => Kind::Sequence(classifier(weights)),
            HeadWeights::Token(weights) => Kind::Token(classifier(weights)),
        };
        Self { kind, kernels, hidden, width, columns: weights.columns(hidden) }
    }

    /// Columns of a result.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Makes the buffers large enough for a batch.
    pub(super) fn grow(&self, buffers: &mut Buffers, batch: &TokenBatch) {
        buffers.means.grow::<f32>(batch.sequences() * self.width);
        if let Some(classifier) = self.classifier() {
            let rows = self.rows(batch);
            buffers.dense.grow::<f32>(rows * self.width);
            buffers.logits.grow::<f32>(rows * classifier.classifier.width());
        }
    }

    /// One thread's part in computing the result, into `buffers.means` or `buffers.logits`.
    pub(super) fn work(&self, worker: &Worker<'_>, pass: &Pass<'_>) {
        if !self.is_per_token(pass.batch) {
            worker.for_each(pass.batch.sequences(), |index| {
                let (start, end) = (pass.batch.cu_seqlens[index], pass.batch.cu_seqlens[index + 1]);
                self.mean(pass.buffers, index, start as usize..end as usize);
            });
        }
        if let Some(classifier) = self.classifier() {
            let rows = self.rows(pass.batch);
            worker.for_each(rows.div_ceil(ROWS), |piece| {
                self.classify(classifier, pass.buffers, piece * ROWS..rows.min((piece + 1) * ROWS));
            });
        }
    }

    /// Copies the result, without the padding of its rows.
    pub(super) fn copy(&self, buffers: &mut Buffers, batch: &TokenBatch, result: &mut HostTensor) {
        let (from, stride) = match self.classifier() {
            None if self.is_per_token(batch) => (&mut buffers.hidden, self.width),
            None => (&mut buffers.means, self.width),
            Some(classifier) => (&mut buffers.logits, classifier.classifier.width()),
        };
        let rows = self.rows(batch);
        result.data.clear();
        for row in from.as_mut_slice::<f32>().chunks_exact(stride).take(rows) {
            result.data.extend_from_slice(&row[..self.columns]);
        }
        result.shape.clear();
        result.shape.extend([rows, self.columns]);
    }

    fn classifier(&self) -> Option<&Classifier> {
        match &self.kind {
            Kind::MeanPooling => None,
            Kind::Sequence(classifier) | Kind::Token(classifier) => Some(classifier),
        }
    }

    fn rows(&self, batch: &TokenBatch) -> usize {
        if self.is_per_token(batch) { batch.tokens() } else { batch.sequences() }
    }

    /// Whether there is a row for each token: of hidden states themselves, where a pooling model is to give
    /// them.
    fn is_per_token(&self, batch: &TokenBatch) -> bool {
        match self.kind {
            Kind::MeanPooling => batch.wants_tokens(),
            Kind::Sequence(_) => false,
            Kind::Token(_) => true,
        }
    }

    fn mean(&self, buffers: &Buffers, index: usize, rows: Range<usize>) {
        let count = rows.len() as f32;
        // SAFETY: a row of means is one thread's, in a phase of its own behind the one that wrote the hidden
        // states.
        unsafe {
            let to = std::slice::from_raw_parts_mut(buffers.means.pointer(index * self.width), self.hidden);
            to.fill(0.0);
            for row in rows {
                let from: *const f32 = buffers.hidden.pointer(row * self.width);
                let from = std::slice::from_raw_parts(from, self.hidden);
                to.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
            }
            to.iter_mut().for_each(|sum| *sum /= count);
        }
    }

    fn classify(&self, classifier: &Classifier, buffers: &Buffers, rows: Range<usize>) {
        let is_per_token = matches!(self.kind, Kind::Token(_));
        let mut left = if is_per_token { &buffers.hidden } else { &buffers.means };
        if let Some(dense) = &classifier.dense {
            let to = buffers.dense.pointer(rows.start * self.width);
            let output = Output::Store { to, stride: self.width, activation: Activation::Tanh };
            self.linear(dense, left.pointer(rows.start * self.width), &rows, output);
            left = &buffers.dense;
        }
        let stride = classifier.classifier.width();
        let to = buffers.logits.pointer(rows.start * stride);
        let output = Output::Store { to, stride, activation: Activation::None };
        self.linear(&classifier.classifier, left.pointer(rows.start * self.width), &rows, output);
    }

    fn linear(&self, layer: &PackedLinear<f32>, left: *const f32, rows: &Range<usize>, output: Output<f32>) {
        let task = layer.task(left, self.width, rows.len(), 0..layer.panel_count(), output);
        // SAFETY: `grow` has made room for all rows, each of which is one thread's; what is read was written
        // in a phase before or by this thread. The CPU has the instruction set, or `available` had not given
        // it.
        unsafe { (self.kernels.linear)(&task) }
    }
}
