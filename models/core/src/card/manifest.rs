//! Reading and checking a card's front matter.
//!
//! The file is read into [`Manifest`] first, which is exactly its shape, and then checked field by field, so
//! that each message names the field that has to change.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{
    Adapter, CONFIG_FILE, Card, CardError, ClassifierSource, Head, HeadFile, Limits, MicroDollars, Module,
    MultiLabel, Origin, Package, Pooling, PoolingHead, Prompts, ScoreFunction, Sha256Digest, Source,
    TOKENIZER_FILE, Task, WEIGHTS_FILE, ZeroShot, ZeroShotMethod,
};
use crate::kinds::Unsupported;
use crate::tasks::INPUTS_MAX;
use crate::weights::tensors::INDEX_FILE;

/// The hub's keys that the server uses, and ours.
#[derive(Deserialize)]
struct FrontMatter {
    license: Option<String>,
    base_model: Option<OneOrMany>,
    ml_inference: Option<Manifest>,
}

/// The hub allows one base model or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    version: String,
    task: Task,
    architecture: String,
    runtime: String,
    dtype: String,
    source: SourceManifest,
    adapter: Option<Adapter>,
    head: HeadManifest,
    #[serde(default)]
    labels: Vec<String>,
    limits: Limits,
    p99_target_ms: u64,
    #[serde(default)]
    p99_target_is_deadline: bool,
    #[serde(deserialize_with = "dollars")]
    price_per_1000_requests_usd: MicroDollars,
    #[serde(default)]
    score_function: ScoreFunction,
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    default_prompt: Option<String>,
    zero_shot: Option<ZeroShotManifest>,
    multi_label: Option<MultiLabel>,
    #[serde(default)]
    normalize_text: bool,
    #[serde(default)]
    default: bool,
    #[serde(default = "yes")]
    required: bool,
    pooling: Option<Pooling>,
    #[serde(default)]
    ignore_tensors: Vec<String>,
}

/// Money as people write it.
fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MicroDollars, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceManifest {
    folder: Option<PathBuf>,
    repository: Option<String>,
    revision: Option<String>,
    package: Option<Package>,
    files: BTreeMap<String, FileManifest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileManifest {
    sha256: Sha256Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadManifest {
    kind: HeadKind,
    file: Option<PathBuf>,
    sha256: Option<Sha256Digest>,
    #[serde(default)]
    pooling: Vec<Pooling>,
    include_prompt: Option<bool>,
    #[serde(default)]
    modules: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZeroShotManifest {
    model: Option<String>,
    template: String,
    scale: Option<f32>,
    entailment: Option<String>,
    contradiction: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum HeadKind {
    MeanPooling,
    Pooling,
    SequenceClassification,
    TokenClassification,
}

/// A field and what is wrong with it.
struct Fault(String, String);

impl Card {
    /// Reads the card in this file.
    ///
    /// # Errors
    /// Names the file, and the field that is missing, unknown or makes no sense.
    pub fn from_file(path: &Path) -> Result<Self, CardError> {
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| CardError::Read { file: file.clone(), source })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Self::parse(&text, &file, folder)
    }

    /// Reads a card's text; `file` is what errors call it, `folder` where its adapter and head files are.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn parse(text: &str, file: &str, folder: PathBuf) -> Result<Self, CardError> {
        let yaml = front_matter(text).ok_or_else(|| CardError::NoFrontMatter { file: file.to_owned() })?;
        deserialize(yaml)
            .and_then(|front_matter| check(front_matter, folder))
            .map_err(|Fault(field, message)| CardError::Field { file: file.to_owned(), field, message })
    }
}

/// The lines between the first line, `---`, and the next line `---`.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rest =
        text.strip_prefix("---").and_then(|rest| rest.strip_prefix('\n').or(rest.strip_prefix("\r\n")))?;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some(&rest[..end]);
        }
        end += line.len();
    }
    None
}

