//! Its routes in its document.

use api::tasks::LabelScore;
use serde_json::{Value, json};

use super::entities::Found;
use super::parameters::{
    Body, Classification, FeaturesBody, Recognition, SimilarityBody, Summarization, ZeroShot,
};
use super::pipeline::SummaryText;
use crate::openapi::Api;

const TAG: &str = "Tasks";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(TAG, "A model by its name; what it is for, or the task of the path.");
    let read = [
        api.read_whole::<FeaturesBody>(),
        api.read_whole::<SimilarityBody>(),
        api.read_whole::<Body<Classification>>(),
        api.read_whole::<Body<ZeroShot>>(),
        api.read_whole::<Body<Recognition>>(),
        api.read_whole::<Body<Summarization>>(),
    ];
    let one_or_many = |one: Value| json!({"anyOf": [one, {"type": "array", "items": one}]});
    let vectors = api.written_whole::<Vec<Vec<f32>>>();
    let written = [
        vectors,
        api.written_whole::<Vec<f32>>(),
        one_or_many(api.written_whole::<Vec<LabelScore>>()),
        one_or_many(api.written_whole::<Vec<Found>>()),
        api.written_whole::<Vec<SummaryText>>(),
    ];
    let schemas = (json!({"anyOf": read}), json!({"anyOf": written}));
    for path in ["/hf/{name}", "/models/{name}"] {
        api.call(path, TAG, "What the model is for", &schemas);
    }
    api.call("/models/{name}/pipeline/{task}", TAG, "A task, as the hub names it", &schemas);
}
