//! What the configuration changes of a model.

use std::path::PathBuf;

use models::card::Pooling;
use models::{Dtype, RuntimeKind, Task, Wanted};
use serde::Deserialize;

/// What differs from a model's card.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The folder of a checkpoint's files, for a model that is served without a card: what a card says is
    /// taken from them.
    pub folder: Option<PathBuf>,
    /// What such a model does, where its files do not say it.
    pub task: Option<Task>,
    /// How its authors pool, where their files do not say it.
    pub pooling: Option<Pooling>,
    /// The runtime.
    pub runtime: Option<RuntimeKind>,
    /// The number format. With a runtime and without this it is `float32`, and `float16` for `cuda`.
    pub dtype: Option<Dtype>,
    /// Whether its p99 target is a deadline: what cannot be answered within it is refused.
    pub p99_target_is_deadline: Option<bool>,
    /// Whether the server is not ready while it cannot serve this model. If neither this nor the card says:
    /// it is not.
    pub required: Option<bool>,
}

impl Model {
    /// A model as a flag asks for it.
    pub(super) fn ask(&mut self, wanted: Wanted) {
        let Wanted { folder, task, pooling, .. } = wanted;
        (self.folder, self.task, self.pooling) = (Some(folder), task, pooling);
    }

    /// The model of this name, if it is served without a card.
    pub fn wanted(&self, name: &str) -> Option<Wanted> {
        let folder = self.folder.clone()?;
        Some(Wanted { folder, name: Some(name.to_owned()), task: self.task, pooling: self.pooling })
    }
}
