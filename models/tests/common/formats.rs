//! What a number format costs: embeddings and labels beside those of float32 on the CPU, over the cards' own
//! texts.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, unreachable_pub)]

use batching::Executor;
use models::tasks::{Input, Output, Parameters};
use models::{Catalog, CatalogConfig, Device, DeviceExecutor, ModelEntry};
use serde::Deserialize;

use crate::common;

/// Smallest cosine between an embedding and the same in float32, over at least this many texts.
pub const COSINE_MIN: f64 = 0.9999;
const TEXTS_MIN: usize = 500;

#[derive(Deserialize)]
struct References {
    texts: Vec<String>,
}

#[derive(Deserialize)]
struct Example {
    text: String,
}

pub struct Engine {
    name: String,
    catalog: Catalog,
    executor: DeviceExecutor,
}

impl Engine {
    pub fn new(name: &str, config: &CatalogConfig, device: &Device) -> Self {
        let name = name.to_owned();
        let catalog = Catalog::load(config, &common::Shown).unwrap();
        let executor = catalog.executor(device).unwrap();
        Self { name, catalog, executor }
    }

    pub fn fused(dtype: &str) -> Self {
        Self::new(dtype, &common::config_with("fused", dtype), &common::device())
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
            let texts: Vec<_> = texts.iter().map(|text| Input::from(text.as_str())).collect();
            let mut prepared = self.catalog.prepare(id, &texts, &parameters).unwrap();
            let sequences = prepared.take_jobs().into_iter().map(|job| job.sequence).collect::<Vec<_>>();
            let computed = self.executor.execute(id, &sequences).unwrap_or_else(|e| panic!("{}", e.source));
            outputs.extend(
                prepared.decode(computed).unwrap().results.into_iter().map(|result| result.unwrap().output),
            );
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

/// Holds an engine to the answers of float32 over every `step`th text. Returns whether an embedding differs
/// at all.
pub fn compare(mut rounded: Engine, step: usize, cosine_min: f64, may_flip: impl Fn(&str) -> bool) -> bool {
    let mut exact = Engine::fused("float32");
    let some = |texts: Vec<String>| texts.into_iter().step_by(step).collect::<Vec<_>>();
    let path = common::root().join("models/tests/data/embeddings.json");
    let mut all = some(serde_json::from_slice::<References>(&std::fs::read(path).unwrap()).unwrap().texts);
    for (model, file) in
        [("sentiment-v3", "test.jsonl"), ("text-classifier-v2", "test.jsonl"), ("ner-v2", "test.txt")]
    {
        let texts = test_set(model, file);
        assert!(texts.len() >= 100, "{} test texts of {model}", texts.len());
        let texts = some(texts);
        let (expected, found) = (exact.outputs(model, &texts), rounded.outputs(model, &texts));
        let flipped = expected.iter().zip(&found).filter(|(exact, rounded)| labels(exact) != labels(rounded));
        let flipped = flipped.count();
        eprintln!("{}: {model}: the answers to {flipped} of {} texts differ", rounded.name, texts.len());
        assert!(flipped == 0 || may_flip(model), "{model}");
        all.extend(texts);
    }
    assert!(all.len() >= TEXTS_MIN / step, "{} texts", all.len());
    let (expected, found) = (exact.outputs("embeddings-v2", &all), rounded.outputs("embeddings-v2", &all));
    let mut cosines: Vec<(f64, usize)> = Vec::new();
    for (index, pair) in expected.iter().zip(&found).enumerate() {
        let (Output::Embedding(exact), Output::Embedding(rounded)) = pair else { panic!("no embeddings") };
        // Both have length one.
        cosines.push((exact.iter().zip(rounded).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(), index));
    }
    cosines.sort_by(|a, b| a.0.total_cmp(&b.0));
    let below = cosines.partition_point(|(cosine, _)| *cosine < COSINE_MIN);
    let (worst, index) = cosines[0];
    let median = cosines[cosines.len() / 2].0;
    eprintln!(
        "{}: {} texts: cosines from {worst:.6} (text {index}), median {median:.6}, {below} below {COSINE_MIN}",
        rounded.name,
        all.len()
    );
    assert!(worst >= cosine_min, "text {index}: cosine {worst}");
    expected != found
}
