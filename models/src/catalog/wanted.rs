//! Models that are asked for by their checkpoint alone, without a card.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use models_core::card::{Pooling, Task};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

use crate::source::{Reference, ReferenceError};

/// A checkpoint to serve. What is not said is taken from its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where its files are.
    pub place: Place,
    /// What it is called; by default as its folder or repository.
    pub name: Option<String>,
    /// What it does.
    pub task: Option<Task>,
    /// How its authors pool, where their files do not say it.
    pub pooling: Option<Pooling>,
}

/// Where a checkpoint's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A repository of the model hub.
    Repository(Reference),
}

/// Why a text names no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// There is no place.
    #[error(
        "names no model: give FOLDER or OWNER/NAME, perhaps with ,name=…,task=…,pooling=…,revision=… behind it"
    )]
    NoSource,
    /// Something stands behind the place that is no pair.
    #[error(
        "{0:?} is not KEY=VALUE; keys are name, task, pooling and revision (a comma of a folder's name is written \\,)"
    )]
    NoPair(String),
    /// A key that there is not, or twice.
    #[error("the key {0:?} is unknown or there twice; keys are name, task, pooling and revision")]
    Key(String),
    /// A value that a key cannot have.
    #[error("{key}: {message}")]
    Value {
        key: &'static str,
        /// What it can be.
        message: String,
    },
    /// A revision, and no repository that has revisions.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl Place {
    /// `./folder` is a folder, and so is what is there; else `OWNER/NAME` is a repository. With a revision it
    /// is a repository in any case.
    ///
    /// # Errors
    /// There is a revision, and what has it is no repository, or it is none.
    pub fn of(text: &str, revision: Option<&str>) -> Result<Self, ReferenceError> {
        match Reference::new(text, revision) {
            Ok(reference) if revision.is_some() || !Path::new(text).exists() => {
                Ok(Self::Repository(reference))
            }
            Err(error) if revision.is_some() => Err(error),
            _ => Ok(Self::Folder(PathBuf::from(text))),
        }
    }

    /// The last part of its path.
    fn last(&self) -> String {
        match self {
            Self::Folder(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Repository(reference) => {
                reference.repository().rsplit('/').next().unwrap_or_default().to_owned()
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => write!(formatter, "{}", folder.display()),
            Self::Repository(reference) => write!(formatter, "{reference}"),
        }
    }
}

impl Wanted {
    /// A checkpoint of which nothing is said but where it is.
    pub fn new(place: Place) -> Self {
        Self { place, name: None, task: None, pooling: None }
    }

    /// What it is called: its folder or repository in small letters, anything else in it as `-`.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
            let name: String = self.place.last().to_lowercase().chars().map(plain).collect();
            let name = name.trim_start_matches(['-', '_', '.']);
            if name.is_empty() { "model".to_owned() } else { name.to_owned() }
        })
    }
}

/// `./my-ner`, `./folder,name=my-ner,task=entities`, `BAAI/bge-small-en-v1.5,revision=main`. A comma that is
/// part of a folder's name is written `\,`.
impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        let mut parts = parts(text).into_iter();
        let source = parts.next().map(|source| source.trim().to_owned()).filter(|source| !source.is_empty());
        let source = source.ok_or(WantedError::NoSource)?;
        let (mut name, mut task, mut pooling, mut revision) = (None, None, None, None);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| WantedError::NoPair(part.clone()))?;
            let (key, value) = (key.trim(), value.trim());
            match key {
                "name" if name.is_none() => name = Some(value.to_owned()),
                "task" if task.is_none() => task = Some(named("task", value)?),
                "pooling" if pooling.is_none() => pooling = Some(named("pooling", value)?),
                "revision" if revision.is_none() => revision = Some(value.to_owned()),
                _ => return Err(WantedError::Key(key.to_owned())),
            }
        }
        Ok(Self { place: Place::of(&source, revision.as_deref())?, name, task, pooling })
    }
}

/// What stands between commas, those aside that are written `\,`.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut chars) = (vec![String::new()], text.chars().peekable());
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (',', _) => parts.push(String::new()),
            ('\\', Some(part)) if chars.next_if_eq(&',').is_some() => part.push(','),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

/// A value of a closed set, by the name that cards have for it.
fn named<'de, T: Deserialize<'de>>(key: &'static str, value: &'de str) -> Result<T, WantedError> {
    T::deserialize(value.into_deserializer())
        .map_err(|error: ValueError| WantedError::Value { key, message: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(path: &str) -> Wanted {
        Wanted::new(Place::Folder(path.into()))
    }

    fn repository(name: &str, revision: Option<&str>) -> Wanted {
        Wanted::new(Place::Repository(Reference::new(name, revision).unwrap()))
    }

    #[test]
    fn wanted_models_are_read() {
        let check = |text: &str, expected: Result<Wanted, &str>| {
            let found = text.parse::<Wanted>().map_err(|error| error.to_string());
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{text}"),
                Err(part) => {
                    assert!(found.as_ref().is_err_and(|error| error.contains(part)), "{text}: {found:?}");
                }
            }
        };
        check("./my-ner", Ok(folder("./my-ner")));
        let full = Wanted {
            name: Some("my-ner".to_owned()),
            task: Some(Task::Entities),
            ..folder("/models/a folder")
        };
        check("/models/a folder, name=my-ner,task=entities", Ok(full));
        check("m,pooling=lasttoken", Ok(Wanted { pooling: Some(Pooling::LastToken), ..folder("m") }));
        check(r"./a\,b\c,name=x", Ok(Wanted { name: Some("x".to_owned()), ..folder(r"./a,b\c") }));
        check("owner/Name", Ok(repository("owner/Name", None)));
        check("owner/name,revision=v1.0", Ok(repository("owner/name", Some("v1.0"))));
        // What is there is meant, unless a revision of it is asked for.
        check("src/source", Ok(folder("src/source")));
        check("src/source,revision=main", Ok(repository("src/source", None)));
        check(" ,name=x", Err("names no model: give FOLDER or OWNER/NAME"));
        check("m,x", Err("\"x\" is not KEY=VALUE; keys are name, task, pooling and revision"));
        check("m,size=3", Err("the key \"size\" is unknown or there twice; keys are name, task"));
        check("m,name=a,name=b", Err("the key \"name\" is unknown or there twice"));
        check("./m,revision=main", Err("\"./m\" is no repository of a model hub: expected OWNER/NAME"));
        check("o/m,revision=a..b", Err("revision \"a..b\": expected a branch, a tag or a commit"));
        check(
            "m,task=ner",
            Err(
                "task: unknown variant `ner`, expected one of `document-classification`, `sentiment`, `entities`, \
                 `summarization`, `embeddings`, `rerank`",
            ),
        );
    }

    #[test]
    fn names_follow_from_places() {
        let check = |wanted: Wanted, expected: &str| assert_eq!(wanted.name(), expected);
        check(folder("models/BGE small_EN.v1"), "bge-small_en.v1");
        check(folder("/models/my-ner/"), "my-ner");
        check(folder("/"), "model");
        check(folder("._x"), "x");
        check(repository("BAAI/bge-small-en-v1.5", None), "bge-small-en-v1.5");
    }
}
