//! The REST API, `/v1/ml/…`: routes, and the translation between JSON and the api's terms.

pub mod errors;
mod exchange;
mod models;
mod openapi;
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
use crate::{Dialects, Services, grpc, head};

pub use errors::refuse;
pub use openapi::document;

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
        .route("/v1/ml/rerank", post(infer::<wire::Rerank>))
        .route("/v1/ml/similarity", post(infer::<wire::Similarity>))
        .route("/v1/ml/tokenize", post(infer::<wire::Tokenize>))
        .route("/v1/ml/detokenize", post(infer::<wire::Detokenize>))
        .route("/v1/ml/models", get(models::list))
        .route("/v1/ml/models/{name}", get(models::show))
        .layer(from_fn(errors::explain))
        .with_state(services)
}

/// Refuses what is no route, in the form of the protocol that its path is of, and what is no method of one,
/// unless its protocol does, in our form.
pub fn refusing(dialects: Dialects, routes: Router) -> Router {
    let unknown = async move |request: Request| crate::refuse(dialects, &ApiError::RouteNotFound, &request);
    routes.method_not_allowed_fallback(method_not_allowed).fallback(unknown)
}

/// One inference route: everything that differs between them is in `W`.
async fn infer<W: WireTask>(State(services): State<Services>, request: Request) -> Answer {
    let caller = Caller::new(request.headers(), request.extensions().clone(), PROTOCOL);
    let post = Post::<W> { request, bounds: services.bounds, task: PhantomData };
    services.inference.call(caller, Some(W::OPERATION), post).await.map_err(Failed::logged)
}

/// Refuses a request in our own form, over REST and gRPC, whatever dialect has something at its path.
pub fn refuse_request(error: &ApiError, request: &Request) -> Response {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    /// The forms of other protocols' errors are theirs.
    #[tokio::test]
    async fn only_our_own_routes_refuse_in_our_form() {
        let own = async || (StatusCode::BAD_REQUEST, "in its own form");
        let ours = async || StatusCode::BAD_REQUEST;
        let ours = Router::new().route("/ours", get(ours)).layer(from_fn(errors::explain));
        let (oip, tei, openai) = (true, true, true);
        let (cohere, ollama, huggingface, containers) = (true, true, true, true);
        let dialects = Dialects { oip, tei, openai, cohere, ollama, huggingface, containers };
        let routes = refusing(dialects, Router::new().route("/other", get(own)).merge(ours));
        let answer = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        assert_eq!(answer("GET", "/other").await, (400, "in its own form".to_owned()));
        for (method, path, status, code) in [
            ("GET", "/ours", 400, "invalid_request"),
            ("POST", "/ours", 405, "method_not_allowed"),
            ("GET", "/nothing", 404, "not_found"),
        ] {
            let (found, body) = answer(method, path).await;
            assert_eq!(found, status, "{path}");
            assert!(body.starts_with(&format!("{{\"error\":{{\"code\":\"{code}\"")), "{body}");
        }
    }
}
