//! Every architecture against its authors' own classes, over small checkpoints with random weights
//! (`scripts/make_checkpoints.py`): one token to the longest sequence, edges of windows, segments, and every
//! form of configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/checkpoints.rs"]
mod references;

use std::collections::BTreeSet;
use std::fs;

use models::runtimes::fused;
use models::weights::{EncoderWeights, LoraAdapter};
use models::{Architecture, Backend, Runtime, architectures};
use random::{Random, Tensors, difference, hidden_states, identity};
use references::{Checkpoint, References, checkpoints, kept_rows, shard};

/// Of float32 to the authors' float32.
const TOLERANCE: f32 = 1e-4;
/// Of a sequence alone to the same in company.
const TOLERANCE_TOGETHER: f32 = 2e-5;
/// Of pooled vectors in bfloat16.
const COSINE_MIN: f64 = 0.9999;

fn open(checkpoint: &Checkpoint, config: &serde_json::Value) -> EncoderWeights {
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path(), config);
    let architecture = architectures::detect(config.to_string().as_bytes()).unwrap();
    assert_eq!(architecture.as_str(), checkpoint.architecture, "{}", checkpoint.name);
    architectures::open(architecture, folder.path()).unwrap()
}

fn encoders() -> impl Iterator<Item = Checkpoint> {
    checkpoints().into_iter().filter(|checkpoint| checkpoint.kind == "encoder")
}

/// How a runtime's hidden states differ from the references, in one batch or one by one.
fn faults(
    name: &str,
    runtime: &mut dyn Runtime,
    checkpoint: &Checkpoint,
    references: &References,
) -> Vec<String> {
    let sequences = checkpoint.sequences();
    let together = hidden_states(runtime, &sequences);
    let mut faults = Vec::new();
    for (index, (sequence, found)) in sequences.iter().zip(&together).enumerate() {
        let mut hold = |what: String, difference: f32, tolerance: f32| {
            if difference.is_nan() || difference >= tolerance {
                let length = sequence.len();
                faults.push(format!("{name}, {}, {length} tokens, {what}: {difference}", checkpoint.name));
            }
        };
        let alone = &hidden_states(runtime, std::slice::from_ref(sequence))[0];
        hold("in company".to_owned(), difference(found, alone), TOLERANCE_TOGETHER);
        let rows: Vec<&[f32]> = found.chunks(found.len() / sequence.len()).collect();
        let (kept, expected) = (kept_rows(sequence.len()), references.rows(&checkpoint.name, index));
        assert_eq!(kept.len(), expected.len(), "{}", checkpoint.name);
        for (row, expected) in kept.iter().zip(&expected) {
            hold(format!("row {row}"), difference(rows[*row], expected), TOLERANCE);
        }
        let mean_expected = references.mean(&checkpoint.name, index);
        hold("mean".to_owned(), difference(&mean(&rows), &mean_expected), TOLERANCE);
    }
    faults
}

fn mean(rows: &[&[f32]]) -> Vec<f32> {
    let sum = |column: usize| rows.iter().map(|row| f64::from(row[column])).sum::<f64>();
    (0..rows[0].len()).map(|column| (sum(column) / rows.len() as f64) as f32).collect()
}

