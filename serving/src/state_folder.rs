//! The state folder belongs to one server at a time, whatever its store: two that write one journal lose each
//! other's records.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use router::WallTime;
use router::ledger::Held;

/// The file that is locked.
const LOCK: &str = "lock";

/// The right to use a state folder, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    lock: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFolderError {
    /// Another server uses it.
    #[error(
        "the state folder {} is in use by {holder}; give each server a folder of its own (--state-dir)",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
    /// The file system refuses.
    #[error("cannot use the state folder {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StateFolder {
    /// Makes the folder if there is none, and takes it. Blocks, but does not wait for another server.
    ///
    /// # Errors
    /// See [`StateFolderError`].
    pub fn take(path: &Path, now: WallTime) -> Result<Self, StateFolderError> {
        let failed = |source| StateFolderError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let mut lock = options.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is is said if it can be; that there is one is certain.
                let read = lock.read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
                return Err(StateFolderError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // For whoever finds it taken; that it is taken does not depend on it, also if the disk is full.
        if let Err(error) = sign(&mut lock, now) {
            tracing::warn!(%error, "the lock of the state folder does not say who holds it");
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, to be looked for: while its file is gone, or is another one, the folder may be somebody
    /// else's.
    ///
    /// # Errors
    /// See [`StateFolderError`].
    pub fn watched(&self) -> Result<Held, StateFolderError> {
        let held = self.lock.try_clone().and_then(|lock| Held::new(&self.path.join(LOCK), lock));
        held.map_err(|source| StateFolderError::Io { path: self.path.clone(), source })
    }
}

fn sign(lock: &mut File, now: WallTime) -> io::Result<()> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "an unknown host" } else { host.trim() };
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "process {} on {host}, since {now}", std::process::id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateFolder::take(&path, WallTime(1_795_219_200_000)).unwrap();
        let error = StateFolder::take(&path, WallTime(0)).unwrap_err().to_string();
        for part in [
            path.to_str().unwrap(),
            &format!("process {} on ", std::process::id()),
            "since 2026-11-21T00:00:00.000Z",
            "--state-dir",
        ] {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
        drop(first);
        let again = StateFolder::take(&path, WallTime(0)).unwrap();
        assert_eq!(again.path(), path);
    }
}
