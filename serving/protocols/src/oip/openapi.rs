//! The protocol's routes in its document.

use serde_json::{Value, json};

use super::{kserve, rest};
use crate::openapi::{ALWAYS, Api, CALL, Content, LOADING, MODELS, Operation, any_object};
use crate::tei;

const SERVER: &str = "Server";
const MODEL: &str = "Models";
const REPOSITORY: &str = "Repository";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(SERVER, "Health and metadata.");
    api.tag(MODEL, "Inference; outputs `embedding`, `label`, `score`, `entities`, `summary`. KServe v1 too.");
    api.tag(REPOSITORY, "The models that there are.");
    let server = Operation::new("get", "/v2", SERVER, "Metadata of the server").open();
    api.add(server.answers(200, "The metadata.", &any_object()).fails(ALWAYS));
    for (path, summary) in [("live", "Whether the server is alive"), ("ready", "Whether it is ready")] {
        api.probe("get", &format!("/v2/health/{path}"), SERVER, summary);
    }
    let alive = tei::rest::alive_schema(api);
    api.told_probe("/", SERVER, "KServe v1: whether the server is alive", &alive);
    let infer = rest::schemas(api);
    for version in ["", "/versions/{version}"] {
        let model = format!("/v2/models/{{name}}{version}");
        api.look(&model, MODEL, "Metadata of a model", &any_object());
        api.probe("get", &format!("{model}/ready"), MODEL, "Whether a model is ready");
        api.look(
            &format!("{model}/config"),
            MODEL,
            "Configuration of a model, as Triton has it",
            &any_object(),
        );
        api.look(&format!("{model}/stats"), MODEL, "What was counted of a model", &any_object());
        api.add(inference(&format!("{model}/infer"), &infer));
    }
    api.look("/v2/models/stats", MODEL, "What was counted of all models", &any_object());
    let predictions = kserve::schemas(api);
    api.call("/v1/models/{name}", MODEL, "KServe v1: `{name}:predict`", &predictions);
    let ready = json!({"type": "object", "properties": {"ready": {"type": "boolean"}}});
    let models = json!({"type": "array", "items": any_object()});
    let body = Content::from([("application/json", json!({"schema": ready}))]);
    let index = Operation::new("post", "/v2/repository/index", REPOSITORY, "Lists models and their state")
        .body_of(body, false)
        .answers(200, "The models.", &models)
        .fails(MODELS);
    let load = "/v2/repository/models/{name}/load";
    let load = Operation::new("post", load, REPOSITORY, "Loads a model, anew if it is loaded")
        .described(MANAGED)
        .answers_with(200, "It is loaded.", Content::new())
        .fails(LOADING);
    let unload = "/v2/repository/models/{name}/unload";
    let unload = Operation::new("post", unload, REPOSITORY, "Unloads a model")
        .described(MANAGED)
        .answers_with(200, "It is gone.", Content::new())
        .fails(LOADING);
    for operation in [index, load, unload] {
        api.add(operation);
    }
    let unsupported = [("/v2/models/{name}/generate", MODEL), ("/v2/models/{name}/generate_stream", MODEL)];
    for (path, tag) in unsupported {
        let failure = json!({"$ref": "#/components/schemas/Error"});
        api.add(Operation::new("post", path, tag, "Not supported").answers(
            501,
            "It is not supported.",
            &failure,
        ));
    }
}

/// Who changes models.
const MANAGED: &str = "For administrators of the tenants that the server's configuration names for it; others are told \
     whether the model is loaded.";

/// A call in JSON, or with tensors in bytes behind a JSON head.
fn inference(path: &str, (read, written): &(Value, Value)) -> Operation {
    let content = |schema: &Value| {
        let bytes = json!({"schema": {"type": "string", "format": "binary"}});
        Content::from([("application/json", json!({"schema": schema})), ("application/octet-stream", bytes)])
    };
    let length = json!({"type": "integer", "minimum": 0});
    let described = "With the header, tensors follow the JSON as bytes.";
    Operation::new("post", path, MODEL, "Computes outputs of tensors")
        .call_headers()
        .header("Inference-Header-Content-Length", described, &length)
        .body_of(content(read), true)
        .answers_with(200, "The outputs.", content(written))
        .shows(&["RateLimit", "RateLimit-Policy", "Idempotency-Replayed"])
        .fails(CALL)
}
