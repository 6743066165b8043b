//! Fetching a repository that nobody has written a card for: what its revision is, which of its files are
//! needed, and what they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use models_core::files;

use super::hub::{self, Hub, Listed, Listing};
use super::pin::{Pin, PinnedFile};
use super::reference::Reference;
use super::{Fetcher, SourceError, Store, lock, move_into_place, needed, store_error, weights_folder};
use crate::progress::Progress;

/// The files that a reference stands for: as it is pinned, else as the hub has it now, which pins it. With
/// `is_update` the hub is asked in any case.
///
/// # Errors
/// Says what was tried and what to do.
pub fn pinned(
    reference: &Reference,
    is_update: bool,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Pin, SourceError> {
    if let Some(pin) = Pin::read(store, reference)?
        && !is_update
    {
        return Ok(pin);
    }
    if let Some(switch) = switch(store) {
        return Err(SourceError::NotPinned { reference: reference.clone(), switch });
    }
    let hub = Hub::new(reference.repository(), reference.revision());
    let pin = pull(reference, hub, store, progress)?;
    let path = pin.write(store, reference)?;
    progress.message(&format!("{reference} is {}, pinned in {}", pin.commit, path.display()));
    Ok(pin)
}

/// What keeps this process off the network.
fn switch(store: &Store) -> Option<&'static str> {
    if store.offline {
        return Some("offline");
    }
    hub::is_switched_off().then_some("HF_HUB_OFFLINE")
}

/// Fetches what a reference stands for now.
pub(super) fn pull(
    reference: &Reference,
    hub: Hub,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Pin, SourceError> {
    let fault = |message: String| SourceError::Hub { reference: reference.clone(), message };
    progress.message(&format!("looking up {reference} on the model hub"));
    let Listing { commit, files } = hub.look_up().map_err(fault)?;
    let of_commit = Reference::new(reference.repository(), Some(&commit));
    let of_commit = of_commit.map_err(|error| fault(error.to_string()))?;
    let folder = weights_folder(store, reference.repository()).join(&commit);
    let parent = folder.parent().unwrap_or(&store.data_dir);
    fs::create_dir_all(parent).map_err(|error| store_error(parent, error))?;
    let _lock = lock(&folder.with_extension("lock"), progress)?;
    if let Some(pin) = Pin::read(store, &of_commit)? {
        // Under another name, or by another process while this one waited.
        return Ok(pin);
    }
    let staging = folder.with_extension("part0");
    fs::create_dir_all(&staging).map_err(|error| store_error(&staging, error))?;
    let hub = hub.at(&commit).with_sizes(&files);
    let first = needed::first(&files).map_err(fault)?;
    fetch(&hub, &first, &files, &staging, progress)?.map_err(fault)?;
    let rest = needed::rest(&files, &staging).map_err(fault)?;
    fetch(&hub, &rest, &files, &staging, progress)?.map_err(fault)?;
    let mut pinned = BTreeMap::new();
    for name in first.into_iter().chain(rest) {
        let path = staging.join(&name);
        let found = fs::metadata(&path).and_then(|found| Ok((found.len(), files::digest(&path)?)));
        let (size, sha256) = found.map_err(|error| store_error(&path, error))?;
        pinned.insert(name, PinnedFile { size, sha256 });
    }
    move_into_place(&staging, &folder)?;
    let repository = reference.repository().to_owned();
    let pin = Pin { repository, revision: commit.clone(), commit, files: pinned };
    pin.write(store, &of_commit)?;
    Ok(pin)
}

/// Fetches files and compares them with what the hub says of them. The outer error is the data folder's, the
/// inner one the hub's.
fn fetch(
    hub: &Hub,
    names: &[String],
    listed: &[Listed],
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Result<(), String>, SourceError> {
    // What an earlier try has left.
    for name in names {
        check(name, listed, folder)?.ok();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Err(reason) = hub.fetch(&names, folder, progress) {
        return Ok(Err(reason));
    }
    for name in names {
        if let Err(reason) = check(name, listed, folder)? {
            return Ok(Err(reason));
        }
    }
    Ok(Ok(()))
}

/// Removes a file that is there and is not what the hub says.
fn check(name: &str, listed: &[Listed], folder: &Path) -> Result<Result<(), String>, SourceError> {
    let path = folder.join(name);
    let Some(expected) = listed.iter().find(|file| file.path == name) else { return Ok(Ok(())) };
    if !path.exists() {
        return Ok(Ok(()));
    }
    let failed = |error| store_error(&path, error);
    let size = fs::metadata(&path).map_err(failed)?.len();
    let mut fault = None;
    if let Some(expected) = expected.size.filter(|expected| *expected != size) {
        fault = Some(format!("has {size} bytes, the hub says {expected}"));
    } else if let Some(expected) = expected.sha256 {
        let found = files::digest(&path).map_err(failed)?;
        fault = (found != expected).then(|| format!("SHA-256 is {found}, the hub says {expected}"));
    }
    let Some(fault) = fault else { return Ok(Ok(())) };
    fs::remove_file(&path).map_err(failed)?;
    Ok(Err(format!("{name}: {fault}; it was not kept")))
}

#[cfg(test)]
mod fake_hub;
#[cfg(test)]
mod tests;
