//! From examples to a classifier.

use std::ops::ControlFlow;

use crate::LearnError;
use crate::calibration::{temperature, unknown_below};
use crate::data::{Examples, Targets};
use crate::duplicates;
use crate::folds::Folds;
use crate::head::{Head, Link};
use crate::minimize::{Precision, minimize};
use crate::objective::{Problem, Weights};
use crate::products::{Rows, dot};
use crate::report::{Report, report};
use crate::selection::{Selection, select};

/// Strengths that are tried, scikit-learn's `C`, weakest first: about three times as strong each.
const STRENGTHS: [f64; 4] = [3.0, 10.0, 30.0, 100.0];
/// The strength where nothing can be held out. Near the best on public sets of 77 and 150 intents.
const STRENGTH_DEFAULT: f64 = 30.0;
/// Above so many examples, each fold is large enough for three to do.
const FOLDS_FEW_FROM: usize = 4_000;
/// Steps of the fit that is kept.
const STEPS_MAX: usize = 500;
/// Near-duplicates that are told of.
const DUPLICATES_MAX: usize = 50;

/// How much the examples of each class count.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ClassWeights {
    /// Each example as much as any other.
    #[default]
    Equal,
    /// Each class as much as any other, however few examples it has.
    Balanced,
    /// An example as much as its class has here, all above zero.
    Given(Vec<f32>),
}

/// How it is learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How much the examples of each class count.
    pub class_weights: ClassWeights,
    /// Strengths to choose from, which grow: scikit-learn's `C`. One alone is taken as it is.
    pub strengths: Vec<f64>,
    /// Parts that are held out in turn; none: five, or three of many examples.
    pub folds: Option<usize>,
    /// Largest part of a gradient at which the fit that is kept ends.
    pub gradient_max: f32,
    /// Part of what is told rightly that may be lost to "none of these", from 0 to 1.
    pub unknown_loss: f64,
    /// What chance depends on.
    pub seed: u64,
    /// Threads that work on it, at least one.
    pub threads: usize,
    /// Memory that it may take beside the vectors, in bytes.
    pub memory_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            class_weights: ClassWeights::Equal,
            strengths: STRENGTHS.to_vec(),
            folds: None,
            gradient_max: 2e-5,
            unknown_loss: 0.05,
            seed: 0,
            threads: 2,
            memory_bytes_max: 1 << 30,
        }
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Choosing the strength by cross-validation.
    Selection,
    /// Fitting all examples.
    Fit,
    /// Looking for examples that deserve a second look.
    Diagnosis,
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Part of the whole that is done, from 0 to 1; never falls.
    pub fraction: f64,
}

/// What came of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Learnt {
    /// The classifier.
    pub head: Head,
    /// The strength that was chosen, scikit-learn's `C`.
    pub strength: f64,
    /// What scores were divided by.
    pub temperature: f32,
    /// What is known of it; none where no class has two examples, so that none could be held out.
    pub report: Option<Report>,
}

/// Parts of the whole that its stages take, about.
const SELECTION_PART: f64 = 0.8;
const FIT_PART: f64 = 0.15;

