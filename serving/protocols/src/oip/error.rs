//! Errors as the protocol has them: `{"error": "what is wrong"}`.

use api::{ApiError, ErrorKind};
use axum::http::StatusCode;
use serde::Serialize;

use super::event_headers;
use crate::http::dialect::{Answer, Dialect};

/// Says how many bytes of a body are JSON; none: all.
pub(super) const HEADER_LENGTH: &str = "inference-header-content-length";

/// Open Inference Protocol v2, and KServe v1, whose errors have the same form.
pub(crate) struct Oip;

#[derive(Debug, Serialize)]
pub(super) struct Failure<'a> {
    pub(super) error: &'a str,
}

impl Dialect for Oip {
    const PROTOCOL: &'static str = "oip";
    const HEADERS: &'static [&'static str] = &[
        "accept-encoding",
        HEADER_LENGTH,
        event_headers::SPEC_VERSION,
        event_headers::ID,
        event_headers::SOURCE,
        event_headers::TYPE,
    ];

    fn error(error: &ApiError, _: &str) -> Answer {
        let answer = Answer::json(status(error.kind()), &Failure { error: &message(error) });
        answer.unwrap_or_else(|_| Answer::empty(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

/// What is said of an error: the table's words, but for those that name routes of our own API.
pub(super) fn message(error: &ApiError) -> String {
    match error {
        ApiError::RouteNotFound => "no such route; the Open Inference Protocol is under /v2".to_owned(),
        ApiError::ModelNotFound => {
            "no such model, or not in this version; POST /v2/repository/index lists the models".to_owned()
        }
        error => error.to_string(),
    }
}

/// The protocol has 404, 503, 500 and 501, and 400 for whatever else is wrong with a request. What it does
/// not know, such as credentials and limits, has the table's status.
fn status(kind: ErrorKind) -> StatusCode {
    use ErrorKind as Kind;
    match kind {
        Kind::UnsupportedMediaType
        | Kind::UnsupportedContentEncoding
        | Kind::InvalidContentEncoding
        | Kind::UnsupportedCompression
        | Kind::BodyTooLarge
        | Kind::HeadersTooLarge
        | Kind::UriTooLong
        | Kind::MalformedRequest
        | Kind::BodyIncomplete
        | Kind::InvalidUtf8
        | Kind::InvalidJson
        | Kind::InvalidRequest
        | Kind::NoInputs
        | Kind::TooManyInputs
        | Kind::EmptyInput
        | Kind::NulCharacter
        | Kind::InputTooLong
        | Kind::InvalidParameter
        | Kind::UnreadableInput
        | Kind::ModelRequired
        | Kind::WrongTask
        | Kind::OverPlanLimit => StatusCode::BAD_REQUEST,
        Kind::MissingCredentials
        | Kind::MalformedCredentials
        | Kind::InvalidCredentials
        | Kind::TestKeyRefused
        | Kind::InvalidToken
        | Kind::IssuerUnavailable
        | Kind::UnknownTenant
        | Kind::AccountSuspended
        | Kind::Forbidden
        | Kind::RateLimitExceeded
        | Kind::ConcurrencyLimitExceeded
        | Kind::LimitsUnavailable
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::ServiceNotFound
        | Kind::ModelNotFound
        | Kind::ModelUnavailable
        | Kind::ModelNotLoadable
        | Kind::ModelDoesNotFit
        | Kind::Overloaded
        | Kind::AnswersUnread
        | Kind::DeadlineInfeasible
        | Kind::DeadlineExceeded
        | Kind::Starting
        | Kind::ShuttingDown
        | Kind::IdempotencyKeyReused
        | Kind::IdempotencyInProgress
        | Kind::IdempotencyAnswerTooLarge
        | Kind::IdempotencyFull
        | Kind::TenantNotFound
        | Kind::TenantNotManaged
        | Kind::TenantExists
        | Kind::KeyNotFound
        | Kind::KeyNotActive
        | Kind::TooManyKeys
        | Kind::SecretShownOnce
        | Kind::Conflict
        | Kind::StoreUnavailable
        | Kind::Internal => kind.row().http,
    }
}

/// A request that is wrong in one field.
pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> ApiError {
    ApiError::InvalidRequest { field: field.into(), problem: problem.into() }
}
