//! Small encoders, adapters and heads with random weights, from a seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::collections::HashMap;

use std::path::Path;

use candle_core::{Device, Tensor};
use candle_transformers::models::bert::{Config, HiddenAct};
use models::runtimes::candle::CandleModel;
use models::runtimes::candle::encoder::{Embeddings, Encoder};
use models::runtimes::fused;
use models::weights::{EncoderWeights, HeadRows, HeadWeights, LinearWeights, LoraAdapter, TensorFile};
use models::{
    Architecture, DeviceConfig, EncoderSizes, EncoderSpec, HiddenActivation, HostTensor, ModelError, Runtime,
    Sequence, TokenBatch, Weights, architectures, open_device,
};

pub type Tensors = HashMap<String, Tensor>;

/// Linear layers of a transformer layer, with their sizes `[out, in]` in terms of hidden and intermediate
/// size.
pub const LINEARS: [(&str, bool, bool); 6] = [
    ("attention.self.query", false, false),
    ("attention.self.key", false, false),
    ("attention.self.value", false, false),
    ("attention.output.dense", false, false),
    ("intermediate.dense", true, false),
    ("output.dense", false, true),
];

/// A small generator, so that a seed means the same weights everywhere (xorshift64*,
/// <https://doi.org/10.1145/2845077>).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1) ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn tensor(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.unit() * scale).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub fn sequence(&mut self, length: usize, vocabulary: usize) -> Sequence {
        Sequence::new((0..length).map(|_| self.below(vocabulary) as u32).collect())
    }
}

/// Rows of the table of segments.
const SEGMENTS: usize = 2;

pub fn config(hidden_act: HiddenActivation) -> EncoderSizes {
    EncoderSizes {
        vocab_size: 50,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 20,
        hidden_act,
        max_position_embeddings: 32,
        layer_norm_eps: 1e-12,
    }
}

/// The same sizes for candle's own BERT.
pub fn candle_config(config: &EncoderSizes) -> Config {
    Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: match config.hidden_act {
            HiddenActivation::Gelu => HiddenAct::Gelu,
            HiddenActivation::GeluTanh => HiddenAct::GeluApproximate,
            HiddenActivation::Relu => HiddenAct::Relu,
            HiddenActivation::Silu => panic!("candle's own has none"),
        },
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: SEGMENTS,
        layer_norm_eps: config.layer_norm_eps,
        ..Config::default()
    }
}

/// All weights of an encoder of these sizes.
pub fn encoder_tensors(random: &mut Random, config: &EncoderSizes) -> Tensors {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.max_position_embeddings, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![SEGMENTS, hidden]),
    ];
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..config.num_hidden_layers {
        let prefix = format!("encoder.layer.{layer}");
        for (name, wide_out, wide_in) in LINEARS {
            let (out, inside) = (if wide_out { inner } else { hidden }, if wide_in { inner } else { hidden });
            shapes.push((format!("{prefix}.{name}.weight"), vec![out, inside]));
            shapes.push((format!("{prefix}.{name}.bias"), vec![out]));
        }
        norms.push(format!("{prefix}.attention.output.LayerNorm"));
        norms.push(format!("{prefix}.output.LayerNorm"));
    }
    shapes.extend(
        norms.into_iter().flat_map(|name| {
            [(format!("{name}.weight"), vec![hidden]), (format!("{name}.bias"), vec![hidden])]
        }),
    );
    shapes.into_iter().map(|(name, shape)| (name, random.tensor(&shape, 0.5))).collect()
}

/// Tensors as a file of them.
pub fn file(name: &str, tensors: &Tensors) -> TensorFile {
    let bytes = safetensors::serialize(tensors, None).unwrap();
    TensorFile::parse(Path::new(name), bytes).unwrap()
}

pub fn assemble(tensors: &Tensors, config: &EncoderSizes) -> Result<EncoderWeights, ModelError> {
    architectures::assemble(Architecture::Bert, file("model", tensors), config_json(config).as_bytes())
}

