//! Reading model cards: the ones in the repository, and a table of bad ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use models::card::{
    Calibration, Card, CardError, Head, MicroDollars, MultiLabel, Origin, Task, ZeroShotMethod,
};

const GOOD: &str = r#"---
license: apache-2.0
language: en
tags: [anything, at, all]
base_model: [owner/base, owner/other]
ml_inference:
  name: sorter-v1
  version: "1.0.0"
  task: document-classification
  architecture: bert
  runtime: candle
  dtype: float32
  source:
    repository: owner/base
    revision: 0123456789abcdef0123456789abcdef01234567
    package: { registry: pypi, name: some-package, version: 1.2.3, folder: some_package/model }
    files:
      model.safetensors: { sha256: 0000000000000000000000000000000000000000000000000000000000000000 }
      tokenizer.json: { sha256: 1111111111111111111111111111111111111111111111111111111111111111 }
      config.json: { sha256: 2222222222222222222222222222222222222222222222222222222222222222 }
  adapter:
    file: adapter/adapter_model.safetensors
    config: adapter/adapter_config.json
    sha256: 3333333333333333333333333333333333333333333333333333333333333333
  head:
    kind: sequence_classification
    file: head.safetensors
    sha256: 4444444444444444444444444444444444444444444444444444444444444444
  labels: [invoice, "no", news]
  limits: { tokens_max: 512, window_overlap: 64, document_tokens_max: 20000, inputs_max: 128 }
  p99_target_ms: 50
  price_per_1000_requests_usd: "0.10"
  zero_shot: { model: embedder, template: "This text is about {label}.", scale: 20.0 }
---
# sorter-v1

Any text, with --- in it.

---
"#;

fn parse(text: &str) -> Result<Card, CardError> {
    Card::parse(text, "sorter-v1/README.md", PathBuf::from("cards/sorter-v1"))
}

#[test]
fn a_good_card_is_read_whole() {
    let card = parse(GOOD).unwrap();
    assert_eq!(
        (card.name.as_str(), card.version.as_str(), card.task),
        ("sorter-v1", "1.0.0", Task::Classify)
    );
    assert_eq!(
        (card.architecture.as_str(), card.runtime.as_str(), card.dtype.as_str()),
        ("bert", "candle", "float32")
    );
    let Origin::Repository { repository, package: Some(package), .. } = &card.source.origin else {
        panic!("{:?}", card.source.origin);
    };
    assert_eq!((repository.as_str(), package.version.as_str()), ("owner/base", "1.2.3"));
    assert_eq!(card.source.files.len(), 3);
    assert_eq!(card.adapter.as_ref().unwrap().file, PathBuf::from("adapter/adapter_model.safetensors"));
    assert!(matches!(&card.head, Head::SequenceClassification(_)));
    assert_eq!(card.head.weights().unwrap().sha256.0, [0x44; 32]);
    assert_eq!(card.labels, ["invoice", "no", "news"]);
    assert_eq!((card.limits.tokens_max, card.limits.window_overlap, card.limits.inputs_max), (512, 64, 128));
    assert_eq!((card.limits.document_tokens_max, card.limits.document_words_max), (20_000, None));
    assert_eq!(card.p99_target, Duration::from_millis(50));
    assert_eq!(card.price_per_1000_requests, MicroDollars(100_000));
    assert_eq!((card.license.as_str(), card.base_model.as_deref()), ("apache-2.0", Some("owner/base")));
    let expected = ZeroShotMethod::Similarity { model: "embedder".to_owned(), scale: 20.0 };
    assert_eq!(card.zero_shot.unwrap().method, expected);
    assert!(!card.normalize_text);
    assert_eq!(card.folder, PathBuf::from("cards/sorter-v1"));
    parse(&GOOD.replace('\n', "\r\n")).unwrap();
    parse(&format!("\u{feff}{GOOD}")).unwrap();
}

/// Replaces a part of the good card and expects an error that names the file, this field, and this in its
/// message.
fn check(part: &str, replacement: &str, field: &str, message: &str) {
    assert!(GOOD.contains(part), "{part:?} is not in the good card");
    match parse(&GOOD.replacen(part, replacement, 1)) {
        Ok(_) => panic!("accepted: {part:?} -> {replacement:?}"),
        Err(CardError::Field { file, field: found, message: text }) => {
            assert_eq!((file.as_str(), found.as_str()), ("sorter-v1/README.md", field), "{part:?}: {text}");
            assert!(text.contains(message), "{message:?} is not in {text:?}");
        }
        Err(other) => panic!("{part:?}: {other}"),
    }
}

