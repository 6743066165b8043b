//! The operator's token of a running server: read again when its file is another one, so that it is replaced
//! without a restart.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::secrets::{OperatorToken, SecretError, SecretText, token_file};

pub struct WatchedToken {
    token: RwLock<OperatorToken>,
    /// None: it is of the environment, and stays.
    file: Option<PathBuf>,
    seen: Mutex<Option<Stamp>>,
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
        let seen = Mutex::new(file.as_deref().and_then(|file| stamp(file).ok()));
        Ok(Self { token, file, seen })
    }

    /// Whether somebody who shows `token` is the operator.
    pub(crate) fn is(&self, token: &str) -> bool {
        self.token.read().unwrap_or_else(PoisonError::into_inner).is(token)
    }

    /// Reads the file if it is another one than before. What cannot be used, or is gone, changes nothing.
    /// Blocks.
    pub(crate) fn refresh(&self) {
        let Some((file, now)) = self.file.as_deref().and_then(|file| Some((file, stamp(file).ok()?))) else {
            return;
        };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if seen == Some(now) {
            return;
        }
        match OperatorToken::read(file) {
            Ok(new) => {
                let mut token = self.token.write().unwrap_or_else(PoisonError::into_inner);
                if !token.is(new.expose()) {
                    *token = new;
                    tracing::warn!(file = %file.display(), "the operator's token was changed; the old one is not good any more");
                }
            }
            Err(error) => {
                tracing::error!(%error, "the operator's token was changed and cannot be used; the old one stays");
            }
        }
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
        let check = |good: &str, bad: &str| {
            token.refresh();
            assert!(token.is(good) && !token.is(bad), "{good}");
        };
        check("first-token-0123456789", "second-token-0123456789");
        write("second-token-0123456789\n");
        check("second-token-0123456789", "first-token-0123456789");
        for unusable in ["", "short", "a token with spaces in it"] {
            write(unusable);
            check("second-token-0123456789", unusable);
        }
        std::fs::remove_file(&file).unwrap();
        check("second-token-0123456789", "");
        write("third-token-0123456789");
        check("third-token-0123456789", "second-token-0123456789");
        let given = SecretText::new("given-token-0123456789".to_owned());
        let token = WatchedToken::open(Some(&given), Some(&file), folder.path()).unwrap();
        token.refresh();
        assert!(token.is("given-token-0123456789") && !token.is("third-token-0123456789"));
    }
}
