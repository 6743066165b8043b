//! A card out of a checkpoint's own files, for a model that is served without one: what transformers writes
//! into `config.json` and `tokenizer_config.json`, and sentence-transformers beside them
//! (<https://sbert.net/docs/sentence_transformer/usage/custom_models.html>).
//!
//! The card is made as text and read as any other, and what it says is compared with the files when the model
//! is loaded: so it cannot say what a written card could not. What the files do not tell is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use models_core::card::{
    CONFIG_FILE, Card, CardError, Origin, Sha256Digest, TOKENIZER_FILE, Task, WEIGHTS_FILE,
};
use models_core::faithful::{MODULES_FILE, PROMPTS_FILE, READING_FILE, pooling_of, score_function};
use models_core::kinds::Architecture;
use models_core::spec::EncoderSpec;
use models_core::weights::tensors::{INDEX_FILE, PICKLE_FILE};
use models_core::{ModelError, files};
use serde_json::{Map, Value, json};

use super::wanted::Wanted;
use crate::architectures;
use crate::source::{Pin, SourceError};

pub(super) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// `model_max_length` of tokenizers that have none.
const NO_LENGTH: f64 = 1e9;
/// Tokens of the longest text, read in windows, and texts of a call.
const DOCUMENT_TOKENS_MAX: usize = 20_000;
const INPUTS_MAX: usize = 1024;
/// Labels that nobody has named; a classifier with another number is refused when it is loaded.
const LABELS_MAX: u64 = 65_536;
/// Modules of a checkpoint; there are four at most in most.
const MODULES_MAX: usize = 64;
/// Where nobody says it.
const BY_DEFAULT: &str = "default";
/// Of a model of which nothing is known but its files.
const P99_TARGET_MS: u64 = 200;

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
pub(super) enum InferError {
    /// A file is missing, cannot be read or says what is not served.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The files do not tell something.
    #[error("{folder}: {what} cannot be told from the files: {needed}")]
    Unknown {
        folder: String,
        /// What is not known.
        what: &'static str,
        /// What to add.
        needed: String,
    },
    /// The files cannot be had.
    #[error(transparent)]
    Source(#[from] Arc<SourceError>),
    /// What was made is no card.
    #[error("{0}")]
    Card(#[from] CardError),
}

/// A checkpoint's folder, and what its `config.json` says.
struct Checkpoint<'a> {
    folder: &'a Path,
    config: Map<String, Value>,
    spec: EncoderSpec,
    architecture: Architecture,
}

/// A field of a card that nobody wrote, and what it was taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The field of the card.
    pub field: &'static str,
    pub value: Value,
    /// Files, or who else says it.
    pub from: String,
}

/// The card of a checkpoint whose files are in `folder`; of one that is pinned they are known.
///
/// # Errors
/// Names the file, or what has to be said beside it.
pub(super) fn card(wanted: &Wanted, folder: &Path, pin: Option<&Pin>) -> Result<Card, InferError> {
    let text = text(&findings(wanted, folder, pin)?);
    let file = format!("{}: what its files say", wanted.place);
    let mut card = Card::parse(&text, &file, PathBuf::new())?;
    // A written card lies around its files, this one beside none.
    card.folder = folder.to_path_buf();
    card.source.origin = pin.map_or(Origin::Folder(PathBuf::new()), |pin| pin.source().origin);
    Ok(card)
}

/// The text of the card.
fn text(findings: &[Finding]) -> String {
    let mut text = String::from("---\nlicense: unknown\nml_inference:\n");
    for Finding { field, value, .. } in findings {
        let _ = writeln!(text, "  {field}: {value}");
    }
    text.push_str("---\n");
    text
}

