//! Probabilities that are as often right as they say, and the one below which a text is none of the classes.

use crate::data::Targets;
use crate::head::Link;
use crate::objective::exp;

/// Range of the temperature, as natural logarithms: from a twentieth to twenty.
const LOG_RANGE: (f64, f64) = (-3.0, 3.0);
/// Cuts of that range, each to 0.618 of what it was: to a thousandth in the end.
const CUTS: usize = 18;
/// Bins in which probabilities are held against how often they are right.
const BINS: usize = 15;

/// Loss of an example's scores, divided by a temperature.
pub(crate) fn loss(link: Link, scores: &[f32], classes: &[u32], by: f32) -> f64 {
    match link {
        Link::Softmax => {
            let max = scores.iter().fold(f32::NEG_INFINITY, |max, score| max.max(*score));
            let sum: f32 = scores.iter().map(|score| exp((score - max) * by)).sum();
            f64::from(sum.ln() + (max - scores[classes[0] as usize]) * by)
        }
        Link::Sigmoid => {
            let each = scores.iter().enumerate().map(|(class, score)| {
                let margin = if classes.contains(&(class as u32)) { score * by } else { -score * by };
                f64::from((-margin.abs()).exp().ln_1p() + (-margin).max(0.0))
            });
            each.sum()
        }
    }
}

/// The temperature under which held-out examples are most likely (Guo et al., 2017): the loss has one
/// minimum over its inverse, which a golden section finds.
pub(crate) fn temperature(link: Link, scores: &[f32], classes: usize, targets: &Targets) -> f32 {
    let loss_at = |log: f64| -> f64 {
        let by = (-log).exp() as f32;
        scores.chunks_exact(classes).enumerate().map(|(row, of)| loss(link, of, targets.of(row), by)).sum()
    };
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = LOG_RANGE;
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_left, mut at_right) = (loss_at(left), loss_at(right));
    for _ in 0..CUTS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = loss_at(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = loss_at(right);
        }
    }
    f64::midpoint(low, high).exp() as f32
}

/// The probability below which so large a part of what was told rightly falls: that part is lost to
/// "none of these".
pub(crate) fn unknown_below(mut right: Vec<f32>, lost: f64) -> f32 {
    if right.is_empty() {
        return 0.0;
    }
    right.sort_unstable_by(f32::total_cmp);
    right[((right.len() as f64 * lost) as usize).min(right.len() - 1)]
}

/// How far probabilities are from how often they are right, on average over examples.
pub(crate) fn expected_error(told: &[(f32, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0, 0_usize); BINS];
    for (probability, is_right) in told {
        let bin = &mut bins[((probability * BINS as f32) as usize).min(BINS - 1)];
        bin.0 += f64::from(*probability);
        bin.1 += f64::from(u8::from(*is_right));
        bin.2 += 1;
    }
    bins.iter().map(|(said, right, _)| (said - right).abs()).sum::<f64>() / told.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes, three of four right: the likeliest probability is 3/4, at a score difference of ln 3.
    #[test]
    fn temperature_makes_probabilities_true() {
        let targets = Targets::One(vec![0, 0, 0, 1]);
        let check = |difference: f32| {
            let scores: Vec<f32> = (0..4).flat_map(|_| [difference, 0.0]).collect();
            let found = temperature(Link::Softmax, &scores, 2, &targets);
            assert!((difference / found - 3.0_f32.ln()).abs() < 5e-3, "{difference}: {found}");
        };
        check(5.0);
        check(0.2);
    }

    #[test]
    fn unknown_loses_what_it_may() {
        let right: Vec<f32> = (0..100).rev().map(|at| at as f32 / 100.0).collect();
        assert_eq!(unknown_below(right.clone(), 0.05), 0.05);
        assert_eq!(unknown_below(right, 1.0), 0.99);
        assert_eq!(unknown_below(Vec::new(), 0.05), 0.0);
    }

    #[test]
    fn expected_errors() {
        // Of those said to be right with 0.75, half are.
        let told = [(0.75, true), (0.75, false), (1.0, true), (1.0, true)];
        assert!((expected_error(&told) - 0.125).abs() < 1e-9);
        assert_eq!(expected_error(&[]), 0.0);
    }
}
