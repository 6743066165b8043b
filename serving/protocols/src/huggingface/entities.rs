//! How names in texts are written.

use api::tasks::{Aggregation, Entity};
use schemars::JsonSchema;
use serde::Serialize;

/// A name, or a token of one.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Found {
    #[serde(flatten)]
    label: Label,
    score: f32,
    word: String,
    start: usize,
    end: usize,
}

/// Its type, by a name that says whether it is of a group of tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Label {
    EntityGroup(String),
    Entity(String),
}

/// Which names are written, and how.
pub struct Recognized {
    pub(super) aggregation: Aggregation,
    pub(super) ignore_labels: Vec<String>,
}

impl Recognized {
    /// The names of one text.
    pub(super) fn write(&self, entities: Vec<Entity>) -> Vec<Found> {
        let is_asked = |entity: &Entity| !self.ignore_labels.iter().any(|label| **label == *entity.label);
        let found = entities.into_iter().filter(is_asked);
        found
            .map(|Entity { text, label, start, end, score }| {
                let label = match self.aggregation {
                    Aggregation::None => Label::Entity(label.to_string()),
                    _ => Label::EntityGroup(label.to_string()),
                };
                Found { label, score, word: text, start, end }
            })
            .collect()
    }
}
