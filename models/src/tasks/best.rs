//! The best of some labels.

use std::sync::Arc;

use models_core::tasks::{LabelScore, Output};

use super::math::{sigmoid, softmax};
use super::sentiment::labelled;

/// What makes scores of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scores {
    AgainstOthers,
    EachByItself,
    /// They are the logits.
    Raw,
}

/// The best `top_k` labels, each scored by itself or against the others; best first, and equals in the order
/// of the labels.
pub(super) fn best(labels: &[Arc<str>], logits: &[f32], scores: Scores, top_k: usize) -> Output {
    let scores = match scores {
        Scores::AgainstOthers => softmax(logits),
        Scores::EachByItself => logits.iter().copied().map(sigmoid).collect(),
        Scores::Raw => logits.to_vec(),
    };
    let mut labels: Vec<LabelScore> = labelled(labels, &scores, logits);
    labels.sort_by(|left, right| right.score.total_cmp(&left.score));
    labels.truncate(top_k);
    Output::Labels(labels)
}
