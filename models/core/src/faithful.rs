//! Whether a card says all that a checkpoint's own files say of how its answers are made.
//!
//! Weights load as whatever they are taken for: a classifier's encoder pools by mean as well as by `[CLS]`,
//! and nobody sees that the answers are not the authors'. So what the files say beyond the card is refused,
//! with what would be needed. The files are `config.json` of transformers, the names of the tensors, what
//! says that there are other weights than these, and what sentence-transformers puts beside them (the module
//! `modules`).

mod modules;

pub use modules::{MODULES_FILE, PROMPTS_FILE, READING_FILE, pooling_of};

use std::path::Path;

use serde::Deserialize;

use crate::card::{CONFIG_FILE, Card, MultiLabel, ScoreFunction, Task, WEIGHTS_FILE};
use crate::error::ModelError;
use crate::files;
use crate::weights::tensors::INDEX_FILE;
use crate::weights::{EncoderWeights, HeadActivation, HeadWeights, Layout};

/// Beside weights: a low-rank adapter to them, in the layout of PEFT.
const ADAPTER_FILE: &str = "adapter_config.json";
/// Beside weights: which of several files has which tensor.
const SHARDS_SUFFIX: &str = ".safetensors.index.json";

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
    #[serde(default)]
    auto_map: Option<serde_json::Value>,
    #[serde(default)]
    sentence_transformers: Option<CrossEncoder>,
    #[serde(default)]
    sbert_ce_default_activation_function: Option<String>,
}

/// What a cross-encoder of sentence-transformers says of itself.
#[derive(Deserialize)]
struct CrossEncoder {
    #[serde(default)]
    activation_fn: Option<String>,
}

impl Config {
    /// What makes scores of logits, as the pipelines of transformers and sentence-transformers' cross-encoder
    /// have it.
    fn score_function(&self, task: Task, labels: usize) -> Result<ScoreFunction, String> {
        if task == Task::Rerank {
            let newer = self.sentence_transformers.as_ref().and_then(|own| own.activation_fn.as_deref());
            let class = newer.or(self.sbert_ce_default_activation_function.as_deref());
            return match class.map(|class| HeadActivation::of_torch(class).ok_or(class)) {
                None | Some(Ok(HeadActivation::Sigmoid)) => Ok(ScoreFunction::Sigmoid),
                Some(Ok(HeadActivation::Identity)) => Ok(ScoreFunction::Identity),
                Some(Ok(other)) => Err(format!("activation_fn: {other:?} is not computed")),
                Some(Err(class)) => Err(format!("activation_fn: {class:?} is not computed")),
            };
        }
        Ok(match self.problem_type.as_deref() {
            Some("multi_label_classification") => ScoreFunction::Sigmoid,
            Some("regression") => ScoreFunction::Identity,
            _ if labels == 1 => ScoreFunction::Sigmoid,
            _ => ScoreFunction::Softmax,
        })
    }
}

/// What makes scores of a checkpoint's logits, for a classifier or a reranker of this many labels.
///
/// # Errors
/// `config.json` cannot be read, or names a function that is not computed.
pub fn score_function(folder: &Path, task: Task, labels: usize) -> Result<ScoreFunction, ModelError> {
    let path = folder.join(CONFIG_FILE);
    let config: Config = read(&path)?;
    config.score_function(task, labels).map_err(|message| fault(&path, message))
}

/// Compares a card with what lies in the folder of its files.
///
/// # Errors
/// Names the file, what it says, and what would be needed.
pub fn check(card: &Card, folder: &Path, base: &EncoderWeights) -> Result<(), ModelError> {
    let unused = HeadWeights::unused(card, folder, base)?;
    check_config(card, folder, base.layout(), &unused)?;
    check_tensors(card, folder, base.layout(), &unused)?;
    check_beside(card, folder)?;
    // Where the card brings a head of its own, it stands in the place of the checkpoint's pooling.
    if let Some(head) = card.head.pooling() {
        modules::check(card, head, folder)?;
    }
    Ok(())
}

