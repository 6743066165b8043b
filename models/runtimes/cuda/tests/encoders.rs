//! The CUDA runtime against the reference, on random encoders and ragged batches.
//!
//! Tests that are ignored need a GPU: `--ignored gpu::` runs them on one. Everywhere else they run on an
//! emulated one (`models/runtimes/cuda/kernels/emulation`), in a process of their own that finds
//! it in place of the driver.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "common/emulation.rs"]
mod emulation;
#[path = "../../../tests/common/random.rs"]
mod random;

use std::sync::Arc;

use models::card::Pooling;
use models::weights::{EncoderWeights, HeadRows, HeadWeights, LinearWeights};
use models::{
    BatchLimits, DeviceConfig, EncoderSizes, GpuConfig, GpuRuntime, HiddenActivation, Runtime, Sequence,
    open_device,
};
use random::{Random, encoder_tensors, weights};
use runtime_cuda::Cuda;

fn base(hidden_size: usize, heads: usize, hidden_act: HiddenActivation) -> Arc<EncoderWeights> {
    base_of(hidden_size, heads, hidden_act, 4 * hidden_size)
}

fn base_of(
    hidden_size: usize,
    heads: usize,
    hidden_act: HiddenActivation,
    intermediate_size: usize,
) -> Arc<EncoderWeights> {
    let config = EncoderSizes {
        vocab_size: 300,
        hidden_size,
        num_hidden_layers: 3,
        num_attention_heads: heads,
        intermediate_size,
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
    let means = || HeadRows::Pooled(vec![Pooling::Mean]);
    let classifier = |rows, dense| HeadWeights::classifier(rows, dense, linear(7, hidden));
    [
        HeadWeights::mean_pooling(),
        classifier(means(), None),
        classifier(means(), Some(linear(hidden, hidden))),
        classifier(HeadRows::Tokens, None),
    ]
}

fn device(number: usize, graph_tokens_max: usize) -> models::Device {
    device_with(GpuConfig { graph_tokens_max, ..GpuConfig::new(&Cuda, number) })
}

fn device_with(gpu: GpuConfig) -> models::Device {
    open_device(DeviceConfig { threads: 1, gpu: Some(gpu), ..DeviceConfig::default() }).unwrap()
}

fn runtime(
    base: &Arc<EncoderWeights>,
    head: &HeadWeights,
    dtype: &str,
    device: &models::Device,
) -> Box<dyn Runtime> {
    let model = runtime_cuda::assemble(dtype.parse().unwrap(), Arc::clone(base), None, head.clone()).unwrap();
    model.runtime(device).unwrap()
}

fn sequences(lengths: &[usize]) -> Vec<Sequence> {
    let mut random = Random::new(lengths.iter().sum::<usize>() as u64);
    lengths.iter().map(|length| random.sequence(*length, 300)).collect()
}

#[test]
fn on_emulated_gpus() {
    emulation::run("gpu::", &[("EMULATED_GPUS", "2")]);
}

#[test]
fn on_an_emulated_gpu_with_little_memory() {
    emulation::run("small::", &[("EMULATED_GPUS", "1"), ("EMULATED_GPU_MEMORY", "45000000")]);
}

#[test]
fn on_an_emulated_gpu_that_dies() {
    emulation::run("dying::", &[("EMULATED_GPUS", "1"), ("EMULATED_GPU_DIES", "100")]);
}

#[test]
fn what_there_are_no_kernels_for_is_refused() {
    let refused = |dtype: &str, base: Arc<EncoderWeights>, expected: &str| {
        let error = runtime_cuda::assemble(dtype.parse().unwrap(), base, None, HeadWeights::mean_pooling())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{error}");
    };
    let check = |dtype: &str, hidden: usize, count: usize, act: HiddenActivation, expected: &str| {
        refused(dtype, base(hidden, count, act), expected);
    };
    refused("float16", base_of(64, 2, HiddenActivation::Gelu, 100), "multiples of 8");
    check("float32", 384, 12, HiddenActivation::Gelu, "bfloat16, float16");
    check("bfloat16", 384, 2, HiddenActivation::Gelu, "up to 128");
    check("bfloat16", 42, 2, HiddenActivation::Gelu, "multiples of 4 up to 4096");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let missing = GpuConfig::new(&Cuda, Cuda.gpus());
    let missing = DeviceConfig { threads: 1, gpu: Some(missing), ..DeviceConfig::default() };
    let error = open_device(missing).err().unwrap();
    assert!(error.to_string().contains("there is no CUDA device"), "{error}");
}

/// What every GPU must do, real or emulated.
mod gpu {
    use std::collections::VecDeque;

    use batching::UNDER_WAY_MAX;
    use candle_core::Device;
    use models::runtimes::candle::CandleModel;
    use models::runtimes::candle::encoder::{Embeddings, Encoder};
    use models::{HostTensor, TokenBatch};

    use super::*;
    use crate::random::run;

    /// Emulated ones have smaller encoders: hidden sizes and heads, and longest lengths.
    fn sizes() -> (&'static [(usize, usize)], &'static [&'static [usize]]) {
        if std::env::var_os("EMULATED_GPUS").is_some() {
            return (&[(64, 2), (128, 2), (96, 1), (128, 1)], &[&[1], &[5, 64, 65, 1, 130], &[300, 3]]);
        }
        let shapes = &[(384, 12), (768, 12), (1024, 16), (384, 4), (384, 3)];
        (shapes, &[&[1], &[16], &[5, 64, 65, 1, 130], &[512, 3, 200]])
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn agrees_with_the_reference() {
        let device = device(0, GpuConfig::GRAPH_TOKENS_MAX);
        let (shapes, batches) = sizes();
        for (hidden, count) in shapes {
            let base = base(*hidden, *count, HiddenActivation::Gelu);
            for head in heads(*hidden) {
                let cpu = Device::Cpu;
                let encoder = Encoder::new(&base, Embeddings::new(&base, &cpu).unwrap(), None, &cpu).unwrap();
                let mut reference = CandleModel::new(encoder, &head).unwrap();
                for (dtype, least) in [("bfloat16", 0.999), ("float16", 0.99999)] {
                    let mut runtime = runtime(&base, &head, dtype, &device);
                    for lengths in batches {
                        let sequences = sequences(lengths);
                        let (found, expected) =
                            (run(&mut *runtime, &sequences), run(&mut reference, &sequences));
                        assert_eq!(found.shape, expected.shape);
                        let columns = found.shape[1];
                        let rows = found.data.chunks(columns).zip(expected.data.chunks(columns));
                        let worst = rows.map(|(found, expected)| cosine(found, expected)).fold(1.0, f64::min);
                        assert!(
                            worst >= least,
                            "{hidden} by {count} in {dtype}, lengths {lengths:?}: {worst}"
                        );
                    }
                }
            }
        }
    }

    /// A shape's first batch is computed kernel by kernel, its second is captured, and the third is a graph;
    /// what fills it up changes nothing.
    #[test]
    #[ignore = "needs a GPU"]
    fn graphs_change_nothing() {
        let (shapes, _) = sizes();
        let (hidden, count) = shapes[0];
        let base = base(hidden, count, HiddenActivation::Gelu);
        for head in heads(hidden) {
            let mut plain = runtime(&base, &head, "bfloat16", &device(0, 0));
            let mut graphs = runtime(&base, &head, "bfloat16", &device(0, 2048));
            // The same shape for all, with other lengths.
            for lengths in [&[40, 3][..], &[1, 44], &[10, 10, 20], &[7; 6], &[40, 3], &[46, 1]] {
                let sequences = sequences(lengths);
                let (found, expected) = (run(&mut *graphs, &sequences), run(&mut *plain, &sequences));
                assert_eq!(found.shape, expected.shape);
                // Other numbers of rows may be other algorithms of products, which add up in another order.
                let worst = random::difference(&found.data, &expected.data);
                let scale = expected.data.iter().fold(1.0f32, |most, value| most.max(value.abs()));
                assert!(worst <= 0.02 * scale, "{lengths:?}: {worst} of {scale}");
            }
        }
    }

    /// The approximation differs from GELU by less than 0.0005 anywhere.
    #[test]
    #[ignore = "needs a GPU"]
    fn gelu_within_a_product_is_nearly_the_same() {
        let (shapes, _) = sizes();
        let (hidden, count) = shapes[0];
        let base = base(hidden, count, HiddenActivation::Gelu);
        let head = HeadWeights::mean_pooling();
        let fused = device_with(GpuConfig { fuses_gelu: true, ..GpuConfig::new(&Cuda, 0) });
        let mut fused = runtime(&base, &head, "float16", &fused);
        let mut exact = runtime(&base, &head, "float16", &device(0, 2048));
        let sequences = sequences(&[30, 7, 90]);
        let (found, expected) = (run(&mut *fused, &sequences), run(&mut *exact, &sequences));
        assert_ne!(found, expected);
        let rows = found.data.chunks(hidden).zip(expected.data.chunks(hidden));
        let worst = rows.map(|(found, expected)| cosine(found, expected)).fold(1.0, f64::min);
        assert!(worst >= 0.9999, "{worst}");
    }

    /// Batches of several models, of which two are under way at a time, give what each gives alone.
    #[test]
    #[ignore = "needs a GPU"]
    fn batches_under_way_do_not_mix() {
        let (shapes, _) = sizes();
        let device = device(Cuda.gpus() - 1, 256);
        let models: Vec<_> = shapes[..2]
            .iter()
            .map(|(hidden, count)| (*hidden, base(*hidden, *count, HiddenActivation::Gelu)))
            .collect();
        let mut runtimes: Vec<_> = models
            .iter()
            .flat_map(|(hidden, base)| heads(*hidden).map(|head| runtime(base, &head, "float16", &device)))
            .collect();
        let mut random = Random::new(23);
        let jobs: Vec<(usize, TokenBatch)> = (0..30)
            .map(|_| {
                let lengths: Vec<usize> = (0..1 + random.below(4)).map(|_| 1 + random.below(120)).collect();
                let sequences: Vec<_> = lengths.iter().map(|length| random.sequence(*length, 300)).collect();
                (random.below(runtimes.len()), TokenBatch::from_sequences(&sequences))
            })
            .collect();
        // Each shape three times, so that its graphs are there for both runs.
        let alone = |runtimes: &mut Vec<Box<dyn Runtime>>| -> Vec<HostTensor> {
            let run = |(model, batch): &(usize, TokenBatch)| {
                let mut result = HostTensor::default();
                runtimes[*model].run(batch, &mut result).unwrap();
                result
            };
            jobs.iter().map(run).collect()
        };
        alone(&mut runtimes);
        let expected = alone(&mut runtimes);
        for _ in 0..2 {
            let mut under_way: VecDeque<usize> = VecDeque::new();
            let mut next = 0;
            while next < jobs.len() || !under_way.is_empty() {
                if next < jobs.len() && under_way.len() < UNDER_WAY_MAX {
                    let (model, batch) = &jobs[next];
                    assert!(runtimes[*model].overlap().unwrap().begin(batch).unwrap());
                    under_way.push_back(next);
                    next += 1;
                    continue;
                }
                let first = under_way.pop_front().unwrap();
                let overlap = runtimes[jobs[first].0].overlap().unwrap();
                if first.is_multiple_of(3) {
                    while !overlap.is_finished() {}
                }
                let mut result = HostTensor::default();
                overlap.finish(&mut result).unwrap();
                assert_eq!(result, expected[first], "batch {first}");
            }
        }
    }

    /// What is planned is what is taken, the driver's rounding aside.
    #[test]
    #[ignore = "needs a GPU"]
    fn memory_is_as_planned() {
        let limits = BatchLimits { tokens_max: 700, sequences_max: 20 };
        let device = device_with(GpuConfig { limits, ..GpuConfig::new(&Cuda, 0) });
        let free = || device.memory().unwrap().unwrap().0;
        let mut largest = 0;
        let mut kept = Vec::new();
        for (hidden, head) in [(64, 0), (96, 1), (128, 2), (64, 3)] {
            let head = heads(hidden)[head].clone();
            let base = base(hidden, hidden / 32, HiddenActivation::Gelu);
            let model = runtime_cuda::assemble("bfloat16".parse().unwrap(), base, None, head).unwrap();
            let footprint = model.footprint(&device);
            let before = free();
            kept.push(model.runtime(&device).unwrap());
            if std::env::var_os("EMULATED_GPUS").is_some() {
                // Each buffer is as large as the largest model wants it.
                let grown = before - free() - footprint.own;
                assert!(
                    grown == 0 || largest + grown >= footprint.shared,
                    "{grown} bytes more, {footprint:?}"
                );
                largest += grown;
                assert!(largest >= footprint.shared, "{largest} bytes, {footprint:?}");
            }
        }
        run(kept[2].as_mut(), &sequences(&[350, 350]));
    }

    /// Memory is taken when a model is loaded, and not for shapes.
    #[test]
    #[ignore = "needs a GPU"]
    fn memory_does_not_grow_with_shapes() {
        let base = base(64, 2, HiddenActivation::Gelu);
        let device = device(0, 256);
        let mut runtime = runtime(&base, &HeadWeights::mean_pooling(), "bfloat16", &device);
        run(&mut *runtime, &sequences(&[512]));
        let (free, _) = device.memory().unwrap().unwrap();
        let mut random = Random::new(5);
        for _ in 0..60 {
            let lengths: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below(90)).collect();
            run(&mut *runtime, &sequences(&lengths));
        }
        let (still, _) = device.memory().unwrap().unwrap();
        // The driver's own, for graphs.
        assert!(free - still <= 64 << 20, "{free} bytes were free, {still} are");
        if std::env::var_os("EMULATED_GPUS").is_some() {
            assert_eq!(free, still);
        }
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn bad_batches_are_refused_and_harm_nobody() {
        let base = base(64, 2, HiddenActivation::Gelu);
        let device = device(0, 2048);
        let mut runtime = runtime(&base, &HeadWeights::mean_pooling(), "bfloat16", &device);
        let good = sequences(&[3, 5]);
        let expected = run(&mut *runtime, &good);
        for bad in [Sequence::new(vec![300]), Sequence::new(vec![]), Sequence::new(vec![1; 513])] {
            let batch = TokenBatch::from_sequences(&[bad]);
            assert!(!runtime.run(&batch, &mut HostTensor::default()).unwrap_err().is_fatal());
        }
        assert_eq!(run(&mut *runtime, &good), expected);
    }
}

/// With room for the models and small batches only.
mod small {
    use models::{Catalog, CatalogConfig, HostTensor, NoProgress, RuntimeError, TokenBatch};

    use super::*;
    use crate::random::run;

    #[test]
    #[ignore = "needs a GPU without memory"]
    fn a_batch_that_does_not_fit_fails_alone() {
        let base = base(128, 2, HiddenActivation::Gelu);
        let mut runtime = runtime(&base, &HeadWeights::mean_pooling(), "bfloat16", &device(0, 2048));
        let few = sequences(&[9, 4]);
        let expected = run(&mut *runtime, &few);
        let many = TokenBatch::from_sequences(&sequences(&[500; 30]));
        let error = runtime.run(&many, &mut HostTensor::default()).unwrap_err();
        assert!(matches!(&error, RuntimeError::OutOfMemory { .. }) && !error.is_fatal(), "{error}");
        assert_eq!(run(&mut *runtime, &few), expected);
    }

    #[test]
    #[ignore = "needs a GPU without memory"]
    fn models_that_do_not_fit_are_refused_before_they_are_loaded() {
        let config = CatalogConfig { gpu_runtime: Some(&Cuda), ..common::config_with("cuda", "bfloat16") };
        let catalog = Catalog::load(&config, &NoProgress).unwrap();
        let device = device(0, 2048);
        let (free, _) = device.memory().unwrap().unwrap();
        let error = catalog.executor(&device).err().unwrap();
        assert!(matches!(error, RuntimeError::DoesNotFit { .. }), "{error}");
        for part in ["emulated GPU 0", "ner-v2 ", "batches ", "MiB are free"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(device.memory().unwrap().unwrap().0, free);
    }
}

/// Which reads an address that is not there in its hundredth kernel.
mod dying {
    use models::{HostTensor, TokenBatch};

    use super::*;

    #[test]
    #[ignore = "needs a GPU that dies"]
    fn a_sticky_error_is_fatal_from_then_on() {
        let base = base(64, 2, HiddenActivation::Gelu);
        let mut runtime = runtime(&base, &HeadWeights::mean_pooling(), "bfloat16", &device(0, 2048));
        let batch = TokenBatch::from_sequences(&sequences(&[9, 4]));
        let mut result = HostTensor::default();
        let mut run = || runtime.run(&batch, &mut result);
        let lived = (0..).take_while(|_| run().is_ok()).count();
        assert!((2..10).contains(&lived), "{lived} batches");
        for _ in 0..2 {
            let error = run().unwrap_err();
            assert!(error.is_fatal() && error.to_string().contains("ILLEGAL_ADDRESS"), "{error}");
        }
    }
}
