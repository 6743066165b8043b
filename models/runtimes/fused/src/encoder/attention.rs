//! Attention of a batch: what turns queries and keys, and what each piece asks of the kernel.

use std::ops::Range;

use models_core::spec::{AttentionBias, LayerSpec, Rotary};
use models_core::{EncoderSpec, ModelError};

use super::super::kernels::{
    AttentionScratch, AttentionTask, Bias, Compiled, Disentangled, RotaryTask, STATE_LEN, TILE_COLUMNS_MAX,
    WEIGHTS_LEN, from_keys_len, from_queries_len, keys_len, sums_len, values_len,
};
use super::super::packing::PackedLinear;
use super::super::pieces::AttentionPiece;
use super::super::threads::Worker;
use super::super::workspace::{Buffers, Scratch};
use super::layer::{Layer, PackedPositions};
use super::{Encoder, Pass};

/// Tables by position and distance, as all layers have them.
pub(super) struct Tables {
    /// For each rotation, for each position: cosines of its pairs' angles, then their sines.
    angles: Vec<Vec<f32>>,
    /// For each head a row of [`Tables::distances`] numbers.
    distance_bias: Option<Vec<f32>>,
    /// Rows of positions in disentangled attention, by distance.
    position_rows: Option<Vec<u32>>,
    /// Tokens of the longest sequence; tables by distance begin `longest - 1` before that of 0.
    longest: usize,
}

impl Tables {
    pub(super) fn new(spec: &EncoderSpec, distance_bias: Option<Vec<f32>>) -> Result<Self, ModelError> {
        let longest = spec.max_position_embeddings;
        let (width, filled) = (2 * longest - 1, Self::distances(longest));
        if distance_bias.as_ref().map(Vec::len)
            != (spec.bias == AttentionBias::Distance).then_some(spec.num_attention_heads * width)
        {
            let message = "the bias of distances is not one row for each head".to_owned();
            return Err(ModelError::Backend { message });
        }
        let distance_bias = distance_bias.map(|bias| {
            let rows = bias.chunks_exact(width);
            rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, filled - width))).collect()
        });
        let position_rows = match &spec.bias {
            AttentionBias::None | AttentionBias::Distance => None,
            AttentionBias::Disentangled(bias) => {
                // By the key's place less the query's, where the spec has the query's less the key's.
                let row = |at: usize| bias.row(longest.cast_signed() - 1 - at.cast_signed()) as u32;
                Some((0..width).map(row).collect())
            }
        };
        let angles = spec.rotary.iter().map(|rotary| angles(rotary, longest)).collect();
        Ok(Self { angles, distance_bias, position_rows, longest })
    }

    /// Numbers of a head in the table of biases: the kernel reads whole vectors to the end of a block.
    fn distances(longest: usize) -> usize {
        2 * longest - 1 + TILE_COLUMNS_MAX
    }

    /// The bias of a head and those behind it.
    fn bias<N: Compiled>(&self, positions: Option<&PackedPositions<N>>, rows: usize, head: usize) -> Bias<N> {
        let zero = self.longest - 1;
        if let Some(bias) = &self.distance_bias {
            let stride = Self::distances(self.longest);
            return Bias::Distance { table: bias[head * stride + zero..].as_ptr(), stride };
        }
        let (Some(row_of), Some(PackedPositions { keys, queries })) = (&self.position_rows, positions) else {
            return Bias::None;
        };
        let heads_panels = |layer: &PackedLinear<N>| layer.panels_of(rows);
        let stride =
            keys.as_ref().or(queries.as_ref()).map_or(0, |layer| heads_panels(layer) * layer.panel_len());
        let panels = |layer: &Option<PackedLinear<N>>| {
            layer.as_ref().map_or(std::ptr::null(), |layer| layer.panel(head * heads_panels(layer)))
        };
        Bias::Disentangled(Disentangled {
            position_keys: panels(keys),
            position_queries: panels(queries),
            stride,
            row_of: row_of[zero..].as_ptr(),
            rows,
        })
    }
}

fn angles(rotary: &Rotary, longest: usize) -> Vec<f32> {
    let pairs = rotary.inverse_frequencies.len().max(1);
    let table = rotary.table(longest);
    let positions = table.cosines.chunks_exact(pairs).zip(table.sines.chunks_exact(pairs));
    positions.flat_map(|(cosines, sines)| cosines.iter().chain(sines)).copied().collect()
}

impl<N: Compiled> Encoder<N> {
    pub(super) fn grow_scratch(&self, buffers: &mut Buffers, longest: usize) {
        let head = self.spec.head_size;
        let positions = self.position_rows();
        for scratch in &mut buffers.scratch {
            let Scratch { keys, values, weights, scores, sums, state, from_queries, from_keys } = scratch;
            keys.grow::<N>(keys_len(longest, head));
            values.grow::<N>(values_len(longest, head));
            weights.grow::<N>(WEIGHTS_LEN);
            scores.grow::<f32>(WEIGHTS_LEN);
            sums.grow::<f32>(sums_len(longest, head));
            state.grow::<f32>(STATE_LEN);
            if positions > 0 {
                from_queries.grow::<f32>(from_queries_len(positions));
                from_keys.grow::<f32>(from_keys_len(longest, positions));
            }
        }
    }

