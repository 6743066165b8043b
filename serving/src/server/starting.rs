//! What is answered while models load: alive, not ready, and everything else later.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use protocols::Dialects;

use crate::caller;
use crate::docs;
use crate::error::ApiError;

/// Routes of the API. Open Inference Protocol has its own health checks there, if it is spoken.
pub(super) fn api(dialects: Dialects) -> Router {
    let health = if dialects.oip { protocols::oip::starting() } else { Router::new() };
    docs::router(dialects).merge(health).fallback(later).layer(from_fn(caller::identify))
}

pub(super) fn operations(dialects: Dialects) -> Router {
    let not_ready = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting: models are being loaded\n") };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(not_ready))
        .route("/healthz", get(not_ready))
        .merge(docs::router(dialects))
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
    use crate::config::Protocols;

    #[tokio::test]
    async fn errors_are_explained_from_the_first_moment() {
        let dialects = Protocols::default().dialects();
        for router in [api(dialects), operations(dialects)] {
            let status = async |path: &str| {
                let request = Request::builder().uri(path).body(Body::empty()).unwrap();
                router.clone().oneshot(request).await.unwrap().status()
            };
            assert_eq!(status("/docs/errors").await, StatusCode::OK);
            assert_eq!(status("/v1/ml/models").await, StatusCode::SERVICE_UNAVAILABLE);
        }
        for (is_oip, path, expected) in [
            (true, "/v2/health/live", StatusCode::OK),
            (true, "/v2/health/ready", StatusCode::BAD_REQUEST),
            (true, "/v2", StatusCode::SERVICE_UNAVAILABLE),
            (false, "/v2/health/live", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let dialects = Dialects { oip: is_oip, ..dialects };
            assert_eq!(api(dialects).oneshot(request).await.unwrap().status(), expected, "{path}");
        }
    }
}
