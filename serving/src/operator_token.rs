//! The operator's token of a running server: read again when its file is another one, so that it is replaced
//! without a restart.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::secrets::{OperatorToken, SecretError, SecretText, token_file};

pub struct WatchedToken {
    token: RwLock<OperatorToken>,
    /// None: it is of the environment, and stays.
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
}

/// What is known of the file.
#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// What is the matter with it.
    fault: Option<String>,
}

/// What a file is told by: when it was changed (seconds, nanoseconds), its number and its length.
type Stamp = (i64, i64, u64, u64);

impl WatchedToken {
    /// The token as a server finds it: see [`OperatorToken::open`].
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn open(
        given: Option<&SecretText>,
        file: Option<&Path>,
        state_dir: &Path,
    ) -> Result<Self, SecretError> {
        let token = RwLock::new(OperatorToken::open(given, file, state_dir)?);
        let file = given.is_none().then(|| token_file(file, state_dir));
        let stamp = file.as_deref().and_then(|file| stamp(file).ok());
        let seen = Mutex::new(Seen { stamp, fault: None });
        Ok(Self { token, file, seen })
    }

    /// Whether somebody who shows `token` is the operator.
    pub(crate) fn is(&self, token: &str) -> bool {
        self.token.read().unwrap_or_else(PoisonError::into_inner).is(token)
    }

    /// Reads the file if it is another one than before. What cannot be used, or is gone, changes nothing.
    /// Blocks, and nobody waits for it who asks for the token.
    ///
    /// # Errors
    /// What is the matter with the file, until there is another.
    pub(crate) fn refresh(&self) -> Result<(), String> {
        let Some(file) = self.file.as_deref() else { return Ok(()) };
        let now = stamp(file).map_err(|error| format!("{}: {error}; the old token stays", file.display()))?;
        if self.seen().stamp == Some(now) {
            return self.seen().fault.clone().map_or(Ok(()), Err);
        }
        let read = OperatorToken::read(file);
        let fault = read.as_ref().err().map(|error| format!("{error}; the old token stays"));
        *self.seen() = Seen { stamp: Some(now), fault: fault.clone() };
        if let Ok(new) = read {
            let mut token = self.token.write().unwrap_or_else(PoisonError::into_inner);
            if !token.is(new.expose()) {
                *token = new;
                tracing::warn!(file = %file.display(), "the operator's token was changed; the old one is not good any more");
            }
        }
        fault.map_or(Ok(()), Err)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(file: &Path) -> io::Result<Stamp> {
    let metadata = std::fs::metadata(file)?;
    Ok((metadata.mtime(), metadata.mtime_nsec(), metadata.ino(), metadata.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_replaced_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let write = |text: &str| {
            // As it should be done; by this the file is another one, however coarse its times are.
            std::fs::write(folder.path().join("draft"), text).unwrap();
            std::fs::rename(folder.path().join("draft"), &file).unwrap();
        };
        write("first-token-0123456789");
        let token = WatchedToken::open(None, Some(&file), folder.path()).unwrap();
        let check = |good: &str, bad: &str, is_usable: bool| {
            // The fault stays as long as the file does.
            for _ in 0..2 {
                assert_eq!(token.refresh().is_ok(), is_usable, "{good}");
            }
            assert!(token.is(good) && !token.is(bad), "{good}");
        };
        check("first-token-0123456789", "second-token-0123456789", true);
        write("second-token-0123456789\n");
        check("second-token-0123456789", "first-token-0123456789", true);
        for unusable in ["", "short", "a token with spaces in it"] {
            write(unusable);
            check("second-token-0123456789", unusable, false);
        }
        std::fs::remove_file(&file).unwrap();
        check("second-token-0123456789", "", false);
        // A pipe that nobody writes into.
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
        check("second-token-0123456789", "", false);
        write("third-token-0123456789");
        check("third-token-0123456789", "second-token-0123456789", true);
        let given = SecretText::new("given-token-0123456789".to_owned());
        let token = WatchedToken::open(Some(&given), Some(&file), folder.path()).unwrap();
        token.refresh().unwrap();
        assert!(token.is("given-token-0123456789") && !token.is("third-token-0123456789"));
    }
}