fn deserialize(yaml: &str) -> Result<FrontMatter, Fault> {
    let mut track = serde_path_to_error::Track::new();
    let result = serde_saphyr::with_deserializer_from_str(yaml, |deserializer| {
        FrontMatter::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    result.map_err(|error| Fault(track.path().to_string(), error.without_snippet().to_string()))
}

fn check(front_matter: FrontMatter, folder: PathBuf) -> Result<Card, Fault> {
    let manifest = front_matter.ml_inference.ok_or_else(|| fault("ml_inference", "is missing"))?;
    let license = front_matter.license.filter(|license| !license.trim().is_empty());
    let license = license.ok_or_else(|| fault("license", "is missing"))?;
    let base_model = front_matter.base_model.and_then(|base| match base {
        OneOrMany::One(name) => Some(name),
        OneOrMany::Many(names) => names.into_iter().next(),
    });
    check_name(&manifest.name, &folder)?;
    for (field, value) in [
        ("version", &manifest.version),
        ("architecture", &manifest.architecture),
        ("runtime", &manifest.runtime),
        ("dtype", &manifest.dtype),
    ] {
        require(!value.trim().is_empty(), &ours(field), "must not be empty")?;
    }
    if let Some(adapter) = &manifest.adapter {
        check_path(&ours("adapter.file"), &adapter.file)?;
        check_path(&ours("adapter.config"), &adapter.config)?;
    }
    let head = check_head(manifest.head, manifest.task)?;
    check_stated_pooling(manifest.pooling, &head)?;
    check_labels(&manifest.labels, &head)?;
    let prompts = check_prompts(manifest.prompts, manifest.default_prompt, manifest.task)?;
    check_score_function(manifest.score_function, &head, manifest.task)?;
    let has_one_score = manifest.task != Task::Rerank || manifest.labels.len() == 1;
    require(has_one_score, &ours("labels"), "must be one: a document has one score")?;
    check_limits(&manifest.limits)?;
    require(manifest.p99_target_ms > 0, &ours("p99_target_ms"), "must be at least 1")?;
    let names_nothing = manifest.ignore_tensors.iter().any(|name| name.trim().is_empty());
    require(!names_nothing, &ours("ignore_tensors"), "must not hold an empty name, which is all tensors")?;
    let zero_shot =
        manifest.zero_shot.map(|zero_shot| check_zero_shot(zero_shot, manifest.task, &manifest.labels));
    if let Some(multi_label) = &manifest.multi_label {
        check_multi_label(multi_label, manifest.task, manifest.labels.len())?;
    }
    Ok(Card {
        name: manifest.name,
        version: manifest.version,
        task: manifest.task,
        runtime: kind("runtime", &manifest.runtime)?,
        dtype: kind("dtype", &manifest.dtype)?,
        architecture: kind("architecture", &manifest.architecture)?,
        source: check_source(manifest.source)?,
        adapter: manifest.adapter,
        head,
        labels: manifest.labels,
        score_function: manifest.score_function,
        prompts,
        limits: manifest.limits,
        p99_target: Duration::from_millis(manifest.p99_target_ms),
        p99_target_is_deadline: manifest.p99_target_is_deadline,
        price_per_1000_requests: manifest.price_per_1000_requests_usd,
        license,
        base_model,
        zero_shot: zero_shot.transpose()?,
        multi_label: manifest.multi_label,
        normalize_text: manifest.normalize_text,
        is_default: manifest.default,
        is_required: manifest.required,
        pooling: manifest.pooling,
        ignore_tensors: manifest.ignore_tensors,
        folder,
    })
}

/// A name of a closed set.
fn kind<K: FromStr<Err = Unsupported>>(field: &str, name: &str) -> Result<K, Fault> {
    name.parse().map_err(|error: Unsupported| fault(&ours(field), error.to_string()))
}

fn check_name(name: &str, folder: &Path) -> Result<(), Fault> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let starts_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let field = ours("name");
    require(
        starts_plain && name.chars().all(is_plain),
        &field,
        "must be lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit",
    )?;
    match folder.file_name().and_then(|folder| folder.to_str()) {
        Some(folder) if folder != name => {
            Err(fault(&field, format!("is {name:?}, but the card lies in the folder {folder:?}")))
        }
        _ => Ok(()),
    }
}

fn check_source(source: SourceManifest) -> Result<Source, Fault> {
    for required in [WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE] {
        // Weights may be spread over several files.
        let is_spread = required == WEIGHTS_FILE && source.files.contains_key(INDEX_FILE);
        require(
            source.files.contains_key(required) || is_spread,
            &ours("source.files"),
            format!("{required} is missing"),
        )?;
    }
    for file in source.files.keys() {
        check_path(&ours(&format!("source.files.{file}")), Path::new(file))?;
    }
    let files = source.files.into_iter().map(|(name, file)| (name, file.sha256)).collect();
    let origin = match (source.folder, source.repository, source.revision) {
        (Some(folder), None, None) => {
            check_path(&ours("source.folder"), &folder)?;
            require(source.package.is_none(), &ours("source.package"), "does not go with a folder")?;
            Origin::Folder(folder)
        }
        (None, Some(repository), Some(revision)) => {
            check_repository(&repository, &revision)?;
            if let Some(package) = &source.package {
                check_package(package)?;
            }
            Origin::Repository { repository, revision, package: source.package }
        }
        _ => return Err(fault(&ours("source"), "needs either folder, or repository and revision")),
    };
    Ok(Source { origin, files })
}

fn check_repository(repository: &str, revision: &str) -> Result<(), Fault> {
    // Both become part of a path and of a request, so they are held to what the hub allows in them.
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<_> = repository.split('/').collect();
    require(
        parts.len() == 2 && parts.iter().all(|part| is_part(part)) && !repository.contains("--"),
        &ours("source.repository"),
        "must be owner/name",
    )?;
    require(
        revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()),
        &ours("source.revision"),
        "must be a commit of 40 hexadecimal digits, so that the files cannot change",
    )
}

