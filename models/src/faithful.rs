//! Whether a card says all that a checkpoint's own files say of how its answers are made.
//!
//! Weights load as whatever they are taken for: a classifier's encoder pools by mean as well as by `[CLS]`, and nobody sees that the
//! answers are not the authors'. So what the files say beyond the card is refused, with what would be needed. The files are
//! `config.json` of transformers, the names of the tensors, and what sentence-transformers puts beside them
//! (<https://sbert.net/docs/sentence_transformer/usage/custom_models.html>): `modules.json` and a folder for each module.

use std::path::Path;

use serde::Deserialize;

use crate::card::{CONFIG_FILE, Card, Head, MultiLabel, WEIGHTS_FILE};
use crate::error::ModelError;
use crate::files;
use crate::weights::BertWeights;

/// Architectures of transformers that are an encoder, with or without what it was pre-trained by.
const ENCODERS: [&str; 3] = ["BertModel", "BertForMaskedLM", "BertForPreTraining"];
const MODULES_FILE: &str = "modules.json";
const PROMPTS_FILE: &str = "config_sentence_transformers.json";

/// What `config.json` may say that changes answers.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    is_encoder_decoder: bool,
    #[serde(default)]
    add_cross_attention: bool,
    #[serde(default)]
    pruned_heads: serde_json::Value,
    #[serde(default)]
    quantization_config: Option<serde_json::Value>,
    #[serde(default)]
    problem_type: Option<String>,
}

/// A module of sentence-transformers.
#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

/// How a pooling module pools: older files have a switch for each way, newer ones a name.
#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode: Option<serde_json::Value>,
    #[serde(flatten)]
    switches: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Prompts {
    #[serde(default)]
    default_prompt_name: Option<String>,
}

/// Compares a card with what lies in the folder of its files.
///
/// # Errors
/// Names the file, what it says, and what would be needed.
pub(crate) fn check(card: &Card, folder: &Path, base: &BertWeights) -> Result<(), ModelError> {
    check_config(card, folder)?;
    check_tensors(card, folder, &base.unused())?;
    // Where the card brings a head of its own, it stands in the place of the checkpoint's pooling.
    if card.head == Head::MeanPooling {
        check_modules(folder)?;
        check_prompts(folder)?;
    }
    Ok(())
}

fn check_config(card: &Card, folder: &Path) -> Result<(), ModelError> {
    let path = folder.join(CONFIG_FILE);
    let config: Config = read(&path)?;
    let refuse = |field: &str, message: &str| Err(fault(&path, format!("{field}: {message}")));
    for (field, is_set) in [
        ("is_decoder", config.is_decoder),
        ("is_encoder_decoder", config.is_encoder_decoder),
        ("add_cross_attention", config.add_cross_attention),
    ] {
        if is_set {
            return refuse(field, "is true: only encoders that read in both directions are computed");
        }
    }
    let is_empty = match &config.pruned_heads {
        serde_json::Value::Object(heads) => heads.is_empty(),
        heads => heads.is_null(),
    };
    if !is_empty {
        return refuse("pruned_heads", "is not empty: layers with fewer heads are not computed");
    }
    if config.quantization_config.is_some() {
        return refuse("quantization_config", "is there: weights are read as floating-point numbers alone");
    }
    let excludes = config.problem_type.as_deref() == Some("single_label_classification");
    if excludes && card.multi_label == Some(MultiLabel::Independent) {
        let message =
            "says that classes exclude each other, which the card's multi_label: independent does not";
        return refuse("problem_type", message);
    }
    for architecture in config.architectures.iter().flatten() {
        let is_encoder = ENCODERS.contains(&architecture.as_str());
        // A card that leaves parts of the file out has looked at them; which ones is checked by name.
        if !is_encoder && card.ignore_tensors.is_empty() {
            let message = format!(
                "{architecture} answers by a head of its own over the encoder, which the card's head {} is not; needed: a head \
                 that computes it, or the encoder alone, with ml_inference.ignore_tensors naming what is left out",
                card.head.name()
            );
            return refuse("architectures", &message);
        }
    }
    Ok(())
}

