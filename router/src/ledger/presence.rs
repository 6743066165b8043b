//! Whether files and folders that are held open are still those that their paths lead to: a state folder may
//! be moved, removed or replaced by a copy while a server runs, and what is written then goes where nobody
//! finds it.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file or folder that is held, and where it was found.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
}

impl Held {
    /// What is open as `file`, found at `path`.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn new(path: &Path, file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, identity: (metadata.dev(), metadata.ino()) })
    }

    /// A folder, held for this process alone until it is dropped, by whichever path others come to it. None:
    /// another process has it. A file system that cannot lock folders holds it unlocked.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn folder(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(folder = %path.display(), %error, "this folder cannot be locked: see to it that one server uses it");
            }
        }
        Self::new(path, file).map(Some)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the path still leads to it.
    ///
    /// # Errors
    /// What it leads to, in words.
    pub fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => Ok(()),
            Ok(_) => Err(format!(
                "{path} is not what it was when this server started: it was moved, removed or replaced"
            )),
            Err(error) => Err(format!("{path} is not there any more: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_held_by_whichever_path_and_missed_when_it_moves() {
        let place = tempfile::tempdir().unwrap();
        let (path, link) = (place.path().join("usage"), place.path().join("link"));
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let held = Held::folder(&path).unwrap().unwrap();
        assert!(Held::folder(&link).unwrap().is_none());
        assert_eq!(held.check(), Ok(()));
        let moved = place.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        assert!(held.check().unwrap_err().contains("not there any more"));
        std::fs::create_dir(&path).unwrap();
        assert!(held.check().unwrap_err().contains("replaced"));
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&moved, &path).unwrap();
        assert_eq!(held.check(), Ok(()));
        drop(held);
        assert!(Held::folder(&link).unwrap().is_some());
    }
}
