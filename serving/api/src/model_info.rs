//! What callers are told of a model.

use std::time::Duration;

use models_core::card::{Limits, MicroDollars, Origin, Pooling, Prompts, Task, WEIGHTS_FILE};
use models_core::{Card, Verification};

/// A model as every protocol shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Name in `model`, such as `sentiment-v3`.
    pub name: String,
    /// Semantic version of the card.
    pub version: String,
    /// What it does.
    pub task: Task,
    /// Names of a classifier's classes, in the order of its outputs.
    pub labels: Vec<String>,
    /// What one call may ask for.
    pub limits: Limits,
    /// Numbers in a vector of it, where it makes vectors and answers.
    pub width: Option<usize>,
    /// Whether it makes vectors of single tokens too.
    pub gives_tokens: bool,
    /// What its authors put before texts.
    pub prompts: Prompts,
    /// How it makes a vector of hidden states, where it does; several are put one behind the other.
    pub pooling: Vec<Pooling>,
    /// Whether texts are put into plain characters before they are tokenised.
    pub normalize_text: bool,
    /// What it is computed in, such as `bfloat16`.
    pub dtype: &'static str,
    /// 99 % of calls are to be answered within this time.
    pub p99_target: Duration,
    /// What 1,000 inputs cost, in micro-dollars.
    pub price_per_1000_requests: MicroDollars,
    /// Repository of the model hub and commit that its weights come from, if they do.
    pub repository: Option<(String, String)>,
    /// Of the weights file; empty if the card names none.
    pub sha256: String,
    /// SPDX identifier of the weights' licence.
    pub license: String,
    /// Whether it is known to compute what its authors' library computes.
    pub verification: Verification,
    /// Whether it answers.
    pub status: ModelStatus,
}

/// Whether a model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelStatus {
    /// It does.
    Loaded,
    /// It does not.
    Unavailable {
        /// Why not, without names of folders.
        reason: String,
    },
}

/// How a model that answers is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Computed {
    /// Columns of its results.
    pub columns: usize,
    /// Whether it can give a row for each token in the place of their mean.
    pub gives_tokens: bool,
}

impl ModelInfo {
    /// The model of a card, which computes so, or does not answer for some reason.
    pub fn new(card: &Card, computed: Result<Computed, &str>) -> Self {
        let repository = match &card.source.origin {
            Origin::Folder(_) => None,
            Origin::Repository { repository, revision, .. } => Some((repository.clone(), revision.clone())),
        };
        let vectors = computed.ok().filter(|_| card.task == Task::Embed);
        Self {
            name: card.name.clone(),
            version: card.version.clone(),
            task: card.task,
            labels: card.labels.clone(),
            limits: card.limits.clone(),
            width: vectors.map(|computed| computed.columns),
            gives_tokens: vectors.is_some_and(|computed| computed.gives_tokens),
            prompts: card.prompts.clone(),
            pooling: card.head.pooling().map(|head| head.pooling.clone()).unwrap_or_default(),
            normalize_text: card.normalize_text,
            dtype: card.dtype.as_str(),
            p99_target: card.p99_target,
            price_per_1000_requests: card.price_per_1000_requests,
            repository,
            sha256: card.source.files.get(WEIGHTS_FILE).map(ToString::to_string).unwrap_or_default(),
            license: card.license.clone(),
            verification: Verification::default(),
            status: computed.err().map_or(ModelStatus::Loaded, |reason| ModelStatus::Unavailable {
                reason: public_reason(reason),
            }),
        }
    }
}

/// Why a model does not answer, for whoever may look at models: files by name and without their folders,
/// which are the operator's business. The whole reason is in the log and under `/admin/v1/models`.
fn public_reason(reason: &str) -> String {
    let names = reason.split_whitespace().map(|word| word.rsplit_once('/').map_or(word, |(_, name)| name));
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_without_folders() {
        let check = |reason: &str, expected: &str| assert_eq!(public_reason(reason), expected);
        check("/srv/cards/ner-v2/head.safetensors: not weights", "head.safetensors: not weights");
        check("cannot read /my data/x.json (os error 2)", "cannot read my x.json (os error 2)");
        check("head 5 is not supported", "head 5 is not supported");
    }
}
