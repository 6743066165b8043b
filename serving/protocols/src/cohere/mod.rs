//! Cohere's API: `POST /v2/embed`, `/v1/embed` and `/v1/classify`. Its two `/rerank` are among what others
//! made of OpenAI's routes, with which they share their paths; `/v1/classify` it shares with Jina.

mod classify;
mod embed;
mod errors;
mod openapi;
mod tokens;

use api::Operation;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Services;
use crate::http::dialect;
use crate::http::target;

pub(crate) use errors::Cohere;
pub(crate) use openapi::describe;

pub(crate) use classify::Classify;

use embed::{Embed, Version};
use tokens::{Detokenize, Tokenize};

/// The routes of it.
pub(crate) fn routes(services: Services) -> Router {
    let dialects = services.dialects;
    let routes = Router::new()
        .route("/v1/embed", post(embed_v1))
        .route("/v2/embed", post(embed_v2))
        .route("/v1/tokenize", post(tokenize))
        .route("/v1/detokenize", post(detokenize))
        .with_state(services);
    dialect::routes::<Cohere>(dialects, dialects.cohere, routes)
}

/// Whether a path is one of Cohere's, of those too that are not served.
pub(crate) fn is_path(path: &str) -> bool {
    let names = ["chat", "classify", "datasets", "detokenize", "embed", "embed-jobs", "generate", "tokenize"];
    let rest = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v2/"));
    rest.is_some_and(|rest| names.contains(&rest.trim_end_matches('/')))
}

/// What a route asks for.
pub(crate) fn operation_of(route: &str) -> Option<Operation> {
    match route {
        "/v1/embed" | "/v2/embed" => Some(Operation::Embed),
        "/v1/classify" => Some(Operation::Classify),
        "/v1/tokenize" => Some(Operation::Tokenize),
        "/v1/detokenize" => Some(Operation::Detokenize),
        _ => None,
    }
}

async fn embed_v1(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, |target| Embed { target, version: Version::One }).await
}

async fn embed_v2(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, |target| Embed { target, version: Version::Two }).await
}

async fn tokenize(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Tokenize).await
}

async fn detokenize(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Detokenize).await
}

/// `meta` of an answer.
#[derive(Debug, Serialize, JsonSchema)]
struct Meta {
    api_version: ApiVersion,
    billed_units: Units,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ApiVersion {
    version: &'static str,
}

/// What was computed; who charges for it counts inputs.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Units {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classifications: Option<usize>,
}
