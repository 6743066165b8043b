//! Heads: those of checkpoints against their authors' own classes (`scripts/make_checkpoints.py`), and every
//! way to pool against values worked out on the host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/checkpoints.rs"]
mod references;

use std::fs;

use models::card::Pooling;
use models::runtimes::fused;
use models::weights::{HeadActivation, HeadLayer, HeadRows, HeadWeights, LinearWeights, NormWeights};
use models::{Architecture, Backend, HiddenActivation, Sequence, architectures};
use random::{
    Named, Random, config, difference, encoder_tensors, hidden_states, identity, run, runtimes, weights,
};
use references::{Checkpoint, References, checkpoints};

const TOLERANCE: f32 = 1e-4;
/// Classes of all references.
const LABELS: usize = 3;

/// Each family's classifiers of sequences and of tokens, batched and alone.
#[test]
fn classifiers_equal_their_authors() {
    let references = References::read();
    let (mut compared, mut architectures_seen) = (0, Vec::new());
    let is_classifier = |checkpoint: &Checkpoint| ["sequence", "token"].contains(&checkpoint.kind.as_str());
    for checkpoint in checkpoints().into_iter().filter(is_classifier) {
        let folder = tempfile::tempdir().unwrap();
        let config = &checkpoint.configs[0];
        checkpoint.write(folder.path(), config);
        let architecture = architectures::detect(config.to_string().as_bytes()).unwrap();
        let base = architectures::open(architecture, folder.path()).unwrap();
        let is_per_token = checkpoint.kind == "token";
        let head = HeadWeights::of_checkpoint(folder.path(), &base, is_per_token, LABELS).unwrap();
        let other = HeadWeights::of_checkpoint(folder.path(), &base, !is_per_token, LABELS).err().unwrap();
        assert!(other.to_string().contains("has no head for the card's"), "{other}");
        let wrong = HeadWeights::of_checkpoint(folder.path(), &base, is_per_token, LABELS + 1).err().unwrap();
        assert!(wrong.to_string().contains("labels"), "{wrong}");
        let mut named: Vec<Named> = vec![("candle".to_owned(), random::candle(&base, None, &head).unwrap())];
        let has_pairs = checkpoint.inputs.iter().any(|given| given.types.is_some());
        if !has_pairs && fused::Loader::default().supports(&base.spec).is_ok() {
            named = runtimes(&base, None, &head).unwrap();
        }
        let sequences = checkpoint.sequences();
        for (name, mut runtime) in named {
            let together = run(&mut *runtime, &sequences);
            assert_eq!(together.shape[1], LABELS);
            let mut rows = together.data.chunks_exact(LABELS);
            for (index, sequence) in sequences.iter().enumerate() {
                let alone = run(&mut *runtime, std::slice::from_ref(sequence));
                let expected = references.rows(&checkpoint.name, index);
                for (place, expected) in expected.iter().enumerate() {
                    let context = format!("{name}, {}, input {index}, row {place}", checkpoint.name);
                    let row = rows.next().unwrap();
                    assert!(difference(row, expected) < TOLERANCE, "{context}: {row:?}, {expected:?}");
                    let single = &alone.data[place * LABELS..(place + 1) * LABELS];
                    assert!(difference(row, single) < TOLERANCE / 5.0, "{context} alone");
                    compared += 1;
                }
            }
            assert!(rows.next().is_none(), "{name}, {}", checkpoint.name);
        }
        architectures_seen.push(architecture);
    }
    assert!(compared > 1000, "{compared}");
    // Jina's code lies in repositories and has no class of heads in the references.
    let missing = Architecture::ALL.iter().filter(|known| !architectures_seen.contains(known));
    assert_eq!(missing.map(|known| known.as_str()).collect::<Vec<_>>(), ["jina_bert"]);
}