/// What the card says, field by field.
///
/// # Errors
/// As [`card`].
pub(super) fn findings(
    wanted: &Wanted,
    folder: &Path,
    pin: Option<&Pin>,
) -> Result<Vec<Finding>, InferError> {
    let checkpoint = Checkpoint::open(folder)?;
    let (task, task_from) = match wanted.task {
        Some(task) => (task, "task=".to_owned()),
        None => checkpoint.task()?,
    };
    let labels = checkpoint.labels(task)?;
    let files = match pin {
        Some(pin) => pin.source().files,
        None => checkpoint.files()?,
    };
    let digest = files.iter().find(|(name, _)| name.ends_with(".safetensors")).map(|(_, digest)| digest);
    // By its content where it has no commit.
    let version = pin.map(|pin| pin.commit.clone()).or_else(|| digest.map(ToString::to_string));
    let version: String = version.map_or("unknown".to_owned(), |version| version.chars().take(12).collect());
    let version_from = if pin.is_some() { "its commit" } else { "SHA-256 of its weights" };
    let sha256 = |(name, digest): (&String, &Sha256Digest)| (name.clone(), json!({ "sha256": digest }));
    let files: Map<String, Value> = files.iter().map(sha256).collect();
    let (limits, limits_from) = checkpoint.limits()?;
    let head_from = match task {
        Task::Embed if !checkpoint.has(MODULES_FILE) => "pooling=".to_owned(),
        Task::Embed => format!("{MODULES_FILE} and its folders"),
        _ => format!("{CONFIG_FILE} (architectures)"),
    };
    let name_from = if wanted.name.is_some() { "name=" } else { "its place" };
    let found =
        |field: &'static str, value: Value, from: &str| Finding { field, value, from: from.to_owned() };
    let mut lines = vec![
        found("name", json!(wanted.name()), name_from),
        found("version", json!(version), version_from),
        found("task", json!(task.as_str()), &task_from),
        found("architecture", json!(checkpoint.architecture.as_str()), "config.json (model_type)"),
        found("runtime", json!("fused"), BY_DEFAULT),
        found("dtype", json!("float32"), BY_DEFAULT),
        found("source", json!({ "folder": "files", "files": files }), "its place"),
        found("head", checkpoint.head(task, wanted)?, &head_from),
        found("labels", json!(labels), "config.json (id2label)"),
        found("limits", limits, &limits_from),
        found("p99_target_ms", json!(P99_TARGET_MS), BY_DEFAULT),
        found("price_per_1000_requests_usd", json!("0"), BY_DEFAULT),
        found("required", json!(true), BY_DEFAULT),
    ];
    if matches!(task, Task::Classify | Task::Rerank) {
        let function = score_function(folder, task, labels.len())?;
        let from = "config.json (problem_type, activation_fn)";
        lines.push(found("score_function", json!(function.as_str()), from));
    }
    let prompts = checkpoint.prompts(task)?.into_iter();
    lines.extend(prompts.map(|(field, value)| found(field, value, PROMPTS_FILE)));
    let entailment = checkpoint.entailment(task, &labels);
    lines.extend(entailment.map(|(field, value)| found(field, value, "its labels")));
    if task == Task::Embed {
        let unused = json!(checkpoint.around_encoder()?);
        lines.push(found("ignore_tensors", unused, "tensors that are no part of the encoder"));
        // Where no file says how vectors are made, whoever asks for the model has said it.
        let stated = wanted.pooling.filter(|_| !checkpoint.has(MODULES_FILE));
        lines.extend(stated.map(|pooling| found("pooling", json!(pooling.to_string()), "pooling=")));
    }
    Ok(lines)
}

impl<'a> Checkpoint<'a> {
    fn open(folder: &'a Path) -> Result<Self, InferError> {
        let bytes = files::read(&folder.join(CONFIG_FILE))?;
        let architecture = architectures::detect(&bytes)?;
        let spec = architectures::spec(architecture, &bytes)?;
        let config = object(folder, CONFIG_FILE)?.unwrap_or_default();
        Ok(Self { folder, config, spec, architecture })
    }

    fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    /// The class of transformers that wrote it.
    fn class(&self) -> &str {
        let classes = self.config.get("architectures").and_then(Value::as_array);
        classes.and_then(|classes| classes.first()).and_then(Value::as_str).unwrap_or_default()
    }

    /// What it does, by its modules and its class: one score for a sequence is a reranker's.
    fn task(&self) -> Result<(Task, String), InferError> {
        let class = self.class();
        let by_class = |task: Task| Ok((task, format!("{CONFIG_FILE} (architectures: {class})")));
        // Cross-encoders have modules, too, since version 6 of sentence-transformers.
        let kind = object(self.folder, PROMPTS_FILE)?.and_then(|config| config.get("model_type").cloned());
        if self.has(MODULES_FILE) && kind != Some(json!("CrossEncoder")) {
            return Ok((Task::Embed, MODULES_FILE.to_owned()));
        }
        if class.ends_with("ForTokenClassification") {
            return by_class(Task::Entities);
        }
        if class.ends_with("ForSequenceClassification") {
            return by_class(if self.own_labels()?.len() == 1 { Task::Rerank } else { Task::Classify });
        }
        if class.is_empty() || class.ends_with("Model") || class.ends_with("ForMaskedLM") {
            return by_class(Task::Embed);
        }
        let tasks: Vec<_> = Task::ALL.iter().map(|task| task.as_str()).collect();
        Err(self.unknown("the task", format!("add task=… to the model, one of {}", tasks.join(", "))))
    }

