//! Secrets that are kept in files: the operator's token, the secret that keys are hashed under, secrets of
//! webhooks, passwords.
//!
//! - **Written** whole or not at all: into a file beside it that only this user may read, which takes the
//!   name when it is on the disk. A crash or a full disk leaves no empty secret behind.
//! - **Read** with checks: a bounded regular file that is not empty and not too short; one that others may
//!   read is warned of.
//! - **Forms**: `hex:` and `base64:` say what follows. Anything else is taken as it is, so random bytes will
//!   do; of a text the white space around it is no part.
//! - **Compared** in constant time, and never with nothing: an [`OperatorToken`] cannot be empty.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use router::{ApiKey, Mode, RandomError};
use subtle::ConstantTimeEq;

use crate::regular_file;

/// The operator's token itself, in the environment.
const TOKEN_VARIABLE: &str = "ML_INFERENCE_OPERATOR_TOKEN";
/// A file with it, in the environment.
const TOKEN_FILE_VARIABLE: &str = "ML_INFERENCE_OPERATOR_TOKEN_FILE";
/// Name of the file in the state folder.
pub(crate) const TOKEN_FILE: &str = "operator.token";

/// Largest file that is read as a secret, in bytes.
const BYTES_MAX: u64 = 64 << 10;
/// Shortest operator's token, in characters: 16 random letters and digits have 95 bits.
const TOKEN_LENGTH_MIN: usize = 16;
/// Who else may read a file: group and others.
const OTHERS: u32 = 0o077;

/// Why a secret cannot be used. Never says the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// What is there is no such secret.
    #[error("{place}: {problem}")]
    Unusable {
        /// The file or variable.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A secret that the configuration holds in memory; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

/// The token that opens the administration of all tenants.
#[derive(Clone)]
pub(crate) struct OperatorToken(String);

/// What becomes of a secret of ours whose file is empty, as a crash of an earlier version left it.
pub(crate) enum OnEmpty<'a> {
    /// It is made anew, loudly.
    Replace,
    /// It cannot be made anew without harm: says what to do.
    Refuse(&'a str),
}

impl SecretText {
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken(…)")
    }
}

impl OperatorToken {
    /// The token of the environment, else of `file`, else of the state folder, where one is made if there is
    /// none.
    ///
    /// # Errors
    /// It is empty, too short or not of visible ASCII characters, or a file cannot be used.
    pub(crate) fn open(
        given: Option<&SecretText>,
        file: Option<&Path>,
        state_dir: &Path,
    ) -> Result<Self, SecretError> {
        match (given, file) {
            (Some(SecretText(text)), _) => Self::given(text),
            (None, Some(path)) => Self::read(path),
            (None, None) => {
                let path = token_file(None, state_dir);
                let make = || ApiKey::generate(Mode::Live).map(|key| key.expose().replace("tc_live_", "op_"));
                let text = keep(&path, &OnEmpty::Replace, make)?;
                Self::new(&text).map_err(|problem| unusable(path.display(), problem))
            }
        }
    }

    /// The token of the environment, else of `file`, else of the state folder: where a server would find it.
    ///
    /// # Errors
    /// There is none, or one that is none.
    pub(crate) fn find(
        given: Option<&SecretText>,
        file: Option<&Path>,
        state_dir: &Path,
    ) -> Result<Self, SecretError> {
        match given {
            Some(SecretText(text)) => Self::given(text),
            None => Self::read(&token_file(file, state_dir)),
        }
    }

    /// The token of a file.
    ///
    /// # Errors
    /// It holds none.
    pub(crate) fn read(path: &Path) -> Result<Self, SecretError> {
        let bytes = read(path)?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        Self::new(&text).map_err(|problem| unusable(path.display(), problem))
    }

    fn given(text: &str) -> Result<Self, SecretError> {
        // The variable named a file once.
        if Path::new(text).is_file() {
            let problem = format!("expected the token itself; for a file set {TOKEN_FILE_VARIABLE}");
            return Err(unusable(TOKEN_VARIABLE, problem));
        }
        Self::new(text).map_err(|problem| unusable(TOKEN_VARIABLE, problem))
    }

    /// A token, without the white space around it.
    fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let is_good = text.len() >= TOKEN_LENGTH_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_good {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "an operator's token has at least {TOKEN_LENGTH_MIN} visible ASCII characters, and this is none; \
             write one into it (openssl rand -hex 32), or remove it to have one made"
        ))
    }

    /// Whether somebody who shows `token` is the operator.
    pub(crate) fn is(&self, token: &str) -> bool {
        !token.is_empty() && bool::from(token.as_bytes().ct_eq(self.0.as_bytes()))
    }

    /// The token itself, to be shown to a server.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// The secret of a file that somebody else made, decoded by its form.
