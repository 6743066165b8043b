//! `Idempotency-Key`, for every protocol: the answer of a request that succeeded is kept for a day and given
//! again to the same principal. What failed was not charged and changed nothing, so it is not kept and may be
//! sent again with the same key.

use std::sync::Arc;
use std::time::Duration;

use api::Repeat;
use router::idempotency::{Answer, Attempt, Idempotency, KeyState, KeyedRequest};
use router::{Collected, Principal, WallTime};

use crate::error::{ApiError, OrRefused};
use crate::tenancy::Tenancy;

/// The principal that may read the stored answer.
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
    answers: Arc<Idempotency>,
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
    /// Finds out what becomes of a request; one that nothing is known by when it comes again is simply
    /// answered.
    ///
    /// # Errors
    /// Its key is in use, or was used for another request or by somebody else; the tenant's kept answers are
    /// at their bound; or the store does not answer.
    pub(crate) async fn start(
        tenancy: &Tenancy,
        sender: Sender<'_>,
        repeat: Option<&Repeat>,
    ) -> Result<Start, ApiError> {
        let answers = &tenancy.idempotency;
        let mut once = Self { answers: Arc::clone(answers), attempt: None, is_kept: false };
        let Some(Repeat { key, route, body }) = repeat else { return Ok(Start::First(once)) };
        let Sender { tenant, principal } = sender;
        let keyed = KeyedRequest { tenant, principal, key, route, body };
        let now = WallTime::now();
        match answers.begin(now, &keyed).await.or_refused()? {
            KeyState::First(attempt) => {
                once.attempt = Some(attempt);
                Ok(Start::First(once))
            }
            KeyState::Again(answer) => Ok(Start::Again(answer)),
            // Here it is soon over. Elsewhere its server may have been killed: that the key is free by the
            // end is all that is known.
            KeyState::Running { is_here, left } => Err(in_progress(is_here, left)),
            KeyState::Unrecorded(unrecorded) => {
                match tenancy
                    .gatekeeper
                    .collect(now, &tenancy.server, answers, &unrecorded)
                    .await
                    .or_refused()?
                {
                    Collected::Yes => {
                        unrecorded.answer.map(Start::Again).ok_or(ApiError::IdempotencyAnswerTooLarge)
                    }
                    Collected::Underway { is_here, left } => Err(in_progress(is_here, left)),
                }
            }
            KeyState::Different => Err(ApiError::IdempotencyKeyReused),
            KeyState::TooLarge => Err(ApiError::IdempotencyAnswerTooLarge),
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
    async fn keep(&mut self, status: u16, body: &[u8]) -> Result<(), ApiError> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let answer = Answer { status, body: body.to_vec() };
        self.answers.keep(WallTime::now(), attempt, &answer, None).await.or_refused()?;
        self.is_kept = true;
        Ok(())
    }

    /// Keeps the answer of what stays changed, whether that can be told again or not.
    pub(crate) async fn keep_if_possible(&mut self, status: u16, body: &[u8]) {
        if let Err(error) = self.keep(status, body).await {
            tracing::warn!(%error, "the answer of a change cannot be kept under its idempotency key");
        }
    }

    /// What is to be kept or released by somebody else from now on, if there is a key.
    pub(crate) fn attempt(mut self) -> Option<Attempt> {
        self.attempt.take()
    }
}

fn in_progress(is_here: bool, left: Duration) -> ApiError {
    let soon = Duration::from_secs(1);
    let retry_after = if is_here { soon } else { left.max(soon) };
    ApiError::IdempotencyInProgress { retry_after }
}

impl Drop for Once {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take().filter(|_| !self.is_kept) {
            let answers = Arc::clone(&self.answers);
            // On a runtime: requests are dropped there.
            tokio::spawn(async move { answers.release(&attempt).await });
        }
    }
}