/// The `config.json` of a BERT of these sizes.
pub fn config_json(config: &EncoderSizes) -> String {
    let activation = match config.hidden_act {
        HiddenActivation::Gelu => "gelu",
        HiddenActivation::GeluTanh => "gelu_new",
        HiddenActivation::Relu => "relu",
        HiddenActivation::Silu => "silu",
    };
    let fields = serde_json::json!({
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": activation,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": SEGMENTS,
        "layer_norm_eps": config.layer_norm_eps,
    });
    fields.to_string()
}

/// The sizes of a spec that is BERT's.
pub fn sizes_of(spec: &EncoderSpec) -> EncoderSizes {
    EncoderSizes {
        vocab_size: spec.vocab_size,
        hidden_size: spec.hidden_size,
        num_hidden_layers: spec.num_hidden_layers,
        num_attention_heads: spec.num_attention_heads,
        intermediate_size: spec.intermediate_size,
        hidden_act: spec.hidden_act,
        max_position_embeddings: spec.max_position_embeddings,
        layer_norm_eps: spec.layer_norm_eps,
    }
}

pub fn weights(tensors: &Tensors, config: &EncoderSizes) -> EncoderWeights {
    assemble(tensors, config).unwrap()
}

/// A head that gives the last hidden states themselves.
pub fn identity(hidden: usize) -> HeadWeights {
    let mut weight = vec![0.0; hidden * hidden];
    weight.iter_mut().step_by(hidden + 1).for_each(|value| *value = 1.0);
    let classifier = LinearWeights { weight, bias: vec![0.0; hidden] };
    HeadWeights::classifier(HeadRows::Tokens, None, classifier)
}

pub type Named = (String, Box<dyn Runtime>);

/// Every runtime in float32 that this CPU can run.
pub fn runtimes(
    weights: &EncoderWeights,
    adapter: Option<&LoraAdapter>,
    head: &HeadWeights,
) -> Result<Vec<Named>, ModelError> {
    let mut runtimes: Vec<Named> = vec![("candle".to_owned(), candle(weights, adapter, head)?)];
    for instructions in fused::Loader::instructions() {
        for threads in [1, 2, 3] {
            let runtime = fused(weights, adapter, head, "float32", instructions, threads)?;
            runtimes.push((format!("fused {instructions}, {threads} threads"), runtime));
        }
    }
    Ok(runtimes)
}

pub fn candle(
    weights: &EncoderWeights,
    adapter: Option<&LoraAdapter>,
    head: &HeadWeights,
) -> Result<Box<dyn Runtime>, ModelError> {
    let cpu = Device::Cpu;
    let encoder = Encoder::new(weights, Embeddings::new(weights, &cpu)?, adapter, &cpu)?;
    Ok(Box::new(CandleModel::new(encoder, head)?))
}

pub fn fused(
    weights: &EncoderWeights,
    adapter: Option<&LoraAdapter>,
    head: &HeadWeights,
    dtype: &str,
    instructions: &str,
    threads: usize,
) -> Result<Box<dyn Runtime>, ModelError> {
    let device = open_device(DeviceConfig { threads, ..DeviceConfig::default() }).unwrap();
    let mut loader = fused::Loader::with_instructions(instructions);
    let model: Box<dyn Weights> =
        loader.assemble(dtype.parse().unwrap(), Path::new("random"), weights, adapter, head)?;
    Ok(model.runtime(&device).unwrap())
}

pub fn run(runtime: &mut dyn Runtime, sequences: &[Sequence]) -> HostTensor {
    let mut result = HostTensor::default();
    runtime.run(&TokenBatch::from_sequences(sequences), &mut result).unwrap();
    result
}

/// Last hidden states of a runtime with the identity as its head, one matrix of rows per sequence.
pub fn hidden_states(runtime: &mut dyn Runtime, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let HostTensor { data, shape } = run(runtime, sequences);
    let mut rows = data.as_slice();
    let mut take = |sequence: &Sequence| {
        let (taken, rest) = rows.split_at(sequence.len() * shape[1]);
        rows = rest;
        taken.to_vec()
    };
    sequences.iter().map(&mut take).collect()
}

/// The largest difference between two equally long lists.
pub fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}