    /// What a classifier's rows are called; as transformers calls them where nobody has.
    fn own_labels(&self) -> Result<Vec<String>, ModelError> {
        let Some(named) = self.config.get("id2label").and_then(Value::as_object) else {
            let count = self.config.get("num_labels").and_then(Value::as_u64).unwrap_or(2);
            return Ok((0..count.min(LABELS_MAX)).map(|number| format!("LABEL_{number}")).collect());
        };
        let label = |row: usize| {
            let label = named.get(&row.to_string()).and_then(Value::as_str).map(str::to_owned);
            label.ok_or_else(|| self.fault(CONFIG_FILE, format!("id2label has no text for the row {row}")))
        };
        (0..named.len()).map(label).collect()
    }

    fn labels(&self, task: Task) -> Result<Vec<String>, ModelError> {
        if matches!(task, Task::Embed | Task::Summarize) { Ok(Vec::new()) } else { self.own_labels() }
    }

    fn fault(&self, file: &str, message: String) -> ModelError {
        ModelError::File { file: self.folder.join(file).display().to_string(), message }
    }

    /// What `modules.json` lists, if it is there: types and folders, which are within this one.
    fn modules(&self) -> Result<Option<Vec<(String, String)>>, ModelError> {
        let Some(listed) = json_file::<Vec<Map<String, Value>>>(self.folder, MODULES_FILE)? else {
            return Ok(None);
        };
        if listed.len() > MODULES_MAX {
            let message = format!("lists {} modules; at most {MODULES_MAX} are computed", listed.len());
            return Err(self.fault(MODULES_FILE, message));
        }
        let module = |module: &Map<String, Value>| {
            let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let path = text("path");
            let is_inside = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
            let message = format!("path {path:?} is not within the folder");
            if is_inside { Ok((text("type"), path)) } else { Err(self.fault(MODULES_FILE, message)) }
        };
        listed.iter().map(module).collect::<Result<_, _>>().map(Some)
    }

    /// A model that says whether one text follows from another judges labels that the caller brings.
    fn entailment(&self, task: Task, labels: &[String]) -> Option<(&'static str, Value)> {
        let label = |name: &str| labels.iter().find(|label| label.to_lowercase().starts_with(name));
        let (entailment, contradiction) = (label("entail")?, label("contradict")?);
        let template = "This example is {label}.";
        let value = json!({ "template": template, "entailment": entailment, "contradiction": contradiction });
        (task == Task::Classify).then_some(("zero_shot", value))
    }

    fn head(&self, task: Task, wanted: &Wanted) -> Result<Value, InferError> {
        match task {
            Task::Classify | Task::Sentiment | Task::Rerank => {
                Ok(json!({ "kind": "sequence_classification" }))
            }
            Task::Entities => Ok(json!({ "kind": "token_classification" })),
            Task::Summarize => Ok(json!({ "kind": "mean_pooling" })),
            Task::Embed => self.pooling(wanted),
        }
    }

    fn pooling(&self, wanted: &Wanted) -> Result<Value, InferError> {
        let Some(listed) = self.modules()? else {
            let Some(pooling) = wanted.pooling else {
                let modes = "cls, max, mean, mean_sqrt_len_tokens, weightedmean or lasttoken";
                let needed = format!("add pooling=… to the model, {modes}, as its authors say");
                return Err(self.unknown("how vectors are made", needed));
            };
            return Ok(json!({ "kind": "pooling", "pooling": [pooling.to_string()] }));
        };
        let (mut pooling, mut modules, mut prompted) = (None, Vec::new(), true);
        for (kind, path) in &listed {
            match kind.rsplit('.').next().unwrap_or_default() {
                "Pooling" => {
                    let config = object(self.folder, &format!("{path}/{CONFIG_FILE}"))?.unwrap_or_default();
                    pooling = Some(pooling_of(&config).iter().map(ToString::to_string).collect::<Vec<_>>());
                    prompted = config.get("include_prompt").and_then(Value::as_bool).unwrap_or(true);
                }
                "Normalize" => modules.push(json!("normalize")),
                "Dense" => modules.push(json!({ "dense": path })),
                "LayerNorm" => modules.push(json!({ "layer_norm": path })),
                // Named with its file when the model is loaded, if it is not the encoder.
                _ => {}
            }
        }
        let Some(pooling) = pooling else {
            let message = "lists no module Pooling: vectors of single texts are made by one".to_owned();
            return Err(self.fault(MODULES_FILE, message).into());
        };
        Ok(json!({ "kind": "pooling", "pooling": pooling, "include_prompt": prompted, "modules": modules }))
    }

