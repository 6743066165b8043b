//! What is answered while models load: alive, not ready, and everything else later.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;

use crate::caller;
use crate::docs;
use crate::error::ApiError;

/// Routes of the API.
pub(super) fn api() -> Router {
    docs::router().fallback(later).layer(from_fn(caller::identify))
}

/// Routes of operations.
pub(super) fn operations() -> Router {
    let not_ready = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting: models are being loaded\n") };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(not_ready))
        .route("/healthz", get(not_ready))
        .merge(docs::router())
        .fallback(later)
        .layer(from_fn(caller::identify))
}

async fn later(request: Request) -> Response {
    let (error, request_id) = (ApiError::Starting, api::request_id(request.extensions()));
    let row = error.row();
    tracing::info!(target: "access", %request_id, code = row.code, status = row.http.as_u16(), "call");
    protocols::refuse(&error, &request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn errors_are_explained_from_the_first_moment() {
        for router in [api(), operations()] {
            let status = async |path: &str| {
                let request = Request::builder().uri(path).body(Body::empty()).unwrap();
                router.clone().oneshot(request).await.unwrap().status()
            };
            assert_eq!(status("/docs/errors").await, StatusCode::OK);
            assert_eq!(status("/v1/ml/models").await, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