fn check_package(package: &Package) -> Result<(), Fault> {
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+!".contains(c))
    };
    require(is_word(&package.name), &ours("source.package.name"), "is not the name of a package")?;
    require(is_word(&package.version), &ours("source.package.version"), "is not an exact version")?;
    check_path(&ours("source.package.folder"), Path::new(&package.folder))
}

fn check_head(head: HeadManifest, task: Task) -> Result<Head, Fault> {
    let HeadManifest { kind, file, sha256, pooling, include_prompt, modules } = head;
    let expected: &[HeadKind] = match task {
        Task::Classify | Task::Sentiment | Task::Rerank => &[HeadKind::SequenceClassification],
        Task::Entities => &[HeadKind::TokenClassification],
        Task::Embed => &[HeadKind::MeanPooling, HeadKind::Pooling],
        Task::Summarize => &[HeadKind::MeanPooling],
    };
    require(expected.contains(&kind), &ours("head.kind"), format!("does not go with the task {task}"))?;
    if kind != HeadKind::Pooling {
        let message = "goes with the head pooling alone";
        require(pooling.is_empty(), &ours("head.pooling"), message)?;
        require(include_prompt.is_none(), &ours("head.include_prompt"), message)?;
        require(modules.is_empty(), &ours("head.modules"), message)?;
    }
    if matches!(kind, HeadKind::MeanPooling | HeadKind::Pooling) {
        require(file.is_none(), &ours("head.file"), "pooling has no weights")?;
        require(sha256.is_none(), &ours("head.sha256"), "pooling has no weights")?;
    }
    let classifier = || match (file, sha256) {
        (None, None) => Ok(ClassifierSource::Checkpoint),
        (Some(file), Some(sha256)) => {
            check_path(&ours("head.file"), &file)?;
            Ok(ClassifierSource::File(HeadFile { file, sha256 }))
        }
        (None, Some(_)) => Err(fault(&ours("head.file"), "is missing")),
        (Some(_), None) => Err(fault(&ours("head.sha256"), "is missing")),
    };
    Ok(match kind {
        HeadKind::MeanPooling => Head::Pooling(PoolingHead::mean()),
        HeadKind::Pooling => Head::Pooling(check_pooling(pooling, include_prompt, modules)?),
        HeadKind::SequenceClassification => Head::SequenceClassification(classifier()?),
        HeadKind::TokenClassification => Head::TokenClassification(classifier()?),
    })
}