///
/// # Errors
/// The file cannot be read, is too large, holds nothing, or not what its prefix says.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let bytes = read_file(path)?;
    let secret = decode(&bytes).map_err(|problem| unusable(path.display(), problem))?;
    if secret.is_empty() {
        return Err(unusable(path.display(), "it is empty"));
    }
    Ok(secret)
}

/// The secret of a file of ours, made if there is none.
///
/// # Errors
/// The file cannot be read or written, or is empty and must not be made anew.
pub(crate) fn keep(
    path: &Path,
    on_empty: &OnEmpty<'_>,
    make: impl FnOnce() -> Result<String, RandomError>,
) -> Result<String, SecretError> {
    match read_file(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| unusable(path.display(), "it is no text"))?;
            let text = text.trim();
            if !text.is_empty() {
                return Ok(text.to_owned());
            }
            if let OnEmpty::Refuse(problem) = on_empty {
                return Err(unusable(path.display(), *problem));
            }
            tracing::warn!(path = %path.display(), "this secret was empty, as a crash may have left it: a new one is made");
        }
        Err(SecretError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = make()?;
    write(path, text.as_bytes()).map_err(|source| SecretError::Write { path: path.to_owned(), source })?;
    Ok(text)
}

/// Makes a folder that only this user may use, or takes the rights of others from one that is there.
///
/// # Errors
/// It cannot be made.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & OTHERS != 0
        && let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))
    {
        tracing::warn!(path = %path.display(), %error, "others may look into this folder, and that cannot be changed");
    }
    Ok(())
}

/// Takes the files in a folder of ours from everybody else: an older version let others read them. Secrets
/// stay as they are, so that who they belong to is warned of what may have been seen. What cannot be changed
/// is said.
pub(crate) fn private_files(folder: &Path, secrets: &[&str]) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let mode = metadata.permissions().mode();
        let is_secret = secrets.iter().any(|secret| entry.file_name() == **secret);
        if metadata.is_file()
            && mode & OTHERS != 0
            && !is_secret
            && let Err(error) = std::fs::set_permissions(&path, Permissions::from_mode(mode & 0o700))
        {
            tracing::warn!(path = %path.display(), %error, "others may use this file, and that cannot be changed");
        }
    }
    Ok(())
}

/// Writes a file of ours again: whole or not at all for whoever reads it, though not after a power failure.
pub(crate) fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(draft, path)
}

/// Where the operator's token is, if it is not in the environment.
pub(crate) fn token_file(file: Option<&Path>, state_dir: &Path) -> PathBuf {
    file.map_or_else(|| state_dir.join(TOKEN_FILE), Path::to_owned)
}

/// The operator's token of the environment.
pub(crate) fn given_token() -> Option<SecretText> {
    std::env::var(TOKEN_VARIABLE).ok().map(SecretText::new)
}

/// The file of the environment that has the operator's token.
pub(crate) fn given_token_file() -> Option<PathBuf> {
    std::env::var_os(TOKEN_FILE_VARIABLE).map(PathBuf::from)
}

fn unusable(place: impl fmt::Display, problem: impl Into<String>) -> SecretError {
    SecretError::Unusable { place: place.to_string(), problem: problem.into() }
}

fn read_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let fail = |source| SecretError::Read { path: path.to_owned(), source };
    let (bytes, metadata) = regular_file::read(path, BYTES_MAX).map_err(fail)?;
    if metadata.permissions().mode() & OTHERS != 0 {
        let mode = format!("{:o}", metadata.permissions().mode() & 0o777);
        tracing::warn!(path = %path.display(), mode, "others may read this secret: chmod 600 it");
    }
    if bytes.len() as u64 > BYTES_MAX {
        return Err(unusable(path.display(), format!("it has more than {BYTES_MAX} bytes")));
    }
    if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
        let problem =
            "it has nothing but NUL bytes, as a power failure may leave a file: restore it from a backup";
        return Err(unusable(path.display(), problem));
    }
    Ok(bytes)
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let folder = path.parent().ok_or_else(invalid)?;
    let name = path.file_name().ok_or_else(invalid)?.to_string_lossy();
    // Always the same, so that what a crash leaves is overwritten.
    let draft = folder.join(format!(".{name}.draft"));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // It may not be there; then there is nothing to remove.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// The bytes that a secret's text or bytes stand for. See the module for the forms.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(is_binary)) else {
        return Ok(bytes.to_vec());
    };
    let text = text.trim();
    if let Some(digits) = text.strip_prefix("hex:") {
        return decode_hex(digits.trim())
            .ok_or_else(|| "expected pairs of hexadecimal digits after hex:".to_owned());
    }
    if let Some(digits) = text.strip_prefix("base64:") {
        let forms: [&GeneralPurpose; 4] = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
        let decoded = forms.iter().find_map(|form| form.decode(digits.trim()).ok());
        return decoded.ok_or_else(|| "expected base64 after base64:".to_owned());
    }
    Ok(text.as_bytes().to_vec())
}

