//! The ragged encoder against candle's own padded BERT, and against itself in other company.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/random.rs"]
mod random;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};
use models::card::{CONFIG_FILE, WEIGHTS_FILE};
use models::runtimes::RuntimeError;
use models::runtimes::candle::TensorFile;
use models::runtimes::candle::encoder::Encoder;
use models::runtimes::candle::lora::LoraAdapter;
use models::{ModelError, Sequence, TokenBatch};
use proptest::prelude::*;
use random::{LINEARS, Random, Tensors, config, difference, encoder, encoder_tensors, hidden_states};

const TOLERANCE: f32 = 1e-5;

/// Candle's BERT on one sequence alone: no padding, no mask.
fn reference(tensors: &Tensors, config: &Config, sequence: &Sequence) -> Vec<f32> {
    let weights = VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
    let model = BertModel::load(weights, config).unwrap();
    reference_of(&model, sequence)
}

fn reference_of(model: &BertModel, sequence: &Sequence) -> Vec<f32> {
    let ids = Tensor::new(sequence.input_ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn random_encoders_equal_candles_own() {
    for activation in [HiddenAct::Gelu, HiddenAct::GeluApproximate, HiddenAct::Relu] {
        for seed in 0..4 {
            let mut random = Random::new(seed);
            let config = config(activation);
            let tensors = encoder_tensors(&mut random, &config);
            let lengths = [1, 7, 32, 2, 1, 19];
            let sequences = lengths.map(|length| random.sequence(length, config.vocab_size));
            let found = hidden_states(&encoder(tensors.clone(), &config), &sequences);
            for (found, sequence) in found.iter().zip(&sequences) {
                let expected = reference(&tensors, &config, sequence);
                let difference = difference(found, &expected);
                assert!(difference < TOLERANCE, "{activation:?}, seed {seed}: {difference}");
            }
        }
    }
}

#[test]
fn the_real_encoder_equals_candles_own() {
    let folder = common::source_folder(&common::card("embeddings-v2"));
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join(CONFIG_FILE)).unwrap()).unwrap();
    let tensors = candle_core::safetensors::load(folder.join(WEIGHTS_FILE), &Device::Cpu).unwrap();
    let model = BertModel::load(VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu), &config)
        .unwrap();
    let mut random = Random::new(7);
    let sequences = [512, 3, 64, 17, 200].map(|length| random.sequence(length, config.vocab_size));
    let found = hidden_states(&encoder(tensors, &config), &sequences);
    for (found, sequence) in found.iter().zip(&sequences) {
        let difference = difference(found, &reference_of(&model, sequence));
        assert!(difference < 5e-5, "{} tokens: {difference}", sequence.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_sequence_does_not_depend_on_its_company(
        seed in 0_u64..1000,
        lengths in prop::collection::vec(1_usize..=32, 1..10),
    ) {
        let mut random = Random::new(seed);
        let config = config(HiddenAct::Gelu);
        let encoder = encoder(encoder_tensors(&mut random, &config), &config);
        let sequences: Vec<_> = lengths.iter().map(|&length| random.sequence(length, config.vocab_size)).collect();
        let together = hidden_states(&encoder, &sequences);
        for (together, sequence) in together.iter().zip(&sequences) {
            let alone = &hidden_states(&encoder, std::slice::from_ref(sequence))[0];
            prop_assert!(difference(together, alone) < TOLERANCE);
        }
    }

    /// `x W'^T` must be `x W^T + s (x A^T) B^T`; candle's BERT with weights changed one by one is the judge.
    #[test]
    fn an_adapter_is_merged_as_its_formula_says(
        seed in 0_u64..1000,
        rank in 1_usize..5,
        is_rank_stabilised in any::<bool>(),
        chosen in prop::collection::vec(any::<bool>(), 2 * LINEARS.len()),
    ) {
        prop_assume!(chosen.contains(&true));
        let mut random = Random::new(seed);
        let config = config(HiddenAct::Gelu);
        let mut tensors = encoder_tensors(&mut random, &config);
        let base = encoder(tensors.clone(), &config);
        let alpha = 3.0;
        let scale = if is_rank_stabilised { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 };
        let mut factors = Tensors::new();
        let places = (0..2).flat_map(|layer| LINEARS.map(|(name, _, _)| format!("encoder.layer.{layer}.{name}")));
        for place in places.zip(&chosen).filter(|(_, is_chosen)| **is_chosen).map(|(place, _)| place) {
            let weight = tensors.get_mut(&format!("{place}.weight")).unwrap();
            let (out, inside) = weight.dims2().unwrap();
            let (a, b) = (random.tensor(&[rank, inside], 0.3), random.tensor(&[out, rank], 0.3));
            *weight = explicit_merge(weight, &a, &b, scale);
            factors.insert(format!("base_model.model.{place}.lora_A.weight"), a);
            factors.insert(format!("base_model.model.{place}.lora_B.weight"), b);
        }
        let adapter = adapter(rank, alpha, is_rank_stabilised, factors).unwrap();
        let sequence = random.sequence(9, config.vocab_size);
        let sequences = [sequence];
        let found = &hidden_states(&base.with_adapter(&adapter).unwrap(), &sequences)[0];
        let expected = reference(&tensors, &config, &sequences[0]);
        prop_assert!(difference(found, &expected) < TOLERANCE);
        // The base that other models share is untouched.
        prop_assert!(difference(&hidden_states(&base, &sequences)[0], &expected) > TOLERANCE);
    }
}

/// `W + s B A`, element by element.
fn explicit_merge(weight: &Tensor, a: &Tensor, b: &Tensor, scale: f64) -> Tensor {
    let [weight, a, b] = [weight, a, b].map(|tensor| tensor.to_vec2::<f32>().unwrap());
    let merged: Vec<Vec<f32>> = weight
        .iter()
        .zip(&b)
        .map(|(row, b)| {
            let delta = |column: usize| -> f64 {
                b.iter().zip(&a).map(|(b, a)| f64::from(*b) * f64::from(a[column])).sum()
            };
            row.iter().enumerate().map(|(column, w)| (f64::from(*w) + scale * delta(column)) as f32).collect()
        })
        .collect();
    Tensor::new(merged, &Device::Cpu).unwrap()
}

fn adapter(
    rank: usize,
    alpha: f64,
    is_rank_stabilised: bool,
    factors: Tensors,
) -> Result<LoraAdapter, ModelError> {
    let config = format!(
        r#"{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {alpha}, "use_rslora": {is_rank_stabilised}}}"#
    );
    LoraAdapter::new(
        "adapter_config.json".as_ref(),
        config.as_bytes(),
        TensorFile::from_tensors("adapter", factors),
    )
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let mut random = Random::new(3);
    let config = config(HiddenAct::Gelu);
    let base = encoder(encoder_tensors(&mut random, &config), &config);
    let mut check = |names: &[(&str, &[usize])], message: &str| {
        let factors = names
            .iter()
            .map(|(name, shape)| (format!("base_model.model.{name}.weight"), random.tensor(shape, 1.0)))
            .collect();
        let result = adapter(2, 4.0, false, factors).and_then(|adapter| base.with_adapter(&adapter));
        let error = result.err().expect(message).to_string();
        assert!(error.starts_with("adapter: ") && error.contains(message), "{error}");
    };
    let (a, b) =
        ("encoder.layer.0.attention.self.query.lora_A", "encoder.layer.0.attention.self.query.lora_B");
    check(&[], "adapts no layer");
    check(&[(a, &[2, 12])], "query.lora_B.weight is missing");
    check(&[(a, &[3, 12]), (b, &[12, 3])], "has shape [3, 12], expected [2, 12]");
    check(&[(a, &[2, 12]), (b, &[20, 2])], "has shape [20, 2], expected [12, 2]");
    check(&[(a, &[2, 12]), (b, &[12, 2]), ("classifier", &[1, 1])], "not a low-rank factor");
    let (a, b) = ("encoder.layer.2.output.dense.lora_A", "encoder.layer.2.output.dense.lora_B");
    check(&[(a, &[2, 20]), (b, &[12, 2])], "the encoder has 2 layers");
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    let config = config(HiddenAct::Gelu);
    let tensors = || encoder_tensors(&mut Random::new(1), &config);
    let load = |tensors: Tensors, config: &Config| {
        Encoder::load(TensorFile::from_tensors("model", tensors), config, &Device::Cpu)
            .err()
            .unwrap()
            .to_string()
    };
    let mut missing = tensors();
    missing.remove("encoder.layer.1.output.dense.bias");
    assert_eq!(load(missing, &config), "model: tensor encoder.layer.1.output.dense.bias is missing");
    let wider = Config { intermediate_size: 24, ..config.clone() };
    let expected =
        "model: tensor encoder.layer.0.intermediate.dense.weight has shape [20, 12], expected [24, 12]";
    assert_eq!(load(tensors(), &wider), expected);
    let odd = Config { num_attention_heads: 5, ..config.clone() };
    assert_eq!(load(tensors(), &odd), "hidden_size 12 is not a multiple of num_attention_heads 5");
    let mut integers = tensors();
    let name = "embeddings.LayerNorm.bias";
    integers.insert(name.to_owned(), Tensor::zeros(12, DType::U32, &Device::Cpu).unwrap());
    assert_eq!(load(integers, &config), format!("model: tensor {name} is u32, expected a float type"));
}

#[test]
fn weights_may_carry_the_prefix_of_a_larger_model() {
    let mut random = Random::new(5);
    let config = config(HiddenAct::Gelu);
    let plain = encoder_tensors(&mut random, &config);
    let prefixed = plain.iter().map(|(name, tensor)| (format!("bert.{name}"), tensor.clone())).collect();
    let sequences = [random.sequence(5, config.vocab_size)];
    let [plain, prefixed] =
        [plain, prefixed].map(|tensors| hidden_states(&encoder(tensors, &config), &sequences));
    assert_eq!(plain, prefixed);
}

#[test]
fn batches_that_cannot_be_read_are_refused() {
    let config = config(HiddenAct::Gelu);
    let encoder = encoder(encoder_tensors(&mut Random::new(2), &config), &config);
    let batch = |sequences: &[Vec<u32>]| {
        TokenBatch::from_sequences(&sequences.iter().cloned().map(Sequence::new).collect::<Vec<_>>())
    };
    let check = |batch: &TokenBatch, expected: &str| {
        let error = encoder.check(batch).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_fatal()), (expected, false));
    };
    check(&batch(&[vec![1], vec![]]), "sequence 1 is empty");
    check(&batch(&[vec![1], vec![0; 33]]), "sequence 1 has 33 tokens, the model has 32 positions");
    check(&batch(&[vec![49, 50]]), "token id 50 is not among the model's 50");
    check(&batch(&[]), "malformed batch: no sequence");
    let malformed = "malformed batch: cu_seqlens and position_ids must cover the tokens";
    check(&TokenBatch::default(), malformed);
    for cu_seqlens in [vec![0, 3], vec![1, 2], vec![0, 2, 1, 2], vec![]] {
        check(&TokenBatch { cu_seqlens, ..batch(&[vec![1, 2]]) }, malformed);
    }
    check(&TokenBatch { position_ids: vec![0], ..batch(&[vec![1, 2]]) }, malformed);
    let far = TokenBatch { position_ids: vec![0, 32], ..batch(&[vec![1, 2]]) };
    assert!(matches!(encoder.check(&far), Err(RuntimeError::TooLong { index: 0, length: 33, limit: 32 })));
    encoder.check(&batch(&[vec![0; 32]])).unwrap();
}
