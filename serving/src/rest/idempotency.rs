//! `Idempotency-Key` on POST requests (see [`crate::idempotency`]): reading them, and answering them in JSON, whether for the first
//! time or again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use router::idempotency::Answer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body;
use crate::app::App;
use crate::error::ApiError;
use crate::idempotency::{Once, REPLAYED, Sender, Start};

/// What becomes of a POST that changes something.
pub(crate) enum Posted<T> {
    /// It is to be done.
    First(Once, T),
    /// It was done before.
    Again(Response),
}

/// Reads and parses the body of a POST that changes something.
///
/// # Errors
/// A body or a key that is not good.
pub(crate) async fn posted<T: DeserializeOwned>(
    app: &Arc<App>,
    sender: Sender<'_>,
    request: Request,
) -> Result<Posted<T>, ApiError> {
    let (parts, content) = request.into_parts();
    let (headers, route) = (parts.headers.clone(), parts.uri.path().to_owned());
    let body = body::read_change(Request::from_parts(parts, content), &app.config).await?;
    let parsed = body::parse(&body)?;
    Ok(match Once::start(app, sender, &route, &headers, &body).await? {
        Start::First(once) => Posted::First(once, parsed),
        Start::Again(answer) => Posted::Again(replay(answer)),
    })
}

/// Answers a request that changed something; what is changed stays so, whether its answer can be kept or not.
///
/// # Errors
/// The answer cannot be written.
pub(crate) async fn answer(
    once: Once,
    status: StatusCode,
    answer: &impl Serialize,
) -> Result<Response, ApiError> {
    answer_once(once, (status, answer), (status, answer)).await
}

/// The same, where something else is kept than is shown: what is shown has a secret.
///
/// # Errors
/// The answer cannot be written.
pub(crate) async fn answer_once(
    mut once: Once,
    (status, shown): (StatusCode, &impl Serialize),
    (status_again, kept): (StatusCode, &impl Serialize),
) -> Result<Response, ApiError> {
    let shown = serde_json::to_vec(shown).map_err(ApiError::internal)?;
    let kept = serde_json::to_vec(kept).map_err(ApiError::internal)?;
    if let Err(error) = once.keep(status_again.as_u16(), &kept).await {
        tracing::warn!(%error, "the answer of a change cannot be kept under its idempotency key");
    }
    Ok(json(status, Bytes::from(shown)))
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// An answer that was given before.
pub(crate) fn replay(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = json(status, Bytes::from(answer.body));
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