fn check_pooling(
    pooling: Vec<Pooling>,
    include_prompt: Option<bool>,
    modules: Vec<Module>,
) -> Result<PoolingHead, Fault> {
    let field = ours("head.pooling");
    require(
        !pooling.is_empty(),
        &field,
        "is missing: a list of cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken",
    )?;
    for (index, mode) in pooling.iter().enumerate() {
        require(!pooling[..index].contains(mode), &field, format!("{mode} is there twice"))?;
    }
    for module in &modules {
        if let Module::Dense(folder) | Module::LayerNorm(folder) = module {
            check_path(&ours("head.modules"), folder)?;
        }
    }
    Ok(PoolingHead { pooling, includes_prompt: include_prompt.unwrap_or(true), modules })
}

/// How authors pool is stated where no file of theirs says it, and the head does just that.
fn check_stated_pooling(stated: Option<Pooling>, head: &Head) -> Result<(), Fault> {
    let Some(stated) = stated else { return Ok(()) };
    let does = head.pooling().is_some_and(|head| head.pooling == [stated]);
    require(does, &ours("pooling"), format!("{stated} is not what the head pools by"))
}

fn check_labels(labels: &[String], head: &Head) -> Result<(), Fault> {
    let field = ours("labels");
    if head.pooling().is_some() {
        return require(labels.is_empty(), &field, "pooling has no classes to name");
    }
    require(!labels.is_empty(), &field, "a classifier needs at least 1")?;
    let mut seen = HashSet::new();
    for (index, label) in labels.iter().enumerate() {
        if label.trim().is_empty() {
            return Err(fault(&field, format!("number {index} is empty")));
        }
        if !seen.insert(label) {
            return Err(fault(&field, format!("{label:?} is there twice")));
        }
    }
    Ok(())
}

fn check_prompts(
    texts: BTreeMap<String, String>,
    default: Option<String>,
    task: Task,
) -> Result<Prompts, Fault> {
    let is_used = task == Task::Embed || (texts.is_empty() && default.is_none());
    require(is_used, &ours("prompts"), format!("does not go with the task {task}"))?;
    if let Some(name) = &default {
        require(texts.contains_key(name), &ours("default_prompt"), format!("{name:?} is none of prompts"))?;
    }
    Ok(Prompts { texts, default })
}

/// Scores of classes that exclude each other need two; a reranker has one score, and entities and moods are
/// the most probable of several.
fn check_score_function(function: ScoreFunction, head: &Head, task: Task) -> Result<(), Fault> {
    let fits = match (task, function) {
        (Task::Rerank, ScoreFunction::Softmax) => false,
        (Task::Classify | Task::Rerank, _) | (_, ScoreFunction::Softmax) => true,
        (_, ScoreFunction::Sigmoid | ScoreFunction::Identity) => false,
    };
    let field = ours("score_function");
    let message = match task {
        Task::Rerank => "must be sigmoid or identity: a document has one score".to_owned(),
        task => format!("does not go with the task {task} and the head {}", head.name()),
    };
    require(fits, &field, message)
}