#[test]
fn every_architecture_equals_its_authors() {
    let references = References::read();
    let (mut covered, mut all) = (BTreeSet::new(), Vec::new());
    for checkpoint in encoders() {
        for config in &checkpoint.configs {
            let weights = open(&checkpoint, config);
            let head = identity(weights.spec.hidden_size);
            assert_eq!(fused::Loader::default().supports(&weights.spec).err(), None, "{}", checkpoint.name);
            for (name, mut runtime) in random::runtimes(&weights, None, &head).unwrap() {
                all.extend(faults(&name, &mut *runtime, &checkpoint, &references));
            }
        }
        covered.insert(checkpoint.architecture.clone());
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    let known: BTreeSet<String> = Architecture::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(covered, known);
}

/// In bfloat16 pooled vectors point where those of the authors do.
#[test]
fn bfloat16_keeps_pooled_vectors() {
    let references = References::read();
    for checkpoint in encoders() {
        let weights = open(&checkpoint, &checkpoint.configs[0]);
        let head = identity(weights.spec.hidden_size);
        for instructions in fused::Loader::instructions() {
            let mut runtime = random::fused(&weights, None, &head, "bfloat16", instructions, 2).unwrap();
            let sequences = checkpoint.sequences();
            for (index, found) in hidden_states(&mut *runtime, &sequences).iter().enumerate() {
                let rows: Vec<&[f32]> = found.chunks(found.len() / sequences[index].len()).collect();
                let cosine = cosine(&mean(&rows), &references.mean(&checkpoint.name, index));
                let context =
                    format!("{instructions}, {}, {} tokens", checkpoint.name, sequences[index].len());
                assert!(cosine >= COSINE_MIN, "{context}: {cosine}");
            }
        }
    }
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// Heads are no part of an encoder, and all else is: nothing is left over or missing.
#[test]
fn what_is_not_the_encoder_is_left_over() {
    let of_heads = ["pooler.", "classifier.", "pre_classifier.", "head.", "score.", "drop."];
    for checkpoint in checkpoints() {
        let weights = open(&checkpoint, &checkpoint.configs[0]);
        weights.embeddings().unwrap();
        (0..weights.layers()).for_each(|layer| drop(weights.layer(layer, None).unwrap()));
        let prefix = weights.layout().prefix;
        for tensor in weights.unused() {
            let name = tensor.strip_prefix(prefix).unwrap_or(&tensor);
            assert!(of_heads.iter().any(|head| name.starts_with(head)), "{}: {tensor}", checkpoint.name);
        }
    }
}

#[test]
fn weights_may_lie_in_several_files() {
    let checkpoint = encoders().next().unwrap();
    let config = &checkpoint.configs[0];
    let whole = open(&checkpoint, config);
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write_sharded(folder.path(), config);
    let open = || architectures::open(Architecture::Bert, folder.path());
    let sharded = open().unwrap();
    assert_eq!(sharded.unused(), whole.unused());
    assert!(sharded.embeddings().unwrap() == whole.embeddings().unwrap());
    (0..3)
        .for_each(|index| assert!(sharded.layer(index, None).unwrap() == whole.layer(index, None).unwrap()));
    let check = |text: &dyn Fn(String) -> String, expected: &str| {
        let path = folder.path().join("model.safetensors.index.json");
        let kept = fs::read_to_string(&path).unwrap();
        fs::write(&path, text(kept.clone())).unwrap();
        let error = open().err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        fs::write(&path, kept).unwrap();
    };
    check(&|text| text.replace(&shard(1), "other.safetensors"), "other.safetensors: No such file");
    check(&|text| text.replace(&shard(1), "../other.safetensors"), "is not a file of the same folder");
    check(
        &|text| text.replace("pooler.dense.bias", "pooler.dense.other"),
        "has no tensor pooler.dense.other",
    );
    check(&|text| text.replace(&shard(0), &shard(1)), "has no tensor");
    check(&|_| "{\"weight_map\": {}}".to_owned(), "weight_map: is empty");
    fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), b"").unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("pytorch_model.bin: is a pickle") && error.contains("save_pretrained"), "{error}");
}

