//! `GET /v1/models`: OpenAI's list with vLLM's fields, and beside it the names alone, as KServe v1 lists
//! them.

use api::{ApiError, Caller, ModelInfo, ModelStatus, Reads, request_id};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::OpenAi;
use crate::Services;
use crate::http::dialect::{Answer, Dialect, refuse};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
    /// KServe v1.
    models: Vec<&'a str>,
}

/// Of the server.
#[derive(Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    /// When it was made is not known.
    created: u64,
    owned_by: &'static str,
    /// vLLM.
    root: &'a str,
    max_model_len: usize,
    /// KServe v1.
    name: &'a str,
    ready: bool,
    /// infinity.
    capabilities: [&'static str; 1],
}

impl<'a> From<&'a ModelInfo> for Model<'a> {
    fn from(model: &'a ModelInfo) -> Self {
        Self {
            id: &model.name,
            object: "model",
            created: 0,
            owned_by: "ml-inference",
            root: &model.name,
            max_model_len: model.limits.tokens_max,
            name: &model.name,
            ready: model.status == ModelStatus::Loaded,
            capabilities: [model.task.as_str()],
        }
    }
}

/// The models that answer.
pub(super) async fn list(State(services): State<Services>, request: Request) -> Response {
    answer(&services, request, |services| {
        let mut models = services.models.models();
        models.retain(|model| model.status == ModelStatus::Loaded);
        let names = models.iter().map(|model| model.name.as_str()).collect();
        let list = List { object: "list", data: models.iter().map(Model::from).collect(), models: names };
        Answer::json(StatusCode::OK, &list)
    })
    .await
}

/// One model.
pub(super) async fn show(
    State(services): State<Services>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    answer(&services, request, |services| {
        let Path(name) = name.map_err(|_| ApiError::ModelNotFound)?;
        let model = services.models.model(&name).ok_or(ApiError::ModelNotFound)?;
        Answer::json(StatusCode::OK, &Model::from(&model))
    })
    .await
}

/// vLLM's `GET /version`: this server's own, as nobody else's would be true.
pub(super) async fn version(State(services): State<Services>, request: Request) -> Response {
    let version = Version { version: env!("CARGO_PKG_VERSION") };
    answer(&services, request, |_| Answer::json(StatusCode::OK, &version)).await
}

/// Answers whoever may look at models.
pub(super) async fn answer(
    services: &Services,
    request: Request,
    answer: impl FnOnce(&Services) -> Result<Answer, ApiError>,
) -> Response {
    let id = request_id(request.extensions());
    let (head, _) = request.into_parts();
    let caller = Caller::of_dialect(&head.headers, head.extensions, OpenAi::PROTOCOL);
    let visited = services.models.visit(&caller, Reads::Head).await;
    match visited.and_then(|_| answer(services)) {
        Ok(answer) => answer.into_response(),
        Err(error) => refuse::<OpenAi>(&error, &id),
    }
}
