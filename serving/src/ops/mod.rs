//! The operations port: metrics, health and signals to scale on, without credentials, and the administration of tenants and what
//! each of them uses, with the operator's. Not for the public.

mod admin;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::app::App;
use crate::grpc;
use crate::scaling::ExternalScaler;

/// Content type of OpenMetrics text, version 1.0.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/metrics`, `/livez`, `/readyz`, `/healthz`, `/scaling`, KEDA's external scaler over gRPC, and `/admin/v1/…`.
pub fn router(app: Arc<App>) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/healthz", get(readiness))
        .route("/scaling", get(scaling))
        .with_state(Arc::clone(&app))
        .merge(admin::router(Arc::clone(&app)));
    grpc::route(router, ExternalScaler::service(app))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.telemetry.observe(&app.engine.snapshot());
    app.tenancy.show(&app.telemetry.tenancy);
    match app.telemetry.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn scaling(State(app): State<Arc<App>>) -> Response {
    match app.scaling.signals() {
        Some(signals) => Json(signals).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the first signals come within seconds\n").into_response(),
    }
}

async fn readiness(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}
