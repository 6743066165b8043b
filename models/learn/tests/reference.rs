//! The optimum is scikit-learn's (`data/reference.py`), and what is told of it holds.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::ops::ControlFlow;

use models_learn::{ClassWeights, Examples, LearnError, Learnt, Options, Progress, Stage, Targets, train};
use serde_json::Value;

/// Of the largest weight. In single precision the gradient is known to about 1e-7, and where the penalty is
/// weakest that is up to a thousandth of a weight.
const TOLERANCE: f64 = 2e-3;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/reference.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn classes(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u32).collect()
}

fn watched(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn examples(reference: &Value, targets: Targets) -> Examples {
    Examples::new(numbers(&reference["vectors"]), 8, 4, targets).unwrap()
}

fn check(examples: &Examples, solutions: &Value) {
    for solution in solutions.as_array().unwrap() {
        let balanced = solution["balanced"].as_bool().unwrap();
        let options = Options {
            class_weights: if balanced { ClassWeights::Balanced } else { ClassWeights::Equal },
            strengths: vec![solution["strength"].as_f64().unwrap()],
            gradient_max: 1e-7,
            ..Options::default()
        };
        let Learnt { head, temperature, .. } = train(examples.clone(), &options, watched).unwrap();
        let rows = solution["weights"].as_array().unwrap();
        let largest = rows.iter().flat_map(numbers).fold(0.0, |max: f32, weight| max.max(weight.abs()));
        let tolerance = TOLERANCE * f64::from(largest);
        for (found, right) in head.weights.chunks(8).zip(rows) {
            for (found, right) in found.iter().zip(numbers(right)) {
                let found = f64::from(found * temperature);
                assert!((found - f64::from(right)).abs() < tolerance, "{found} {right} {solution}");
            }
        }
        // scikit-learn's biases of several classes are free up to a constant.
        let right = numbers(&solution["biases"]);
        for (found, right) in head.biases.iter().zip(right) {
            let found = f64::from(found * temperature);
            assert!((found - f64::from(right)).abs() < tolerance, "{found} {right} {solution}");
        }
    }
}

#[test]
fn classes_that_exclude_each_other() {
    let reference = reference();
    check(&examples(&reference, Targets::One(classes(&reference["labels"]))), &reference["one"]);
}

#[test]
fn classes_one_by_one() {
    let reference = reference();
    let many = reference["many"].as_array().unwrap().iter().map(classes).collect();
    check(&examples(&reference, Targets::Many(many)), &reference["each"]);
}

/// The same on any number of threads, and for the same seed alone.
#[test]
fn the_same_every_time() {
    let reference = reference();
    let examples = examples(&reference, Targets::One(classes(&reference["labels"])));
    // Enough rows for several blocks.
    let (vectors, labels): (Vec<f32>, Vec<u32>) =
        (numbers(&reference["vectors"]).repeat(20), classes(&reference["labels"]).repeat(20));
    let many = Examples::new(vectors, 8, 4, Targets::One(labels)).unwrap();
    for examples in [examples, many] {
        let with = |threads, seed| {
            train(examples.clone(), &Options { threads, seed, ..Options::default() }, watched).unwrap()
        };
        let one = with(1, 3);
        assert_eq!(one, with(2, 3));
        assert_eq!(one, with(5, 3));
        assert_ne!(one, with(1, 4));
    }
}

#[test]
fn progress_never_falls_and_ends_it() {
    let reference = reference();
    let examples = examples(&reference, Targets::One(classes(&reference["labels"])));
    let mut seen: Vec<Progress> = Vec::new();
    let all = train(examples.clone(), &Options::default(), |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    });
    all.unwrap();
    assert!(seen.is_sorted_by(|left, right| left.fraction <= right.fraction));
    for stage in [Stage::Selection, Stage::Fit, Stage::Diagnosis] {
        assert!(seen.iter().any(|progress| progress.stage == stage), "{stage:?}");
        let ended = train(examples.clone(), &Options::default(), |progress| {
            if progress.stage == stage { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(ended, Err(LearnError::Cancelled), "{stage:?}");
    }
}

/// One example has another's class: it is found, and so is its twin that has the right one.
#[test]
fn a_wrong_label_is_found() {
    let spot = |class: usize, at: usize| -> Vec<f32> {
        let mut vector = vec![0.02 * (at % 5) as f32; 6];
        vector[class] = 1.0;
        vector[3 + at % 3] += 0.1 * (at % 7) as f32;
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.into_iter().map(|value| value / length).collect()
    };
    let vectors: Vec<f32> = (0..60).flat_map(|at| spot(at % 3, at / 3)).collect();
    let mut labels: Vec<u32> = (0..60).map(|at| at % 3).collect();
    labels[31] = 2;
    let examples = Examples::new(vectors, 6, 3, Targets::One(labels)).unwrap();
    let learnt = train(examples, &Options::default(), watched).unwrap();
    let report = learnt.report.unwrap();
    assert_eq!(report.held_out, 60);
    assert_eq!(report.accuracy.value, 59.0 / 60.0);
    let suspect = report.probably_mislabelled[0];
    assert_eq!((suspect.example, suspect.class, suspect.told), (31, 2, 1));
    assert_eq!(report.probably_mislabelled.len(), 1);
    let confusion = report.confusions[0];
    assert_eq!((confusion.class, confusion.told, confusion.count, report.confusions.len()), (2, 1, 1, 1));
    assert!(report.near_duplicates.iter().all(|pair| pair.first == 31 || pair.second == 31));
    assert!(!report.near_duplicates.is_empty() && report.is_compared_in_full);
    assert_eq!(report.classes[1].examples, 19);
    assert!(report.few_examples.is_empty());
    // What is like nothing that was learnt is less certain than what is.
    let known = learnt.head.probabilities(&spot(0, 2));
    assert!(known[0] > learnt.head.unknown_below);
}

/// One example of each class: nothing can be held out, and the classifier works all the same.
#[test]
fn single_examples() {
    let vectors = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let examples = Examples::new(vectors.clone(), 3, 3, Targets::One(vec![2, 0, 1])).unwrap();
    let learnt = train(examples, &Options::default(), watched).unwrap();
    assert_eq!((learnt.report, learnt.temperature, learnt.strength), (None, 1.0, 30.0));
    for (vector, class) in vectors.chunks(3).zip([2, 0, 1]) {
        let probabilities = learnt.head.probabilities(vector);
        assert!(probabilities[class] > 0.8, "{probabilities:?}");
    }
}

#[test]
fn what_cannot_be_learnt_is_refused() {
    let one = |labels: &[u32]| Targets::One(labels.to_vec());
    let new = |vectors: &[f32], classes, targets| Examples::new(vectors.to_vec(), 1, classes, targets).err();
    let check = |found: Option<LearnError>, right: LearnError| assert_eq!(found, Some(right));
    check(new(&[1.0], 1, one(&[0])), LearnError::TooFewClasses { classes: 1, least: 2 });
    check(new(&[1.0, 1.0], 3, one(&[0, 2])), LearnError::NoExample { class: 1 });
    check(new(&[1.0, 1.0], 2, one(&[0, 2])), LearnError::WrongClass { example: 1, class: 2 });
    let twice = Targets::Many(vec![vec![0, 1], vec![1, 1]]);
    check(new(&[1.0, 1.0], 2, twice), LearnError::WrongClass { example: 1, class: 1 });
    check(new(&[1.0], 2, one(&[0, 1])), LearnError::Shape { values: 1, examples: 2, columns: 1 });
    check(new(&[1.0, f32::NAN], 2, one(&[0, 1])), LearnError::NotFinite { example: 1 });
    let examples = Examples::new(vec![1.0, -1.0], 1, 2, one(&[0, 1])).unwrap();
    let option = |options: Options| match train(examples.clone(), &options, watched) {
        Err(LearnError::Option { option, .. }) => option,
        Err(LearnError::Memory { .. }) => "memory",
        other => panic!("{other:?}"),
    };
    assert_eq!(option(Options { strengths: vec![], ..Options::default() }), "strengths");
    assert_eq!(option(Options { strengths: vec![3.0, 1.0], ..Options::default() }), "strengths");
    assert_eq!(option(Options { folds: Some(1), ..Options::default() }), "folds");
    assert_eq!(option(Options { unknown_loss: 1.5, ..Options::default() }), "unknown_loss");
    assert_eq!(option(Options { threads: 0, ..Options::default() }), "threads");
    let weights = ClassWeights::Given(vec![1.0]);
    assert_eq!(option(Options { class_weights: weights, ..Options::default() }), "class_weights");
    assert_eq!(option(Options { memory_bytes_max: 100, ..Options::default() }), "memory");
}