#[test]
fn fields_of_the_wrong_kind_are_named() {
    check("version: \"1.0.0\"", "", "ml_inference", "version");
    check("runtime: candle", "runtim: candle", "ml_inference.runtim", "unknown field");
    check("inputs_max: 128", "inputs_max: many", "ml_inference.limits.inputs_max", "");
    check("inputs_max: 128", "inputs_max: -1", "ml_inference.limits.inputs_max", "");
    check("inputs_max: 128", "inputs_max: 128, extra: 1", "ml_inference.limits.extra", "unknown field");
    check("document-classification", "documents", "ml_inference.task", "documents");
    check("kind: sequence_classification", "kind: sequence", "ml_inference.head.kind", "sequence");
    check("pypi", "elsewhere", "ml_inference.source.package.registry", "elsewhere");
    check("sha256: 4444", "sha256: 444", "ml_inference.head.sha256", "64 hexadecimal digits");
    check("\"0.10\"", "\"ten cents\"", "ml_inference.price_per_1000_requests_usd", "decimal string");
    check("dtype: float32", "dtype: float32\n  normalize_text: maybe", "ml_inference.normalize_text", "");
    check("p99_target_ms: 50", "p99_target_ms: soon", "ml_inference.p99_target_ms", "");
    check("dtype: float32", "dtype: float32\n  pooling: cls", "ml_inference.pooling", "cls");
    check("ml_inference:", "other:", "ml_inference", "is missing");
    check("license: apache-2.0", "", "license", "is missing");
}

#[test]
fn values_that_make_no_sense_are_named() {
    let source = |field: &str| format!("ml_inference.source.{field}");
    let limits = |field: &str| format!("ml_inference.limits.{field}");
    check("name: sorter-v1", "name: Sorter V1", "ml_inference.name", "lower-case");
    check("name: sorter-v1", "name: sorter-v2", "ml_inference.name", "sorter-v1");
    check("dtype: float32", "dtype: ''", "ml_inference.dtype", "must not be empty");
    check("repository: owner/base", "repository: base", &source("repository"), "owner/name");
    check("repository: owner/base", "repository: owner/../base", &source("repository"), "owner/name");
    check("0123456789abcdef0123456789abcdef01234567", "main", &source("revision"), "commit");
    check("repository: owner/base", "folder: weights", "ml_inference.source", "either folder, or repository");
    check("name: some-package", "name: --index-url", &source("package.name"), "not the name");
    check("version: 1.2.3", "version: '>=1'", &source("package.version"), "exact version");
    check("some_package/model", "../model", &source("package.folder"), "inside the folder");
    check("config.json: {", "settings.json: {", &source("files"), "config.json is missing");
    let up = "../up: { sha256: 2222222222222222222222222222222222222222222222222222222222222222 }\n      config.json: {";
    check("config.json: {", up, &source("files.../up"), "inside the folder");
    check("file: adapter/", "file: /adapter/", "ml_inference.adapter.file", "inside the folder");
    check("config: adapter/", "config: ../adapter/", "ml_inference.adapter.config", "inside the folder");
    check("file: head.safetensors", "file: ..", "ml_inference.head.file", "inside the folder");
    check("    file: head.safetensors\n", "", "ml_inference.head.file", "is missing");
    check(
        "kind: sequence_classification",
        "kind: mean_pooling",
        "ml_inference.head.kind",
        "does not go with",
    );
    check("task: document-classification", "task: entities", "ml_inference.head.kind", "does not go with");
    check(
        "dtype: float32",
        "dtype: float32\n  pooling: mean",
        "ml_inference.pooling",
        "not what the head pools by",
    );
    check("[invoice, \"no\", news]", "[]", "ml_inference.labels", "at least 1");
    check("[invoice, \"no\", news]", "[invoice, invoice]", "ml_inference.labels", "twice");
    check("[invoice, \"no\", news]", "[invoice, ' ']", "ml_inference.labels", "number 1 is empty");
    check("tokens_max: 512", "tokens_max: 2", &limits("tokens_max"), "at least 8");
    check("window_overlap: 64", "window_overlap: 256", &limits("window_overlap"), "at most half");
    check(
        "document_tokens_max: 20000",
        "document_tokens_max: 511",
        &limits("document_tokens_max"),
        "tokens_max",
    );
    check("inputs_max: 128", "inputs_max: 0", &limits("inputs_max"), "must be 1 to 65536");
    check("inputs_max: 128", "inputs_max: 65537", &limits("inputs_max"), "must be 1 to 65536");
    check(
        "inputs_max: 128",
        "inputs_max: 1, document_words_max: 0",
        &limits("document_words_max"),
        "at least 1",
    );
    check("p99_target_ms: 50", "p99_target_ms: 0", "ml_inference.p99_target_ms", "at least 1");
    check("{label}.", "it.", "ml_inference.zero_shot.template", "{label}");
    check("scale: 20.0", "scale: 0", "ml_inference.zero_shot.scale", "positive");
    check("task: document-classification", "task: sentiment", "ml_inference.zero_shot", "does not go with");
    let with = |value: &str| format!("p99_target_ms: 50\n  multi_label: {value}");
    let calibrated = |weights: &str, biases: &str| {
        with(&format!("{{ calibrated: {{ weights: {weights}, biases: {biases} }} }}"))
    };
    let square = "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]";
    let multi_label = |name: &str| format!("ml_inference.multi_label.calibrated.{name}");
    check(
        "p99_target_ms: 50",
        &calibrated("[[1, 0, 0]]", "[0, 0, 0]"),
        &multi_label("weights"),
        "3 rows of 3",
    );
    check("p99_target_ms: 50", &calibrated(square, "[0, 0]"), &multi_label("biases"), "3 numbers");
    check("p99_target_ms: 50", &calibrated(square, "[0, .inf, 0]"), &multi_label("biases"), "3 numbers");
}