/// Learns a classifier. `observe` is called after each step, and ends it by breaking.
///
/// Work is linear in examples, columns and classes; memory is bounded by the options.
///
/// # Errors
/// An option makes no sense, more memory would be needed than allowed, or `observe` ended it.
pub fn train(
    examples: Examples,
    options: &Options,
    mut observe: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Learnt, LearnError> {
    check(&examples, options)?;
    let link = match examples.targets() {
        Targets::One(_) => Link::Softmax,
        Targets::Many(_) => Link::Sigmoid,
    };
    let weights = weights(&examples, &options.class_weights, link);
    let folds = Folds::new(&examples, folds(&examples, options), options.seed);
    let mut examples = examples.reordered(&folds.order);
    let mean = examples.centre();
    let (classes, columns) = (examples.classes(), examples.columns());
    let problem = Problem {
        rows: Rows { values: examples.vectors(), columns },
        targets: examples.targets(),
        classes,
        link,
        weights: &weights,
        threads: options.threads,
    };
    let cancelled = |_: ControlFlow<()>| LearnError::Cancelled;
    let select_only = |fraction| Progress { stage: Stage::Selection, fraction: fraction * SELECTION_PART };
    let selected =
        match select(problem, &folds, strengths(&folds, options), |part| observe(select_only(part))) {
            ControlFlow::Continue(selected) => selected,
            ControlFlow::Break(()) => return Err(LearnError::Cancelled),
        };
    let Selection { strength, scores, start: mut at } = selected.unwrap_or_else(|| Selection {
        strength: *options
            .strengths
            .first()
            .filter(|_| options.strengths.len() == 1)
            .unwrap_or(&STRENGTH_DEFAULT),
        scores: Vec::new(),
        start: vec![0.0; classes * (columns + 1)],
    });
    let precision = Precision { gradient_max: options.gradient_max, steps_max: STEPS_MAX };
    let whole = std::slice::from_ref(&(0..examples.len())).to_vec();
    let mut steps = 0.0;
    let fit = minimize(&problem.objective(&whole, strength), &mut at, precision, || {
        steps += 1.0;
        // How many are left is not known; more are done, fewer are.
        let fraction = SELECTION_PART + FIT_PART * steps / (steps + 20.0);
        observe(Progress { stage: Stage::Fit, fraction })
    });
    if fit.is_break() {
        return Err(cancelled(fit));
    }
    let temperature = match scores.len() {
        0 => 1.0,
        _ => temperature(link, &scores, classes, examples.targets()),
    };
    let mut head = head(&at, &mean, classes, link, temperature);
    if observe(Progress { stage: Stage::Diagnosis, fraction: SELECTION_PART + FIT_PART }).is_break() {
        return Err(LearnError::Cancelled);
    }
    let report = if scores.is_empty() {
        None
    } else {
        let scores = scores.into_iter().map(|score| score / temperature).collect();
        let told = report(link, scores, &examples, &folds.order);
        head.unknown_below = unknown_below(told.right, options.unknown_loss);
        examples.shift(&mean, 1.0);
        let (pairs, is_compared_in_full) =
            duplicates::across_classes(&examples, DUPLICATES_MAX, options.seed, options.threads);
        let given = |row: usize| folds.order[row];
        let near_duplicates = pairs
            .into_iter()
            .map(|mut pair| {
                let (first, second) = (given(pair.first), given(pair.second));
                (pair.first, pair.second) = (first.min(second), first.max(second));
                pair
            })
            .collect();
        Some(Report { near_duplicates, is_compared_in_full, ..told.report })
    };
    Ok(Learnt { head, strength, temperature, report })
}

fn check(examples: &Examples, options: &Options) -> Result<(), LearnError> {
    let fault = |option, fault| Err(LearnError::Option { option, fault });
    let is_positive = |value: f64| value.is_finite() && value > 0.0;
    if options.strengths.is_empty() || !options.strengths.iter().all(|strength| is_positive(*strength)) {
        return fault("strengths", "must be numbers above zero, at least one");
    }
    if !options.strengths.is_sorted_by(|left, right| left < right) {
        return fault("strengths", "must grow");
    }
    if options.folds.is_some_and(|folds| folds < 2) {
        return fault("folds", "must be at least 2");
    }
    if !(0.0..=1.0).contains(&options.unknown_loss) {
        return fault("unknown_loss", "must be between 0 and 1");
    }
    if options.threads == 0 {
        return fault("threads", "must be at least 1");
    }
    if let ClassWeights::Given(weights) = &options.class_weights
        && (weights.len() != examples.classes()
            || !weights.iter().all(|weight| is_positive(f64::from(*weight))))
    {
        return fault("class_weights", "must be a number above zero for each class");
    }
    let needed = memory_bytes(examples, options);
    let limit = options.memory_bytes_max;
    if needed > limit { Err(LearnError::Memory { needed, limit }) } else { Ok(()) }
}

/// Memory that a training takes beside the examples: another order of them, held-out scores of the best
/// strength and the next, a fit for each fold, gradients of blocks, and the steps of L-BFGS.
fn memory_bytes(examples: &Examples, options: &Options) -> u64 {
    /// Fits of which parts are in memory at once, beside those of the folds.
    const FITS: u64 = 48;
    let (rows, columns, classes) =
        (examples.len() as u64, examples.columns() as u64, examples.classes() as u64);
    let fits = FITS + folds(examples, options) as u64;
    4 * (rows * columns + 3 * rows * classes + fits * classes * (columns + 1) + classes * classes)
}

fn folds(examples: &Examples, options: &Options) -> usize {
    let default = if examples.len() > FOLDS_FEW_FROM { 3 } else { 5 };
    options.folds.unwrap_or(default).min(examples.len().max(2))
}

/// The strengths to try; none where nothing can be held out.
fn strengths<'a>(folds: &Folds, options: &'a Options) -> &'a [f64] {
    if folds.held_out.len() < 2 { &[] } else { &options.strengths }
}

fn weights(examples: &Examples, given: &ClassWeights, link: Link) -> Weights {
    let (rows, classes) = (examples.len() as f32, examples.classes());
    let counts = examples.counts().iter().map(|count| *count as f32);
    match (given, link) {
        (ClassWeights::Equal, _) => Weights::Equal,
        (ClassWeights::Given(with), _) => {
            Weights::ByClass { with: with.clone(), without: vec![1.0; classes] }
        }
        (ClassWeights::Balanced, Link::Softmax) => {
            let with = counts.map(|count| rows / (classes as f32 * count)).collect();
            Weights::ByClass { with, without: Vec::new() }
        }
        (ClassWeights::Balanced, Link::Sigmoid) => {
            let with = counts.clone().map(|count| rows / (2.0 * count)).collect();
            let without = counts.map(|count| rows / (2.0 * (rows - count).max(1.0))).collect();
            Weights::ByClass { with, without }
        }
    }
}

/// The classifier of a fit to vectors from which `mean` was taken.
fn head(at: &[f32], mean: &[f32], classes: usize, link: Link, temperature: f32) -> Head {
    let (weights, biases) = at.split_at(classes * mean.len());
    let moved = weights.chunks_exact(mean.len()).zip(biases).map(|(row, bias)| bias - dot(row, mean) as f32);
    Head {
        biases: moved.map(|bias| bias / temperature).collect(),
        weights: weights.iter().map(|weight| weight / temperature).collect(),
        link,
        unknown_below: 0.0,
    }
}