fn check_limits(limits: &Limits) -> Result<(), Fault> {
    let Limits { tokens_max, window_overlap, document_tokens_max, document_words_max, inputs_max } = limits;
    let field = |name: &str| ours(&format!("limits.{name}"));
    require(*tokens_max >= 8, &field("tokens_max"), "must be at least 8")?;
    // A window must move on by at least half its length, or long documents would be read many times over.
    require(
        *window_overlap <= (tokens_max - 2) / 2,
        &field("window_overlap"),
        "must be at most half of tokens_max",
    )?;
    require(document_tokens_max >= tokens_max, &field("document_tokens_max"), "must be at least tokens_max")?;
    require(*document_words_max != Some(0), &field("document_words_max"), "must be at least 1")?;
    let message = format!("must be 1 to {INPUTS_MAX}");
    require((1..=INPUTS_MAX).contains(inputs_max), &field("inputs_max"), message)
}

fn check_zero_shot(zero_shot: ZeroShotManifest, task: Task, labels: &[String]) -> Result<ZeroShot, Fault> {
    let field = |name: &str| ours(&format!("zero_shot.{name}"));
    let ZeroShotManifest { model, template, scale, entailment, contradiction } = zero_shot;
    require(task == Task::Classify, &ours("zero_shot"), format!("does not go with the task {task}"))?;
    require(template.contains("{label}"), &field("template"), "must contain {label}")?;
    let method = match (model, entailment, contradiction) {
        (Some(model), None, None) => {
            require(!model.is_empty(), &field("model"), "must not be empty")?;
            let scale = scale.ok_or_else(|| fault(&field("scale"), "is missing"))?;
            let is_usable = scale.is_finite() && scale > 0.0;
            require(is_usable, &field("scale"), "must be a positive number")?;
            ZeroShotMethod::Similarity { model, scale }
        }
        (None, Some(entailment), Some(contradiction)) => {
            require(scale.is_none(), &field("scale"), "goes with model alone")?;
            let place = |name: &str, label: &str| {
                let place = labels.iter().position(|known| known == label);
                place.ok_or_else(|| fault(&field(name), format!("{label:?} is none of labels")))
            };
            let entailment = place("entailment", &entailment)?;
            let contradiction = place("contradiction", &contradiction)?;
            require(entailment != contradiction, &field("contradiction"), "is entailment too")?;
            ZeroShotMethod::Entailment { entailment, contradiction }
        }
        _ => {
            let message = "needs either model and scale, or entailment and contradiction";
            return Err(fault(&ours("zero_shot"), message));
        }
    };
    Ok(ZeroShot { template, method })
}

fn check_multi_label(multi_label: &MultiLabel, task: Task, labels: usize) -> Result<(), Fault> {
    require(task == Task::Classify, &ours("multi_label"), format!("does not go with the task {task}"))?;
    let MultiLabel::Calibrated(calibration) = multi_label else { return Ok(()) };
    let is_row = |row: &Vec<f32>| row.len() == labels && row.iter().all(|value| value.is_finite());
    let field = |name: &str| ours(&format!("multi_label.calibrated.{name}"));
    let has_weights = calibration.weights.len() == labels && calibration.weights.iter().all(is_row);
    require(has_weights, &field("weights"), format!("must be {labels} rows of {labels} numbers"))?;
    require(is_row(&calibration.biases), &field("biases"), format!("must be {labels} numbers"))
}

/// Files of a card stay in its folder, whoever wrote the card.
fn check_path(field: &str, path: &Path) -> Result<(), Fault> {
    let mut components = path.components().peekable();
    let is_inside =
        components.peek().is_some() && components.all(|part| matches!(part, Component::Normal(_)));
    require(is_inside, field, "must be a path inside the folder, without '..'")
}

fn ours(field: &str) -> String {
    format!("ml_inference.{field}")
}

fn fault(field: &str, message: impl Into<String>) -> Fault {
    Fault(field.to_owned(), message.into())
}

fn require(holds: bool, field: &str, message: impl Into<String>) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault(field, message)) }
}
