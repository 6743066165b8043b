//! What the configuration changes of a model.

use std::path::PathBuf;

use models::card::Pooling;
use models::{Dtype, Place, Reference, RuntimeKind, Task, Wanted};
use serde::Deserialize;

/// What differs from a model's card.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The folder of a checkpoint's files, for a model that is served without a card: what a card says is
    /// taken from them.
    pub folder: Option<PathBuf>,
    /// The same of a repository of the model hub, `OWNER/NAME`.
    pub repository: Option<String>,
    /// Its branch, tag or commit. None: `main`. What it stands for is looked up once, and pinned in the data
    /// folder.
    pub revision: Option<String>,
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
        let Wanted { place, task, pooling, .. } = wanted;
        (self.folder, self.repository, self.revision) = (None, None, None);
        match place {
            Place::Folder(folder) => self.folder = Some(folder),
            Place::Repository(reference) => {
                self.repository = Some(reference.repository().to_owned());
                self.revision = Some(reference.revision().to_owned());
            }
        }
        (self.task, self.pooling) = (task, pooling);
    }

    /// Where its checkpoint is, if it is served without a card.
    ///
    /// # Errors
    /// Names the field that cannot be meant.
    pub(super) fn place(&self) -> Result<Option<Place>, String> {
        match (&self.folder, &self.repository, &self.revision) {
            (Some(_), Some(_), _) => Err("folder and repository: say one of them".to_owned()),
            (_, None, Some(_)) => Err("revision: only a repository has one".to_owned()),
            (Some(folder), None, None) => Ok(Some(Place::Folder(folder.clone()))),
            (None, Some(repository), revision) => Reference::new(repository, revision.as_deref())
                .map(|reference| Some(Place::Repository(reference)))
                .map_err(|error| format!("repository: {error}")),
            (None, None, None) => Ok(None),
        }
    }

    /// The model of this name, if it is served without a card.
    pub fn wanted(&self, name: &str) -> Option<Wanted> {
        // What cannot be meant has been refused by then.
        let place = self.place().ok().flatten()?;
        Some(Wanted { place, name: Some(name.to_owned()), task: self.task, pooling: self.pooling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_one_place() {
        let check =
            |folder: Option<&str>, repository: Option<&str>, revision: Option<&str>, expected: &str| {
                let model = Model {
                    folder: folder.map(PathBuf::from),
                    repository: repository.map(str::to_owned),
                    revision: revision.map(str::to_owned),
                    ..Model::default()
                };
                let place = model.place();
                let found = place
                    .map_or_else(|error| error, |place| place.map_or_else(String::new, |p| p.to_string()));
                assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{found}");
            };
        check(None, None, None, "");
        check(Some("./x"), None, None, "./x");
        check(None, Some("o/x"), None, "o/x@main");
        check(None, Some("o/x"), Some("v1"), "o/x@v1");
        check(Some("./x"), Some("o/x"), None, "folder and repository: say one of them");
        check(Some("./x"), None, Some("v1"), "revision: only a repository has one");
        check(None, Some("x"), None, "repository: \"x\" is no repository of a model hub");
    }
}