/// Values of fields that change the answers and are not computed are refused by the field's name.
#[test]
fn what_is_not_computed_is_refused_by_its_field() {
    let all = checkpoints();
    let check = |name: &str, field: &str, value: serde_json::Value| {
        let checkpoint = all.iter().find(|checkpoint| checkpoint.name == name).unwrap();
        let mut config = checkpoint.configs.last().unwrap().clone();
        config[field] = value;
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path(), &config);
        let architecture: Architecture = checkpoint.architecture.parse().unwrap();
        let error = architectures::open(architecture, folder.path()).err().map(|error| error.to_string());
        let is_named = error.as_ref().is_some_and(|error| error.contains(&format!("config.json: {field}")));
        assert!(is_named, "{name}, {field}: {error:?}");
    };
    let text = |value: &str| serde_json::Value::from(value);
    let json = |value: &str| serde_json::from_str::<serde_json::Value>(value).unwrap();
    check("bert", "position_embedding_type", text("relative_key"));
    check("bert", "hidden_act", text("quick_gelu"));
    check("bert", "hidden_size", json("33"));
    check("bert", "vocab_size", json("null"));
    check("bert", "layer_norm_eps", text("small"));
    check("bert", "type_vocab_size", json("0"));
    check("roberta", "max_position_embeddings", json("2"));
    check("roberta", "model_type", text("bert"));
    check("distilbert", "activation", text("mish"));
    check("mpnet", "relative_attention_num_buckets", json("30"));
    check("albert", "inner_group_num", json("2"));
    check("albert", "num_hidden_layers", json("0.5"));
    check("deberta-v3", "conv_kernel_size", json("3"));
    check("deberta-v3", "embedding_size", json("16"));
    check("deberta-v3", "pos_att_type", text("c2p|p2p"));
    check("deberta-v3", "norm_rel_ebd", text("batch_norm"));
    check("deberta-v3", "position_buckets", json("2"));
    check("modernbert", "layer_types", json("[\"chunked_attention\"]"));
    check("modernbert", "rope_scaling", json("{\"rope_type\": \"yarn\", \"factor\": 2.0}"));
    check("nomic_bert", "num_experts", json("8"));
    check("nomic_bert", "prenorm", json("true"));
    check("nomic_bert", "activation_function", text("swish"));
    check("gte-ntk", "logn_attention_scale", json("true"));
    check("gte-ntk", "layer_norm_type", text("rms_norm"));
    check("gte-ntk", "rope_scaling", json("{\"type\": \"dynamic\", \"factor\": 2.0}"));
    check("jina_bert", "feed_forward_type", text("swiglu"));
    check("jina_bert", "position_embedding_type", text("absolute"));
    check("qwen3", "rope_scaling", json("{\"rope_type\": \"llama3\", \"factor\": 2.0}"));
    check("qwen2-sliding", "layer_types", json("[\"full_attention\"]"));
}

/// A low-rank adapter over every linear layer gives what weights give that it was added to beforehand.
#[test]
fn adapters_are_merged_by_every_architectures_names() {
    const RANK: usize = 2;
    let mut random = Random::new(19);
    for mut checkpoint in encoders() {
        let config = checkpoint.configs[0].clone();
        let base = open(&checkpoint, &config);
        let (mut factors, mut merged) = (Tensors::new(), checkpoint.weights());
        for (name, shape) in &checkpoint.tensors {
            let Some(module) = name.strip_suffix(".weight") else { continue };
            if base.layout().target(module).is_none() {
                continue;
            }
            let a = random.tensor(&[RANK, shape[1]], 0.3);
            let b = random.tensor(&[shape[0], RANK], 0.3);
            // alpha / r is 2.
            let changed = (&merged[name] + (b.matmul(&a).unwrap() * 2.0).unwrap()).unwrap();
            merged.insert(name.clone(), changed);
            factors.insert(format!("base_model.model.{module}.lora_A.weight"), a);
            factors.insert(format!("base_model.model.{module}.lora_B.weight"), b);
        }
        assert_eq!(factors.len() % (2 * base.layout().modules.len()), 0, "{}", checkpoint.name);
        assert!(!factors.is_empty(), "{}", checkpoint.name);
        let text = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4}"#;
        let adapter = LoraAdapter::new(
            "adapter_config.json".as_ref(),
            text.as_bytes(),
            random::file("adapter", &factors),
            |module| base.layout().target(module),
        );
        let adapter = adapter.unwrap();
        adapter.check_layers(base.layers()).unwrap();
        checkpoint.replaced = Some(merged);
        let expected = open(&checkpoint, &config);
        let head = identity(base.spec.hidden_size);
        let sequences = checkpoint.sequences();
        let hidden = |weights, adapter| {
            hidden_states(&mut *random::candle(weights, adapter, &head).unwrap(), &sequences[..3]).concat()
        };
        let plain = hidden(&base, None);
        let (found, expected) = (hidden(&base, Some(&adapter)), hidden(&expected, None));
        let far = difference(&found, &expected);
        assert!(far < TOLERANCE, "{}: {far}", checkpoint.name);
        assert!(difference(&plain, &expected) > 0.01, "{}", checkpoint.name);
    }
}