fn check_config(card: &Card, folder: &Path, layout: &Layout, unused: &[String]) -> Result<(), ModelError> {
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
    let function =
        config.score_function(card.task, card.labels.len()).map_err(|message| fault(&path, message))?;
    if card.head.is_of_checkpoint()
        && matches!(card.task, Task::Classify | Task::Rerank)
        && card.score_function != function
    {
        let message =
            format!("scores are made by {}, which ml_inference.score_function must be", function.as_str());
        return Err(fault(&path, message));
    }
    if config.auto_map.as_ref().is_some_and(|map| !is_own_code(map, layout)) {
        return refuse("auto_map", "names code of the authors' own, which is not run");
    }
    for architecture in config.architectures.iter().flatten() {
        if let Err(message) = check_class(card, architecture, layout, unused) {
            return refuse("architectures", &message);
        }
    }
    Ok(())
}

/// Whether the code that a repository brings is that of its architecture, which is computed here instead.
fn is_own_code(auto_map: &serde_json::Value, layout: &Layout) -> bool {
    let is_known = |class: &str| {
        layout.code_classes.contains(&class)
            || layout.encoder_classes.contains(&class)
            || layout.head_classes.iter().any(|(name, _)| *name == class)
    };
    // `repository--module.Class`
    let is_own = |value: &serde_json::Value| {
        value.as_str().is_some_and(|name| is_known(name.rsplit('.').next().unwrap_or_default()))
    };
    let entries = auto_map.as_object();
    !layout.code_classes.is_empty() && entries.is_some_and(|entries| entries.values().all(is_own))
}

/// A head of the checkpoint's own is left out by a card that names its tensors, which then are in the file.
fn check_class(card: &Card, class: &str, layout: &Layout, unused: &[String]) -> Result<(), String> {
    // Whether it has the head that the card asks for was seen where the head's tensors were looked for.
    if layout.encoder_classes.contains(&class) || card.head.is_of_checkpoint() {
        return Ok(());
    }
    let Some((_, head)) = layout.head_classes.iter().find(|(name, _)| *name == class) else {
        return Err(format!(
            "{class} is not known; known are {} and heads over them",
            layout.encoder_classes.join(", ")
        ));
    };
    // Whether each of the head's tensors is named is seen where tensors are looked at.
    if !card.ignore_tensors.is_empty() && unused.iter().any(|tensor| tensor.starts_with(head)) {
        return Ok(());
    }
    Err(format!(
        "{class} answers by a head of its own over the encoder ({head}*), which the card's head {} is not; needed: a head \
         that computes it, or weights with the head's tensors and ml_inference.ignore_tensors: [{head}] if the answers are made \
         without it",
        card.head.name()
    ))
}

fn check_tensors(card: &Card, folder: &Path, layout: &Layout, unused: &[String]) -> Result<(), ModelError> {
    let path = folder.join(WEIGHTS_FILE);
    let is_named = |tensor: &str, name: &str| {
        tensor.starts_with(name)
            || tensor.strip_prefix(layout.prefix).is_some_and(|rest| rest.starts_with(name))
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

/// Files that say that the weights beside them are not all.
fn check_beside(card: &Card, folder: &Path) -> Result<(), ModelError> {
    let adapter = folder.join(ADAPTER_FILE);
    let is_merged = card.adapter.as_ref().is_some_and(|own| card.folder.join(&own.config) == adapter);
    if adapter.exists() && !is_merged {
        let message = "is an adapter to the weights, which the card does not name; needed: ml_inference.adapter, or the weights \
                       with it merged and without this file";
        return Err(fault(&adapter, message.to_owned()));
    }
    for entry in std::fs::read_dir(folder).map_err(|error| fault(folder, error.to_string()))? {
        let path = entry.map_err(|error| fault(folder, error.to_string()))?.path();
        let is_read = path == folder.join(INDEX_FILE) && !folder.join(WEIGHTS_FILE).exists();
        if path.to_string_lossy().ends_with(SHARDS_SUFFIX) && !is_read {
            let message = format!(
                "weight_map: spreads the weights over several files, beside {WEIGHTS_FILE}, which alone is read; needed: one of \
                 the two"
            );
            return Err(fault(&path, message));
        }
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    serde_json::from_slice(&files::read(path)?).map_err(|error| fault(path, error.to_string()))
}

fn fault(path: &Path, message: String) -> ModelError {
    ModelError::File { file: path.display().to_string(), message }
}
