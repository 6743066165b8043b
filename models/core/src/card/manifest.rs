//! Reading and checking a card's front matter.
//!
//! The file is read into [`Manifest`] first, which is exactly its shape, and then checked field by field, so
//! that each message names the field that has to change.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{
    Adapter, CONFIG_FILE, Card, CardError, Head, HeadFile, Limits, MicroDollars, MultiLabel, Origin, Package,
    Pooling, Sha256Digest, Source, TOKENIZER_FILE, Task, WEIGHTS_FILE, ZeroShot,
};
use crate::kinds::Unsupported;
use crate::tasks::INPUTS_MAX;

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
    zero_shot: Option<ZeroShot>,
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
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum HeadKind {
    MeanPooling,
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
    let has_pooling = manifest.pooling.is_none() || head == Head::MeanPooling;
    require(has_pooling, &ours("pooling"), "goes with the head mean_pooling alone")?;
    check_labels(&manifest.labels, &head)?;
    check_limits(&manifest.limits)?;
    require(manifest.p99_target_ms > 0, &ours("p99_target_ms"), "must be at least 1")?;
    let names_nothing = manifest.ignore_tensors.iter().any(|name| name.trim().is_empty());
    require(!names_nothing, &ours("ignore_tensors"), "must not hold an empty name, which is all tensors")?;
    if let Some(zero_shot) = &manifest.zero_shot {
        check_zero_shot(zero_shot, manifest.task)?;
    }
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
        limits: manifest.limits,
        p99_target: Duration::from_millis(manifest.p99_target_ms),
        p99_target_is_deadline: manifest.p99_target_is_deadline,
        price_per_1000_requests: manifest.price_per_1000_requests_usd,
        license,
        base_model,
        zero_shot: manifest.zero_shot,
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
        require(
            source.files.contains_key(required),
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
    let expected = match task {
        Task::Classify | Task::Sentiment => HeadKind::SequenceClassification,
        Task::Entities => HeadKind::TokenClassification,
        Task::Summarize | Task::Embed => HeadKind::MeanPooling,
    };
    require(head.kind == expected, &ours("head.kind"), format!("does not go with the task {task}"))?;
    if head.kind == HeadKind::MeanPooling {
        require(head.file.is_none(), &ours("head.file"), "mean pooling has no weights")?;
        require(head.sha256.is_none(), &ours("head.sha256"), "mean pooling has no weights")?;
        return Ok(Head::MeanPooling);
    }
    let file = head.file.ok_or_else(|| fault(&ours("head.file"), "is missing"))?;
    let sha256 = head.sha256.ok_or_else(|| fault(&ours("head.sha256"), "is missing"))?;
    check_path(&ours("head.file"), &file)?;
    let weights = HeadFile { file, sha256 };
    Ok(match head.kind {
        HeadKind::TokenClassification => Head::TokenClassification(weights),
        _ => Head::SequenceClassification(weights),
    })
}

fn check_labels(labels: &[String], head: &Head) -> Result<(), Fault> {
    let field = ours("labels");
    if *head == Head::MeanPooling {
        return require(labels.is_empty(), &field, "mean pooling has no classes to name");
    }
    require(labels.len() >= 2, &field, "a classifier needs at least 2")?;
    for (index, label) in labels.iter().enumerate() {
        require(!label.trim().is_empty(), &field, format!("number {index} is empty"))?;
        require(!labels[..index].contains(label), &field, format!("{label:?} is there twice"))?;
        let is_tag = label == "O"
            || label.strip_prefix("B-").or(label.strip_prefix("I-")).is_some_and(|l| !l.is_empty());
        require(!head.is_per_token() || is_tag, &field, format!("{label:?} is not a tag O, B-… or I-…"))?;
    }
    require(!head.is_per_token() || labels.iter().any(|label| label == "O"), &field, "the tag O is missing")
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

fn check_zero_shot(zero_shot: &ZeroShot, task: Task) -> Result<(), Fault> {
    let field = |name: &str| ours(&format!("zero_shot.{name}"));
    require(task == Task::Classify, &ours("zero_shot"), format!("does not go with the task {task}"))?;
    require(!zero_shot.model.is_empty(), &field("model"), "must not be empty")?;
    require(zero_shot.template.contains("{label}"), &field("template"), "must contain {label}")?;
    let is_usable = zero_shot.scale.is_finite() && zero_shot.scale > 0.0;
    require(is_usable, &field("scale"), "must be a positive number")
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
