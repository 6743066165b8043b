//! NIM's routes for operators: probes, for everybody, and what is served, for whoever may look at models.
//! What only its containers have (manifest, licence) is not told, and metrics are on the operations port.

use api::{ModelInfo, ModelStatus, Task};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::models;
use crate::Services;
use crate::grpc::Health;
use crate::http::dialect::Answer;
use crate::openapi::Api;

const LIVE_PATH: &str = "/v1/health/live";
const READY_PATH: &str = "/v1/health/ready";

/// What a probe is answered.
#[derive(Serialize, JsonSchema)]
struct Probe {
    object: &'static str,
    message: &'static str,
    ready: bool,
}

#[derive(Serialize, JsonSchema)]
struct Metadata {
    version: &'static str,
    #[serde(rename = "modelInfo")]
    models: Vec<Model>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Model {
    short_name: String,
    /// Repository and revision of the model hub; empty where the weights come from nowhere.
    model_url: String,
}

#[derive(Serialize, JsonSchema)]
struct Version {
    release: &'static str,
    api: &'static str,
}

/// The routes, once the server has started.
pub(super) fn routes(services: Services, health: &Health) -> Router {
    let health = health.clone();
    Router::new()
        .route("/v1/metadata", get(metadata))
        .route("/v1/version", get(version))
        .with_state(services)
        .route(LIVE_PATH, get(async || probe(StatusCode::OK, "Service is live.")))
        .route(READY_PATH, get(async move || ready(health.is_serving(""))))
}

/// The probes until then.
pub(crate) fn starting() -> Router {
    Router::new()
        .route(LIVE_PATH, get(async || probe(StatusCode::OK, "Service is live.")))
        .route(READY_PATH, get(async || ready(false)))
}

fn ready(is_ready: bool) -> Response {
    match is_ready {
        true => probe(StatusCode::OK, "Service is ready."),
        false => probe(StatusCode::SERVICE_UNAVAILABLE, "Service is not ready."),
    }
}

fn probe(status: StatusCode, message: &'static str) -> Response {
    let probe = Probe { object: "health.response", message, ready: status == StatusCode::OK };
    Answer::json(status, &probe).unwrap_or_else(|_| Answer::empty(status)).into_response()
}

async fn metadata(State(services): State<Services>, request: Request) -> Response {
    models::answer(&services, request, |services| {
        let mut models = services.models.models();
        models.retain(|model| model.status == ModelStatus::Loaded);
        let models = models.into_iter().map(Model::from).collect();
        Answer::json(StatusCode::OK, &Metadata { version: services.server.version, models })
    })
    .await
}

async fn version(State(services): State<Services>, request: Request) -> Response {
    models::answer(&services, request, |services| {
        let version = services.server.version;
        Answer::json(StatusCode::OK, &Version { release: version, api: version })
    })
    .await
}

/// What probes, the metadata and the version are written as, for the document.
pub(super) fn schemas(api: &mut Api) -> [Value; 3] {
    [api.written_whole::<Probe>(), api.written_whole::<Metadata>(), api.written_whole::<Version>()]
}

impl From<ModelInfo> for Model {
    fn from(model: ModelInfo) -> Self {
        // What was trained here has the encoder of a repository, and is not what is there.
        let origin = model.repository.filter(|_| model.task == Task::Embed);
        let model_url = origin.map(|(repository, revision)| format!("{repository}@{revision}"));
        Self { short_name: model.name, model_url: model_url.unwrap_or_default() }
    }
}
