//! The REST API, `/v1/ml/…`: routes, and the translation between JSON and the pipeline.

mod administration;
pub(crate) mod body;
mod coding;
mod exchange;
pub(crate) mod explain;
pub(crate) mod failed;
pub(crate) mod idempotency;
mod limits;
mod models;
mod usage;
mod wire;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use router::limit::LimitError;

use crate::app::App;
use crate::caller;
use crate::docs;
use crate::error::{ApiError, ErrorCode};
use crate::pipeline;

pub(crate) use models::public_reason;

use failed::{Answer, Failed};
use wire::WireTask;

/// The routes of the API. Also answers unknown routes, for gRPC as well.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/ml/classify", post(infer::<wire::Classify>))
        .route("/v1/ml/sentiment", post(infer::<wire::Sentiment>))
        .route("/v1/ml/entities", post(infer::<wire::Entities>))
        .route("/v1/ml/summarize", post(infer::<wire::Summarize>))
        .route("/v1/ml/embeddings", post(infer::<wire::Embeddings>))
        .route("/v1/ml/models", get(models::list))
        .route("/v1/ml/models/{name}", get(models::show))
        .route("/v1/ml/usage", get(usage::own))
        .route("/v1/ml/keys", get(administration::own_keys).post(administration::create_own_key))
        .route("/v1/ml/keys/{id}", delete(administration::revoke_own_key))
        .route("/v1/ml/keys/{id}/rotate", post(administration::rotate_own_key))
        .merge(docs::router())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(unknown)
        .layer(from_fn(failed::explain))
        .with_state(app)
}

/// One inference route: everything that differs between them is in `W`.
async fn infer<W: WireTask>(State(app): State<Arc<App>>, request: Request) -> Answer {
    let caller = caller::rest_caller(&request)?;
    let mut exchange = exchange::Post::<W>::new(Arc::clone(&app), request);
    let result = pipeline::infer(&app, &caller, W::TASK, &mut exchange).await;
    result.map_err(Failed::logged)
}

async fn unknown(request: Request) -> Response {
    not_found(&ApiError::RouteNotFound, &request)
}

/// Answers an unknown route in the caller's protocol.
pub(crate) fn not_found(error: &ApiError, request: &Request) -> Response {
    let request_id = caller::request_id(request.extensions());
    if caller::is_grpc(request.headers()) {
        error.to_status(&request_id).into_http::<axum::body::Body>()
    } else {
        refuse(error, &request_id)
    }
}

/// Which methods the route has, its router says in `Allow`.
pub(crate) async fn method_not_allowed(request: Request) -> Response {
    refuse(&ApiError::MethodNotAllowed, &caller::request_id(request.extensions()))
}

/// An error as a REST response.
pub(crate) fn refuse(error: &ApiError, request_id: &str) -> Response {
    let status = error.row().http;
    let mut response = (status, Json(error.envelope(request_id))).into_response();
    response.extensions_mut().insert(ErrorCode(error.kind()));
    let headers = response.headers_mut();
    if matches!(error, ApiError::UnsupportedContentEncoding) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED));
    }
    if let Some(retry_after) = error.retry_after() {
        // Whole seconds, rounded up: a client that obeys never comes too early (RFC 9110, section 10.2.3).
        let seconds = retry_after.as_millis().div_ceil(1000).max(1) as u64;
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let ApiError::Limit(LimitError::Exceeded { unit, window, limit, left, retry_after }) = error {
        let seconds = retry_after.as_millis().div_ceil(1000).max(1) as u64;
        limits::show_exceeded((*unit, *window), *limit, *left, seconds, headers);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
