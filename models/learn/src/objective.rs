//! What is minimised: the mean loss of examples, and the squares of weights.

use std::ops::Range;

use crate::data::Targets;
use crate::head::Link;
use crate::minimize::Smooth;
use crate::products::{Rows, add_scaled, blocks, columns_by_columns, dot, each, rows_by_rows};

/// How much each example counts.
#[derive(Debug, Clone)]
pub(crate) enum Weights {
    /// Each as much as any other.
    Equal,
    /// As its class says; where classes are told one by one, for those who have it and those who have not.
    ByClass { with: Vec<f32>, without: Vec<f32> },
}

/// The loss of some rows, as a function of weights and biases: `[classes x columns]`, then `[classes]`.
pub(crate) struct Objective<'a> {
    rows: Rows<'a>,
    targets: &'a Targets,
    classes: usize,
    link: Link,
    weights: &'a Weights,
    blocks: Vec<Range<usize>>,
    /// Sum of what examples count.
    total: f64,
    /// What squares of weights cost: `1 / (C * total)`.
    penalty: f64,
    threads: usize,
}

/// What is the same for the objectives of one training.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) targets: &'a Targets,
    pub(crate) classes: usize,
    pub(crate) link: Link,
    pub(crate) weights: &'a Weights,
    pub(crate) threads: usize,
}

impl<'a> Problem<'a> {
    /// Of the rows in `segments`; `strength` is scikit-learn's `C`.
    pub(crate) fn objective(self, segments: &[Range<usize>], strength: f64) -> Objective<'a> {
        let Self { rows, targets, classes, link, weights, threads } = self;
        let total: f64 = match (weights, link) {
            (Weights::ByClass { with, .. }, Link::Softmax) => {
                let rows = segments.iter().cloned().flatten();
                rows.map(|row| f64::from(with[targets.of(row)[0] as usize])).sum()
            }
            _ => segments.iter().map(|segment| segment.len() as f64).sum(),
        };
        let (blocks, penalty) = (blocks(segments), 1.0 / (strength * total));
        Objective { rows, targets, classes, link, weights, blocks, total, penalty, threads }
    }

    /// Scores of some rows, `[rows x classes]`.
    pub(crate) fn scores(self, at: &[f32], rows: &Range<usize>) -> Vec<f32> {
        let (weights, biases) = at.split_at(self.classes * self.rows.columns);
        let weights = Rows { values: weights, columns: self.rows.columns };
        let parts = each(&blocks(std::slice::from_ref(rows)), self.threads, |block| {
            let mut scores = vec![0.0; block.len() * self.classes];
            rows_by_rows(self.rows.slice(block), weights, &mut scores);
            scores.chunks_exact_mut(self.classes).for_each(|row| add_scaled(row, 1.0, biases));
            scores
        });
        parts.concat()
    }
}

impl Objective<'_> {
    /// Loss of a block, and its gradient: of weights, then of biases.
    fn block(&self, at: &[f32], block: &Range<usize>) -> (f64, Vec<f32>) {
        let (columns, classes) = (self.rows.columns, self.classes);
        let (weights, biases) = at.split_at(classes * columns);
        let rows = self.rows.slice(block);
        let mut scores = vec![0.0; block.len() * classes];
        rows_by_rows(rows, Rows { values: weights, columns }, &mut scores);
        let mut gradient = vec![0.0; at.len()];
        let (by_weight, by_bias) = gradient.split_at_mut(classes * columns);
        let mut loss = 0.0;
        for (row, scores) in block.clone().zip(scores.chunks_exact_mut(classes)) {
            add_scaled(scores, 1.0, biases);
            loss += match self.link {
                Link::Softmax => self.softmax(self.targets.of(row)[0] as usize, scores),
                Link::Sigmoid => self.sigmoid(self.targets.of(row), scores),
            };
            add_scaled(by_bias, 1.0, scores);
        }
        columns_by_columns(Rows { values: &scores, columns: classes }, rows, by_weight);
        (loss, gradient)
    }

    /// Loss of an example with one class; its scores become their part of the gradient.
    fn softmax(&self, class: usize, scores: &mut [f32]) -> f64 {
        let weight = match self.weights {
            Weights::Equal => 1.0,
            Weights::ByClass { with, .. } => with[class],
        };
        let own = scores[class];
        let max = scores.iter().fold(f32::NEG_INFINITY, |max, score| max.max(*score));
        let mut sum = 0.0;
        for score in &mut *scores {
            *score = exp(*score - max);
            sum += *score;
        }
        let scale = weight / (sum * self.total as f32);
        scores.iter_mut().for_each(|score| *score *= scale);
        scores[class] -= weight / self.total as f32;
        f64::from(weight * (sum.ln() + max - own))
    }

    /// The same of an example with any number of classes.
    fn sigmoid(&self, classes: &[u32], scores: &mut [f32]) -> f64 {
        let total = self.total as f32;
        let mut loss = 0.0;
        for (class, score) in scores.iter_mut().enumerate() {
            let has_it = classes.contains(&(class as u32));
            let weight = match self.weights {
                Weights::Equal => 1.0,
                Weights::ByClass { with, without } => {
                    if has_it {
                        with[class]
                    } else {
                        without[class]
                    }
                }
            };
            // ln(1 + e^-m), m being how far the score is on the right side.
            let margin = if has_it { *score } else { -*score };
            let small = (-margin.abs()).exp();
            loss += f64::from(weight * (small.ln_1p() + (-margin).max(0.0)));
            let probability = if *score >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
            *score = weight * (probability - if has_it { 1.0 } else { 0.0 }) / total;
        }
        loss
    }
}

