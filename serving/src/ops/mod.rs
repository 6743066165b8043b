//! The operations port: metrics and health, without credentials, and the administration of tenants, with the operator's. Not
//! for the public.

mod admin;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;

/// Content type of OpenMetrics text, version 1.0.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/metrics`, `/livez`, `/readyz`, `/healthz` and `/admin/v1/…`.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/healthz", get(readiness))
        .with_state(Arc::clone(&app))
        .merge(admin::router(app))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.telemetry.observe(&app.engine.snapshot());
    match app.telemetry.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readiness(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}
