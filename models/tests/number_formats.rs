//! What bfloat16 products cost: embeddings and labels beside those of float32, over the cards' own texts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use batching::Executor;
use models::tasks::{Output, Parameters};
use models::{Catalog, DeviceExecutor, ModelEntry};
use serde::Deserialize;

/// Smallest cosine between an embedding and the same in float32, over at least this many texts.
const COSINE_MIN: f64 = 0.9999;
const TEXTS_MIN: usize = 500;

#[derive(Deserialize)]
struct References {
    texts: Vec<String>,
}

#[derive(Deserialize)]
struct Example {
    text: String,
}

struct Engine {
    catalog: Catalog,
    executor: DeviceExecutor,
}

impl Engine {
    fn new(dtype: &str) -> Self {
        let catalog = Catalog::load(&common::config_with("fused", dtype), &common::Shown).unwrap();
        let executor = catalog.executor(&common::device()).unwrap();
        Self { catalog, executor }
    }

    fn model(&self, name: &str) -> &ModelEntry {
        self.catalog.find(name).unwrap()
    }

    fn outputs(&mut self, model: &str, texts: &[String]) -> Vec<Output> {
        let id = self.model(model).id;
        let parameters = match model {
            "embeddings-v2" => Parameters::Embed(Default::default()),
            "ner-v2" => Parameters::Entities(Default::default()),
            "sentiment-v3" => Parameters::Sentiment(Default::default()),
            _ => Parameters::Classify(Default::default()),
        };
        let mut outputs = Vec::new();
        for texts in texts.chunks(16) {
            let mut prepared = self.catalog.prepare(id, texts, &parameters).unwrap();
            let sequences = prepared.take_jobs().into_iter().map(|job| job.sequence).collect::<Vec<_>>();
            let computed = self.executor.execute(id, &sequences).unwrap_or_else(|e| panic!("{}", e.source));
            outputs
                .extend(prepared.decode(computed).unwrap().results.into_iter().map(|result| result.output));
        }
        outputs
    }
}

/// The test set of a card.
fn test_set(model: &str, file: &str) -> Vec<String> {
    let path = common::cards_dir().join(model).join("data").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    if file.ends_with(".jsonl") {
        lines.map(|line| serde_json::from_str::<Example>(line).unwrap().text).collect()
    } else {
        // [name](TYPE) marks a name.
        let unmarked = |line: &str| {
            let mut text = line.replace('[', "");
            while let Some((start, length)) =
                text.find("](").and_then(|start| Some((start, text[start..].find(')')?)))
            {
                text.replace_range(start..=start + length, "");
            }
            text
        };
        lines.map(unmarked).collect()
    }
}

fn labels(output: &Output) -> String {
    match output {
        Output::Labels(labels) => labels[0].label.to_string(),
        Output::Sentiment(sentiment) => sentiment.label.to_string(),
        Output::Entities(entities) => {
            let name =
                |entity: &models::tasks::Entity| format!("{} {}-{}", entity.label, entity.start, entity.end);
            entities.iter().map(name).collect::<Vec<_>>().join(", ")
        }
        other => panic!("{other:?} has no labels"),
    }
}

#[test]
fn bfloat16_keeps_embeddings_and_labels() {
    let (mut exact, mut rounded) = (Engine::new("float32"), Engine::new("bfloat16"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/embeddings.json");
    let mut all: Vec<String> =
        serde_json::from_slice::<References>(&std::fs::read(path).unwrap()).unwrap().texts;
    for (model, file) in
        [("sentiment-v3", "test.jsonl"), ("text-classifier-v2", "test.jsonl"), ("ner-v2", "test.txt")]
    {
        let texts = test_set(model, file);
        assert!(texts.len() >= 100, "{} test texts of {model}", texts.len());
        let (expected, found) = (exact.outputs(model, &texts), rounded.outputs(model, &texts));
        let flipped = expected.iter().zip(&found).filter(|(exact, rounded)| labels(exact) != labels(rounded));
        let flipped = flipped.count();
        eprintln!("{model}: the answers to {flipped} of {} texts differ", texts.len());
        // A card may choose bfloat16 only where it changes no answer.
        assert!(flipped == 0 || common::card(model).dtype == "float32", "{model}");
        all.extend(texts);
    }
    assert!(all.len() >= TEXTS_MIN, "{} texts", all.len());
    let (expected, found) = (exact.outputs("embeddings-v2", &all), rounded.outputs("embeddings-v2", &all));
    let mut worst = 1.0_f64;
    for (index, pair) in expected.iter().zip(&found).enumerate() {
        let (Output::Embedding(exact), Output::Embedding(rounded)) = pair else { panic!("no embeddings") };
        // Both have length one.
        let cosine: f64 = exact.iter().zip(rounded).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!(cosine >= COSINE_MIN, "text {index}: cosine {cosine}");
        worst = worst.min(cosine);
    }
    eprintln!("{} texts, smallest cosine {worst:.6}", all.len());
    assert!(expected != found, "bfloat16 must have been used");
}
