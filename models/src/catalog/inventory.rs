//! What is to be served, described without loading it: what its card says and why, and how it would be
//! computed.

use std::sync::Arc;

use models_core::RuntimeKind;
use models_core::card::{Card, Sha256Digest};

use super::cards::{self, RejectedCard};
use super::config::CatalogConfig;
use super::error::LoadError;
use super::infer::Finding;
use super::loader::{self, LoadContext};
use crate::progress::Progress;

/// All models of a configuration.
pub struct Inventory {
    pub models: Vec<Described>,
    /// Of which there is no card.
    pub rejected: Vec<RejectedCard>,
}

/// A model that has a card, written or inferred.
pub struct Described {
    pub card: Arc<Card>,
    /// What the card was inferred from, field by field; empty of a card that somebody wrote.
    pub findings: Vec<Finding>,
    /// The branch, tag or commit that was asked for, of a repository that is pinned.
    pub revision: Option<String>,
    /// Its files, or why they cannot be had.
    pub files: Result<Files, String>,
}

/// The files of a model.
pub struct Files {
    pub folder: std::path::PathBuf,
    /// In bytes, together.
    pub size: u64,
    /// Stands for the content of all of them.
    pub digest: Sha256Digest,
    /// What each runtime of this build lacks to compute it; nothing if it can.
    pub runtimes: Vec<(RuntimeKind, Option<String>)>,
}

impl Inventory {
    /// Reads all cards, fetches what is missing and may be fetched, and opens the files.
    ///
    /// # Errors
    /// The cards cannot be read. What is wrong with one model is said of it.
    pub fn read(config: &CatalogConfig, progress: &dyn Progress) -> Result<Self, LoadError> {
        let mut loading = LoadContext::new(config, progress);
        let (mut cards, mut rejected) = cards::of(config, |wanted| loading.inferred(wanted))?;
        cards::apply(&config.all, &config.overrides, &mut cards, &mut rejected)?;
        cards::keep(config.only.as_deref(), &mut cards, &mut rejected)?;
        let mut models = Vec::new();
        for card in cards {
            let wanted = config.wanted.iter().find(|wanted| wanted.name() == card.name);
            let (findings, pin) = match wanted {
                Some(wanted) => loading.findings(wanted).unwrap_or_default(),
                None => (Vec::new(), None),
            };
            let files = files(&mut loading, &card);
            let revision = pin.map(|pin| pin.revision);
            models.push(Described { card, findings, revision, files });
        }
        Ok(Self { models, rejected })
    }
}

fn files(loading: &mut LoadContext<'_>, card: &Card) -> Result<Files, String> {
    let folder = loading.folder(card).map_err(|error| error.to_string())?;
    let digest = loader::digest(card).map_err(|error| error.to_string())?;
    let lengths =
        card.source.files.keys().map(|name| std::fs::metadata(folder.join(name)).map(|file| file.len()));
    let size = lengths.filter_map(Result::ok).sum();
    let runtimes = loading.supporting(card, &folder).map_err(|error| error.to_string())?;
    Ok(Files { folder, size, digest, runtimes })
}
