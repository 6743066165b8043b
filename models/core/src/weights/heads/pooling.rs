//! Pooling on the host: where a batch has hidden states of some of its sequences in full, those that are to
//! be pooled are pooled here.

use crate::card::Pooling;

impl Pooling {
    /// Pools the rows of one sequence, each of `columns` numbers, of which the first `unpooled` are left out
    /// of what is pooled; never all of them.
    pub fn pool(self, rows: &[f32], columns: usize, unpooled: usize) -> Vec<f32> {
        let columns = columns.max(1);
        let count = rows.len() / columns;
        let from = unpooled.min(count.saturating_sub(1));
        let row = |index: usize| rows[index * columns..(index + 1) * columns].to_vec();
        let mut pooled = match self {
            _ if count == 0 => return vec![0.0; columns],
            Self::Cls => return row(from),
            Self::LastToken => return row(count - 1),
            Self::Max => vec![f32::NEG_INFINITY; columns],
            Self::Mean | Self::MeanSqrtLen | Self::WeightedMean => vec![0.0; columns],
        };
        for index in from..count {
            let values = &rows[index * columns..(index + 1) * columns];
            for (to, value) in pooled.iter_mut().zip(values) {
                *to = match self {
                    Self::Max => to.max(*value),
                    Self::WeightedMean => value.mul_add(index as f32 + 1.0, *to),
                    _ => *to + value,
                };
            }
        }
        let divisor = self.divisor(from, count);
        pooled.iter_mut().for_each(|value| *value /= divisor);
        pooled
    }

    /// What the sum over the rows from one on is divided by, to their end `count`.
    pub fn divisor(self, from: usize, count: usize) -> f32 {
        match self {
            Self::Cls | Self::LastToken | Self::Max => 1.0,
            Self::Mean => (count - from) as f32,
            Self::MeanSqrtLen => ((count - from) as f32).sqrt(),
            Self::WeightedMean => (from + 1..=count).map(|weight| weight as f32).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        const ROWS: [f32; 6] = [1.0, -8.0, 5.0, -2.0, 3.0, 4.0];
        let check = |pooling: Pooling, unpooled, expected: [f32; 2]| {
            let found = pooling.pool(&ROWS, 2, unpooled);
            let is_near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
            assert!(is_near, "{pooling} from {unpooled}: {found:?}");
        };
        check(Pooling::Cls, 0, [1.0, -8.0]);
        check(Pooling::LastToken, 0, [3.0, 4.0]);
        check(Pooling::Max, 0, [5.0, 4.0]);
        check(Pooling::Mean, 0, [3.0, -2.0]);
        check(Pooling::MeanSqrtLen, 0, [9.0 / 3.0_f32.sqrt(), -6.0 / 3.0_f32.sqrt()]);
        check(Pooling::WeightedMean, 0, [20.0 / 6.0, 0.0]);
        // The prompt is read, and what comes behind it keeps its place.
        check(Pooling::Cls, 1, [5.0, -2.0]);
        check(Pooling::LastToken, 1, [3.0, 4.0]);
        check(Pooling::Max, 2, [3.0, 4.0]);
        check(Pooling::Mean, 1, [4.0, 1.0]);
        check(Pooling::MeanSqrtLen, 1, [8.0 / 2.0_f32.sqrt(), 2.0 / 2.0_f32.sqrt()]);
        check(Pooling::WeightedMean, 1, [19.0 / 5.0, 8.0 / 5.0]);
        // Something is always pooled.
        check(Pooling::Mean, 9, [3.0, 4.0]);
    }
}
