//! How strongly weights are held down: the strength under which examples that were held out are told best.

use std::ops::{ControlFlow, Range};

use crate::folds::Folds;
use crate::head::Link;
use crate::minimize::{Precision, minimize};
use crate::objective::Problem;

/// Precision of fits that are compared with each other.
const PRECISION: Precision = Precision { gradient_max: 1e-4, steps_max: 60 };
/// Strengths in a row that are worse than the best, after which no better one is expected.
const WORSE_MAX: usize = 2;

/// A strength and what came of it.
pub(crate) struct Selection {
    /// scikit-learn's `C`.
    pub(crate) strength: f64,
    /// Scores of the examples that were held out, `[examples x classes]`, in the order of the folds.
    pub(crate) scores: Vec<f32>,
    /// Weights and biases near those of all examples: the mean of the folds'.
    pub(crate) start: Vec<f32>,
}

/// How well held-out examples are told, better last.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Merit {
    /// Examples of which the most probable class is theirs; 0 where classes are told one by one.
    right: usize,
    /// Minus the mean loss.
    likelihood: f64,
}

/// Tries `strengths`, which grow, and gives the best one. `observe` is told how much of it is done.
pub(crate) fn select<B>(
    problem: Problem<'_>,
    folds: &Folds,
    strengths: &[f64],
    mut observe: impl FnMut(f64) -> ControlFlow<B>,
) -> ControlFlow<B, Option<Selection>> {
    let parameters = problem.classes * (problem.rows.columns + 1);
    // Where the last, weaker strength ended is near where the next one does.
    let mut fits = vec![vec![0.0; parameters]; folds.held_out.len()];
    let mut best: Option<(Merit, Selection)> = None;
    let mut worse = 0;
    for (at, &strength) in strengths.iter().enumerate() {
        let mut scores = Vec::with_capacity(folds.held_out_len() * problem.classes);
        for (fold, (held_out, fit)) in folds.held_out.iter().zip(&mut fits).enumerate() {
            let objective = problem.objective(&folds.learnt_from(held_out), strength);
            let done = (at * folds.held_out.len() + fold) as f64;
            let all = (strengths.len() * folds.held_out.len()) as f64;
            let mut steps = 0;
            minimize(&objective, fit, PRECISION, || {
                steps += 1;
                observe((done + f64::from(steps) / PRECISION.steps_max as f64) / all)
            })?;
            scores.extend(problem.scores(fit, held_out));
        }
        let merit = merit(problem, &scores, 0..folds.held_out_len());
        if best.as_ref().is_none_or(|(best, _)| merit > *best) {
            let mut start = vec![0.0; parameters];
            for fit in &fits {
                crate::products::add_scaled(&mut start, 1.0 / fits.len() as f32, fit);
            }
            best = Some((merit, Selection { strength, scores, start }));
            worse = 0;
        } else {
            worse += 1;
            if worse == WORSE_MAX {
                break;
            }
        }
    }
    ControlFlow::Continue(best.map(|(_, selection)| selection))
}

fn merit(problem: Problem<'_>, scores: &[f32], rows: Range<usize>) -> Merit {
    let mut merit = Merit { right: 0, likelihood: 0.0 };
    let count = rows.len().max(1) as f64;
    for (row, scores) in rows.zip(scores.chunks_exact(problem.classes)) {
        let classes = problem.targets.of(row);
        merit.likelihood -= crate::calibration::loss(problem.link, scores, classes, 1.0) / count;
        if problem.link == Link::Softmax && most(scores) == classes[0] as usize {
            merit.right += 1;
        }
    }
    merit
}

/// The class with the highest score, the first of equals.
pub(crate) fn most(scores: &[f32]) -> usize {
    let mut most = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[most] {
            most = class;
        }
    }
    most
}
