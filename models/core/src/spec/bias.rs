//! What is added to the scores of attention for how far query and key are from one another.

/// What is added to the scores of attention, which are scaled before
/// ([`attention_scale`](super::EncoderSpec::attention_scale)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBias {
    /// Nothing.
    None,
    /// A number for each head and distance, from
    /// [`EncoderWeights::distance_bias`](crate::weights::EncoderWeights::distance_bias): buckets of T5
    /// (<https://arxiv.org/abs/1910.10683>) and linear biases (<https://arxiv.org/abs/2108.12409>) alike.
    Distance,
    /// Products of contents and positions, <https://arxiv.org/abs/2006.03654>.
    Disentangled(Disentangled),
}

/// Disentangled attention as DeBERTa-v2 has it: to the product of query `i` and key `j` are added, with the
/// same scale, that of query `i` and row `r` of the layer's position keys, and that of key `j` and row `r` of
/// its position queries, where `r` is the [row](Self::row) of `i - j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disentangled {
    /// `k`: half of the rows of a layer's position keys and queries.
    pub span: usize,
    /// Distances from half of them on share rows, in steps that grow by the logarithm. Without, distances
    /// beyond the span share the last row.
    pub buckets: Option<usize>,
    /// The farthest distance that has a bucket of its own.
    pub distance_max: usize,
    /// Whether queries meet positions.
    pub content_to_position: bool,
    /// Whether keys meet positions.
    pub position_to_content: bool,
}

impl Disentangled {
    /// Products that are summed into a score.
    pub fn products(&self) -> usize {
        1 + usize::from(self.content_to_position) + usize::from(self.position_to_content)
    }

    /// Rows of a layer's position keys and queries: `2 k`.
    pub fn rows(&self) -> usize {
        2 * self.span
    }

    /// The row for a key that is `distance` tokens before its query.
    pub fn row(&self, distance: isize) -> usize {
        let bucket = self.buckets.map_or(distance, |buckets| self.bucket(distance, buckets));
        let last = self.rows().saturating_sub(1);
        bucket.saturating_add_unsigned(self.span).clamp(0, last.cast_signed()).unsigned_abs()
    }

    /// `make_log_bucket_position` of transformers, in float32 as there.
    fn bucket(&self, distance: isize, buckets: usize) -> isize {
        let middle = buckets / 2;
        let far = distance.unsigned_abs();
        if far <= middle {
            return distance;
        }
        let middle_float = middle as f32;
        let share = (far as f32 / middle_float).ln();
        let whole = ((self.distance_max as f64 - 1.0) / middle as f64) as f32;
        let steps = (share / whole.ln() * (middle_float - 1.0)).ceil() + middle_float;
        // Far below 2^24, so the number is whole.
        steps as isize * distance.signum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows worked out with `build_relative_position` of transformers, for 8 buckets of 32 positions.
    #[test]
    fn rows_of_distances() {
        let bias = Disentangled {
            span: 8,
            buckets: Some(8),
            distance_max: 32,
            content_to_position: true,
            position_to_content: true,
        };
        for (distance, row) in [(0, 8), (1, 9), (4, 12), (5, 13), (6, 13), (8, 14), (16, 15)] {
            assert_eq!(bias.row(distance), row, "{distance}");
            assert_eq!(bias.row(-distance), 16 - row, "-{distance}");
        }
        assert_eq!((bias.row(400), bias.row(-400)), (15, 0));
        let plain = Disentangled { buckets: None, ..bias };
        for (distance, row) in [(0, 8), (7, 15), (8, 15), (90, 15), (-8, 0), (-90, 0)] {
            assert_eq!(plain.row(distance), row, "{distance}");
        }
    }
}
