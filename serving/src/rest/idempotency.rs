//! `Idempotency-Key` on POST requests: the answer of a request that succeeded is kept for a day and given again. What failed was not
//! charged and changed nothing, so it is not kept and may be sent again with the same key.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use router::WallTime;
use router::idempotency::{Answer, Attempt, Begun, Keyed};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body;
use crate::app::App;
use crate::error::ApiError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in bytes.
const KEY_LENGTH_MAX: usize = 255;
/// Name of the operator beside the tenants; no tenant can have it.
pub(crate) const OPERATOR: &str = ":operator";

/// A request with a key that is being answered. Unless its answer is kept, the key is free again afterwards.
pub(crate) struct Once {
    app: Arc<App>,
    attempt: Option<Attempt>,
    is_kept: bool,
}

/// What becomes of a request.
pub(crate) enum Start<T> {
    /// It is to be answered.
    First(T),
    /// It was answered before.
    Again(Response),
}

impl Once {
    /// Finds out what becomes of a request to `route`; without a key it is simply answered.
    ///
    /// # Errors
    /// A key that is none, is in use, or was used for another request; or the store does not answer.
    pub(crate) async fn start(
        app: &Arc<App>,
        tenant: &str,
        route: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Start<Self>, ApiError> {
        let mut once = Self { app: Arc::clone(app), attempt: None, is_kept: false };
        let Some(key) = key(headers)? else { return Ok(Start::First(once)) };
        let keyed = Keyed { tenant, key, route, body };
        match app.tenancy.idempotency.begin(WallTime::now(), &keyed).await? {
            Begun::First(attempt) => {
                once.attempt = Some(attempt);
                Ok(Start::First(once))
            }
            Begun::Again(answer) => Ok(Start::Again(replay(answer))),
            Begun::Running(_) => Err(ApiError::IdempotencyInProgress),
            Begun::Different => Err(ApiError::IdempotencyKeyReused),
            Begun::TooLarge => Err(ApiError::IdempotencyAnswerTooLarge),
        }
    }

    /// Keeps the answer, if there is a key.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(crate) async fn keep(&mut self, status: StatusCode, body: &Bytes) -> Result<(), ApiError> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let answer = Answer { status: status.as_u16(), body: body.to_vec() };
        self.app.tenancy.idempotency.keep(WallTime::now(), attempt, &answer).await?;
        self.is_kept = true;
        Ok(())
    }

    /// Answers with JSON a request that changed something; what is changed stays so, whether its answer can be kept or not.
    ///
    /// # Errors
    /// The answer cannot be written.
    pub(crate) async fn answer(
        mut self,
        status: StatusCode,
        answer: &impl Serialize,
    ) -> Result<Response, ApiError> {
        let body = Bytes::from(serde_json::to_vec(answer).map_err(ApiError::internal)?);
        if let Err(error) = self.keep(status, &body).await {
            tracing::warn!(%error, "the answer of a change cannot be kept under its idempotency key");
        }
        Ok(json(status, body))
    }

    /// The answer must not go out after all: forgets it.
    pub(crate) fn forget(&mut self) {
        self.is_kept = false;
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take().filter(|_| !self.is_kept) {
            let app = Arc::clone(&self.app);
            // On a runtime: requests are dropped there.
            tokio::spawn(async move { app.tenancy.idempotency.release(&attempt).await });
        }
    }
}

/// Reads and parses the body of a POST that changes something.
///
/// # Errors
/// A body or a key that is not good.
pub(crate) async fn posted<T: DeserializeOwned>(
    app: &Arc<App>,
    tenant: &str,
    request: Request,
) -> Result<Start<(Once, T)>, ApiError> {
    let (parts, content) = request.into_parts();
    let (headers, route) = (parts.headers.clone(), parts.uri.path().to_owned());
    let body = body::read(Request::from_parts(parts, content), &app.config).await?;
    let parsed = body::parse(&body)?;
    Ok(match Once::start(app, tenant, &route, &headers, &body).await? {
        Start::First(once) => Start::First((once, parsed)),
        Start::Again(answer) => Start::Again(answer),
    })
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn replay(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = json(status, Bytes::from(answer.body));
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The key of a request: visible ASCII characters, in quotes or without.
fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_good =
        (1..=KEY_LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good && values.next().is_none() {
        return Ok(Some(text));
    }
    let problem = format!("expected one key of 1 to {KEY_LENGTH_MAX} visible ASCII characters");
    Err(ApiError::InvalidRequest { field: IDEMPOTENCY_KEY.to_string(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |values: &[&'static str], expected: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
            }
            assert_eq!(key(&headers).ok(), expected, "{values:?}");
        };
        check(&[], Some(None));
        check(&["8e03978e-40d5"], Some(Some("8e03978e-40d5")));
        check(&["\"8e03978e-40d5\""], Some(Some("8e03978e-40d5")));
        check(&[""], None);
        check(&["\"\""], None);
        check(&["a b"], None);
        check(&["a", "b"], None);
    }
}
