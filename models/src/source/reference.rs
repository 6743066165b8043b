//! How people name a repository of the model hub and one of its revisions.

use std::fmt;
use std::str::FromStr;

/// The revision that is meant where none is named.
const DEFAULT_REVISION: &str = "main";
/// The hub's own bound for a name.
const NAME_CHARS_MAX: usize = 96;
/// Branches and tags are shorter, and a pin's file has to have their name.
const REVISION_CHARS_MAX: usize = 128;
const COMMIT_DIGITS: usize = 40;

/// A revision of a repository: `owner/name`, and a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    repository: String,
    revision: String,
}

/// Why a text names no repository or no revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It is not `owner/name`.
    #[error("{0:?} is no repository of a model hub: expected OWNER/NAME")]
    Repository(String),
    /// It is no branch, tag or commit.
    #[error("revision {0:?}: expected a branch, a tag or a commit of 40 hexadecimal digits")]
    Revision(String),
}

impl Reference {
    /// The named revision, or `main`.
    ///
    /// # Errors
    /// One of them cannot be the name of such.
    pub fn new(repository: &str, revision: Option<&str>) -> Result<Self, ReferenceError> {
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let is_repository = repository.split('/').count() == 2 && repository.split('/').all(is_name);
        if !is_repository {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        if !is_revision(revision) {
            return Err(ReferenceError::Revision(revision.to_owned()));
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// `owner/name`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The commit, if the revision is one: nothing has to be looked up then.
    pub fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

/// `owner/name` or `owner/name@revision`.
impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.split_once('@') {
            Some((repository, revision)) => Self::new(repository, Some(revision)),
            None => Self::new(text, None),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.revision)
    }
}

/// Whether a revision is a commit, which cannot come to mean another.
pub(super) fn is_commit(revision: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    revision.len() == COMMIT_DIGITS && revision.bytes().all(is_digit)
}

/// The hub's rules, which leave `--` free to stand for the slash in the name of a folder.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(is_plain)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && !name.contains("--")
        && !name.contains("..")
}

fn is_revision(revision: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+/".contains(c);
    (1..=REVISION_CHARS_MAX).contains(&revision.len())
        && revision.chars().all(is_plain)
        && revision.split('/').all(|part| !part.is_empty() && !part.starts_with(['-', '.']))
        && !revision.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let check = |text: &str, expected: Option<(&str, &str, bool)>| {
            let found = text.parse::<Reference>().ok();
            let found = found
                .as_ref()
                .map(|found| (found.repository.as_str(), found.revision.as_str(), found.commit().is_some()));
            assert_eq!(found, expected, "{text}");
        };
        let commit = "0123456789abcdef0123456789abcdef01234567";
        check("BAAI/bge-small-en-v1.5", Some(("BAAI/bge-small-en-v1.5", "main", false)));
        check("o/n@refs/pr/1", Some(("o/n", "refs/pr/1", false)));
        check(&format!("o/n@{commit}"), Some(("o/n", commit, true)));
        for bad in ["n", "./n", "o/n/m", "o/", "/n", "o/n ", "o/a--b", "../n", "o/..", "o/n@", "o/n@../x"] {
            check(bad, None);
        }
        for bad in ["o/n@a//b", "o/n@-x", "o/n@a/.b", "o/n@a?b", &format!("o/{}", "n".repeat(97))] {
            check(bad, None);
        }
    }
}
