//! `Idempotency-Key` on POST requests that change something (see [`crate::idempotency`]): reading them, and
//! answering them in JSON, whether for the first time or again.

use api::{Kept, Repeat};
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use protocols::Bounds;
use protocols::http::body;
use protocols::idempotency::key;
use protocols::v1::rest::{json, replay};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::idempotency::{Once, Sender, Start};
use crate::tenancy::Tenancy;

/// How changes are read: within which bounds, and where answers are kept of those that may come again.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'a> {
    pub(crate) tenancy: &'a Tenancy,
    pub(crate) bounds: &'a Bounds,
}

/// What becomes of a POST that changes something.
pub(crate) enum PostOutcome<T> {
    /// It is to be done.
    First(Once, T),
    /// It was done before.
    Again(Response),
}

/// Reads and parses the body of a POST that changes something, and the key under which it may come again.
///
/// # Errors
/// A body or a key that is not good.
pub(crate) async fn read_post<T: DeserializeOwned>(
    request: Request,
    bounds: &Bounds,
) -> Result<(T, Option<Repeat>), ApiError> {
    let (parts, content) = request.into_parts();
    let (headers, route) = (parts.headers.clone(), parts.uri.path().to_owned());
    let body = body::read_change(Request::from_parts(parts, content), bounds).await?;
    let parsed = body::parse(&body)?;
    let repeat = key(&headers)?.map(|key| Repeat { key: key.to_owned(), route, body });
    Ok((parsed, repeat))
}

/// Reads the body of a POST that changes something, and finds out whether it was answered before.
///
/// # Errors
/// A body or a key that is not good.
pub(crate) async fn posted<T: DeserializeOwned>(
    changes: Changes<'_>,
    sender: Sender<'_>,
    request: Request,
) -> Result<PostOutcome<T>, ApiError> {
    let (parsed, repeat) = read_post(request, changes.bounds).await?;
    Ok(match Once::start(changes.tenancy, sender, repeat.as_ref()).await? {
        Start::First(once) => PostOutcome::First(once, parsed),
        Start::Again(answer) => {
            PostOutcome::Again(replay(Kept { status: answer.status, body: answer.body.into() }))
        }
    })
}

/// Answers a request that changed something; what is changed stays so, whether its answer can be kept or not.
///
/// # Errors
/// The answer cannot be written.
pub(crate) async fn answer(
    mut once: Once,
    status: StatusCode,
    answer: &impl Serialize,
) -> Result<Response, ApiError> {
    let body = Bytes::from(serde_json::to_vec(answer).map_err(ApiError::internal)?);
    once.keep_if_possible(status.as_u16(), &body).await;
    Ok(json(status, body))
}
