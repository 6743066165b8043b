//! What the protocol tells of a model: its tensors, its versions and its configuration.

use api::{ApiError, Caller, ModelDirectory, ModelInfo, ModelStatus, Task};

use super::error::invalid;
use crate::Services;

/// Which answers a model gives, each a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorKind {
    /// FP32, one vector an input.
    Embedding,
    /// BYTES, the name of the best class.
    Label,
    /// FP32, its probability.
    Score,
    /// BYTES, the entities of a text as a JSON array.
    Entities,
    /// BYTES.
    Summary,
}

impl TensorKind {
    /// What models of a task answer with.
    pub(super) const fn outputs(task: Task) -> &'static [Self] {
        match task {
            Task::Embed => &[Self::Embedding],
            Task::Classify | Task::Sentiment => &[Self::Label, Self::Score],
            Task::Entities => &[Self::Entities],
            Task::Summarize => &[Self::Summary],
            Task::Rerank => &[Self::Score],
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Label => "label",
            Self::Score => "score",
            Self::Entities => "entities",
            Self::Summary => "summary",
        }
    }

    pub(super) const fn datatype(self) -> &'static str {
        match self {
            Self::Embedding | Self::Score => "FP32",
            Self::Label | Self::Entities | Self::Summary => "BYTES",
        }
    }

    /// The values that an input has; -1 while nobody knows.
    pub(super) fn length(self, model: &ModelInfo) -> i64 {
        match self {
            Self::Embedding => model.width.and_then(|width| i64::try_from(width).ok()).unwrap_or(-1),
            Self::Label | Self::Score | Self::Entities | Self::Summary => 1,
        }
    }
}

/// The input of every model. (That token ids are taken in its place is documented: tools fill all inputs that
/// are listed.)
pub(super) const TEXT: &str = "text";
/// What the protocol calls what runs a model.
pub(super) const PLATFORM: &str = "ml-inference";
/// Levels of `priority`, and the one that calls have which name none.
pub(super) const PRIORITY_LEVELS: u64 = 4;
pub(super) const PRIORITY_DEFAULT: u64 = 3;

/// Extensions of the protocol that are spoken, by Triton's names.
pub(super) const EXTENSIONS: [&str; 7] = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// The model of a name, in a version if one is named. Clients that know only numbers call every version 1.
pub(super) fn find(
    models: &dyn ModelDirectory,
    name: &str,
    version: Option<&str>,
) -> Result<ModelInfo, ApiError> {
    let model = models.model(name).ok_or(ApiError::ModelNotFound)?;
    match version {
        None | Some("" | "1") => Ok(model),
        Some(version) if version == model.version => Ok(model),
        Some(_) => Err(ApiError::ModelNotFound),
    }
}

/// A model's state in the repository, and why it is that.
pub(super) fn state(model: &ModelInfo) -> (&'static str, &str) {
    match &model.status {
        ModelStatus::Loaded => ("READY", ""),
        ModelStatus::Unavailable { reason } => ("UNAVAILABLE", reason),
    }
}

/// Loads a model as its card says, and not as a configuration or files of the request's `parameters` do. Who
/// may not is told whether it is loaded.
pub(super) async fn load<'a>(
    services: &Services,
    caller: &Caller,
    name: &str,
    mut parameters: impl Iterator<Item = &'a String>,
) -> Result<(), ApiError> {
    if parameters.any(|name| name == "config" || name.starts_with("file:")) {
        return Err(invalid("parameters", "a model is loaded as its card says: send no config and no files"));
    }
    if services.repository.is_managed_by(caller).await? {
        return services.repository.load(caller, name).await;
    }
    let model = find(&*services.models, name, None)?;
    match model.status {
        ModelStatus::Loaded => Ok(()),
        ModelStatus::Unavailable { reason } => Err(ApiError::ModelUnavailable { model: model.name, reason }),
    }
}
