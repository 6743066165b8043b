//! The little arithmetic that turns logits and vectors into answers.

/// Probabilities that sum to one, computed without overflow for any finite logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|exp| exp / sum).collect()
}

/// The logistic function.
pub(super) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Scales a vector to length one; a zero vector stays as it is. In float64, because the squares of large
/// values are beyond float32.
pub(super) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value = (f64::from(*value) / length) as f32;
        }
    }
}

/// Scalar product; cosine similarity of vectors of length one.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

/// Index of the largest value, the first of equals; 0 of an empty slice.
pub(super) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_survives_large_logits() {
        let check = |logits: &[f32], expected: &[f32]| {
            for (found, expected) in softmax(logits).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{logits:?}");
            }
        };
        check(&[0.0, 0.0], &[0.5, 0.5]);
        check(&[1e30, 0.0], &[1.0, 0.0]);
        check(&[-1e30, -1e30, -1e30, -1e30], &[0.25; 4]);
        check(&[f32::MAX, f32::MIN], &[1.0, 0.0]);
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!((argmax(&[1.0, 3.0, 3.0]), argmax(&[])), (1, 0));
    }

    /// Squares beyond float32 made the length infinite and the vector zero; squares below it made it zero.
    #[test]
    fn extreme_vectors_have_length_one() {
        for value in [3e38_f32, 1e20, 1e-30, f32::MIN_POSITIVE / 4.0] {
            let mut vector = [value; 4];
            normalize(&mut vector);
            assert_eq!(vector, [0.5; 4], "{value:e}");
        }
    }

    #[test]
    fn a_zero_vector_stays() {
        let mut vector = [0.0; 3];
        normalize(&mut vector);
        assert_eq!(vector, [0.0; 3]);
    }
}