/// Whether a character is one that no text has.
fn is_binary(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forms() {
        let check = |bytes: &[u8], expected: Option<&[u8]>| {
            assert_eq!(decode(bytes).ok().as_deref(), expected, "{bytes:?}");
        };
        check(b"hex:00ffA0", Some(&[0, 255, 160]));
        check(b" hex:00ff\n", Some(&[0, 255]));
        check(b"hex:0", None);
        check(b"hex:0g", None);
        check("hex:é0".as_bytes(), None);
        check(b"base64:AP+g\n", Some(&[0, 255, 160]));
        check(b"base64:AP-g", Some(&[0, 255, 160]));
        check(b"base64:AP8=", Some(&[0, 255]));
        check(b"base64:AP8", Some(&[0, 255]));
        check(b"base64:A", None);
        check(b"plain text \r\n", Some(b"plain text"));
        // Of random bytes each one counts, a line's end too.
        check(b"\x01\xff\n", Some(b"\x01\xff\n"));
        check(b"\x01ab\n", Some(b"\x01ab\n"));
        check(b"", Some(b""));
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn kept_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        private_folder(&state).unwrap();
        assert_eq!(mode(&state), 0o700);
        std::fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        private_folder(&state).unwrap();
        assert_eq!(mode(&state), 0o700);
        let path = state.join("secret");
        let make = |text: &'static str| move || Ok(text.to_owned());
        assert_eq!(keep(&path, &OnEmpty::Replace, make("one")).unwrap(), "one");
        assert_eq!(keep(&path, &OnEmpty::Replace, make("two")).unwrap(), "one");
        assert_eq!((mode(&path), std::fs::read_dir(&state).unwrap().count()), (0o600, 1));
        for empty in ["", "\n", " \n"] {
            std::fs::write(&path, empty).unwrap();
            let error = keep(&path, &OnEmpty::Refuse("restore it"), make("two")).unwrap_err().to_string();
            assert!(error.contains("restore it") && error.contains("secret"), "{error}");
            assert_eq!(keep(&path, &OnEmpty::Replace, make("three")).unwrap(), "three");
        }
        // What cannot be written leaves nothing behind: neither an empty file nor a draft.
        let nowhere = state.join("none/secret");
        assert!(keep(&nowhere, &OnEmpty::Replace, make("four")).is_err());
        let in_the_way = state.join("folder");
        std::fs::create_dir_all(in_the_way.join("full")).unwrap();
        assert!(write(&in_the_way, b"five").is_err());
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 2);
        std::fs::write(&path, vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("bytes"));
    }

    #[test]
    fn tokens_of_the_operator() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let made = OperatorToken::open(None, None, state).unwrap();
        assert!(made.expose().starts_with("op_") && made.is(made.expose()));
        for other in ["", " ", "op_", &made.expose()[..20], &format!("{}x", made.expose())] {
            assert!(!made.is(other), "{other:?}");
        }
        assert!(OperatorToken::open(None, None, state).unwrap().is(made.expose()));
        assert!(OperatorToken::find(None, None, state).unwrap().is(made.expose()));
        // One that a crash left empty is another one afterwards.
        std::fs::write(state.join(TOKEN_FILE), "").unwrap();
        assert!(OperatorToken::find(None, None, state).is_err());
        let again = OperatorToken::open(None, None, state).unwrap();
        assert!(!again.is("") && !again.is(made.expose()));
        // One that was given is used or refused, not replaced.
        let given = folder.path().join("given.token");
        for (text, is_good) in [
            ("", false),
            ("\n", false),
            ("short", false),
            ("0123456789 abcdef", false),
            ("0123456789abcdef\n", true),
        ] {
            std::fs::write(&given, text).unwrap();
            assert_eq!(OperatorToken::open(None, Some(&given), state).is_ok(), is_good, "{text:?}");
            let by_environment = OperatorToken::open(Some(&SecretText::new(text.to_owned())), None, state);
            assert_eq!(by_environment.is_ok(), is_good, "{text:?}");
        }
        let path = SecretText::new(given.to_str().unwrap().to_owned());
        let error = OperatorToken::open(Some(&path), None, state).unwrap_err().to_string();
        assert!(error.contains(TOKEN_FILE_VARIABLE), "{error}");
        assert_eq!(format!("{made:?} {path:?}"), "OperatorToken(…) SecretText(…)");
    }
}
