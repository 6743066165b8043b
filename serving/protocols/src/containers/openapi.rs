//! The routes of containers in their document.

use serde_json::json;

use super::vertex;
use crate::openapi::{Api, Operation, any_object};

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
    let refused = json!({"$ref": "#/components/schemas/Error"});
    for (method, path) in [("post", "/models"), ("get", "/models/{name}"), ("delete", "/models/{name}")] {
        let loading = Operation::new(method, path, TAG, "Refused: SageMaker's multi-model mode");
        api.add(loading.answers(501, "Models are loaded when the server starts.", &refused));
    }
    let predictions = vertex::schemas(api);
    api.call("/vertex", TAG, "Predictions of instances", &predictions);
}