impl Smooth for Objective<'_> {
    fn evaluate(&self, at: &[f32], gradient: &mut Vec<f32>) -> f64 {
        let parts = each(&self.blocks, self.threads, |block| self.block(at, block));
        gradient.clear();
        gradient.resize(at.len(), 0.0);
        let mut loss = 0.0;
        for (part, by) in &parts {
            loss += part;
            add_scaled(gradient, 1.0, by);
        }
        let weights = self.classes * self.rows.columns;
        add_scaled(&mut gradient[..weights], self.penalty as f32, &at[..weights]);
        loss / self.total + self.penalty * dot(&at[..weights], &at[..weights]) / 2.0
    }
}

/// `e^x` for `x <= 0`, to about two units of the last place: without a call, so that compilers can do several
/// at once. Below -87 it is 0, as good as.
pub(crate) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.max(-87.0);
    // 2^whole * e^rest, where rest is within ln 2 / 2 of zero.
    let whole = (x * std::f32::consts::LOG2_E - 0.5) as i32;
    let rest = x - whole as f32 * LN_2_HIGH - whole as f32 * LN_2_LOW;
    // Taylor's series.
    let series = 1.0
        + rest
            * (1.0
                + rest
                    * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest * (1.0 / 120.0 + rest / 720.0)))));
    series * f32::from_bits(((whole + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_exponential() {
        for step in 0..870_000 {
            let x = -(step as f32) / 1e4;
            let right = f64::from(x).exp();
            assert!((f64::from(exp(x)) - right).abs() <= 4e-7 * right, "{x}");
        }
        assert!(exp(-1e9) < 2e-38);
    }

    /// The gradient is the slope of the value, for each way that examples are weighted.
    #[test]
    fn gradients_are_slopes() {
        let vectors: Vec<f32> = (0..60).map(|at| ((at * 37 % 23) as f32 - 11.0) / 20.0).collect();
        let one = Targets::One((0..20).map(|at| at % 3).collect());
        let many =
            Targets::Many((0..20).map(|at| (0..3).filter(|c| (at + c * at) % 2 == 0).collect()).collect());
        let by_class = Weights::ByClass { with: vec![0.5, 2.0, 1.0], without: vec![1.5, 0.25, 1.0] };
        for (targets, link) in [(&one, Link::Softmax), (&many, Link::Sigmoid)] {
            for weights in [&Weights::Equal, &by_class] {
                let rows = Rows { values: &vectors, columns: 3 };
                let problem = Problem { rows, targets, classes: 3, link, weights, threads: 1 };
                let objective = problem.objective(&[0..7, 9..20], 2.0);
                let at: Vec<f32> = (0..12).map(|at| (at as f32 - 5.0) / 4.0).collect();
                let mut gradient = Vec::new();
                objective.evaluate(&at, &mut gradient);
                for part in 0..12 {
                    let beside = |by: f32| {
                        let mut at = at.clone();
                        at[part] += by;
                        objective.evaluate(&at, &mut Vec::new())
                    };
                    let slope = (beside(0.01) - beside(-0.01)) / 0.02;
                    assert!((slope - f64::from(gradient[part])).abs() < 2e-4, "{link:?} {part}: {slope}");
                }
            }
        }
    }
}