    fn prompts(&self, task: Task) -> Result<Vec<(&'static str, Value)>, InferError> {
        let mut lines = Vec::new();
        if task == Task::Embed
            && let Some(config) = object(self.folder, PROMPTS_FILE)?
        {
            let texts = config.get("prompts").and_then(Value::as_object);
            lines.extend(texts.filter(|texts| !texts.is_empty()).map(|texts| ("prompts", json!(texts))));
            let default = config.get("default_prompt_name").filter(|name| name.is_string());
            lines.extend(default.map(|name| ("default_prompt", name.clone())));
        }
        Ok(lines)
    }

    /// The shortest of what model, tokenizer and authors say, and which of them it is.
    fn limits(&self) -> Result<(Value, String), InferError> {
        let mut longest = self.spec.max_position_embeddings;
        let mut from = format!("{CONFIG_FILE} (max_position_embeddings)");
        for (file, key) in [(TOKENIZER_CONFIG_FILE, "model_max_length"), (READING_FILE, "max_seq_length")] {
            let said = object(self.folder, file)?.and_then(|config| config.get(key)?.as_f64());
            if let Some(said) = said.filter(|said| *said >= 1.0 && *said < NO_LENGTH)
                && (said as usize) < longest
            {
                (longest, from) = (said as usize, format!("{file} ({key})"));
            }
        }
        let limits = json!({
            "tokens_max": longest,
            "window_overlap": (longest / 8).min(64),
            "document_tokens_max": DOCUMENT_TOKENS_MAX.max(longest),
            "inputs_max": INPUTS_MAX,
        });
        Ok((limits, from))
    }

    /// Tensors of the file that an embedding is made without: what the encoder was trained with.
    fn around_encoder(&self) -> Result<Vec<String>, InferError> {
        Ok(architectures::open(self.architecture, self.folder)?.unused())
    }

    /// All files that answers follow from, with their digests.
    fn files(&self) -> Result<BTreeMap<String, Sha256Digest>, InferError> {
        let mut names = vec![CONFIG_FILE.to_owned(), TOKENIZER_FILE.to_owned()];
        if self.has(WEIGHTS_FILE) || !self.has(INDEX_FILE) {
            names.push(WEIGHTS_FILE.to_owned());
        } else {
            names.push(INDEX_FILE.to_owned());
            let index = object(self.folder, INDEX_FILE)?.unwrap_or_default();
            let map = index.get("weight_map").and_then(Value::as_object);
            names.extend(map.into_iter().flat_map(Map::values).filter_map(Value::as_str).map(str::to_owned));
        }
        let optional = [TOKENIZER_CONFIG_FILE, MODULES_FILE, PROMPTS_FILE, READING_FILE];
        names.extend(optional.iter().filter(|file| self.has(file)).map(|file| (*file).to_owned()));
        for (_, path) in self.modules()?.unwrap_or_default() {
            let own = [CONFIG_FILE, WEIGHTS_FILE].map(|file| format!("{path}/{file}"));
            names.extend(own.into_iter().filter(|file| !path.is_empty() && self.has(file)));
        }
        names.sort();
        names.dedup();
        names.into_iter().map(|name| Ok((name.clone(), self.digest(&name)?))).collect()
    }

    fn digest(&self, name: &str) -> Result<Sha256Digest, ModelError> {
        let path = self.folder.join(name);
        files::digest(&path).map_err(|error| {
            let message = match (name, error.kind()) {
                (WEIGHTS_FILE, std::io::ErrorKind::NotFound) if self.has(PICKLE_FILE) => {
                    "is missing, and pytorch_model.bin is not read, since reading it would run what is in it; save the \
                     model by save_pretrained(…, safe_serialization=True)"
                        .to_owned()
                }
                (TOKENIZER_FILE, std::io::ErrorKind::NotFound) => {
                    "is missing; save the tokenizer by transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…)"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            ModelError::File { file: path.display().to_string(), message }
        })
    }

    fn unknown(&self, what: &'static str, needed: String) -> InferError {
        InferError::Unknown { folder: self.folder.display().to_string(), what, needed }
    }
}

/// A file of JSON in a folder, if it is there.
fn json_file<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, ModelError> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let fault = |message: String| ModelError::File { file: path.display().to_string(), message };
    serde_json::from_slice(&files::read(&path)?).map(Some).map_err(|error| fault(error.to_string()))
}

fn object(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>, ModelError> {
    json_file(folder, name)
}

#[cfg(test)]
mod tests;