/// Every way to pool, alone and put together, with a prompt that is left out, and layers behind.
#[test]
fn pooling_and_layers_by_hand() {
    let mut random = Random::new(3);
    let config = config(HiddenActivation::Gelu);
    let base = weights(&encoder_tensors(&mut random, &config), &config);
    let hidden = base.spec.hidden_size;
    let mut sequences: Vec<Sequence> =
        [7, 1, 30, 2].map(|length| random.sequence(length, base.spec.vocab_size)).into();
    for (sequence, unpooled) in sequences.iter_mut().zip([3, 9, 0, 1]) {
        sequence.unpooled = unpooled;
    }
    let states: Vec<Vec<f32>> = {
        let mut reference = runtimes(&base, None, &identity(hidden)).unwrap().remove(0).1;
        hidden_states(&mut *reference, &sequences)
    };
    let pool = |ways: &[Pooling], index: usize| -> Vec<f32> {
        let unpooled = sequences[index].unpooled as usize;
        ways.iter().flat_map(|way| way.pool(&states[index], hidden, unpooled)).collect()
    };
    let check = |ways: &[Pooling], layers: Vec<HeadLayer>, expected: &dyn Fn(Vec<f32>) -> Vec<f32>| {
        let head = HeadWeights { rows: HeadRows::Pooled(ways.to_vec()), layers };
        for (name, mut runtime) in runtimes(&base, None, &head).unwrap() {
            let found = run(&mut *runtime, &sequences);
            for (index, row) in found.data.chunks_exact(found.shape[1]).enumerate() {
                let expected = expected(pool(ways, index));
                assert!(difference(row, &expected) < 2e-5, "{name}, {ways:?}, {index}: {row:?} {expected:?}");
            }
        }
    };
    for way in Pooling::ALL {
        check(&[way], Vec::new(), &|row| row);
    }
    let both = [Pooling::LastToken, Pooling::Max];
    check(&both, Vec::new(), &|row| row);
    let linear = LinearWeights {
        weight: (0..5 * 2 * hidden).map(|n| ((n * 7 % 11) as f32 - 5.0) / 20.0).collect(),
        bias: (0..5).map(|n| n as f32 / 10.0 - 0.2).collect(),
    };
    let product = |row: &[f32]| -> Vec<f32> {
        let of = |(weights, bias): (&[f32], &f32)| -> f32 {
            weights.iter().zip(row).map(|(w, x)| w * x).sum::<f32>() + bias
        };
        linear.weight.chunks_exact(row.len()).zip(&linear.bias).map(of).collect()
    };
    let activations: [(HeadActivation, &dyn Fn(f32) -> f32); 5] = [
        (HeadActivation::Identity, &|x| x),
        (HeadActivation::Tanh, &|x| x.tanh()),
        (HeadActivation::Relu, &|x| x.max(0.0)),
        (HeadActivation::Silu, &|x| x / (1.0 + (-x).exp())),
        (HeadActivation::Sigmoid, &|x| 1.0 / (1.0 + (-x).exp())),
    ];
    for (activation, value) in activations {
        let layers = vec![HeadLayer::Linear(linear.clone(), activation)];
        check(&both, layers, &|row| product(&row).into_iter().map(value).collect());
    }
    let norm = NormWeights { weight: vec![2.0; 5], bias: vec![0.5; 5], epsilon: 1e-5 };
    let again = LinearWeights { weight: vec![1.0, 0.0, 0.0, 0.0, -1.0], bias: vec![0.25] };
    let layers = vec![
        HeadLayer::Normalize,
        HeadLayer::Linear(linear.clone(), HeadActivation::Identity),
        HeadLayer::Norm(norm),
        HeadLayer::Linear(again, HeadActivation::Identity),
    ];
    check(&both, layers, &|row| {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let row = product(&row.iter().map(|x| x / length).collect::<Vec<_>>());
        let mean = row.iter().sum::<f32>() / 5.0;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 5.0;
        let normed = |x: f32| (x - mean) / (variance + 1e-5).sqrt() * 2.0 + 0.5;
        vec![normed(row[0]) - normed(row[4]) + 0.25]
    });
}

/// A folder of a module says its sizes and its activation, and is refused where these do not fit.
#[test]
fn dense_modules_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let dense = folder.path().join("2_Dense");
    fs::create_dir(&dense).unwrap();
    let tensor = |shape: &[usize]| {
        candle_core::Tensor::ones(shape, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()
    };
    let tensors = [("linear.weight".to_owned(), tensor(&[4, 12])), ("linear.bias".to_owned(), tensor(&[4]))];
    candle_core::safetensors::save(&tensors.into(), dense.join("model.safetensors")).unwrap();
    let mut random = Random::new(3);
    let config = config(HiddenActivation::Gelu);
    let base = weights(&encoder_tensors(&mut random, &config), &config);
    let load = |text: &str| {
        fs::write(dense.join("config.json"), text).unwrap();
        let modules = vec![models::card::Module::Dense("2_Dense".into()), models::card::Module::Normalize];
        let head = models::card::PoolingHead { modules, ..models::card::PoolingHead::mean() };
        HeadWeights::of_modules(&head, folder.path(), base.spec.hidden_size)
    };
    let good = r#"{"in_features":12,"out_features":4,"bias":true,"activation_function":"torch.nn.modules.activation.Tanh"}"#;
    let head = load(good).unwrap();
    assert_eq!((head.columns(12), head.layers.len()), (4, 1));
    assert!(matches!(&head.layers[0], HeadLayer::Linear(_, HeadActivation::Tanh)));
    for (from, to, message) in [
        ("12", "13", "in_features: is 13, and what comes before gives 12"),
        ("true", "false", "linear.bias"),
        ("true", "true,\"use_residual\":true", "use_residual"),
        ("true", "true,\"module_input_name\":\"token_embeddings\"", "module_input_name"),
        ("activation.Tanh", "activation.Mish", "activation_function"),
        ("torch.nn", "mine", "activation_function"),
        ("\"out_features\":4", "\"out_features\":5", "has shape [4, 12], expected [5, 12]"),
    ] {
        let error = load(&good.replacen(from, to, 1)).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}
