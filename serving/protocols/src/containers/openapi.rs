//! The routes of containers in their document.

use serde_json::json;

use super::vertex;
use crate::openapi::{Api, any_object};

const TAG: &str = "Containers";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(
        TAG,
        "SageMaker's `/ping` and `/invocations`; Vertex AI's paths are those of its environment too.",
    );
    for (method, path) in [("get", "/ping"), ("post", "/ping"), ("get", "/health")] {
        api.probe(method, path, TAG, "Whether the server is ready");
    }
    let summary = "What the model is for, as text-embeddings-inference or Hugging Face's containers answer";
    for path in ["/invocations", "/models/{name}/invoke"] {
        api.call(path, TAG, summary, &(any_object(), json!({})));
    }
    let predictions = vertex::schemas(api);
    api.call("/vertex", TAG, "Predictions of instances", &predictions);
}
