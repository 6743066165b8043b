//! Running the authors' library.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use models_core::card::{Card, Head, Task};
use serde::{Deserialize, Serialize};

use super::{Answered, PROBES, partner};

const SCRIPT: &str = include_str!("authors.py");

/// Why there are no answers of the authors' library.
#[derive(Debug, thiserror::Error)]
pub enum AuthorsError {
    /// It does not compute such a model.
    #[error("{model} cannot be verified: {reason}")]
    NotTheirs {
        model: String,
        /// What is not theirs.
        reason: &'static str,
    },
    /// Python could not be run.
    #[error(
        "{python}: {source}: name an interpreter that has transformers and sentence-transformers: --python …"
    )]
    Python { python: String, source: std::io::Error },
    /// It failed; what it said of it is on standard error.
    #[error(
        "{python} ended with {status}; it needs torch, transformers and, for embeddings, sentence-transformers"
    )]
    Ended { python: String, status: std::process::ExitStatus },
    /// It said something else.
    #[error("{python}: its answer: {message}")]
    Answer { python: String, message: String },
}

#[derive(Serialize)]
struct Request<'a> {
    folder: &'a Path,
    kind: &'static str,
    /// Where the files do not say it.
    pooling: Vec<String>,
    /// Each alone or with another.
    texts: Vec<[Option<&'static str>; 2]>,
}

/// What the authors' libraries answered.
#[derive(Debug, Deserialize)]
pub struct Authors {
    /// Their versions.
    pub libraries: BTreeMap<String, String>,
    /// By probe.
    pub answers: Vec<Answered>,
}

/// Has the authors' library compute the probes over a checkpoint's folder, by an interpreter that has it.
/// What that says goes to standard error.
///
/// # Errors
/// The model is none of theirs alone, or the interpreter cannot do it.
pub fn run(card: &Card, folder: &Path, python: &str) -> Result<Authors, AuthorsError> {
    let request = request(card, folder)?;
    let failed = |source| AuthorsError::Python { python: python.to_owned(), source };
    let answer = |message: String| AuthorsError::Answer { python: python.to_owned(), message };
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let asked = serde_json::to_vec(&request).map_err(|error| answer(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends without reading says why on standard error.
        let _ = input.write_all(&asked);
    }
    let ended = child.wait_with_output().map_err(failed)?;
    if !ended.status.success() {
        return Err(AuthorsError::Ended { python: python.to_owned(), status: ended.status });
    }
    let read: Authors = serde_json::from_slice(&ended.stdout).map_err(|error| answer(error.to_string()))?;
    if read.answers.len() != PROBES.len() {
        return Err(answer(format!("{} answers to {} texts", read.answers.len(), PROBES.len())));
    }
    Ok(read)
}

fn request<'a>(card: &Card, folder: &'a Path) -> Result<Request<'a>, AuthorsError> {
    let not_theirs = |reason| Err(AuthorsError::NotTheirs { model: card.name.clone(), reason });
    if card.adapter.is_some() {
        return not_theirs("its card has an adapter, and only checkpoints are compared");
    }
    if card.task == Task::Summarize {
        return not_theirs("its task is summarization, which their library does not do this way");
    }
    if card.head.weights().is_some() {
        return not_theirs("its head is of this server's own layout");
    }
    let (kind, pooling) = match &card.head {
        Head::Pooling(head) if folder.join("modules.json").is_file() => {
            debug_assert!(!head.pooling.is_empty());
            ("pooling", Vec::new())
        }
        Head::Pooling(head) => ("pooling", head.pooling.iter().map(ToString::to_string).collect()),
        Head::SequenceClassification(_) => ("sequence", Vec::new()),
        Head::TokenClassification(_) => ("token", Vec::new()),
    };
    let pair = |probe: usize| match card.task {
        Task::Rerank => [Some(PROBES[partner(probe)]), Some(PROBES[probe])],
        _ => [Some(PROBES[probe]), None],
    };
    Ok(Request { folder, kind, pooling, texts: (0..PROBES.len()).map(pair).collect() })
}
