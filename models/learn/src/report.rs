//! How good a classifier is, and which examples deserve a second look: told from examples while they were
//! held out.

use serde::Serialize;

use crate::calibration::{expected_error, loss};
use crate::data::Examples;
use crate::head::{Link, probabilities};
use crate::intervals::Interval;
use crate::selection::most;

/// Fewer examples of a class than this are few: from 8 to 16 more, accuracy still rises by several points.
const EXAMPLES_FEW: usize = 8;
/// Most pairs of classes, examples and pairs of examples that are told of.
const ROWS_MAX: usize = 50;
/// Where classes are told one by one, an example has those of at least this probability.
const HAS_FROM: f32 = 0.5;

/// What is known of a classifier. Examples and classes are named by their index.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Examples that were held out once; the others were the only ones of their class.
    pub held_out: usize,
    /// Part of the held-out examples of which all classes were told rightly.
    pub accuracy: Interval,
    /// Mean of the classes' F1.
    pub macro_f1: f64,
    /// Mean negative logarithm of the probability of what is true.
    pub log_loss: f64,
    /// How far probabilities are from how often they are right.
    pub calibration_error: f64,
    /// Each class.
    pub classes: Vec<ClassReport>,
    /// Pairs of classes that are taken for each other, most often first.
    pub confusions: Vec<Confusion>,
    /// Held-out examples of which the most probable class was least probable.
    pub least_certain: Vec<Uncertain>,
    /// Examples that probably have a wrong class, most probable first.
    pub probably_mislabelled: Vec<Suspect>,
    /// Pairs of examples that are nearly the same and have different classes, nearest first.
    pub near_duplicates: Vec<Duplicate>,
    /// Whether all pairs were compared.
    pub is_compared_in_full: bool,
    /// Classes with too few examples to be told well.
    pub few_examples: Vec<usize>,
}

/// How well a class is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassReport {
    /// Examples, held out or not.
    pub examples: usize,
    /// How many that were said to have it do.
    pub precision: Interval,
    /// How many that have it were said to.
    pub recall: Interval,
    /// Harmonic mean of both.
    pub f1: Interval,
}

/// Examples of one class that were taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The class they have.
    pub class: usize,
    /// The one they were said to have.
    pub told: usize,
    /// How many.
    pub count: usize,
}

/// An example that is told with little certainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Uncertain {
    /// The example.
    pub example: usize,
    /// Its most probable class.
    pub told: usize,
    /// How probable that is.
    pub probability: f32,
}

/// An example whose class is probably wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Suspect {
    /// The example.
    pub example: usize,
    /// The class in doubt; where classes are told one by one it is one that the example has or lacks.
    pub class: usize,
    /// How probable it is.
    pub probability: f32,
    /// The class that it probably is, or lacks.
    pub told: usize,
    /// How probable that one is.
    pub told_probability: f32,
}

/// Two examples that are nearly the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Duplicate {
    /// One.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// The cosine of their vectors.
    pub cosine: f32,
}

/// Counts of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    hits: usize,
    misses: usize,
    false_alarms: usize,
}

/// What is told of examples while they were held out.
pub(crate) struct Told {
    pub(crate) report: Report,
    /// Probabilities of the most probable class where it was right.
    pub(crate) right: Vec<f32>,
}

