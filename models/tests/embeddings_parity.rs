//! Token ids and embeddings against sentence-transformers, through the real catalog, executor and weights.
//! `scripts/make_references.py` makes the references.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use batching::Executor;
use models::{Catalog, CatalogConfig, DeviceExecutor, ModelState, Sequence};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use units::ModelId;

const MODEL: &str = "embeddings-v2";
/// In float32.
const COSINE_MIN: f64 = 0.999_99;
/// In whatever the card says.
const COSINE_MIN_AS_SERVED: f64 = 0.9999;

#[derive(Deserialize)]
struct References {
    texts: Vec<String>,
    token_ids: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f64>>,
}

fn references() -> References {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/embeddings.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(config: &CatalogConfig) -> (Catalog, ModelId, DeviceExecutor) {
    let catalog = Catalog::load(config, &common::Shown).unwrap();
    let entry = catalog.find(MODEL).unwrap();
    assert!(matches!(entry.state, ModelState::Loaded { .. }), "{:?}", entry.state);
    let (id, executor) = (entry.id, catalog.executor(&common::device()).unwrap());
    (catalog, id, executor)
}

fn embed(executor: &mut DeviceExecutor, model: ModelId, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let outputs = executor.execute(model, sequences).unwrap_or_else(|error| panic!("{}", error.source));
    assert!(outputs.iter().all(|output| output.rows() == 1));
    outputs.into_iter().map(|output| output.values).collect()
}

fn cosine(left: &[f32], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let dot: f64 = left.iter().zip(right).map(|(left, right)| f64::from(*left) * right).sum();
    let norm_left = left.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let norm_right = right.iter().map(|value| value.powi(2)).sum::<f64>().sqrt();
    dot / (norm_left * norm_right)
}

#[test]
fn ids_and_embeddings_equal_the_reference() {
    for runtime in common::RUNTIMES {
        check(&common::config_with(runtime, "float32"), COSINE_MIN);
    }
    check(&common::config(), COSINE_MIN_AS_SERVED);
}

fn check(config: &CatalogConfig, cosine_min: f64) {
    let references = references();
    assert!(references.texts.len() >= 200, "{} texts", references.texts.len());
    let (catalog, model, mut executor) = load(config);
    let tokenizer = catalog.tokenizer(model).unwrap();
    let mut sequences = Vec::new();
    for (text, expected) in references.texts.iter().zip(&references.token_ids) {
        let encoded = tokenizer.encode(text).unwrap();
        let ids = tokenizer.with_special_tokens(&encoded.ids);
        // What the reference takes for control tokens is text.
        if !text.contains("[SEP]") {
            assert_eq!(&ids, expected, "{text:?}");
        }
        sequences.push(Sequence::new(expected.clone()));
    }
    assert!(references.texts.iter().filter(|text| text.contains("[SEP]")).count() <= 1);
    let mut worst = 1.0_f64;
    for (index, chunk) in sequences.chunks(16).enumerate() {
        for (offset, found) in embed(&mut executor, model, chunk).iter().enumerate() {
            let index = index * 16 + offset;
            let cosine = cosine(found, &references.embeddings[index]);
            assert!(cosine >= cosine_min, "text {index}, {} tokens: cosine {cosine}", sequences[index].len());
            worst = worst.min(cosine);
        }
    }
    eprintln!("{} texts, smallest cosine {worst:.9}", sequences.len());
}

/// A text's vector is the same alone, in any company and at any place.
#[test]
fn batched_answers_equal_single_answers() {
    let references = references();
    let (_catalog, model, mut executor) = load(&common::config());
    let sequences: Vec<_> =
        references.token_ids.into_iter().filter(|ids| ids.len() <= 128).map(Sequence::new).collect();
    let mut alone: Vec<Option<Vec<f32>>> = vec![None; sequences.len()];
    let batches = prop::collection::vec(0..sequences.len(), 1..12);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let executor = std::cell::RefCell::new(&mut executor);
    let alone = std::cell::RefCell::new(&mut alone);
    runner
        .run(&batches, |indices| {
            let batch: Vec<_> = indices.iter().map(|&index| sequences[index].clone()).collect();
            let together = embed(&mut executor.borrow_mut(), model, &batch);
            for (found, &index) in together.iter().zip(&indices) {
                let mut alone = alone.borrow_mut();
                let single = alone[index].get_or_insert_with(|| {
                    embed(&mut executor.borrow_mut(), model, std::slice::from_ref(&sequences[index]))
                        .remove(0)
                });
                let difference =
                    found.iter().zip(single.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                prop_assert!(difference <= 1e-5, "text {} differs by {}", index, difference);
            }
            Ok(())
        })
        .unwrap();
}
