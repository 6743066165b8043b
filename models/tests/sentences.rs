//! Vectors of sentence-transformers: every way to pool and modules behind it, from their files through a card
//! and the catalogue, against the library's own (`scripts/make_checkpoints.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cards.rs"]
mod cards;
mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/checkpoints.rs"]
mod references;

use batching::Executor;
use cards::{Cards, Spec, device};
use references::{Checkpoint, Module, References, checkpoints};
use serde_json::{Value, json};

const TOLERANCE: f32 = 1e-4;

/// What a card says of these modules.
fn head_of(modules: &[Module]) -> String {
    let pooling = modules[0].config.as_ref().unwrap();
    let modes = match &pooling["pooling_mode"] {
        Value::String(mode) => vec![mode.as_str()],
        Value::Array(modes) => modes.iter().map(|mode| mode.as_str().unwrap()).collect(),
        other => panic!("{other}"),
    };
    let behind = modules[1..].iter().map(|module| match module.r#type.rsplit('.').next().unwrap() {
        "Dense" => json!({ "dense": module.path }),
        "LayerNorm" => json!({ "layer_norm": module.path }),
        "Normalize" => json!("normalize"),
        other => panic!("{other}"),
    });
    let behind: Vec<Value> = behind.collect();
    format!("pooling, pooling: {}, modules: {}", json!(modes), json!(behind))
}

/// A card of the checkpoint whose modules are written in one of their forms.
fn card(checkpoint: &Checkpoint, modules: &[Module], runtime: &str) -> Cards {
    let head = head_of(&checkpoint.modules[0]).leak();
    let first = json!({ "path": "", "type": "sentence_transformers.models.Transformer" });
    let listed = modules.iter().map(|module| json!({ "path": module.path, "type": module.r#type }));
    let listed: Vec<Value> = [first].into_iter().chain(listed).collect();
    let spec = Spec {
        head,
        encoder: checkpoint.weights(),
        config: checkpoint.configs[0].to_string(),
        fields: format!("  runtime: {runtime}\n  ignore_tensors: [pooler.]\n"),
        beside: vec![("modules.json", json!(listed).to_string())],
        ..Spec::embedder("sentences")
    };
    let cards = Cards::new(&[spec]);
    modules.iter().for_each(|module| module.write(&cards.path("sentences").join("files")));
    cards
}

#[test]
fn vectors_equal_those_of_sentence_transformers() {
    let references = References::read();
    let mut compared = 0;
    for checkpoint in checkpoints().iter().filter(|checkpoint| checkpoint.kind == "sentence") {
        for modules in &checkpoint.modules {
            for runtime in ["candle", "fused"] {
                let catalog = card(checkpoint, modules, runtime).load().unwrap();
                let model = catalog.find("sentences").unwrap();
                assert!(model.is_loaded(), "{}: {}", checkpoint.name, cards::reason(&catalog, "sentences"));
                let mut executor = catalog.executor(&device()).unwrap();
                let outputs = executor.execute(model.id, &checkpoint.sequences()).unwrap();
                let is_scaled = modules.last().unwrap().path.ends_with("Normalize");
                for (index, output) in outputs.iter().enumerate() {
                    let mut found = output.values.clone();
                    if is_scaled {
                        // Left to the call, which does so unless it says otherwise.
                        let length = found.iter().map(|value| value * value).sum::<f32>().sqrt();
                        found.iter_mut().for_each(|value| *value /= length);
                    }
                    let expected = &references.rows(&checkpoint.name, index)[0];
                    let far = random::difference(&found, expected);
                    assert!(far < TOLERANCE, "{}, {runtime}, {index}: {far}", checkpoint.name);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}
