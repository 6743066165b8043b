//! Which files a revision stands for: written down when it is first fetched, so that the same is served after
//! every start, and nobody has to be asked for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use models_core::card::{Origin, Sha256Digest, Source};
use serde::{Deserialize, Serialize};

use super::reference::{Reference, is_commit};
use super::{SourceError, Store, store_error};

/// Below the folder of a repository.
const PINS_FOLDER: &str = "pins";
/// A pin names a few dozen files.
const PIN_BYTES_MAX: u64 = 1 << 20;

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// `owner/name`.
    pub repository: String,
    /// The branch, tag or commit that was asked for.
    pub revision: String,
    /// What it was when it was asked for.
    pub commit: String,
    /// The files that are served, by their names.
    pub files: BTreeMap<String, PinnedFile>,
}

/// A file as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// In bytes.
    pub size: u64,
    pub sha256: Sha256Digest,
}

impl Pin {
    /// The source of a card over these files.
    pub fn source(&self) -> Source {
        let origin = Origin::Repository {
            repository: self.repository.clone(),
            revision: self.commit.clone(),
            package: None,
        };
        let files = self.files.iter().map(|(name, file)| (name.clone(), file.sha256));
        Source { origin, files: files.collect() }
    }

    /// Where a reference's pin is kept.
    pub fn path(store: &Store, reference: &Reference) -> PathBuf {
        let file = format!("{}.json", reference.revision().replace('/', "%2F"));
        super::weights_folder(store, reference.repository()).join(PINS_FOLDER).join(file)
    }

    /// The pin of a reference, if there is one.
    ///
    /// # Errors
    /// There is one and it cannot be used: it names the file and says what to do.
    pub(super) fn read(store: &Store, reference: &Reference) -> Result<Option<Self>, SourceError> {
        let path = Self::path(store, reference);
        let fault = |message: String| SourceError::Pin { file: path.display().to_string(), message };
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > PIN_BYTES_MAX => return Err(fault("is too long".to_owned())),
            _ => {}
        }
        let bytes = models_core::files::read(&path).map_err(|error| fault(error.to_string()))?;
        let pin: Self = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        let is_inside = |name: &String| {
            !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
        };
        if pin.repository != reference.repository() || pin.revision != reference.revision() {
            return Err(fault(format!("is of {}@{}", pin.repository, pin.revision)));
        }
        if !is_commit(&pin.commit) || pin.files.is_empty() || !pin.files.keys().all(is_inside) {
            return Err(fault("names no commit, or files that are not in its folder".to_owned()));
        }
        Ok(Some(pin))
    }

    /// Keeps it, whole or not at all.
    pub(super) fn write(&self, store: &Store, reference: &Reference) -> Result<PathBuf, SourceError> {
        let pin = Self { revision: reference.revision().to_owned(), ..self.clone() };
        let path = Self::path(store, reference);
        let written = || -> std::io::Result<()> {
            let folder = path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let new = path.with_extension("json.new");
            fs::write(&new, serde_json::to_vec_pretty(&pin)?)?;
            fs::rename(&new, &path)
        };
        written().map_err(|error| store_error(&path, error))?;
        Ok(path)
    }

    /// All pins of the data folder that can be read, by repository and revision.
    pub fn all(store: &Store) -> Vec<Self> {
        let mut pins: Vec<Self> = Vec::new();
        let folders = fs::read_dir(store.data_dir.join("weights")).into_iter().flatten().flatten();
        for folder in folders {
            let files = fs::read_dir(folder.path().join(PINS_FOLDER)).into_iter().flatten().flatten();
            for file in files.filter(|file| file.path().extension().is_some_and(|kind| kind == "json")) {
                let read = models_core::files::read(&file.path()).ok();
                let pin = read.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
                let reference = pin.and_then(|pin| Reference::new(&pin.repository, Some(&pin.revision)).ok());
                pins.extend(reference.and_then(|reference| Self::read(store, &reference).ok().flatten()));
            }
        }
        pins.sort_by(|left, right| {
            (&left.repository, &left.revision).cmp(&(&right.repository, &right.revision))
        });
        pins
    }
}
