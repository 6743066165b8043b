//! Certificates: that a model computes what its authors' library computes.
//!
//! [`authors::run`] has transformers and sentence-transformers compute `probes` once, on a machine that has
//! them. What they answered is kept in `<data>/certificates/<digest>.json`, by the content of the model's
//! files. Every start computes the probes again and compares: so another version of this server, another
//! runtime, number format or processor that came to other answers would not answer at all.

mod authors;
mod probes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use models_core::card::{Card, Sha256Digest};
use models_core::{Dtype, RuntimeKind, files};
use serde::{Deserialize, Serialize};

pub use authors::{AuthorsError, run};
pub use probes::{PROBES, partner};

/// Written into certificates, so that older ones can be told.
const FORMAT: u32 = 1;
/// Of decoders with long vectors a certificate has a few megabytes.
const BYTES_MAX: u64 = 256 << 20;

/// What the authors' library answers, and how far from that a model was when it was compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    format: u32,
    /// Name of the model; the files matter, not this.
    pub model: String,
    /// Repository and commit, or `folder`.
    pub source: String,
    /// Stands for the content of all files of the model.
    pub digest: Sha256Digest,
    /// Stands for what the card says beyond the files: head, pooling and prompts.
    card: Sha256Digest,
    /// Versions of Python and its libraries.
    pub libraries: BTreeMap<String, String>,
    /// Stands for the texts.
    probes: Sha256Digest,
    /// What was compared when it was made.
    pub comparisons: Vec<Comparison>,
    answers: Vec<Answered>,
}

/// A runtime that was compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    pub runtime: String,
    pub dtype: String,
    /// Largest difference; of vectors, which are scaled to length one, and of logits in relation to the
    /// largest.
    pub worst: f32,
    /// Probes that were compared: those that fit into one window.
    pub compared: usize,
}

/// How far a model is from its authors' library.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The largest; of vectors, which are scaled to length one, and of logits in relation to the largest.
    pub worst: f32,
    /// Probes that were compared.
    pub compared: usize,
}

/// What the authors' library made of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Its tokens, special tokens included.
    pub ids: Vec<u32>,
    /// One vector or the logits of its classes; or the logits of each token.
    pub rows: Vec<Vec<f32>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read or written.
    #[error("{file}: {message}")]
    File { file: String, message: String },
}

impl Certificate {
    /// Of what the authors' library answered to all [`PROBES`].
    pub fn new(
        card: &Card,
        digest: Sha256Digest,
        libraries: BTreeMap<String, String>,
        answers: Vec<Answered>,
    ) -> Self {
        use models_core::card::Origin;
        let source = match &card.source.origin {
            Origin::Folder(_) => "folder".to_owned(),
            origin @ Origin::Repository { .. } => origin.to_string(),
        };
        Self {
            format: FORMAT,
            model: card.name.clone(),
            source,
            digest,
            card: beyond_files(card),
            libraries,
            probes: probes::digest(),
            comparisons: Vec::new(),
            answers,
        }
    }

    /// Takes down how a runtime compared.
    pub fn add(&mut self, runtime: RuntimeKind, dtype: Dtype, difference: Difference) {
        let Difference { worst, compared } = difference;
        let (runtime, dtype) = (runtime.as_str().to_owned(), dtype.as_str().to_owned());
        self.comparisons.push(Comparison { runtime, dtype, worst, compared });
    }

    /// Where the certificate of a model of this content is kept.
    pub fn path(data_dir: &Path, digest: Sha256Digest) -> PathBuf {
        data_dir.join("certificates").join(format!("{digest}.json"))
    }

