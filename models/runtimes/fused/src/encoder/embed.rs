//! From token ids to the hidden states that the first layer takes.

use std::ops::Range;

use models_core::spec::NormPlace;
use models_core::weights::{EmbeddingWeights, NormWeights};

use super::super::kernels::{Compiled, Kernels, Output};
use super::super::packing::PackedLinear;
use super::{Encoder, Part, Pass};

/// An embedding layer, see [`EmbeddingWeights`].
pub(in super::super) struct Embeddings<N> {
    /// The one large table, in the number format.
    words: Vec<N>,
    positions: Option<Vec<f32>>,
    second_segment: Option<Vec<f32>>,
    norm: Option<NormWeights>,
    projection: Option<PackedLinear<N>>,
}

impl<N: Compiled> Embeddings<N> {
    /// Rounds and packs an embedding layer.
    pub(in super::super) fn new(weights: EmbeddingWeights, kernels: &Kernels<N>) -> Self {
        let EmbeddingWeights { words, positions, second_segment, norm, projection } = weights;
        Self {
            words: words.into_iter().map(N::from_f32).collect(),
            positions,
            second_segment,
            norm,
            projection: projection.map(|weights| PackedLinear::new(kernels, &weights)),
        }
    }
}

impl<N: Compiled> Encoder<N> {
    /// Writes the hidden states of some rows, and the first layer's operand.
    pub(super) fn embed(&self, pass: &Pass<'_>, rows: Range<usize>) {
        let (width, hidden) = (self.spec.embedding_size, self.spec.hidden_size);
        rows.clone().for_each(|row| self.add_embeddings(pass, row));
        let norm = self.embeddings.norm.as_ref();
        if let Some(norm) = norm {
            self.normalize(norm, true, width, pass, rows.clone());
        }
        if self.embeddings.projection.is_some() {
            if norm.is_none() {
                self.copy(width, pass, rows.clone());
            }
            self.project(pass, &rows);
        }
        let is_copied = norm.is_some() && self.embeddings.projection.is_none();
        // Where layers normalise before their blocks, the first one's norm writes its operand.
        let first = match (self.layers.first(), self.spec.norm_place) {
            (Some(first), NormPlace::Before) => first.attention_norm.as_ref(),
            _ => None,
        };
        match first {
            Some(norm) => self.normalize(norm, false, hidden, pass, rows),
            None if is_copied => {}
            None => self.copy(hidden, pass, rows),
        }
    }

    /// The sum of a token's rows in the tables.
    fn add_embeddings(&self, pass: &Pass<'_>, row: usize) {
        let width = self.spec.embedding_size;
        let Embeddings { words, positions, second_segment, .. } = &*self.embeddings;
        let id = pass.batch.input_ids[row] as usize;
        let word = &words[id * width..(id + 1) * width];
        let to = pass.buffers.hidden.pointer::<f32>(row * self.width());
        // SAFETY: a row of hidden states, which is this thread's.
        let to = unsafe { std::slice::from_raw_parts_mut(to, width) };
        match positions {
            Some(positions) => {
                let position = pass.batch.position_ids[row] as usize;
                let position = &positions[position * width..(position + 1) * width];
                for ((to, word), position) in to.iter_mut().zip(word).zip(position) {
                    *to = word.to_f32() + position;
                }
            }
            None => to.iter_mut().zip(word).for_each(|(to, word)| *to = word.to_f32()),
        }
        if let Some(second) = second_segment.as_ref().filter(|_| pass.is_second(row)) {
            to.iter_mut().zip(second).for_each(|(to, value)| *to += value);
        }
    }

    /// From the operand, `E` wide, to hidden states.
    fn project(&self, pass: &Pass<'_>, rows: &Range<usize>) {
        let Some(projection) = &self.embeddings.projection else { return };
        let stride = self.width();
        let to = pass.buffers.hidden.pointer::<f32>(rows.start * stride);
        // SAFETY: rows of hidden states, which are this thread's.
        unsafe { std::slice::from_raw_parts_mut(to, rows.len() * stride) }.fill(0.0);
        let part = Part::whole(rows, projection);
        self.linear(projection, &pass.buffers.operand, stride, part, Output::Add { to, stride });
    }

    /// Rounds hidden states to the operand, where nothing normalises them.
    pub(super) fn copy(&self, width: usize, pass: &Pass<'_>, rows: Range<usize>) {
        let stride = self.width();
        for row in rows.clone() {
            let from = pass.buffers.hidden.pointer::<f32>(row * stride);
            let to = pass.buffers.operand.pointer::<N>(row * stride);
            // SAFETY: a row of each, which are this thread's.
            let (from, to) = unsafe {
                (std::slice::from_raw_parts(from, width), std::slice::from_raw_parts_mut(to, width))
            };
            to.iter_mut().zip(from).for_each(|(to, &value)| *to = N::from_f32(value));
        }
        self.clear_padding(&pass.buffers.operand, stride, width, rows);
    }
}