#[test]
fn how_classes_are_scored_by_themselves() {
    let with = |value: &str| {
        let text = GOOD.replace("p99_target_ms: 50", &format!("p99_target_ms: 50\n  multi_label: {value}"));
        parse(&text).unwrap().multi_label
    };
    assert_eq!(parse(GOOD).unwrap().multi_label, None);
    assert_eq!(with("independent"), Some(MultiLabel::Independent));
    let weights = vec![vec![1.0, 0.0, -0.5], vec![0.0, 1.0, 0.0], vec![0.0, 0.0, 1.0]];
    let calibration = Calibration { weights, biases: vec![0.5, 0.0, -1.0] };
    assert_eq!(
        with("{ calibrated: { weights: [[1, 0, -0.5], [0, 1, 0], [0, 0, 1]], biases: [0.5, 0, -1] } }"),
        Some(MultiLabel::Calibrated(calibration))
    );
}

#[test]
fn tags_of_a_token_classifier_are_checked() {
    let ner = GOOD
        .replace("task: document-classification", "task: entities")
        .replace("kind: sequence_classification", "kind: token_classification")
        .replace(
            "  zero_shot: { model: embedder, template: \"This text is about {label}.\", scale: 20.0 }\n",
            "",
        );
    let with = |labels: &str| parse(&ner.replace("[invoice, \"no\", news]", labels));
    assert!(matches!(with("[O, B-PER, I-PER]").unwrap().head, Head::TokenClassification(_)));
    // Tags of any scheme, or none.
    for labels in ["[B-PER, I-PER]", "[O, PER]", "[NOUN, VERB]", "[O]"] {
        assert!(with(labels).is_ok(), "{labels}");
    }
}

#[test]
fn a_file_without_front_matter_is_named() {
    for text in ["", "# A card", "---\nlicense: mit\n", " ---\n---\n", "----\n---\n"] {
        assert!(matches!(parse(text), Err(CardError::NoFrontMatter { .. })), "{text:?}");
    }
    let error = Card::from_file(&PathBuf::from("no/such/README.md")).unwrap_err();
    assert!(error.to_string().starts_with("no/such/README.md: "), "{error}");
}

#[test]
fn broken_yaml_is_an_error_not_a_crash() {
    for yaml in ["a: [", "\t", "- 1", "ml_inference: 3", "&a [*a]", "a: b: c"] {
        let error = parse(&format!("---\n{yaml}\n---\n")).unwrap_err();
        assert!(error.to_string().starts_with("sorter-v1/README.md: "), "{error}");
    }
}

#[test]
fn the_cards_of_the_repository_are_good() {
    let embeddings = common::card("embeddings-v2");
    assert_eq!((embeddings.task, embeddings.p99_target), (Task::Embed, Duration::from_millis(20)));
    assert_eq!(embeddings.price_per_1000_requests, MicroDollars(20_000));
    let summarizer = common::card("summarizer-v1");
    assert_eq!((summarizer.task, summarizer.p99_target), (Task::Summarize, Duration::from_millis(500)));
    assert_eq!(summarizer.price_per_1000_requests, MicroDollars(500_000));
    assert_eq!(summarizer.limits.document_words_max, Some(20_000));
    assert_eq!(summarizer.source, embeddings.source);
    // The reference's tokens are promised for embeddings alone.
    for (name, is_normalizing) in [
        ("embeddings-v2", false),
        ("ner-v2", true),
        ("sentiment-v3", true),
        ("summarizer-v1", true),
        ("text-classifier-v2", true),
    ] {
        assert_eq!(common::card(name).normalize_text, is_normalizing, "{name}");
    }
}
