//! The trained models against the logits that their training computed: adapter, head and labels, through the
//! catalog. `scripts/train` writes the references beside the weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use batching::Executor;
use models::{Catalog, ModelState, Sequence, Task};
use serde::Deserialize;
use serde_json::Value;

/// Training multiplies with the low-rank factors beside the weights, the server with the sum: rounding
/// differs.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct References {
    model: String,
    texts: Vec<String>,
    token_ids: Vec<Vec<u32>>,
    /// `[C]` per text, or `[tokens][C]` per text for a token classifier.
    logits: Vec<Value>,
}

fn flatten(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flatten).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn check(catalog: &Catalog, task: Task, file: &str) {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let references: References = serde_json::from_slice(&text).unwrap();
    assert!(!references.texts.is_empty());
    let entry = catalog.find(&references.model).unwrap();
    assert_eq!(entry.card.task, task);
    assert!(matches!(entry.state, ModelState::Loaded { .. }), "{:?}", entry.state);
    let tokenizer = catalog.tokenizer(entry.id).unwrap();
    for (text, expected) in references.texts.iter().zip(&references.token_ids) {
        let ids = tokenizer.with_special_tokens(&tokenizer.encode(text).unwrap().ids);
        assert_eq!(&ids, expected, "{text:?}");
    }
    let sequences = references.token_ids.into_iter().map(Sequence::new).collect::<Vec<_>>();
    let outputs = catalog.executor(&common::device()).unwrap().execute(entry.id, &sequences);
    let outputs = outputs.unwrap_or_else(|error| panic!("{}", error.source));
    assert_eq!(outputs.len(), references.logits.len());
    for (index, (output, expected)) in outputs.iter().zip(&references.logits).enumerate() {
        assert_eq!(output.columns, entry.card.labels.len());
        let expected = flatten(expected);
        assert_eq!(output.values.len(), expected.len(), "text {index}");
        for (found, expected) in output.values.iter().zip(&expected) {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference <= TOLERANCE, "{file}: text {index}: {found} instead of {expected}");
        }
    }
}

#[test]
fn logits_equal_those_of_training() {
    for runtime in common::RUNTIMES {
        let catalog = Catalog::load(&common::config_with(runtime, "float32"), &common::Shown).unwrap();
        check(&catalog, Task::Sentiment, "sentiment_logits.json");
        check(&catalog, Task::Entities, "entities_logits.json");
        check(&catalog, Task::Classify, "documents_logits.json");
    }
}
