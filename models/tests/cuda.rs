//! The CUDA runtime against the reference, on random encoders of real sizes and ragged batches. Skipped, and said so, where there is
//! no GPU: it is for `benches/gpu`. What it refuses is tested everywhere.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "common/random.rs"]
mod random;

use std::sync::Arc;

use candle_core::Device;
use models::runtimes::candle::CandleModel;
use models::runtimes::candle::encoder::{Embeddings, Encoder};
use models::runtimes::cuda;
use models::weights::{
    BertConfig, BertWeights, ClassifierWeights, HeadWeights, HiddenActivation, LinearWeights,
};
use models::{DeviceConfig, Sequence};
use random::{Random, encoder_tensors, run, weights};

fn base(hidden_size: usize, heads: usize, hidden_act: HiddenActivation) -> Arc<BertWeights> {
    let config = BertConfig {
        vocab_size: 300,
        hidden_size,
        num_hidden_layers: 3,
        num_attention_heads: heads,
        intermediate_size: 4 * hidden_size,
        max_position_embeddings: 512,
        ..random::config(hidden_act)
    };
    Arc::new(weights(&encoder_tensors(&mut Random::new(3), &config), &config))
}

fn linear(outputs: usize, inputs: usize) -> LinearWeights {
    let mut random = Random::new(11);
    let mut values = |count: usize| (0..count).map(|_| random.unit() * 0.1).collect::<Vec<f32>>();
    LinearWeights { weight: values(outputs * inputs), bias: values(outputs) }
}

fn heads(hidden: usize) -> [HeadWeights; 4] {
    let classifier = |dense| ClassifierWeights { dense, classifier: linear(7, hidden) };
    [
        HeadWeights::MeanPooling,
        HeadWeights::Sequence(classifier(None)),
        HeadWeights::Sequence(classifier(Some(linear(hidden, hidden)))),
        HeadWeights::Token(classifier(None)),
    ]
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn agrees_with_the_reference() {
    if models::Device::gpus() == 0 {
        println!("skipped: there is no GPU");
        return;
    }
    let device =
        models::Device::new(DeviceConfig { threads: 1, gpu: Some(0), ..DeviceConfig::default() }).unwrap();
    let lengths: [&[usize]; 4] = [&[1], &[16], &[5, 64, 65, 1, 130], &[512, 3, 200]];
    for (hidden, count) in [(384, 12), (768, 12), (1024, 16), (384, 4), (384, 3)] {
        let base = base(hidden, count, HiddenActivation::Gelu);
        for head in heads(hidden) {
            let cpu = Device::Cpu;
            let encoder = Encoder::new(&base, Embeddings::new(&base, &cpu).unwrap(), None, &cpu).unwrap();
            let mut reference = CandleModel::new(encoder, &head).unwrap();
            for (dtype, least) in [("bfloat16", 0.999), ("float16", 0.99999)] {
                let model = cuda::assemble(dtype, Arc::clone(&base), None, head.clone()).unwrap();
                let mut runtime = model.runtime(&device).unwrap();
                for lengths in lengths {
                    let sequences: Vec<Sequence> =
                        lengths.iter().map(|length| Random::new(5).sequence(*length, 300)).collect();
                    let (found, expected) = (run(&mut *runtime, &sequences), run(&mut reference, &sequences));
                    assert_eq!(found.shape, expected.shape);
                    let columns = found.shape[1];
                    let rows = found.data.chunks(columns).zip(expected.data.chunks(columns));
                    let worst = rows.map(|(found, expected)| cosine(found, expected)).fold(1.0, f64::min);
                    assert!(worst >= least, "{hidden} by {count} in {dtype}, lengths {lengths:?}: {worst}");
                }
            }
        }
    }
}

#[test]
fn what_there_are_no_kernels_for_is_refused() {
    let check = |dtype: &str, hidden: usize, count: usize, act: HiddenActivation, expected: &str| {
        let built = cuda::assemble(dtype, base(hidden, count, act), None, HeadWeights::MeanPooling);
        let error = built.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("float32", 384, 12, HiddenActivation::Gelu, "bfloat16, float16");
    check("bfloat16", 384, 12, HiddenActivation::Relu, "Gelu");
    check("bfloat16", 384, 8, HiddenActivation::Gelu, "32, 64, 96, 128");
    check("bfloat16", 2048, 16, HiddenActivation::Gelu, "1024");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let missing = DeviceConfig { threads: 1, gpu: Some(models::Device::gpus()), ..DeviceConfig::default() };
    let error = models::Device::new(missing).err().unwrap();
    assert!(error.to_string().contains("there is no CUDA device"), "{error}");
}
