//! Small checkpoints of every architecture, as `scripts/make_checkpoints.py` makes them: weights follow from
//! the names of tensors, and what the authors' classes compute with them is in `models/tests/references`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use models::Sequence;
use serde::Deserialize;
use serde_json::Value;

use super::common::root;

/// A checkpoint and what it was given.
#[derive(Deserialize)]
pub struct Checkpoint {
    pub name: String,
    /// As cards name it.
    pub architecture: String,
    /// `encoder`; what its head classifies, `sequence` or `token`; or `sentence`, with modules behind it.
    pub kind: String,
    /// Each says the same: as transformers writes it, and as older files have it.
    pub configs: Vec<Value>,
    /// Shapes by name.
    pub tensors: BTreeMap<String, Vec<usize>>,
    pub inputs: Vec<Given>,
    /// Modules of sentence-transformers, as newer versions write them and as older do.
    #[serde(default)]
    pub modules: Vec<Vec<Module>>,
    /// Weights instead of those that follow from the names.
    #[serde(skip)]
    pub replaced: Option<HashMap<String, Tensor>>,
}

#[derive(Deserialize)]
pub struct Given {
    pub ids: Vec<u32>,
    /// The segment of each token.
    pub types: Option<Vec<u8>>,
}

/// A module of sentence-transformers.
#[derive(Deserialize)]
pub struct Module {
    pub r#type: String,
    pub path: String,
    pub config: Option<Value>,
    /// Shapes by name.
    pub tensors: BTreeMap<String, Vec<usize>>,
}

/// What the authors' classes computed.
pub struct References(HashMap<String, Tensor>);

fn folder() -> PathBuf {
    root().join("models/tests/references")
}

/// All there are.
pub fn checkpoints() -> Vec<Checkpoint> {
    serde_json::from_slice(&fs::read(folder().join("checkpoints.json")).unwrap()).unwrap()
}

impl References {
    pub fn read() -> Self {
        let path = folder().join("checkpoints.safetensors");
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    /// Rows of the output for an input.
    pub fn rows(&self, checkpoint: &str, input: usize) -> Vec<Vec<f32>> {
        self.0[&format!("{checkpoint}/{input}")].to_vec2().unwrap()
    }

    /// The mean of all rows of hidden states.
    pub fn mean(&self, checkpoint: &str, input: usize) -> Vec<f32> {
        self.0[&format!("{checkpoint}/{input}/mean")].to_vec1().unwrap()
    }
}

impl Checkpoint {
    /// Writes the checkpoint with one of its configurations.
    pub fn write(&self, folder: &Path, config: &Value) {
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let tensors = self.weights();
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
    }

    /// The same spread over two files.
    pub fn write_sharded(&self, folder: &Path, config: &Value) {
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let mut map = BTreeMap::new();
        let mut shards = [HashMap::new(), HashMap::new()];
        for (index, (name, tensor)) in self.weights().into_iter().enumerate() {
            map.insert(name.clone(), shard(index % 2));
            shards[index % 2].insert(name, tensor);
        }
        for (index, tensors) in shards.iter().enumerate() {
            candle_core::safetensors::save(tensors, folder.join(shard(index))).unwrap();
        }
        let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    pub fn weights(&self) -> HashMap<String, Tensor> {
        if let Some(replaced) = &self.replaced {
            return replaced.clone();
        }
        let tensor = |(name, shape): (&String, &Vec<usize>)| {
            (name.clone(), Tensor::from_vec(values(name, shape), shape.as_slice(), &Device::Cpu).unwrap())
        };
        self.tensors.iter().map(tensor).collect()
    }

    pub fn sequences(&self) -> Vec<Sequence> {
        self.inputs.iter().map(Given::sequence).collect()
    }
}

impl Module {
    /// Writes the module's folder.
    pub fn write(&self, folder: &Path) {
        let folder = folder.join(&self.path);
        fs::create_dir_all(&folder).unwrap();
        if let Some(config) = &self.config {
            fs::write(folder.join("config.json"), config.to_string()).unwrap();
        }
        let tensor = |(name, shape): (&String, &Vec<usize>)| {
            let values = values(&format!("{}.{name}", self.path), shape);
            (name.clone(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap())
        };
        let tensors: HashMap<String, Tensor> = self.tensors.iter().map(tensor).collect();
        if !tensors.is_empty() {
            candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
        }
    }
}

impl Given {
    pub fn sequence(&self) -> Sequence {
        let first = |types: &Vec<u8>| types.iter().filter(|segment| **segment == 0).count() as u32;
        Sequence { first_segment: self.types.as_ref().map(first), ..Sequence::new(self.ids.clone()) }
    }
}

pub fn shard(index: usize) -> String {
    format!("model-{:05}-of-00002.safetensors", index + 1)
}

/// Rows of a sequence's hidden states that references have.
pub fn kept_rows(length: usize) -> Vec<usize> {
    if length <= 6 {
        return (0..length).collect();
    }
    let mut rows = vec![0, 1, length / 3, length / 2, length - 2, length - 1];
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let hash = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let is_norm = shape.len() == 1 && name.ends_with(".weight");
    let value = |index: usize| {
        let mut state = hash.wrapping_add((index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
        let unit = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if is_norm { 1.0 + unit * 0.25 } else { unit * 0.25 }
    };
    (0..shape.iter().product()).map(value).collect()
}
