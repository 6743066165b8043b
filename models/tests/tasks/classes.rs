//! Labels: those of a card, and those that a caller brings.

use models::Task;
use models::card::{Calibration, MultiLabel};
use models::tasks::{ClassifyParameters, InputError, Output, Parameters, SentimentParameters};

use super::{CATALOG, prepare, row};

/// Labels that look, or read, the same share the probability of one, and neither wins.
#[test]
fn labels_can_be_told_apart() {
    let check = |labels: &[&str], expected: Option<(usize, usize)>| {
        let labels = Some(labels.iter().map(|label| (*label).to_owned()).collect());
        let parameters = ClassifyParameters { labels, ..ClassifyParameters::default() };
        let found = prepare(Task::Classify, &["A comet."], &Parameters::Classify(parameters)).err();
        let message =
            expected.map(|(second, first)| format!("label {second} cannot be told from label {first}: "));
        match (&found, &message) {
            (None, None) => {}
            (Some(InputError::Parameter { name: "labels", message: found }), Some(message)) => {
                assert!(found.starts_with(message), "{found}");
            }
            _ => panic!("{found:?}, expected {message:?}"),
        }
    };
    check(&["astronomy", "astronomy "], Some((1, 0)));
    check(&["astronomy", "cooking", "ASTRONOMY"], Some((2, 0)));
    check(&["tax law", "tax  law"], Some((1, 0)));
    check(&["tax law", "tax\u{a0}law"], Some((1, 0)));
    check(&["tax\nlaw", "tax law"], Some((1, 0)));
    check(&["cooking", "coo\u{200b}king"], Some((1, 0)));
    check(&["cooking", "\u{feff}cooking\u{fe0f}"], Some((1, 0)));
    check(&["office", "o\u{fb03}ce"], Some((1, 0)));
    check(&["ｆｕｌｌ", "full"], Some((1, 0)));
    check(&["STRASSE", "Straße"], Some((1, 0)));
    check(&["é", "e\u{301}"], Some((1, 0)));
    // Read as the same tokens.
    check(&["cafe", "café"], Some((1, 0)));
    check(&["cat", "my 🐱", "my 🚗"], Some((2, 1)));
    check(&["cat", "cats"], None);
    check(&["a", "A b"], None);
    check(&["C", "C++"], None);
}

/// A label of which nothing is known had the score of the words around it.
#[test]
fn labels_say_something() {
    let check = |labels: &[&str], expected: Option<usize>| {
        let brought = Some(labels.iter().map(|label| (*label).to_owned()).collect());
        let parameters = ClassifyParameters { labels: brought, ..ClassifyParameters::default() };
        let found = prepare(Task::Classify, &["A comet."], &Parameters::Classify(parameters)).err();
        let expected = expected.map(|place| InputError::Parameter {
            name: "labels",
            message: format!("label {place} has nothing that the model knows"),
        });
        assert_eq!(found, expected, "{labels:?}");
    };
    check(&["cat", "🐱"], Some(1));
    check(&["🚗", "cat"], Some(0));
    check(&["cat", "\u{e000}"], Some(1));
    check(&["cat", "ᚠᚢᚦ"], Some(1));
    check(&["cat", "🐱 cats", "[SEP]", "№ 5", "!"], None);
}

#[test]
fn windows_are_merged_by_their_tokens() {
    let long = "word ".repeat(600);
    let mut prepared =
        prepare(Task::Sentiment, &[&long], &Parameters::Sentiment(SentimentParameters::default())).unwrap();
    assert_eq!(prepared.take_jobs().len(), 2);
    let outputs = vec![row(&[2.0, 0.0, 0.0]), row(&[0.0, 0.0, 2.0])];
    let answer = prepared.decode(outputs).unwrap();
    let Output::Sentiment(sentiment) = &answer.results[0].as_ref().unwrap().output else {
        panic!("a sentiment was asked for")
    };
    let scores: Vec<f32> = sentiment.scores.iter().map(|label| label.score).collect();
    assert!((scores[0] - scores[2]).abs() < 1e-3, "windows of equal size weigh the same: {scores:?}");
    assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn classes_best_first() {
    let logits: Vec<f32> = (0..11).map(|n| n as f32).collect();
    let check = |multi_label: bool, top_k: usize| {
        let parameters =
            ClassifyParameters { top_k: Some(top_k), multi_label, ..ClassifyParameters::default() };
        let mut prepared = prepare(Task::Classify, &["text"], &Parameters::Classify(parameters)).unwrap();
        prepared.take_jobs();
        let answer = prepared.decode(vec![row(&logits)]).unwrap();
        let Output::Labels(labels) = answer.results[0].clone().unwrap().output else {
            panic!("labels were asked for")
        };
        labels.into_iter().map(|label| (label.label.to_string(), label.score)).collect::<Vec<_>>()
    };
    let exclusive = check(false, 11);
    assert_eq!((exclusive[0].0.as_str(), exclusive[10].0.as_str()), ("news", "invoice"));
    assert!((exclusive.iter().map(|(_, score)| score).sum::<f32>() - 1.0).abs() < 1e-5);
    // One by one, by the card's numbers.
    let card = &CATALOG.default_for(Task::Classify).unwrap().card;
    let Some(MultiLabel::Calibrated(Calibration { weights, biases })) = &card.multi_label else {
        panic!("the card has a calibration")
    };
    let mut expected: Vec<(String, f64)> = Vec::new();
    for ((label, row), bias) in card.labels.iter().zip(weights).zip(biases) {
        let sum: f64 = row.iter().zip(&logits).map(|(w, z)| f64::from(*w) * f64::from(*z)).sum();
        expected.push((label.clone(), 1.0 / (1.0 + (-sum - f64::from(*bias)).exp())));
    }
    expected.sort_by(|left, right| right.1.total_cmp(&left.1));
    for ((label, score), (other, value)) in check(true, 3).iter().zip(&expected[..3]) {
        assert!(
            label == other && (f64::from(*score) - value).abs() < 1e-4,
            "{label} {score} {other} {value}"
        );
    }
}

#[test]
fn zero_shot_runs_on_the_embedding_model() {
    let labels = Some(vec!["cats".to_owned(), "tax law".to_owned()]);
    let parameters = Parameters::Classify(ClassifyParameters { labels, ..ClassifyParameters::default() });
    let mut prepared = prepare(Task::Classify, &["a text", "another"], &parameters).unwrap();
    let embeddings = CATALOG.default_for(Task::Embed).unwrap().id;
    let jobs = prepared.take_jobs();
    assert_eq!(jobs.len(), 4, "two texts and two labels");
    assert!(jobs.iter().all(|job| job.model == embeddings));
    // "This text is about cats." and "… tax law." have 8 and 9 tokens: read once for all texts, they count
    // once.
    assert_eq!(prepared.tokens(), 4 + 3 + 8 + 9);
    let axis = |n: usize| row(&std::array::from_fn::<f32, 384, _>(|i| if i == n { 2.0 } else { 0.0 }));
    let answer = prepared.decode(vec![axis(0), axis(1), axis(0), axis(1)]).unwrap();
    let best: Vec<_> = answer
        .results
        .iter()
        .map(|result| match &result.as_ref().unwrap().output {
            Output::Labels(labels) => labels[0].label.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(best, ["cats", "tax law"]);
}