/// Reports on the examples in the order of folds, of which the first were held out with these `scores`, which
/// are divided by the temperature already. `order` leads back to how they were given.
pub(crate) fn report(link: Link, mut scores: Vec<f32>, examples: &Examples, order: &[usize]) -> Told {
    let classes = examples.classes();
    let mut counts = vec![Counts::default(); classes];
    let mut confusions = vec![0_u32; if link == Link::Softmax { classes * classes } else { 0 }];
    let (mut right, mut told_right, mut uncertain) = (Vec::new(), Vec::new(), Vec::new());
    let (mut all_right, mut losses) = (0, 0.0);
    let held_out = scores.len() / classes;
    for (row, scores) in scores.chunks_exact_mut(classes).enumerate() {
        let own = examples.targets().of(row);
        losses += loss(link, scores, own, 1.0);
        probabilities(link, scores);
        let (told, example) = (most(scores), order[row]);
        let probability = scores[told];
        let is_told = |class: usize| match link {
            Link::Softmax => class == told,
            Link::Sigmoid => scores[class] >= HAS_FROM,
        };
        let mut is_right = true;
        for (class, counts) in counts.iter_mut().enumerate() {
            match (own.contains(&(class as u32)), is_told(class)) {
                (true, true) => counts.hits += 1,
                (true, false) => counts.misses += 1,
                (false, true) => counts.false_alarms += 1,
                (false, false) => continue,
            }
            is_right &= own.contains(&(class as u32)) == is_told(class);
        }
        all_right += usize::from(is_right);
        let top_is_own = own.contains(&(told as u32));
        told_right.push((probability, top_is_own));
        if top_is_own {
            right.push(probability);
        } else if link == Link::Softmax {
            confusions[own[0] as usize * classes + told] += 1;
        }
        uncertain.push(Uncertain { example, told, probability });
    }
    uncertain
        .sort_unstable_by(|a, b| a.probability.total_cmp(&b.probability).then(a.example.cmp(&b.example)));
    uncertain.truncate(ROWS_MAX);
    let classes: Vec<ClassReport> = counts.iter().zip(examples.counts()).map(class_report).collect();
    let report = Report {
        held_out,
        accuracy: Interval::of(all_right, held_out),
        macro_f1: classes.iter().map(|class| class.f1.value).sum::<f64>() / classes.len() as f64,
        log_loss: losses / held_out.max(1) as f64,
        calibration_error: expected_error(&told_right),
        confusions: confusion_pairs(&confusions, classes.len()),
        least_certain: uncertain,
        probably_mislabelled: suspects(link, &scores, examples, order),
        near_duplicates: Vec::new(),
        is_compared_in_full: false,
        few_examples: (0..classes.len()).filter(|class| classes[*class].examples < EXAMPLES_FEW).collect(),
        classes,
    };
    Told { report, right }
}

fn class_report((counts, examples): (&Counts, &usize)) -> ClassReport {
    let Counts { hits, misses, false_alarms } = *counts;
    ClassReport {
        examples: *examples,
        precision: Interval::of(hits, hits + false_alarms),
        recall: Interval::of(hits, hits + misses),
        f1: Interval::of_f1(hits, misses + false_alarms),
    }
}

fn confusion_pairs(counts: &[u32], classes: usize) -> Vec<Confusion> {
    let pairs = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let mut pairs: Vec<Confusion> = pairs
        .map(|(at, count)| Confusion { class: at / classes, told: at % classes, count: *count as usize })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
    pairs.truncate(ROWS_MAX);
    pairs
}

/// Examples that are said to be of another class with at least the mean probability of that class's own
/// examples (confident learning, Northcutt et al., 2021).
fn suspects(link: Link, probabilities: &[f32], examples: &Examples, order: &[usize]) -> Vec<Suspect> {
    let classes = examples.classes();
    let mut own_sums = vec![(0.0_f64, 0_usize); classes];
    let rows = || probabilities.chunks_exact(classes).enumerate();
    for (row, of) in rows() {
        for &class in examples.targets().of(row) {
            own_sums[class as usize].0 += f64::from(of[class as usize]);
            own_sums[class as usize].1 += 1;
        }
    }
    // No probability reaches what is over 1, so a class of which nothing is known is never suspected.
    let own_mean = |class: usize| match own_sums[class] {
        (_, 0) => 2.0,
        (sum, count) => (sum / count as f64) as f32,
    };
    let mut suspects = Vec::new();
    for (row, of) in rows() {
        let (own, example) = (examples.targets().of(row), order[row]);
        match link {
            Link::Softmax => {
                let (told, class) = (most(of), own[0] as usize);
                if told != class && of[told] >= own_mean(told) {
                    let (probability, told_probability) = (of[class], of[told]);
                    suspects.push(Suspect { example, class, probability, told, told_probability });
                }
            }
            Link::Sigmoid => {
                for (told, &told_probability) in of.iter().enumerate() {
                    let lacks_it = !own.contains(&(told as u32));
                    if lacks_it && told_probability >= own_mean(told).max(HAS_FROM) {
                        let probability = 1.0 - told_probability;
                        suspects.push(Suspect { example, class: told, probability, told, told_probability });
                    }
                }
            }
        }
    }
    let margin = |suspect: &Suspect| suspect.told_probability - suspect.probability;
    suspects.sort_unstable_by(|a, b| margin(b).total_cmp(&margin(a)).then(a.example.cmp(&b.example)));
    suspects.truncate(ROWS_MAX);
    suspects
}
