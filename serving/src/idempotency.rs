//! `Idempotency-Key`, for every protocol: the answer of a request that succeeded is kept for a day and given again to the same
//! principal. What failed was not charged and changed nothing, so it is not kept and may be sent again with the same key.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use router::idempotency::{Answer, Attempt, Begun, Keyed};
use router::{Principal, WallTime};

use crate::app::App;
use crate::error::ApiError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before, as a header or as metadata.
pub(crate) const REPLAYED: &str = "idempotency-replayed";
/// Longest key, in bytes.
const KEY_LENGTH_MAX: usize = 255;

/// Whose a request is: nobody else gets its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    /// The tenant, within which keys are counted.
    pub(crate) tenant: &'a str,
    /// The id of its API key, or the subject of its token.
    pub(crate) principal: &'a str,
}

impl Sender<'static> {
    /// The operator, beside the tenants; no tenant can have this name.
    pub(crate) const OPERATOR: Self = Self { tenant: ":operator", principal: "operator" };
}

impl<'a> From<&'a Principal> for Sender<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self { tenant: &principal.tenant().name, principal: &principal.key().0 }
    }
}

/// A request with a key that is being answered. Unless its answer is kept, the key is free again afterwards.
pub(crate) struct Once {
    app: Arc<App>,
    attempt: Option<Attempt>,
    is_kept: bool,
}

/// What becomes of a request.
pub(crate) enum Start {
    /// It is to be answered.
    First(Once),
    /// It was answered before.
    Again(Answer),
}

impl Once {
    /// Finds out what becomes of a request to `route`; without a key it is simply answered.
    ///
    /// # Errors
    /// A key that is none, is in use, or was used for another request or by somebody else; the tenant's kept answers are at
    /// their bound; or the store does not answer.
    pub(crate) async fn start(
        app: &Arc<App>,
        sender: Sender<'_>,
        route: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Start, ApiError> {
        let mut once = Self { app: Arc::clone(app), attempt: None, is_kept: false };
        let Some(key) = key(headers)? else { return Ok(Start::First(once)) };
        let Sender { tenant, principal } = sender;
        let keyed = Keyed { tenant, principal, key, route, body };
        match app.tenancy.idempotency.begin(WallTime::now(), &keyed).await? {
            Begun::First(attempt) => {
                once.attempt = Some(attempt);
                Ok(Start::First(once))
            }
            Begun::Again(answer) => Ok(Start::Again(answer)),
            // Here it is soon over. Elsewhere its server may have been killed: that the key is free by the end is all that is known.
            Begun::Running { is_here, left } => {
                let soon = Duration::from_secs(1);
                let retry_after = if is_here { soon } else { left.max(soon) };
                Err(ApiError::IdempotencyInProgress { retry_after })
            }
            Begun::Different => Err(ApiError::IdempotencyKeyReused),
            Begun::TooLarge => Err(ApiError::IdempotencyAnswerTooLarge),
        }
    }

    /// A number of the request's own, if it has a key.
    pub(crate) fn request(&self) -> Option<u128> {
        self.attempt.as_ref().map(Attempt::request)
    }

    /// Keeps the answer, if there is a key.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(crate) async fn keep(&mut self, status: u16, body: &[u8]) -> Result<(), ApiError> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let answer = Answer { status, body: body.to_vec() };
        self.app.tenancy.idempotency.keep(WallTime::now(), attempt, &answer).await?;
        self.is_kept = true;
        Ok(())
    }

    /// What is to be kept or released by somebody else from now on, if there is a key.
    pub(crate) fn attempt(mut self) -> Option<Attempt> {
        self.attempt.take()
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

/// Refuses a key where no answer can be kept.
///
/// # Errors
/// There is one.
pub(crate) fn refuse_key(headers: &HeaderMap) -> Result<(), ApiError> {
    if key(headers)?.is_none() {
        return Ok(());
    }
    let problem = "a stream's answers are not kept; send each request by itself".to_owned();
    Err(ApiError::InvalidRequest { field: IDEMPOTENCY_KEY.to_string(), problem })
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
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn keys() {
        let check = |values: &[&'static str], expected: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
            }
            assert_eq!(key(&headers).ok(), expected, "{values:?}");
            assert_eq!(refuse_key(&headers).is_ok(), values.is_empty(), "{values:?}");
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
