//! Models that are asked for by their checkpoint alone, without a card.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use models_core::card::{Pooling, Task};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

/// A checkpoint to serve. What is not said is taken from its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The folder of its files.
    pub folder: PathBuf,
    /// What it is called; by default as its folder.
    pub name: Option<String>,
    /// What it does.
    pub task: Option<Task>,
    /// How its authors pool, where their files do not say it.
    pub pooling: Option<Pooling>,
}

/// Why a text names no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// There is no place.
    #[error("names no folder: give SOURCE, or SOURCE,name=NAME,task=TASK,pooling=POOLING")]
    NoSource,
    /// Something stands behind the place that is no pair.
    #[error("{0:?} is not KEY=VALUE; keys are name, task and pooling")]
    NoPair(String),
    /// A key that there is not, or twice.
    #[error("the key {0:?} is unknown or there twice; keys are name, task and pooling")]
    Key(String),
    /// A value that a key cannot have.
    #[error("{key}: {message}")]
    Value {
        key: &'static str,
        /// What it can be.
        message: String,
    },
}

impl Wanted {
    /// A checkpoint of which nothing is said but where it is.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), name: None, task: None, pooling: None }
    }

    /// What it is called: a folder's name in small letters, anything else in it as `-`.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
            let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
            let name: String = name.chars().map(plain).collect();
            let name = name.trim_start_matches(['-', '_', '.']);
            if name.is_empty() { "model".to_owned() } else { name.to_owned() }
        })
    }
}

/// `./my-ner`, `./folder,name=my-ner,task=entities`.
impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        let mut parts = text.split(',');
        let source = parts.next().map(str::trim).filter(|source| !source.is_empty());
        let mut wanted = Self::new(Path::new(source.ok_or(WantedError::NoSource)?));
        for part in parts {
            let pair = part.split_once('=').ok_or_else(|| WantedError::NoPair(part.to_owned()))?;
            let (key, value) = (pair.0.trim(), pair.1.trim());
            match key {
                "name" if wanted.name.is_none() => wanted.name = Some(value.to_owned()),
                "task" if wanted.task.is_none() => wanted.task = Some(named("task", value)?),
                "pooling" if wanted.pooling.is_none() => wanted.pooling = Some(named("pooling", value)?),
                _ => return Err(WantedError::Key(key.to_owned())),
            }
        }
        Ok(wanted)
    }
}

/// A value of a closed set, by the name that cards have for it.
fn named<'de, T: Deserialize<'de>>(key: &'static str, value: &'de str) -> Result<T, WantedError> {
    T::deserialize(value.into_deserializer())
        .map_err(|error: ValueError| WantedError::Value { key, message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_models_are_read() {
        let check = |text: &str, expected: Result<Wanted, &str>| {
            let found = text.parse::<Wanted>().map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        };
        check("./my-ner", Ok(Wanted::new("./my-ner")));
        let full = Wanted {
            name: Some("my-ner".to_owned()),
            task: Some(Task::Entities),
            ..Wanted::new("/models/a folder")
        };
        check("/models/a folder, name=my-ner,task=entities", Ok(full));
        let pooled = Wanted { pooling: Some(Pooling::LastToken), ..Wanted::new("m") };
        check("m,pooling=lasttoken", Ok(pooled));
        check(" ,name=x", Err("names no folder: give SOURCE, or SOURCE,name=NAME,task=TASK,pooling=POOLING"));
        check("m,x", Err("\"x\" is not KEY=VALUE; keys are name, task and pooling"));
        check("m,size=3", Err("the key \"size\" is unknown or there twice; keys are name, task and pooling"));
        check(
            "m,name=a,name=b",
            Err("the key \"name\" is unknown or there twice; keys are name, task and pooling"),
        );
        check(
            "m,task=ner",
            Err(
                "task: unknown variant `ner`, expected one of `document-classification`, `sentiment`, `entities`, \
                 `summarization`, `embeddings`, `rerank`",
            ),
        );
    }

    #[test]
    fn names_follow_from_folders() {
        let check = |folder: &str, expected: &str| assert_eq!(Wanted::new(folder).name(), expected);
        check("models/BGE small_EN.v1", "bge-small_en.v1");
        check("/models/my-ner/", "my-ner");
        check("/", "model");
        check("._x", "x");
    }
}
