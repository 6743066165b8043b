//! Modules of sentence-transformers behind the pooling, each in a folder of its own.

use std::path::Path;

use serde::Deserialize;

use super::{HeadActivation, HeadLayer, linear};
use crate::card::{CONFIG_FILE, Module, WEIGHTS_FILE};
use crate::error::ModelError;
use crate::files;
use crate::weights::{NormWeights, TensorFile};

/// What torch's `LayerNorm` adds to variances unless it is told otherwise, which the module does not.
const EPSILON: f32 = 1e-5;
/// What modules read and write.
const SENTENCE: &str = "sentence_embedding";

/// `config.json` of the module `Dense`.
#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    /// What the module has where it says nothing.
    #[serde(default = "tanh")]
    activation_function: String,
    /// Newer ones may be told to read and to write other than the sentence's vector.
    #[serde(default)]
    module_input_name: Option<String>,
    #[serde(default)]
    module_output_name: Option<String>,
    /// Newer ones may add what they read to what they give.
    #[serde(default)]
    use_residual: bool,
}

fn yes() -> bool {
    true
}

fn tanh() -> String {
    "torch.nn.modules.activation.Tanh".to_owned()
}

/// Reads a module that takes rows of this width.
///
/// # Errors
/// When its files cannot be read, do not fit, or ask for what is not computed.
pub(super) fn read(module: &Module, folder: &Path, width: usize) -> Result<HeadLayer, ModelError> {
    match module {
        Module::Normalize => Ok(HeadLayer::Normalize),
        Module::LayerNorm(within) => {
            let weights = TensorFile::open_folder(&folder.join(within))?;
            let (weight, bias) = (weights.get("norm.weight", &[width])?, weights.get("norm.bias", &[width])?);
            Ok(HeadLayer::Norm(NormWeights { weight, bias, epsilon: EPSILON }))
        }
        Module::Dense(within) => dense(&folder.join(within), width),
    }
}

fn dense(folder: &Path, width: usize) -> Result<HeadLayer, ModelError> {
    let path = folder.join(CONFIG_FILE);
    let fault = |message: String| ModelError::File { file: path.display().to_string(), message };
    let config: DenseConfig =
        serde_json::from_slice(&files::read(&path)?).map_err(|error| fault(error.to_string()))?;
    if config.in_features != width {
        let found = config.in_features;
        return Err(fault(format!("in_features: is {found}, and what comes before gives {width}")));
    }
    for (key, name) in
        [("module_input_name", &config.module_input_name), ("module_output_name", &config.module_output_name)]
    {
        if let Some(name) = name.as_deref().filter(|name| *name != SENTENCE) {
            return Err(fault(format!("{key}: {name:?} is not computed, {SENTENCE:?} alone is")));
        }
    }
    if config.use_residual {
        return Err(fault("use_residual: true is not computed".to_owned()));
    }
    let activation = HeadActivation::of_torch(&config.activation_function).ok_or_else(|| {
        fault(format!("activation_function: {:?} is not computed", config.activation_function))
    })?;
    let weights = TensorFile::open_folder(folder)?;
    if weights.has("linear.bias") != config.bias {
        let has = if config.bias { "no" } else { "a" };
        let file = folder.join(WEIGHTS_FILE).display().to_string();
        return Err(ModelError::File { file, message: format!("has {has} linear.bias, unlike config.json") });
    }
    let layer = linear(&weights, "linear", [config.out_features, width], config.bias)?;
    Ok(HeadLayer::Linear(layer, activation))
}
