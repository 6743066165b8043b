//! Ollama's `POST /api/embed` and `/api/embeddings`, and what its clients look up: `/api/tags`,
//! `/api/version`.

mod openapi;

use std::sync::Arc;

use api::tasks::{EmbedParameters, Input, Parameters, Truncation};
use api::{
    ApiError, Caller, InferRequest, InferResponse, ModelInfo, ModelStatus, Operation, Reads, Task, request_id,
};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{any, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Services;
use crate::http::body;
use crate::http::dialect::{self, Answer, Dialect, Shape, not_found, refuse};
use crate::http::inputs::Inputs;
use crate::http::target::{self, Target};
use crate::http::words::Words;
use crate::openai::{Cut, Truncate};
use crate::openapi::Api;
use crate::outputs::vectors;

pub(crate) use openapi::describe;

/// What cuts a long text off.
const CUT: &str = "`truncate` true cuts it off there";

/// Ollama's API.
pub(crate) struct Ollama;

#[derive(Serialize)]
struct Refused {
    error: String,
}

impl Dialect for Ollama {
    const PROTOCOL: &'static str = "ollama";
    const MODELS: &'static str = "GET /api/tags";
    const WORDS: Option<Words> = Some(Words::of_array("input", CUT));

    fn error(error: &ApiError, _: &str) -> Answer {
        let status = error.row().http;
        let body = Refused { error: Self::message(error) };
        Answer::json(status, &body).unwrap_or_else(|_| Answer::empty(status))
    }
}

/// The routes of it.
pub(crate) fn routes(services: Services) -> Router {
    let dialects = services.dialects;
    let routes = Router::new()
        .route("/api/embed", post(embed))
        .route("/api/embeddings", post(embed_one))
        .route("/api/tags", get(tags))
        .route("/api/version", get(version))
        .route("/api/{*path}", any(not_found::<Ollama>))
        .with_state(services);
    dialect::routes::<Ollama>(dialects, dialects.ollama, routes)
}

/// Whether a path is one of Ollama's.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/api/")
}

/// What a route asks for.
pub(crate) fn operation_of(route: &str) -> Option<Operation> {
    ["/api/embed", "/api/embeddings"].contains(&route).then_some(Operation::Embed)
}

async fn embed(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Embed).await
}

async fn embed_one(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, EmbedOne).await
}

/// A request for embeddings.
struct Embed(Target);

/// The older one, for the embedding of one text.
struct EmbedOne(Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct Body {
    model: Option<String>,
    input: Inputs,
    truncate: Option<Truncate>,
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Prompt {
    model: Option<String>,
    prompt: String,
}

#[derive(Serialize, JsonSchema)]
struct Embeddings<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    /// In nanoseconds.
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

#[derive(Serialize, JsonSchema)]
struct Embedding {
    embedding: Vec<f32>,
}

/// A model's name without the tag that Ollama's clients write behind it.
fn untagged(name: Option<String>) -> Option<String> {
    name.map(|name| name.strip_suffix(":latest").map(str::to_owned).unwrap_or(name))
}

impl Shape for Embed {
    type Dialect = Ollama;
    /// The name that was asked for, which comes back as it is.
    type Rendering = Option<String>;
    // As Ollama's own examples call it, a body is declared as a form.
    const IS_JSON: bool = false;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Option<String>), ApiError> {
        let Self(target) = self;
        let Body { model, input, truncate, dimensions } = body::parse(body)?;
        let target = target.named(untagged(model.clone()));
        let truncation = Cut { truncate, ..Cut::default() }.of(&target, Truncation::End)?;
        let parameters = EmbedParameters { dimensions, truncation, ..EmbedParameters::default() };
        Ok((target.request(input.list, Parameters::Embed(parameters)), model))
    }

    fn write(response: InferResponse, model: Option<String>) -> Result<Answer, ApiError> {
        let (served, timings, prompt_eval_count) =
            (Arc::clone(&response.model), response.timings, response.tokens);
        let embeddings = vectors(response)?;
        let total_duration = u64::try_from(timings.total.as_nanos()).unwrap_or(u64::MAX);
        let model = model.as_deref().unwrap_or(&served);
        let load_duration = 0;
        let body = Embeddings { model, embeddings, total_duration, load_duration, prompt_eval_count };
        Answer::json(StatusCode::OK, &body)
    }
}

impl Shape for EmbedOne {
    type Dialect = Ollama;
    type Rendering = ();
    const IS_JSON: bool = false;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Self(target) = self;
        let Prompt { model, prompt } = body::parse(body)?;
        // This one does not scale vectors to length one.
        let parameters =
            EmbedParameters { normalize: false, truncation: Truncation::End, ..EmbedParameters::default() };
        let inputs = vec![Input::Text(prompt)];
        Ok((target.named(untagged(model)).request(inputs, Parameters::Embed(parameters)), ()))
    }

    fn words((): &()) -> Option<Words> {
        Some(Words { is_one: true, ..Words::of_array("prompt", CUT) })
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let embedding = vectors(response)?.pop().unwrap_or_default();
        Answer::json(StatusCode::OK, &Embedding { embedding })
    }
}

#[derive(Serialize, JsonSchema)]
struct Tags<'a> {
    models: Vec<Tag<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct Tag<'a> {
    name: String,
    model: String,
    /// Neither this nor the size is known.
    modified_at: &'static str,
    size: u64,
    digest: &'a str,
    details: Details,
}

#[derive(Serialize, JsonSchema)]
struct Details {
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    parameter_size: &'static str,
    quantization_level: &'static str,
}

impl<'a> From<&'a ModelInfo> for Tag<'a> {
    fn from(model: &'a ModelInfo) -> Self {
        let name = format!("{}:latest", model.name);
        let details = Details {
            format: "safetensors",
            family: "bert",
            families: ["bert"],
            parameter_size: "",
            quantization_level: "",
        };
        let modified_at = "1970-01-01T00:00:00Z";
        Self { model: name.clone(), name, modified_at, size: 0, digest: &model.sha256, details }
    }
}

/// Of the server.
#[derive(Serialize, JsonSchema)]
struct Version {
    version: &'static str,
}

/// The embedding models that answer: this API has routes for no others.
async fn tags(State(services): State<Services>, request: Request) -> Response {
    look(&services, request, || {
        let mut models = services.models.models();
        models.retain(|model| model.status == ModelStatus::Loaded && model.task == Task::Embed);
        Answer::json(StatusCode::OK, &Tags { models: models.iter().map(Tag::from).collect() })
    })
    .await
}

async fn version(State(services): State<Services>, request: Request) -> Response {
    let version = Version { version: env!("CARGO_PKG_VERSION") };
    look(&services, request, || Answer::json(StatusCode::OK, &version)).await
}

/// Answers whoever may look at models.
async fn look(
    services: &Services,
    request: Request,
    answer: impl FnOnce() -> Result<Answer, ApiError>,
) -> Response {
    let id = request_id(request.extensions());
    let (head, _) = request.into_parts();
    let caller = Caller::of_dialect(&head.headers, head.extensions, Ollama::PROTOCOL);
    match services.models.visit(&caller, Reads::Head).await.and_then(|_| answer()) {
        Ok(answer) => answer.into_response(),
        Err(error) => refuse::<Ollama>(&error, &id),
    }
}

/// What is read and written, for the document.
fn embedding(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Embeddings<'_>>())
}

/// What is read and written, for the document.
fn embedding_one(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Prompt>(), api.written_whole::<Embedding>())
}
