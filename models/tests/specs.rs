//! Encoders that no architecture is, with every field of `EncoderSpec` at random: the runtime `fused` gives
//! what `candle` gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/random.rs"]
mod random;

use models::weights::layout::{DistanceNumbers, LayerName, Module, Name, PositionTable, RelativeTable};
use models::weights::layout::{Layout, SegmentTable};
use models::weights::{EncoderWeights, Target};
use models::{HiddenActivation, Sequence};
use models_core::spec::{
    AttentionBias, Disentangled, EncoderSizes, EncoderSpec, FeedForward, LayerSpec, NormKind, NormPlace,
    Positions, Rotary, RotaryPairs,
};
use proptest::prelude::*;
use random::{Random, Tensors, difference, file, fused, hidden_states, identity, runtimes};

const TOLERANCE: f32 = 1e-4;
/// More than the kernels of attention pack at once.
const LONG: usize = 700;

const fn name(name: &'static str) -> Name {
    Name::biased(name)
}

/// One of some values.
fn one<T: Clone>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len())].clone()
}

fn is_so(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn random_spec(random: &mut Random) -> EncoderSpec {
    let num_key_value_heads = 1 + random.below(3);
    let head_size = one(random, &[1, 4, 7, 16, 20, 32, 64, 96, 128]);
    let hidden_size = one(random, &[5, 12, 33, 64]);
    let num_hidden_layers = one(random, &[0, 1, 2, 3]);
    let hidden_act = one(
        random,
        &[HiddenActivation::Gelu, HiddenActivation::GeluTanh, HiddenActivation::Relu, HiddenActivation::Silu],
    );
    let sizes = EncoderSizes {
        vocab_size: 50,
        hidden_size,
        num_hidden_layers,
        num_attention_heads: num_key_value_heads * (1 + random.below(3)),
        intermediate_size: one(random, &[7, 20, 64, 100]),
        hidden_act,
        max_position_embeddings: LONG,
        layer_norm_eps: 1e-6,
    };
    let rotary: Vec<Rotary> = (0..random.below(3))
        .map(|index| Rotary {
            pairs: one(random, &[RotaryPairs::Halves, RotaryPairs::Neighbours]),
            ..Rotary::new([1e4, 1.6e5][index], one(random, &[head_size, head_size / 2]) / 2 * 2)
        })
        .collect();
    let layers = (0..num_hidden_layers).map(|_| LayerSpec {
        window: one(random, &[None, Some(0), Some(3), Some(64), Some(600)]),
        rotary: (!rotary.is_empty() && is_so(random)).then(|| random.below(rotary.len())),
    });
    let layers: Vec<LayerSpec> = layers.collect();
    EncoderSpec {
        embedding_size: one(random, &[hidden_size, 9, 70]),
        num_key_value_heads,
        head_size,
        feed_forward: one(random, &[FeedForward::Plain, FeedForward::Gated]),
        norm: one(random, &[NormKind::LayerNorm, NormKind::Rms]),
        norm_place: one(random, &[NormPlace::Behind, NormPlace::Before]),
        positions: one(random, &[Positions::Absolute, Positions::None]),
        is_causal: is_so(random),
        bias: random_bias(random),
        is_shared: is_so(random),
        rotary,
        layers,
        ..sizes.spec()
    }
}

fn random_bias(random: &mut Random) -> AttentionBias {
    let which = random.below(3);
    let disentangled = Disentangled {
        span: 12,
        buckets: one(random, &[None, Some(12)]),
        distance_max: 100,
        content_to_position: which != 0,
        position_to_content: which != 1,
    };
    one(random, &[AttentionBias::None, AttentionBias::Distance, AttentionBias::Disentangled(disentangled)])
}

/// Tensors are called by what they are.
fn layout(random: &mut Random, spec: &EncoderSpec) -> Layout {
    let module = |target, module| Module { target, name: name(module) };
    let is_rms = spec.norm == NormKind::Rms;
    let is_disentangled = matches!(spec.bias, AttentionBias::Disentangled(_));
    let numbers = [
        DistanceNumbers::Slopes,
        DistanceNumbers::Buckets { name: "distances", buckets: 32, distance_max: 128 },
    ];
    Layout {
        prefix: "",
        other_prefix: None,
        encoder_classes: &[],
        head_classes: &[],
        code_classes: &[],
        words: "words",
        positions: (spec.positions == Positions::Absolute)
            .then_some(PositionTable { name: "positions", offset: 2 }),
        segments: is_so(random).then_some(SegmentTable { name: "segments", rows: 2 }),
        embedding_norm: is_so(random).then_some(name("norm")),
        projection: (spec.embedding_size != spec.hidden_size).then_some(name("projection")),
        layer: LayerName {
            before: "layers.",
            behind: ".",
            together: if spec.is_shared { spec.num_hidden_layers.max(1) } else { 1 },
        },
        modules: vec![
            module(Target::QueryKeyValue, "attention"),
            module(Target::AttentionOutput, "attended"),
            module(Target::Intermediate, "inner"),
            module(Target::Output, "outer"),
        ],
        is_gate_last: is_so(random),
        attention_norm: name("attention_norm"),
        skips_first_norm: spec.norm_place == NormPlace::Before && !spec.is_shared && is_so(random),
        output_norm: name("output_norm"),
        query_key_norms: (is_rms && is_so(random)).then_some([name("query_norm"), name("key_norm")]),
        final_norm: (spec.norm_place == NormPlace::Before).then_some(name("final_norm")),
        distance: (spec.bias == AttentionBias::Distance).then(|| one(random, &numbers)),
        relative: is_disentangled.then_some(RelativeTable {
            name: "relative",
            norm: None,
            projections: Some([name("position_keys"), name("position_queries")]),
        }),
        buffers: &[],
    }
}

/// All tensors that an encoder may ask for.
fn tensors(random: &mut Random, spec: &EncoderSpec) -> Tensors {
    let EncoderSpec { embedding_size, hidden_size, head_size, intermediate_size, .. } = *spec;
    let heads = spec.num_attention_heads;
    let relative = if let AttentionBias::Disentangled(bias) = &spec.bias { bias.rows() } else { 1 };
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        // Weights of normalisations are near 1.
        let scale = if shape.len() == 1 { 0.25 } else { 1.0 / (shape[1] as f32).sqrt().max(2.0) };
        let tensor = random.tensor(shape, scale);
        let is_norm = name.ends_with("norm.weight");
        tensors.insert(name, if is_norm { (tensor + 1.0).unwrap() } else { tensor });
    };
    for (table, rows) in [("words", spec.vocab_size), ("positions", LONG + 2), ("segments", 2)] {
        add(format!("{table}.weight"), &[rows, embedding_size]);
    }
    add("distances.weight".to_owned(), &[32, heads]);
    add("relative.weight".to_owned(), &[relative, hidden_size]);
    let mut linears = vec![("projection".to_owned(), [hidden_size, embedding_size])];
    let mut norms = vec![("norm".to_owned(), embedding_size), ("final_norm".to_owned(), hidden_size)];
    for layer in 0..spec.num_hidden_layers {
        let of_layer = [
            ("attention", [spec.query_key_value_width(), hidden_size]),
            ("attended", [hidden_size, spec.attention_width()]),
            ("inner", [spec.intermediate_width(), hidden_size]),
            ("outer", [hidden_size, intermediate_size]),
            ("position_keys", [spec.attention_width(), hidden_size]),
            ("position_queries", [spec.attention_width(), hidden_size]),
        ];
        linears.extend(of_layer.map(|(name, shape)| (format!("layers.{layer}.{name}"), shape)));
        let of_layer = [
            ("attention_norm", hidden_size),
            ("output_norm", hidden_size),
            ("query_norm", head_size),
            ("key_norm", head_size),
        ];
        norms.extend(of_layer.map(|(name, width)| (format!("layers.{layer}.{name}"), width)));
    }
    for (name, shape) in linears {
        add(format!("{name}.weight"), &shape);
        add(format!("{name}.bias"), &shape[..1]);
    }
    for (name, width) in norms {
        add(format!("{name}.weight"), &[width]);
        add(format!("{name}.bias"), &[width]);
    }
    tensors
}

