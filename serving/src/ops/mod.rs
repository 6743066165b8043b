//! The operations port: metrics, health and signals to scale on, without credentials, and the administration
//! of tenants and what each of them uses, with the operator's. Not for the public.

mod admin;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use batching::Engine;
use models::{Sequence, SequenceOutput};
use protocols::grpc::{self, Form};
use protocols::v1::rest;
use protocols::{Bounds, Dialects};
use router::Places;
use tokio_util::sync::CancellationToken;

use crate::administration::Changes;
use crate::current_catalog::CurrentCatalog;
use crate::docs;
use crate::error::{ApiError, ErrorCode, ErrorKind};
use crate::lifecycle::Lifecycle;
use crate::readiness::{HasParts, Note, Part, Readiness};
use crate::scaling::{ExternalScaler, REQUEST_BYTES_MAX, Scaling};
use crate::telemetry::{Format, Synonyms, Telemetry};
use crate::tenancy::Tenancy;

/// What operations show and change.
pub(crate) struct Operations {
    pub(crate) telemetry: Arc<Telemetry>,
    /// Under whose names metrics are shown beside ours.
    pub(crate) synonyms: Synonyms,
    pub(crate) engine: Engine<Sequence, SequenceOutput>,
    pub(crate) catalog: Arc<CurrentCatalog>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) tenancy: Arc<Tenancy>,
    pub(crate) scaling: Arc<Scaling>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) places: Arc<Places>,
    pub(crate) stream_places: Arc<Places>,
    /// How much is read of a change.
    pub(crate) bounds: Bounds,
    /// Those whose documents are shown.
    pub(crate) dialects: Dialects,
    pub(crate) stopping: CancellationToken,
}

impl Operations {
    /// How changes are read.
    fn changes(&self) -> Changes<'_> {
        Changes { tenancy: &self.tenancy, bounds: &self.bounds }
    }
}

/// `/metrics`, `/livez`, `/readyz`, `/healthz`, `/scaling`, KEDA's external scaler over gRPC, and
/// `/admin/v1/…`.
pub(crate) fn router(operations: Operations) -> Router {
    let operations = Arc::new(operations);
    let scaler = ExternalScaler::service(Arc::clone(&operations.scaling), operations.stopping.clone());
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/healthz", get(readiness))
        .route("/scaling", get(scaling))
        .merge(docs::router(operations.dialects))
        .method_not_allowed_fallback(rest::method_not_allowed)
        .with_state(Arc::clone(&operations))
        .merge(admin::router(operations));
    let no_method = ApiError::OperationsRouteNotFound;
    let form = Form { bytes_max: REQUEST_BYTES_MAX, no_method, streams: &[] };
    grpc::route(router, scaler, form)
}

/// In the form that the scraper asks for.
async fn metrics(State(operations): State<Arc<Operations>>, headers: HeaderMap) -> Response {
    let Operations { telemetry, synonyms, engine, tenancy, places, stream_places, .. } = &*operations;
    telemetry.engine.observe(&engine.snapshot());
    tenancy.show(&telemetry.tenancy);
    telemetry.connections.show(places, stream_places);
    let format = Format::negotiate(&headers);
    match telemetry.encode(*synonyms, format) {
        Ok(text) => crate::telemetry::answer(format, text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn scaling(State(operations): State<Arc<Operations>>) -> Response {
    match operations.scaling.signals() {
        Some(signals) => Json(signals).into_response(),
        None => unavailable(ErrorKind::Starting, "the first signals come within seconds\n".to_owned()),
    }
}

/// Whether requests should be sent here, in a word; with `?verbose` a line for each part, with the reason of
/// those that are not ready.
async fn readiness(State(operations): State<Arc<Operations>>, uri: Uri) -> Response {
    let parts = operations.readiness.parts();
    let unready = parts.iter().find(|(_, state)| state.is_err());
    let is_verbose = uri.query().is_some_and(|query| query.split('&').any(is_verbose));
    let text = if is_verbose {
        parts.iter().map(line).collect()
    } else if unready.is_none() {
        "ok\n".to_owned()
    } else {
        "not ready\n".to_owned()
    };
    match unready {
        None => text.into_response(),
        Some((name, _)) => unavailable(reason(name), text),
    }
}

/// What a caller would be told who called while the part is not ready.
fn reason(part: &str) -> ErrorKind {
    match part {
        "server" => ErrorKind::ShuttingDown,
        "devices" => ErrorKind::Internal,
        "models" => ErrorKind::ModelUnavailable,
        _ => ErrorKind::StoreUnavailable,
    }
}

/// A probe's 503, with its reason for the access log.
fn unavailable(kind: ErrorKind, text: String) -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    response.extensions_mut().insert(ErrorCode(kind));
    response
}

/// `verbose`, with a value or without, as Kubernetes' own components take it.
fn is_verbose(parameter: &str) -> bool {
    matches!(parameter.split_once('=').unwrap_or((parameter, "")), ("verbose", "" | "1" | "true"))
}

/// One line a part, whatever the reason says.
fn one_line(reason: &str) -> String {
    reason.replace(['\n', '\r'], " ")
}

fn line((name, state): &Part) -> String {
    match state {
        Ok(None) => format!("{name} ok\n"),
        Ok(Some(Note::Warning(problem))) => format!("{name} ok, but: {}\n", one_line(problem)),
        Ok(Some(Note::Degraded(problem))) => format!("{name} degraded: {}\n", one_line(problem)),
        Err(reason) => format!("{name} not ready: {}\n", one_line(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_the_parts() {
        let check =
            |parameter: &str, expected: bool| assert_eq!(is_verbose(parameter), expected, "{parameter}");
        check("verbose", true);
        check("verbose=1", true);
        check("verbose=true", true);
        check("verbose=0", false);
        check("verbosely", false);
        check("", false);
    }

    #[test]
    fn one_line_a_part() {
        let check = |state: Result<Option<Note>, String>, expected: &str| {
            assert_eq!(line(&("store", state)), format!("store {expected}\n"));
        };
        check(Ok(None), "ok");
        check(Err("gone\nfor good".to_owned()), "not ready: gone for good");
        check(Ok(Some(Note::Degraded("OOM\r\n".to_owned()))), "degraded: OOM  ");
        check(Ok(Some(Note::Warning("evicts".to_owned()))), "ok, but: evicts");
    }
}
