//! Bodies of the tasks.

use api::tasks::Aggregation;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::http::body::{Name, Object};
use crate::http::inputs::Inputs;
use crate::tei::Direction;

/// A body. Parameters of feature extraction stand beside `inputs`, those of other tasks within.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Body<P> {
    pub(super) inputs: Inputs,
    pub(super) parameters: Option<Object<P>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct FeaturesBody {
    pub(super) inputs: Inputs,
    #[serde(default)]
    parameters: Option<Object<Features>>,
    normalize: Option<bool>,
    prompt_name: Option<String>,
    truncate: Option<bool>,
    truncation_direction: Option<Name<Direction>>,
    dimensions: Option<usize>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Features {
    pub(super) normalize: Option<bool>,
    pub(super) prompt_name: Option<String>,
    pub(super) truncate: Option<bool>,
    pub(super) truncation_direction: Option<Name<Direction>>,
    pub(super) dimensions: Option<usize>,
}

impl FeaturesBody {
    /// The inputs, and the parameters from both places.
    pub(super) fn read(self) -> (Inputs, Features) {
        let within = self.parameters.map(|Object(parameters)| parameters).unwrap_or_default();
        let features = Features {
            normalize: self.normalize.or(within.normalize),
            prompt_name: self.prompt_name.or(within.prompt_name),
            truncate: self.truncate.or(within.truncate),
            truncation_direction: self.truncation_direction.or(within.truncation_direction),
            dimensions: self.dimensions.or(within.dimensions),
        };
        (self.inputs, features)
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct SimilarityBody {
    pub(super) inputs: Object<Sentences>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Sentences {
    pub(super) source_sentence: String,
    pub(super) sentences: Vec<String>,
}

/// What is made of a classifier's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Each by itself.
    Sigmoid,
    /// Against each other.
    Softmax,
    /// Nothing.
    None,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Classification {
    pub(super) function_to_apply: Option<Name<Function>>,
    pub(super) top_k: Option<usize>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct ZeroShot {
    #[serde(default)]
    pub(super) candidate_labels: Vec<String>,
    pub(super) multi_label: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Recognition {
    pub(super) aggregation_strategy: Option<Name<Aggregation>>,
    pub(super) ignore_labels: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Summarization {
    max_length: Option<usize>,
    max_new_tokens: Option<usize>,
    generate_parameters: Option<Object<Generation>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Generation {
    max_length: Option<usize>,
    max_new_tokens: Option<usize>,
}

impl Summarization {
    /// Most tokens of a summary.
    pub(super) fn tokens_max(self) -> Option<usize> {
        let within = self.generate_parameters.map(|Object(generation)| generation).unwrap_or_default();
        let of_summary = within.max_new_tokens.or(self.max_new_tokens);
        of_summary.or(within.max_length).or(self.max_length)
    }
}
