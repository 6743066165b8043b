//! Intervals of rates that were counted.

use serde::Serialize;

/// A rate and the interval that has the true one with 95 % probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The rate, from 0 to 1.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Standard deviations of 95 %.
const Z: f64 = 1.959_964;

impl Interval {
    /// Of `hits` in `trials`, after Wilson (1927); anything between 0 and 1 where there was no trial.
    pub(crate) fn of(hits: usize, trials: usize) -> Self {
        if trials == 0 {
            return Self { value: 0.0, low: 0.0, high: 1.0 };
        }
        let (n, p) = (trials as f64, hits as f64 / trials as f64);
        let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        Self { value: p, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }

    /// Of F1, which is a function of the share of hits among hits, misses and false alarms.
    pub(crate) fn of_f1(hits: usize, others: usize) -> Self {
        let Self { value, low, high } = Self::of(hits, hits + others);
        let f1 = |share: f64| 2.0 * share / (1.0 + share);
        Self { value: f1(value), low: f1(low), high: f1(high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by statsmodels' `proportion_confint(method="wilson")`.
    #[test]
    fn wilson() {
        let check = |found: Interval, right: [f64; 3]| {
            for (found, right) in [found.value, found.low, found.high].into_iter().zip(right) {
                assert!((found - right).abs() < 5e-5, "{found} {right}");
            }
        };
        check(Interval::of(8, 10), [0.8, 0.490_16, 0.943_32]);
        check(Interval::of(0, 10), [0.0, 0.0, 0.277_53]);
        check(Interval::of(0, 0), [0.0, 0.0, 1.0]);
        // Precision 8/9 and recall 8/9 are F1 16/18.
        check(Interval::of_f1(8, 2), [16.0 / 18.0, 0.657_87, 0.970_83]);
    }
}