fn check_tensors(card: &Card, folder: &Path, unused: &[String]) -> Result<(), ModelError> {
    let path = folder.join(WEIGHTS_FILE);
    let is_named = |tensor: &str, name: &str| {
        tensor.starts_with(name) || tensor.strip_prefix("bert.").is_some_and(|rest| rest.starts_with(name))
    };
    let is_ignored = |tensor: &&String| card.ignore_tensors.iter().any(|name| is_named(tensor, name));
    if let Some(tensor) = unused.iter().find(|tensor| !is_ignored(tensor)) {
        let message = format!(
            "tensor {tensor} is used by no part of the card; needed: a head that uses it, or ml_inference.ignore_tensors with its \
             name or what it begins with, if the answers are made without it"
        );
        return Err(fault(&path, message));
    }
    if let Some(name) = card.ignore_tensors.iter().find(|name| !unused.iter().any(|t| is_named(t, name))) {
        let message = format!("ml_inference.ignore_tensors: no unused tensor begins with {name:?}");
        return Err(fault(&path, message));
    }
    Ok(())
}

/// Looks at the modules that `modules.json` lists, and at the folders of modules that lie there without it.
fn check_modules(folder: &Path) -> Result<(), ModelError> {
    let path = folder.join(MODULES_FILE);
    let modules: Vec<Module> = if path.is_file() { read(&path)? } else { stray_modules(folder)? };
    for module in &modules {
        let kind = module.r#type.rsplit('.').next().unwrap_or_default();
        match kind {
            "Transformer" if module.path.is_empty() => {}
            "Pooling" => check_pooling(&folder.join(inside(&path, &module.path)?).join(CONFIG_FILE))?,
            // What is embedded is scaled to length one unless the caller says otherwise, and compared by cosine.
            "Normalize" => {}
            _ => {
                let message = format!(
                    "module {kind} ({}) is not what the card's head mean_pooling computes; needed: a head that computes it",
                    module.path
                );
                return Err(fault(&path, message));
            }
        }
    }
    Ok(())
}

/// Folders such as `2_Dense`.
fn stray_modules(folder: &Path) -> Result<Vec<Module>, ModelError> {
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| fault(folder, error.to_string()))? {
        let entry = entry.map_err(|error| fault(folder, error.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((number, kind)) = name.split_once('_')
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && entry.path().is_dir()
        {
            modules.push(Module { r#type: kind.to_owned(), path: name });
        }
    }
    Ok(modules)
}

fn check_pooling(path: &Path) -> Result<(), ModelError> {
    let pooling: Pooling = read(path)?;
    let refuse = |how: &str| {
        let message =
            format!("pools by {how}, the card's head by mean; needed: a head that pools as it does");
        Err(fault(path, message))
    };
    match &pooling.pooling_mode {
        Some(serde_json::Value::String(mode)) if mode == "mean" => {}
        Some(mode) => return refuse(&format!("pooling_mode {mode}")),
        None => {
            let is_on =
                |name: &str| pooling.switches.get(name).and_then(serde_json::Value::as_bool) == Some(true);
            let ways =
                pooling.switches.keys().filter(|name| name.starts_with("pooling_mode_") && is_on(name));
            match ways.map(String::as_str).collect::<Vec<_>>()[..] {
                ["pooling_mode_mean_tokens"] => {}
                [] => return refuse("nothing that is named"),
                ref ways => return refuse(&ways.join(" and ")),
            }
        }
    }
    Ok(())
}

/// A prompt that is put before every text changes its vector.
fn check_prompts(folder: &Path) -> Result<(), ModelError> {
    let path = folder.join(PROMPTS_FILE);
    if !path.is_file() {
        return Ok(());
    }
    let prompts: Prompts = read(&path)?;
    match prompts.default_prompt_name {
        Some(name) => {
            let message = format!("default_prompt_name {name:?}: texts are read without a prompt");
            Err(fault(&path, message))
        }
        None => Ok(()),
    }
}

/// A path out of a file, which must stay in its folder.
fn inside<'a>(file: &Path, path: &'a str) -> Result<&'a Path, ModelError> {
    let path = Path::new(path);
    let is_inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if is_inside { Ok(path) } else { Err(fault(file, "a module's path leads out of the folder".to_owned())) }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    serde_json::from_slice(&files::read(path)?).map_err(|error| fault(path, error.to_string()))
}

fn fault(path: &Path, message: String) -> ModelError {
    ModelError::File { file: path.display().to_string(), message }
}
