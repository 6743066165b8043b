//! The protocol over REST, `/v2/…`.

mod compress;
mod views;
mod wire;

use std::collections::HashMap;

use api::{ApiError, Caller, Identity, InferRequest, InferResponse, ModelInfo, Operation, Reads, request_id};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Oip as Served;
use super::call::Rendering;
use super::error::{Failure, Oip, invalid};
use super::model;
use super::statistics::Mark;
use crate::cohere::{self, Cohere};
use crate::http::dialect::{Answer, Dialect, Shape, answer, not_found, refuse};
use crate::http::{body, dialect, failed};
use compress::Compression;

pub(super) use wire::{WireParameters, schemas, values};

/// The parts of a path.
pub(super) type Place = Result<Path<HashMap<String, String>>, PathRejection>;

/// The routes.
pub(super) fn routes(oip: Served) -> Router {
    let dialects = oip.services.dialects;
    let routes = Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{name}", get(metadata))
        .route("/v2/models/{name}/ready", get(model_ready))
        .route("/v2/models/{name}/config", get(config))
        .route("/v2/models/{name}/stats", get(statistics))
        .route("/v2/models/{name}/infer", post(infer))
        .route("/v2/models/{name}/versions/{version}", get(metadata))
        .route("/v2/models/{name}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{name}/versions/{version}/config", get(config))
        .route("/v2/models/{name}/versions/{version}/stats", get(statistics))
        .route("/v2/models/{name}/versions/{version}/infer", post(infer))
        .route("/v2/models/stats", get(statistics))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{name}/load", post(load))
        .route("/v2/repository/models/{name}/unload", post(unload))
        .route("/v2/models/{name}/generate", post(unsupported))
        .route("/v2/models/{name}/generate_stream", post(unsupported))
        .route("/v2/models/{name}/trace/setting", any(unsupported))
        .route("/v2/trace/setting", any(unsupported))
        .route("/v2/logging", any(unsupported))
        .route("/v2/systemsharedmemory/{*path}", any(unsupported))
        .route("/v2/cudasharedmemory/{*path}", any(unsupported))
        .route("/v2/{*path}", any(no_route))
        .with_state(oip);
    dialect::routes::<Oip>(dialects, dialects.oip, routes)
}

/// What else there is under `/v2` is of this protocol, unless its path says that it is Cohere's.
async fn no_route(request: Request) -> Response {
    match cohere::is_path(request.uri().path()) {
        true => not_found::<Cohere>(request).await,
        false => not_found::<Oip>(request).await,
    }
}

/// What is answered while models load.
pub(crate) fn starting() -> Router {
    Router::new()
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(async || StatusCode::BAD_REQUEST))
        .route("/v2/models/{name}/ready", get(async || StatusCode::BAD_REQUEST))
        .route("/v2/models/{name}/versions/{version}/ready", get(async || StatusCode::BAD_REQUEST))
}

/// KServe's client reads the body, Triton's the status.
async fn live() -> Response {
    told("", Ok(json!({ "live": true })))
}

async fn ready(State(oip): State<Served>) -> Response {
    is_ready(oip.health.is_serving(""), json!({ "ready": true }))
}

/// Whether something is ready: what is not has an empty body.
fn is_ready(is_ready: bool, body: serde_json::Value) -> Response {
    if is_ready { told("", Ok(body)) } else { StatusCode::BAD_REQUEST.into_response() }
}

/// A request for one model's tensors.
struct Infer {
    oip: Served,
    name: String,
    version: Option<String>,
    mark: Mark,
}

/// How it is answered.
struct InferRendering {
    rendering: Rendering,
    compression: Option<Compression>,
    mark: Mark,
}

impl Infer {
    fn model(&self) -> Result<ModelInfo, ApiError> {
        model::find(&*self.oip.services.models, &self.name, self.version.as_deref())
    }
}

impl Shape for Infer {
    type Dialect = Oip;
    type Rendering = InferRendering;
    const IS_JSON: bool = false;

    fn operation(&self) -> Option<Operation> {
        self.model().ok().map(|model| model.task.into())
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, InferRendering), ApiError> {
        let model = self.model()?;
        self.mark.is_of(&model);
        let (asked, is_binary) = wire::read(&head.headers, body)?;
        let inputs_max = self.oip.services.bounds.dialect_inputs_max;
        let (request, rendering) = asked.into_request(&model, inputs_max, is_binary)?;
        let compression = Compression::asked(&head.headers);
        Ok((request, InferRendering { rendering, compression, mark: self.mark }))
    }

    fn write(response: InferResponse, rendering: InferRendering) -> Result<Answer, ApiError> {
        let InferRendering { rendering, compression, mark } = rendering;
        mark.succeed(&response);
        wire::write(&rendering.answer(response)?, compression)
    }
}

async fn infer(State(oip): State<Served>, place: Place, mut request: Request) -> Response {
    let (name, version) = match named(place) {
        Ok(named) => named,
        Err(error) => return refuse::<Oip>(&error, &request_id(request.extensions())),
    };
    let tally = oip.statistics.begin(Identity::to_be_known(request.extensions_mut()));
    let (services, mark) = (oip.services.clone(), tally.mark());
    let response = answer(&services, Infer { oip, name, version, mark }, request).await;
    tally.end(response.status().is_success());
    response
}

/// The model and the version that a path names.
fn named(place: Place) -> Result<(String, Option<String>), ApiError> {
    let Path(mut parts) = place.map_err(|_| invalid("path", "not valid UTF-8 once it is decoded"))?;
    Ok((parts.remove("name").unwrap_or_default(), parts.remove("version")))
}