    /// Rows of positions in disentangled attention.
    fn position_rows(&self) -> usize {
        match &self.spec.bias {
            AttentionBias::None | AttentionBias::Distance => 0,
            AttentionBias::Disentangled(bias) => bias.rows(),
        }
    }

    /// Whether queries and keys of a layer are changed behind their product.
    pub(super) fn is_turned(&self, index: usize) -> bool {
        let layer = &self.layers[index];
        self.spec.layers[index].rotary.is_some() || layer.query_norm.is_some() || layer.key_norm.is_some()
    }

    /// Normalises and turns the queries and keys of some rows.
    pub(super) fn turn(&self, index: usize, pass: &Pass<'_>, rows: &Range<usize>) {
        let EncoderSpec { num_attention_heads, num_key_value_heads, head_size, .. } = *self.spec;
        let layer = &self.layers[index];
        let rotation = self.spec.layers[index].rotary;
        let (angles, pairs) = rotation.map_or((std::ptr::null(), 0), |rotation| {
            let pairs = self.spec.rotary[rotation].inverse_frequencies.len();
            (self.tables.angles[rotation].as_ptr(), pairs)
        });
        let stride = self.query_key_value_width();
        let parts = [
            (0, num_attention_heads, &layer.query_norm),
            (num_attention_heads, num_key_value_heads, &layer.key_norm),
        ];
        for (first, heads, norm) in parts {
            let task = RotaryTask::<N> {
                values: pass.buffers.query_key_value.pointer(rows.start * stride + first * head_size),
                stride,
                rows: rows.len(),
                heads,
                head: head_size,
                norm: norm.as_ref().map_or(std::ptr::null(), |norm| norm.weight.as_ptr()),
                epsilon: norm.as_ref().map_or(0.0, |norm| norm.epsilon),
                positions: pass.batch.position_ids[rows.clone()].as_ptr(),
                angles,
                pairs,
            };
            // SAFETY: as in `linear`; there are angles for every position that `check_batch` lets through.
            unsafe { (self.kernels.rotate)(&task) }
        }
    }

    pub(super) fn attend(&self, worker: &Worker<'_>, index: usize, pass: &Pass<'_>) {
        worker.for_each(pass.attention.len(), |piece| {
            let scratch = &pass.buffers.scratch[worker.index];
            self.attend_piece(scratch, &pass.attention[piece], index, pass);
        });
    }

    fn attend_piece(&self, scratch: &Scratch, piece: &AttentionPiece, index: usize, pass: &Pass<'_>) {
        let EncoderSpec { num_attention_heads, num_key_value_heads, head_size, is_causal, .. } = *self.spec;
        let group = num_attention_heads / num_key_value_heads;
        let layer: &Layer<N> = &self.layers[index];
        let LayerSpec { window, .. } = self.spec.layers[index];
        let (stride, output_stride) = (self.query_key_value_width(), self.context_width());
        let (first, length) = (piece.rows.start, piece.rows.len());
        let seen = window.unwrap_or(length);
        let mut head = piece.heads.start;
        while head < piece.heads.end {
            let of_keys = head / group;
            let end = piece.heads.end.min((of_keys + 1) * group);
            let of_head =
                |head: usize| pass.buffers.query_key_value.pointer::<N>(first * stride + head * head_size);
            let task = AttentionTask {
                query: of_head(head),
                key: of_head(num_attention_heads + of_keys),
                value: of_head(num_attention_heads + num_key_value_heads + of_keys),
                stride,
                length,
                head: head_size,
                heads: end - head,
                first: piece.queries.start,
                end: piece.queries.end,
                before: seen,
                behind: if is_causal { 0 } else { seen },
                bias: self.tables.bias(layer.positions.as_ref(), self.position_rows(), head),
                output: pass.buffers.context.pointer(first * output_stride + head * head_size),
                output_stride,
                scratch: AttentionScratch {
                    keys: scratch.keys.pointer(0),
                    values: scratch.values.pointer(0),
                    weights: scratch.weights.pointer(0),
                    scores: scratch.scores.pointer(0),
                    sums: scratch.sums.pointer(0),
                    state: scratch.state.pointer(0),
                    from_queries: scratch.from_queries.pointer(0),
                    from_keys: scratch.from_keys.pointer(0),
                },
            };
            // SAFETY: as in `linear`; the scratch is this thread's, and tables reach as far as the longest
            // sequence that `check_batch` lets through.
            unsafe { (self.kernels.attend)(&task) }
            head = end;
        }
        if piece.heads.end == num_attention_heads {
            let rows = first + piece.queries.start..first + piece.queries.end;
            self.clear_padding(&pass.buffers.context, output_stride, self.spec.attention_width(), rows);
        }
    }
}
