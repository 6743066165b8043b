//! The REST API, `/v1/ml/…`: routes, and the translation between JSON and the api's terms.

pub mod errors;
mod exchange;
mod limits;
mod models;
mod wire;

use std::marker::PhantomData;

use api::{ApiError, Caller, Kept, request_id};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::idempotency::REPLAYED;
use crate::{Services, grpc, head};

pub use errors::refuse;

use errors::{Answer, Failed};
use exchange::Post;
use wire::WireTask;

/// As metrics and logs name it.
pub const PROTOCOL: &str = "rest";

/// The routes of calls and of models.
pub fn routes(services: Services) -> Router {
    Router::new()
        .route("/v1/ml/classify", post(infer::<wire::Classify>))
        .route("/v1/ml/sentiment", post(infer::<wire::Sentiment>))
        .route("/v1/ml/entities", post(infer::<wire::Entities>))
        .route("/v1/ml/summarize", post(infer::<wire::Summarize>))
        .route("/v1/ml/embeddings", post(infer::<wire::Embeddings>))
        .route("/v1/ml/models", get(models::list))
        .route("/v1/ml/models/{name}", get(models::show))
        .with_state(services)
}

/// Makes routes refuse in our form: methods that they do not have, paths that are no routes (for gRPC as well), and what their handlers
/// say has failed.
pub fn refusing(routes: Router) -> Router {
    routes.method_not_allowed_fallback(method_not_allowed).fallback(unknown).layer(from_fn(errors::explain))
}

/// One inference route: everything that differs between them is in `W`.
async fn infer<W: WireTask>(State(services): State<Services>, request: Request) -> Answer {
    let caller = Caller::new(request.headers(), request.extensions().clone(), PROTOCOL);
    let post = Post::<W> { request, bounds: services.bounds, task: PhantomData };
    services.inference.call(caller, W::TASK, post).await.map_err(Failed::logged)
}

async fn unknown(request: Request) -> Response {
    not_found(&ApiError::RouteNotFound, &request)
}

/// Answers an unknown route in the caller's protocol.
pub fn not_found(error: &ApiError, request: &Request) -> Response {
    let request_id = request_id(request.extensions());
    if head::is_grpc(request.headers()) {
        grpc::status(error, &request_id).into_http::<axum::body::Body>()
    } else {
        refuse(error, &request_id)
    }
}

/// Which methods the route has, its router says in `Allow`.
pub async fn method_not_allowed(request: Request) -> Response {
    refuse(&ApiError::MethodNotAllowed, &request_id(request.extensions()))
}

/// A JSON answer.
pub fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// An answer that was given before.
pub fn replay(kept: Kept) -> Response {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut response = json(status, kept.body);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
