//! Encoders of every runtime against candle's own padded BERT, and against themselves in other company.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/random.rs"]
mod random;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;
use models::card::WEIGHTS_FILE;
use models::runtimes::fused::Loader;
use models::weights::{EncoderWeights, HeadWeights, LoraAdapter, TensorFile};
use models::{
    Architecture, EncoderSizes, HiddenActivation, ModelError, Runtime, RuntimeError, Sequence, TokenBatch,
    architectures, open_device,
};
use proptest::prelude::*;
use random::{
    LINEARS, Random, Tensors, candle_config, config, difference, encoder_tensors, file, fused, hidden_states,
    identity, run, runtimes, weights,
};

const TOLERANCE: f32 = 1e-5;

/// Candle's BERT on one sequence alone: no padding, no mask.
fn reference(tensors: &Tensors, config: &EncoderSizes, sequence: &Sequence) -> Vec<f32> {
    let weights = VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
    let model = BertModel::load(weights, &candle_config(config)).unwrap();
    reference_of(&model, sequence)
}

fn reference_of(model: &BertModel, sequence: &Sequence) -> Vec<f32> {
    let ids = Tensor::new(sequence.input_ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every runtime's hidden states against the reference.
fn check(tensors: &Tensors, config: &EncoderSizes, sequences: &[Sequence], context: &str) {
    let weights = weights(tensors, config);
    for (name, mut runtime) in runtimes(&weights, None, &identity(config.hidden_size)).unwrap() {
        let found = hidden_states(&mut *runtime, sequences);
        for (found, sequence) in found.iter().zip(sequences) {
            let difference = difference(found, &reference(tensors, config, sequence));
            assert!(difference < TOLERANCE, "{name}, {context}, {} tokens: {difference}", sequence.len());
        }
    }
}

#[test]
fn random_encoders_equal_candles_own() {
    for activation in [HiddenActivation::Gelu, HiddenActivation::GeluTanh, HiddenActivation::Relu] {
        for seed in 0..3 {
            let mut random = Random::new(seed);
            let config = config(activation);
            let tensors = encoder_tensors(&mut random, &config);
            let sequences = [1, 7, 32, 2, 1, 19].map(|length| random.sequence(length, config.vocab_size));
            check(&tensors, &config, &sequences, &format!("{activation:?}, seed {seed}"));
        }
    }
}

/// A model that pools gives what it pools, where a batch wants it, whatever else is in the batch.
#[test]
fn pooling_models_give_hidden_states_where_they_are_wanted() {
    let config = config(HiddenActivation::Gelu);
    let mut random = Random::new(5);
    let tensors = encoder_tensors(&mut random, &config);
    let weights = weights(&tensors, &config);
    let mut sequences = [3, 17, 1, 32].map(|length| random.sequence(length, config.vocab_size));
    let pooled = runtimes(&weights, None, &HeadWeights::mean_pooling()).unwrap();
    for (name, mut runtime) in pooled {
        let means = run(&mut *runtime, &sequences);
        assert_eq!(means.shape, [4, config.hidden_size], "{name}");
        sequences[1].wants_tokens = true;
        let found = run(&mut *runtime, &sequences);
        assert_eq!(found.shape, [53, config.hidden_size], "{name}");
        let expected: Vec<f32> =
            sequences.iter().flat_map(|sequence| reference(&tensors, &config, sequence)).collect();
        let difference = difference(&found.data, &expected);
        assert!(difference < TOLERANCE, "{name}: {difference}");
        // And pools again as before.
        sequences[1].wants_tokens = false;
        assert_eq!(run(&mut *runtime, &sequences), means, "{name}");
    }
}

/// Sizes that fit no register, cache line or pair, and one layer or none.
#[test]
fn odd_sizes_equal_candles_own() {
    let sizes = [
        (1, 1, 1, 1),
        (5, 5, 7, 1),
        (6, 2, 33, 3),
        (35, 5, 71, 1),
        (34, 1, 64, 2),
        (66, 2, 17, 1),
        (96, 12, 100, 0),
    ];
    for (hidden_size, num_attention_heads, intermediate_size, num_hidden_layers) in sizes {
        let config = EncoderSizes {
            hidden_size,
            num_attention_heads,
            intermediate_size,
            num_hidden_layers,
            layer_norm_eps: 1e-5,
            max_position_embeddings: 300,
            ..config(HiddenActivation::Gelu)
        };
        let mut random = Random::new(hidden_size as u64);
        let tensors = encoder_tensors(&mut random, &config);
        let sequences = [3, 129, 1, 300, 16].map(|length| random.sequence(length, config.vocab_size));
        check(&tensors, &config, &sequences, &format!("{config:?}"));
    }
}

#[test]
fn the_real_encoder_equals_candles_own() {
    let folder = common::source_folder(&common::card("embeddings-v2"));
    let weights = architectures::open(Architecture::Bert, &folder).unwrap();
    let config = random::sizes_of(&weights.spec);
    let tensors = candle_core::safetensors::load(folder.join(WEIGHTS_FILE), &Device::Cpu).unwrap();
    let own = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let model = BertModel::load(own, &candle_config(&config)).unwrap();
    let mut random = Random::new(7);
    let sequences = [512, 3, 64, 17, 200].map(|length| random.sequence(length, config.vocab_size));
    let expected = sequences.each_ref().map(|sequence| reference_of(&model, sequence));
    for (name, mut runtime) in runtimes(&weights, None, &identity(config.hidden_size)).unwrap() {
        let found = hidden_states(&mut *runtime, &sequences);
        for (found, (expected, sequence)) in found.iter().zip(expected.iter().zip(&sequences)) {
            let difference = difference(found, expected);
            assert!(difference < 5e-5, "{name}, {} tokens: {difference}", sequence.len());
        }
    }
}

/// In bfloat16 a number has 8 bits: what the formats' rounding explains, and the same from every instruction
/// set.
#[test]
fn bfloat16_is_near_float32_with_every_instruction_set() {
    for hidden_size in [12, 35, 64] {
        let heads = if hidden_size == 35 { 5 } else { 4 };
        let config =
            EncoderSizes { hidden_size, num_attention_heads: heads, ..config(HiddenActivation::Gelu) };
        let mut random = Random::new(21);
        let tensors = encoder_tensors(&mut random, &config);
        let weights = weights(&tensors, &config);
        let head = identity(hidden_size);
        let sequences = [1, 7, 32, 2, 31, 19].map(|length| random.sequence(length, config.vocab_size));
        let run = |dtype, instructions, threads| {
            let mut runtime = fused(&weights, None, &head, dtype, instructions, threads).unwrap();
            hidden_states(&mut *runtime, &sequences).concat()
        };
        let exact = run("float32", "portable", 1);
        let portable = run("bfloat16", "portable", 1);
        let rounding = difference(&exact, &portable);
        // Weights of this size make hidden states of up to 2, whose places are 1/128 apart.
        assert!(rounding > 1e-4 && rounding < 0.08, "{hidden_size}: {rounding}");
        for instructions in Loader::instructions() {
            for threads in [1, 2] {
                let difference = difference(&portable, &run("bfloat16", instructions, threads));
                // Sums in another order round to another neighbour now and then.
                assert!(difference < 0.04, "{hidden_size}, {instructions}, {threads} threads: {difference}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_sequence_does_not_depend_on_its_company(
        seed in 0_u64..1000,
        lengths in prop::collection::vec(1_usize..=32, 1..10),
    ) {
        let mut random = Random::new(seed);
        let config = config(HiddenActivation::Gelu);
        let weights = weights(&encoder_tensors(&mut random, &config), &config);
        let sequences: Vec<_> = lengths.iter().map(|&length| random.sequence(length, config.vocab_size)).collect();
        for (name, mut runtime) in runtimes(&weights, None, &identity(config.hidden_size)).unwrap() {
            let together = hidden_states(&mut *runtime, &sequences);
            for (together, sequence) in together.iter().zip(&sequences) {
                let alone = &hidden_states(&mut *runtime, std::slice::from_ref(sequence))[0];
                prop_assert!(difference(together, alone) < TOLERANCE, "{}", name);
            }
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
        let config = config(HiddenActivation::Gelu);
        let mut tensors = encoder_tensors(&mut random, &config);
        let base = weights(&tensors, &config);
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
        let adapter = adapter(&base, rank, alpha, is_rank_stabilised, &factors).unwrap();
        let sequences = [random.sequence(9, config.vocab_size)];
        let expected = reference(&tensors, &config, &sequences[0]);
        let states = |adapter| -> Vec<_> {
            let runtimes = runtimes(&base, adapter, &identity(config.hidden_size)).unwrap();
            runtimes.into_iter().map(|(name, mut runtime)| (name, hidden_states(&mut *runtime, &sequences))).collect()
        };
        for (name, found) in states(Some(&adapter)) {
            prop_assert!(difference(&found[0], &expected) < TOLERANCE, "{}", name);
        }
        // Without it the base is what it was.
        for (name, found) in states(None) {
            prop_assert!(difference(&found[0], &expected) > TOLERANCE, "{}", name);
        }
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
    base: &EncoderWeights,
    rank: usize,
    alpha: f64,
    is_rank_stabilised: bool,
    factors: &Tensors,
) -> Result<LoraAdapter, ModelError> {
    let config = format!(
        r#"{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {alpha}, "use_rslora": {is_rank_stabilised}}}"#
    );
    LoraAdapter::new("adapter_config.json".as_ref(), config.as_bytes(), file("adapter", factors), |module| {
        base.layout().target(module)
    })
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let mut random = Random::new(3);
    let config = config(HiddenActivation::Gelu);
    let base = weights(&encoder_tensors(&mut random, &config), &config);
    let mut check = |names: &[(&str, &[usize])], message: &str| {
        let factors: Tensors = names
            .iter()
            .map(|(name, shape)| (format!("base_model.model.{name}.weight"), random.tensor(shape, 1.0)))
            .collect();
        let result = adapter(&base, 2, 4.0, false, &factors).and_then(|adapter| {
            adapter.check_layers(base.layers())?;
            base.layer(0, Some(&adapter))
        });
        let error = result.expect_err(message).to_string();
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
    let config = config(HiddenActivation::Gelu);
    let tensors = || encoder_tensors(&mut Random::new(1), &config);
    let load = |tensors: Tensors, config: &EncoderSizes| {
        let weights = random::assemble(&tensors, config);
        let result = weights.and_then(|weights| {
            weights.embeddings()?;
            (0..weights.layers()).try_for_each(|layer| weights.layer(layer, None).map(drop))
        });
        result.unwrap_err().to_string()
    };
    let mut missing = tensors();
    missing.remove("encoder.layer.1.output.dense.bias");
    assert_eq!(load(missing, &config), "model: tensor encoder.layer.1.output.dense.bias is missing");
    let wider = EncoderSizes { intermediate_size: 24, ..config.clone() };
    let expected =
        "model: tensor encoder.layer.0.intermediate.dense.weight has shape [20, 12], expected [24, 12]";
    assert_eq!(load(tensors(), &wider), expected);
    let odd = EncoderSizes { num_attention_heads: 5, ..config.clone() };
    assert_eq!(
        load(tensors(), &odd),
        "config.json: hidden_size 12 is not a multiple of num_attention_heads 5"
    );
    let mut integers = tensors();
    let name = "embeddings.LayerNorm.bias";
    integers.insert(name.to_owned(), Tensor::zeros(12, DType::U32, &Device::Cpu).unwrap());
    assert_eq!(load(integers, &config), format!("model: tensor {name} is U32, expected a float type"));
}

#[test]
fn files_that_are_no_tensors_are_refused() {
    let check = |bytes: Vec<u8>, expected: &str| {
        let error = TensorFile::parse("file".as_ref(), bytes).err().unwrap().to_string();
        assert!(error.starts_with("file: ") && error.contains(expected), "{error}");
    };
    let file =
        safetensors::serialize(&encoder_tensors(&mut Random::new(1), &config(HiddenActivation::Relu)), None)
            .unwrap();
    check(Vec::new(), "");
    check(vec![0xff; 8], "does not fit the file");
    check(b"\x02\0\0\0\0\0\0\0no".to_vec(), "expected");
    check(file[..file.len() - 1].to_vec(), "length");
    check([file.as_slice(), &[0]].concat(), "length");
}

#[test]
fn weights_may_carry_the_prefix_of_a_larger_model() {
    let mut random = Random::new(5);
    let config = config(HiddenActivation::Gelu);
    let plain = encoder_tensors(&mut random, &config);
    let prefixed: Tensors =
        plain.iter().map(|(name, tensor)| (format!("bert.{name}"), tensor.clone())).collect();
    let sequences = [random.sequence(5, config.vocab_size)];
    let [plain, prefixed] = [plain, prefixed].map(|tensors| {
        let head = identity(config.hidden_size);
        let mut runtime = fused(&weights(&tensors, &config), None, &head, "float32", "portable", 1).unwrap();
        hidden_states(&mut *runtime, &sequences)
    });
    assert_eq!(plain, prefixed);
}

#[test]
fn batches_that_cannot_be_read_are_refused() {
    let config = config(HiddenActivation::Gelu);
    let weights = weights(&encoder_tensors(&mut Random::new(2), &config), &config);
    let batch = |sequences: &[Vec<u32>]| {
        TokenBatch::from_sequences(&sequences.iter().cloned().map(Sequence::new).collect::<Vec<_>>())
    };
    for (name, mut runtime) in runtimes(&weights, None, &identity(config.hidden_size)).unwrap() {
        let mut run = |batch: &TokenBatch| runtime.run(batch, &mut Default::default());
        let mut check = |batch: &TokenBatch, expected: &str| {
            let error = run(batch).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.is_fatal()), (expected, false), "{name}");
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
        assert!(matches!(run(&far), Err(RuntimeError::TooLong { index: 0, length: 33, limit: 32 })));
        run(&batch(&[vec![0; 32]])).unwrap();
    }
}

/// What one model leaves in the buffers that models of a device share must not show in another's answers, and
/// a batch that gave infinities must not spoil the next.
#[test]
fn models_that_share_buffers_do_not_disturb_each_other() {
    let device = open_device(models::DeviceConfig { threads: 2, ..models::DeviceConfig::default() }).unwrap();
    let mut random = Random::new(9);
    let mut model = |hidden_size: usize, heads: usize, scale: f64, dtype: &str| -> Box<dyn Runtime> {
        let config =
            EncoderSizes { hidden_size, num_attention_heads: heads, ..config(HiddenActivation::Gelu) };
        let mut tensors = encoder_tensors(&mut random, &config);
        let name = "encoder.layer.1.output.dense.weight";
        tensors.insert(name.to_owned(), (&tensors[name] * scale).unwrap());
        let base = weights(&tensors, &config);
        let head = identity(hidden_size);
        let built = Loader::default()
            .assemble(dtype.parse().unwrap(), "random".as_ref(), &base, None, &head)
            .unwrap();
        built.runtime(&device).unwrap()
    };
    let mut good =
        [model(35, 5, 1.0, "float32"), model(35, 5, 1.0, "bfloat16"), model(12, 3, 1.0, "bfloat16")];
    let mut bad = model(64, 2, 1e38, "float32");
    let sequences = [9, 32, 3].map(|length| Random::new(4).sequence(length, 50));
    let before = good.each_mut().map(|runtime| hidden_states(&mut **runtime, &sequences));
    for _ in 0..2 {
        let batch =
            TokenBatch::from_sequences(&[Random::new(5).sequence(30, 50), Random::new(6).sequence(32, 50)]);
        let error = bad.run(&batch, &mut Default::default()).unwrap_err();
        assert!(matches!(error, RuntimeError::NotFinite), "{error}");
        let after = good.each_mut().map(|runtime| hidden_states(&mut **runtime, &sequences));
        assert_eq!(before, after);
    }
}
