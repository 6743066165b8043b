//! OpenAI's API, and what others made of its routes: Jina, Voyage, vLLM, NIM, infinity and Azure. One
//! superset serves all that have a route of the same path; how they are told apart is in `docs/dialects.md`.

mod asked;
mod binary;
mod classify;
mod embeddings;
mod errors;
mod jina;
mod models;
mod nim;
mod openapi;
mod pooling;
mod ranking;
mod rerank;
mod score;
mod tokens;

use api::{ApiError, Operation, request_id};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get, post};

use crate::grpc::Health;
use crate::http::dialect::{self, not_found};
use crate::http::target::{self, PathModel, Target};
use crate::{Services, cohere};

pub(crate) use asked::{Cut, Truncate, in_body, invalid, whole_window};
pub(crate) use embeddings::Embeddings;
pub(crate) use errors::{CUT, OpenAi};
pub(crate) use jina::Classification;
pub(crate) use nim::starting;
pub(crate) use openapi::describe;
pub(crate) use rerank::{Rerank, Style, schemas as ranks};
pub(crate) use score::dot;
pub(crate) use tokens::{Detokenize, Tokenize};

use classify::Classify;
use pooling::Pooling;
use ranking::Ranking;
use score::Score;

/// The routes of this family.
pub(crate) fn routes(services: Services, health: &Health) -> Router {
    let dialects = services.dialects;
    let routes = Router::new()
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::show))
        .route("/openai/v1/embeddings", post(embed))
        .route("/openai/v1/models", get(models::list))
        .route("/openai/v1/models/{name}", get(models::show))
        .route("/openai/v1/rerank", post(rerank))
        .route("/openai/v1/score", post(score))
        .route("/openai/deployments/{name}/embeddings", post(embed_deployed))
        .route("/openai/models", get(models::list))
        .route("/openai/models/{name}", get(models::show))
        .route("/openai/{*path}", any(not_found::<OpenAi>))
        // vLLM's.
        .route("/classify", post(classify))
        .route("/pooling", post(pool))
        .route("/score", post(score))
        .route("/v1/score", post(score))
        .route("/detokenize", post(detokenize))
        .route("/version", get(models::version))
        // NIM's.
        .route("/v1/ranking", post(rank))
        .route("/v1/retrieval/{name}/reranking", post(rank_named))
        // infinity's, whose paths are its own under a prefix.
        .route("/embeddings", post(embed))
        .route("/models", get(models::list))
        .route("/infinity/embeddings", post(embed))
        .route("/infinity/rerank", post(rerank_infinity))
        .route("/infinity/classify", post(classify_infinity))
        .route("/infinity/models", get(models::list_infinity))
        .route("/infinity/{*path}", any(not_found::<OpenAi>))
        .with_state(services.clone())
        .merge(nim::routes(services.clone(), health))
        .merge(infinity_probe(health));
    // Cohere's as well.
    let shared = Router::new()
        .route("/v1/rerank", post(rerank))
        .route("/v2/rerank", post(rerank))
        .with_state(services);
    dialect::routes::<OpenAi>(dialects, dialects.openai, routes).merge(dialect::routes::<OpenAi>(
        dialects,
        dialects.openai || dialects.cohere,
        shared,
    ))
}

/// The paths of this family, but for those that begin alike.
const PATHS: [&str; 17] = [
    "/v1/embeddings",
    "/v1/models",
    "/v1/rerank",
    "/v1/score",
    "/v1/ranking",
    "/v1/metadata",
    "/v1/version",
    "/v2/rerank",
    "/classify",
    "/pooling",
    "/score",
    "/rerank",
    "/tokenize",
    "/detokenize",
    "/version",
    "/embeddings",
    "/models",
];

/// Whether a path is one of this family's, so that whatever is wrong with a request is said in its form.
pub(crate) fn is_path(path: &str) -> bool {
    let starts = ["/v1/models/", "/v1/health/", "/openai/", "/infinity/"];
    let is_other = || cohere::is_path(path) || path == "/v1/ml" || path.starts_with("/v1/ml/");
    PATHS.contains(&path)
        || starts.iter().any(|start| path.starts_with(start))
        || (path.starts_with("/v1/") && !is_other())
}

/// What a route asks for.
pub(crate) fn operation_of(route: &str) -> Option<Operation> {
    let stem = ["/openai", "/infinity"].iter().find_map(|prefix| route.strip_prefix(prefix)).unwrap_or(route);
    match stem {
        "/v1/embeddings" | "/embeddings" | "/deployments/{name}/embeddings" | "/score" | "/v1/score" => {
            Some(Operation::Embed)
        }
        "/rerank" | "/v1/rerank" | "/v2/rerank" | "/v1/ranking" | "/v1/retrieval/{name}/reranking" => {
            Some(Operation::Rerank)
        }
        "/classify" => Some(Operation::Classify),
        "/tokenize" => Some(Operation::Tokenize),
        "/detokenize" => Some(Operation::Detokenize),
        _ => None,
    }
}

async fn embed(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Embeddings).await
}

async fn rerank(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, |target| Rerank { target, style: Style::Superset }).await
}

async fn rerank_infinity(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, |target| Rerank { target, style: Style::Infinity }).await
}

async fn rank(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Ranking).await
}

/// NIM's hosted endpoints name the model in the path.
async fn rank_named(State(services): State<Services>, model: PathModel, request: Request) -> Response {
    dialect::answer(&services, Ranking(Target::new(&services, model)), request).await
}

async fn score(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Score).await
}

async fn classify(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, |target| Classify { target, style: Style::Superset }).await
}

async fn classify_infinity(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, |target| Classify { target, style: Style::Infinity }).await
}

async fn pool(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Pooling).await
}

async fn detokenize(State(services): State<Services>, request: Request) -> Response {
    target::answer(&services, request, Detokenize).await
}

/// Azure names the model in the path.
async fn embed_deployed(State(services): State<Services>, model: PathModel, request: Request) -> Response {
    dialect::answer(&services, Embeddings(Target::new(&services, model)), request).await
}

/// infinity's probe, with the time.
fn infinity_probe(health: &Health) -> Router {
    let health = health.clone();
    let probe = async move |request: Request| match health.is_serving("") {
        true => models::healthy(),
        false => dialect::refuse::<OpenAi>(&ApiError::Starting, &request_id(request.extensions())),
    };
    Router::new().route("/infinity/health", get(probe))
}