/// Answers in JSON, or in the protocol's form of an error.
fn told<T: Serialize>(request_id: &str, result: Result<T, ApiError>) -> Response {
    let answer = result.and_then(|value| Answer::json(StatusCode::OK, &value));
    match answer {
        Ok(answer) => answer.into_response(),
        Err(error) => refuse::<Oip>(&error, request_id),
    }
}

/// Lets a caller look at the model of a path.
async fn look<T: Serialize>(
    oip: &Served,
    place: Place,
    request: Request,
    tell: impl FnOnce(&Served, &ModelInfo) -> T,
) -> Response {
    let id = request_id(request.extensions());
    let result = async {
        visit(oip, request.into_parts().0).await?;
        let (name, version) = named(place)?;
        let model = model::find(&*oip.services.models, &name, version.as_deref())?;
        Ok(tell(oip, &model))
    };
    told(&id, result.await)
}

/// Lets a caller look, and tells who it is.
async fn visit(oip: &Served, mut head: Parts) -> Result<Identity, ApiError> {
    let whose = Identity::to_be_known(&mut head.extensions);
    let caller = Caller::of_dialect(&head.headers, head.extensions, Oip::PROTOCOL);
    oip.services.models.visit(&caller, Reads::Head).await.map(|_| whose)
}

async fn server() -> Response {
    told("", Ok(views::server()))
}

async fn metadata(State(oip): State<Served>, place: Place, request: Request) -> Response {
    look(&oip, place, request, |_, model| views::metadata(model)).await
}

async fn config(State(oip): State<Served>, place: Place, request: Request) -> Response {
    look(&oip, place, request, |oip, model| views::config(model, oip.services.bounds.dialect_inputs_max))
        .await
}

/// Whether a model answers, which health clients of every protocol are told without credentials.
async fn model_ready(State(oip): State<Served>, place: Place) -> Response {
    let found = named(place)
        .and_then(|(name, version)| model::find(&*oip.services.models, &name, version.as_deref()));
    let Ok(model) = found else { return StatusCode::BAD_REQUEST.into_response() };
    is_ready(oip.health.is_serving(&model.name), json!({ "name": model.name, "ready": true }))
}

/// What was counted of the caller's calls of the model of a path, or of all.
async fn statistics(State(oip): State<Served>, place: Place, request: Request) -> Response {
    let id = request_id(request.extensions());
    let result = async {
        let whose = visit(&oip, request.into_parts().0).await?;
        let (name, version) = named(place)?;
        let models = match name.as_str() {
            "" => oip.services.models.models(),
            name => vec![model::find(&*oip.services.models, name, version.as_deref())?],
        };
        Ok(views::statistics(models.iter().map(|model| (model, oip.statistics.of(&whose, model)))))
    };
    told(&id, result.await)
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct IndexRequest {
    ready: Option<bool>,
}

/// The models that there are.
async fn index(State(oip): State<Served>, request: Request) -> Response {
    let id = request_id(request.extensions());
    let result = async {
        let content = read(&oip, request).await?;
        let asked = if content.is_empty() { IndexRequest::default() } else { body::parse(&content)? };
        let models = oip.services.models.models();
        Ok(views::index(&models, asked.ready.unwrap_or(false)))
    };
    told(&id, result.await)
}

#[derive(Debug, Default, Deserialize)]
struct LoadRequest {
    parameters: Option<HashMap<String, IgnoredAny>>,
}

async fn load(State(oip): State<Served>, place: Place, request: Request) -> Response {
    let id = request_id(request.extensions());
    let caller = Caller::of_dialect(request.headers(), request.extensions().clone(), Oip::PROTOCOL);
    let result = async {
        let content = read(&oip, request).await?;
        let asked = if content.is_empty() { LoadRequest::default() } else { body::parse(&content)? };
        let (name, _) = named(place)?;
        let parameters = asked.parameters.unwrap_or_default();
        model::load(&oip.services, &caller, &name, parameters.keys()).await
    };
    done(result.await, &id)
}

async fn unload(State(oip): State<Served>, place: Place, request: Request) -> Response {
    let id = request_id(request.extensions());
    let caller = Caller::of_dialect(request.headers(), request.extensions().clone(), Oip::PROTOCOL);
    let result = async {
        // Triton's clients say whether models that this one is made of go with it: there are none.
        read(&oip, request).await?;
        let (name, _) = named(place)?;
        oip.services.repository.unload(&caller, &name).await
    };
    done(result.await, &id)
}

/// Answers what has no answer but that it is done.
fn done(result: Result<(), ApiError>, request_id: &str) -> Response {
    match result {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refuse::<Oip>(&error, request_id),
    }
}

/// Reads a body that looks at models.
async fn read(oip: &Served, request: Request) -> Result<Bytes, ApiError> {
    let caller = Caller::of_dialect(request.headers(), request.extensions().clone(), Oip::PROTOCOL);
    let _visit = oip.services.models.visit(&caller, Reads::Message).await?;
    let content = body::read_any(request, &oip.services.bounds).await;
    content.map_err(|error| caller.body.fault().unwrap_or(error))
}

/// What Triton does and this server does not.
pub(super) async fn unsupported() -> Response {
    let failure = Failure { error: super::UNSUPPORTED };
    let answer = Answer::json(StatusCode::NOT_IMPLEMENTED, &failure);
    let answer = answer.unwrap_or_else(|_| Answer::empty(StatusCode::NOT_IMPLEMENTED));
    // In the table it is one more route that there is not.
    failed(&ApiError::RouteNotFound, answer.into_response())
}