fn random_weights(random: &mut Random) -> EncoderWeights {
    let spec = random_spec(random);
    let layout = layout(random, &spec);
    EncoderWeights::new(file("random", &tensors(random, &spec)), spec, layout).unwrap()
}

fn random_sequences(random: &mut Random) -> Vec<Sequence> {
    let mut lengths = vec![1, 2, 19, 130];
    if random.below(3) == 0 {
        lengths.push(one(random, &[512, 513, LONG]));
    }
    let sequence = |length| {
        let first_segment = is_so(random).then(|| random.below(length + 1) as u32);
        Sequence { first_segment, ..random.sequence(length, 50) }
    };
    lengths.into_iter().map(sequence).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_encoder_is_the_same_in_fused_and_candle(seed in 0_u64..100_000) {
        let mut random = Random::new(seed);
        let weights = random_weights(&mut random);
        let sequences = random_sequences(&mut random);
        let mut runtimes = runtimes(&weights, None, &identity(weights.spec.hidden_size)).unwrap().into_iter();
        let (_, mut candle) = runtimes.next().unwrap();
        let expected = hidden_states(&mut *candle, &sequences);
        for (name, mut runtime) in runtimes {
            let found = hidden_states(&mut *runtime, &sequences);
            for (found, expected) in found.iter().zip(&expected) {
                let scale = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
                let far = difference(found, expected) / scale;
                prop_assert!(far < TOLERANCE, "{name}, {:?}: {far}", weights.spec);
            }
        }
    }

    /// In bfloat16 all instruction sets give what rounding to 8 bits explains.
    #[test]
    fn any_encoder_is_near_in_bfloat16(seed in 0_u64..100_000) {
        let mut random = Random::new(seed);
        let weights = random_weights(&mut random);
        let sequences = random_sequences(&mut random);
        let head = identity(weights.spec.hidden_size);
        let run = |dtype, instructions, threads| {
            let mut runtime = fused(&weights, None, &head, dtype, instructions, threads).unwrap();
            hidden_states(&mut *runtime, &sequences).concat()
        };
        let exact = run("float32", "portable", 1);
        let length = exact.iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt();
        for instructions in models::runtimes::fused::Loader::instructions() {
            let rounded = run("bfloat16", instructions, 2);
            let apart: f64 = exact.iter().zip(&rounded).map(|(a, b)| f64::from((a - b) * (a - b))).sum();
            let share = apart.sqrt() / length;
            prop_assert!(share < 0.05, "{instructions}, {:?}: {share}", weights.spec);
        }
    }
}