    /// The certificate of a model of this content, if there is one of this version's probes and of a card
    /// that makes answers the same way.
    ///
    /// # Errors
    /// There is a file and it cannot be read.
    pub fn find(
        data_dir: &Path,
        card: &Card,
        digest: Sha256Digest,
    ) -> Result<Option<Self>, CertificateError> {
        let path = Self::path(data_dir, digest);
        let fault = |message: String| CertificateError::File { file: path.display().to_string(), message };
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > BYTES_MAX => return Err(fault("is too long".to_owned())),
            _ => {}
        }
        let bytes = files::read(&path).map_err(|error| fault(error.to_string()))?;
        let read: Self = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        if read.digest != digest {
            return Err(fault(format!("is of {}", read.digest)));
        }
        let is_of_card = read.format == FORMAT
            && read.card == beyond_files(card)
            && read.probes == probes::digest()
            && read.answers.len() == PROBES.len();
        Ok(is_of_card.then_some(read))
    }

    /// Keeps it, whole or not at all.
    ///
    /// # Errors
    /// The data folder refuses.
    pub fn write(&self, data_dir: &Path) -> Result<PathBuf, CertificateError> {
        let path = Self::path(data_dir, self.digest);
        let written = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(data_dir))?;
            let new = path.with_extension("json.new");
            fs::write(&new, serde_json::to_vec(self)?)?;
            fs::rename(&new, &path)
        };
        let file = || path.display().to_string();
        written().map_err(|error| CertificateError::File { file: file(), message: error.to_string() })?;
        Ok(path)
    }

    /// What the authors' library answered, by probe.
    pub fn answers(&self) -> &[Answered] {
        &self.answers
    }

    /// Which libraries of the authors' it is by.
    pub fn authors(&self) -> String {
        let named = self.libraries.iter().filter(|(name, _)| name.contains("transformers"));
        named.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    }
}

/// Stands for what a card says of how answers are made that its files do not say.
fn beyond_files(card: &Card) -> Sha256Digest {
    let said = format!("{} {:?} {:?} {:?}", card.task, card.head, card.pooling, card.prompts);
    files::digest_of(said.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const CARD: &str = include_str!("../../../model-cards/embeddings-v2/README.md");

    fn card() -> Card {
        Card::parse(CARD, "README.md", PathBuf::from("embeddings-v2")).unwrap()
    }

    #[test]
    fn a_certificate_is_of_these_files_and_this_way_to_answer() {
        let folder = tempfile::tempdir().unwrap();
        let (digest, other) = (files::digest_of(b"files"), files::digest_of(b"other files"));
        let card_kept = card();
        let answer = Answered { ids: vec![1, 2], rows: vec![vec![0.1, -2.5e-7, f32::MIN_POSITIVE]] };
        let libraries = BTreeMap::from([("transformers".to_owned(), "5".to_owned())]);
        let answers = vec![answer; PROBES.len()];
        let mut made = Certificate::new(&card_kept, digest, libraries, answers);
        made.add(RuntimeKind::Fused, Dtype::Float32, Difference { worst: 1e-6, compared: 60 });
        let path = made.write(folder.path()).unwrap();
        let find = |card: &Card, digest| Certificate::find(folder.path(), card, digest);
        assert_eq!(find(&card_kept, digest).unwrap(), Some(made));
        assert_eq!(find(&card_kept, other).unwrap(), None);
        // Another runtime is held to it as well; another head is another model.
        let runtime = Card { runtime: RuntimeKind::Candle, dtype: Dtype::Float32, ..card_kept.clone() };
        assert!(find(&runtime, digest).unwrap().is_some());
        let head = Card { pooling: Some(models_core::card::Pooling::Cls), ..card_kept.clone() };
        assert_eq!(find(&head, digest).unwrap(), None);
        // Of other files than its name says, and damaged.
        fs::copy(&path, Certificate::path(folder.path(), other)).unwrap();
        assert!(find(&card_kept, other).unwrap_err().to_string().contains(&format!("is of {digest}")));
        fs::write(&path, "{").unwrap();
        assert!(find(&card_kept, digest).unwrap_err().to_string().contains(&digest.to_string()));
    }

    #[test]
    fn probes_are_texts_of_their_own_and_pairs_reach_all() {
        let texts: std::collections::BTreeSet<_> = PROBES.into_iter().collect();
        assert_eq!(texts.len(), PROBES.len());
        let partners: std::collections::BTreeSet<_> = (0..PROBES.len()).map(partner).collect();
        assert_eq!(partners.len(), PROBES.len());
        assert!((0..PROBES.len()).all(|probe| partner(probe) != probe));
    }
}
