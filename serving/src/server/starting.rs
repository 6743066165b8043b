//! What is answered while models load: alive, not ready, and everything else later.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use protocols::Dialects;
use protocols::v1::rest;

use crate::caller;
use crate::docs;
use crate::error::ApiError;

/// Routes of the API, where some dialects have health checks of their own.
pub(super) fn api(dialects: Dialects) -> Router {
    let health = protocols::starting(dialects);
    let refuse = move |error: &ApiError, request: &Request| protocols::refuse(dialects, error, request);
    let later = async move |request: Request| later(refuse, &request);
    docs::router(dialects).merge(health).fallback(later).layer(from_fn(caller::identify))
}

pub(super) fn operations(dialects: Dialects) -> Router {
    let later = async |request: Request| later(rest::refuse_request, &request);
    let not_ready = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting: models are being loaded\n") };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(not_ready))
        .route("/healthz", get(not_ready))
        .merge(docs::router(dialects))
        .fallback(later)
        .layer(from_fn(caller::identify))
}

fn later(refuse: impl Fn(&ApiError, &Request) -> Response, request: &Request) -> Response {
    let (error, request_id) = (ApiError::Starting, api::request_id(request.extensions()));
    let row = error.row();
    tracing::info!(target: "access", %request_id, code = row.code, status = row.http.as_u16(), "call");
    refuse(&error, request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn dialects(is_on: bool) -> Dialects {
        let (oip, tei, openai) = (is_on, is_on, is_on);
        Dialects { oip, tei, openai, cohere: false, ollama: false, huggingface: false, containers: false }
    }

    #[tokio::test]
    async fn errors_are_explained_from_the_first_moment() {
        for router in [api(dialects(true)), operations(dialects(true))] {
            let status = async |path: &str| {
                let request = Request::builder().uri(path).body(Body::empty()).unwrap();
                router.clone().oneshot(request).await.unwrap().status()
            };
            assert_eq!(status("/docs/errors").await, StatusCode::OK);
            assert_eq!(status("/v1/ml/models").await, StatusCode::SERVICE_UNAVAILABLE);
        }
        for (is_on, path, expected) in [
            (true, "/v2/health/live", StatusCode::OK),
            (true, "/v2/health/ready", StatusCode::BAD_REQUEST),
            (true, "/v2", StatusCode::SERVICE_UNAVAILABLE),
            (false, "/v2/health/live", StatusCode::SERVICE_UNAVAILABLE),
            (true, "/v1/health/live", StatusCode::OK),
            (true, "/v1/health/ready", StatusCode::SERVICE_UNAVAILABLE),
            (false, "/v1/health/live", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            assert_eq!(api(dialects(is_on)).oneshot(request).await.unwrap().status(), expected, "{path}");
        }
    }

    /// A dialect's form is for the paths that it has on the port of the API.
    #[tokio::test]
    async fn operations_have_one_form() {
        let check = async |router: Router, path: &str, expected: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let body = router.oneshot(request).await.unwrap().into_body();
            let body = body.collect().await.unwrap().to_bytes();
            assert!(body.starts_with(expected.as_bytes()), "{path}: {body:?}");
        };
        for path in ["/", "/embed", "/v2/models/a", "/v1/embeddings", "/api/embed", "/ping"] {
            check(operations(dialects(true)), path, r#"{"error":{"code":"starting""#).await;
        }
        check(api(dialects(true)), "/embed", r#"{"error":""#).await;
    }
}
