//! Small encoders, adapters and heads with random weights, from a seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use candle_transformers::models::bert::{Config, HiddenAct};
use models::runtimes::candle::TensorFile;
use models::runtimes::candle::encoder::Encoder;
use models::{Sequence, TokenBatch};

pub type Tensors = HashMap<String, Tensor>;

/// Linear layers of a transformer layer, with their sizes `[out, in]` in terms of hidden and intermediate size.
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

pub fn config(hidden_act: HiddenAct) -> Config {
    Config {
        vocab_size: 50,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 20,
        hidden_act,
        max_position_embeddings: 32,
        ..Config::default()
    }
}

/// All weights of an encoder of these sizes.
pub fn encoder_tensors(random: &mut Random, config: &Config) -> Tensors {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.max_position_embeddings, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![config.type_vocab_size, hidden]),
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

pub fn encoder(tensors: Tensors, config: &Config) -> Encoder {
    Encoder::load(TensorFile::from_tensors("random", tensors), config, &Device::Cpu).unwrap()
}

/// Last hidden states, one matrix of rows per sequence.
pub fn hidden_states(encoder: &Encoder, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let batch = TokenBatch::from_sequences(sequences);
    encoder.check(&batch).unwrap();
    let hidden = encoder.forward(&batch).unwrap();
    let rows = |range: std::ops::Range<usize>| hidden.narrow(0, range.start, range.len()).unwrap();
    batch.ranges().map(|range| rows(range).flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// The largest difference between two equally long lists.
pub fn difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}
