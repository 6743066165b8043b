//! Errors as OpenAI has them, with the fields that Voyage's, Jina's and Cohere's clients read beside; and
//! what is left of limits, in OpenAI's headers.

use std::time::Duration;

use api::{ApiError, ErrorKind, Exceeded, Period, Quota, Retry, Unit};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::http::dialect::{Answer, Dialect};
use crate::http::words::Words;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What cuts a long text off in this family.
pub(crate) const CUT: &str = "`truncate` \"END\" or \"START\" cuts it off there";

/// OpenAI's API, and what others made of it.
pub(crate) struct OpenAi;

#[derive(Serialize)]
struct Body<'a> {
    error: Told<'a>,
    /// Where Cohere's clients look.
    message: &'a str,
    /// Where Voyage's and Jina's do.
    detail: &'a str,
}

/// All four fields are there, null or not.
#[derive(Serialize)]
struct Told<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<String>,
    code: &'static str,
}

impl Dialect for OpenAi {
    const PROTOCOL: &'static str = "openai";
    const MODELS: &'static str = "GET /v1/models";
    const WORDS: Option<Words> = Some(Words::of_array("input", CUT));

    fn error(error: &ApiError, _: &str) -> Answer {
        let (kind, row, message) = (error.kind(), error.row(), Self::message(error));
        let told = Told { message: &message, r#type: type_of(error), param: param(error), code: code(kind) };
        let body = Body { error: told, message: &message, detail: &message };
        let mut answer = Answer::json(row.http, &body).unwrap_or_else(|_| Answer::empty(row.http));
        let should_retry = if kind.retry() == Retry::Never { "false" } else { "true" };
        answer.headers.insert(SHOULD_RETRY, HeaderValue::from_static(should_retry));
        if let Some(after) = error.retry_after() {
            let ms = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            answer.headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms.max(1)));
        }
        if let Some(exceeded) = error.exceeded() {
            let Exceeded { unit, limit, left, retry_after, .. } = *exceeded;
            show(unit, limit, left, retry_after, &mut answer.headers);
        }
        answer
    }

    fn show_limits(quotas: &[Quota], headers: &mut HeaderMap) {
        for unit in [Unit::Inputs, Unit::Tokens] {
            let of = |period| quotas.iter().find(|quota| quota.unit == unit && quota.period == period);
            // OpenAI's are by the minute.
            if let Some(quota) = of(Period::Minute).or_else(|| of(Period::Day)) {
                show(unit, quota.limit, quota.left.min(quota.limit), quota.resets_in, headers);
            }
        }
    }
}

fn show(unit: Unit, limit: u64, left: u64, resets_in: Duration, headers: &mut HeaderMap) {
    let [limits, remaining, reset] = match unit {
        Unit::Inputs => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        Unit::Tokens => {
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
        }
    };
    headers.insert(limits, HeaderValue::from(limit));
    headers.insert(remaining, HeaderValue::from(left));
    if let Ok(value) = HeaderValue::try_from(duration(resets_in)) {
        headers.insert(reset, value);
    }
}

/// As Go writes durations, which OpenAI does: `250ms`, `6s`, `1m30s`, `2h0m0s`.
fn duration(of: Duration) -> String {
    let (ms, seconds) = (of.as_millis(), of.as_secs());
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// OpenAI's own code where it has one for the same, ours otherwise.
fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidCredentials | ErrorKind::MalformedCredentials => "invalid_api_key",
        ErrorKind::InputTooLong => "context_length_exceeded",
        kind => kind.row().code,
    }
}

/// The field that is wrong, as callers of this API know it.
fn param(error: &ApiError) -> Option<String> {
    if matches!(error.kind(), ErrorKind::ModelNotFound | ErrorKind::ModelRequired | ErrorKind::WrongTask) {
        return Some("model".to_owned());
    }
    let (field, _) = error.field_violation()?;
    if let ApiError::Worded { .. } = error {
        return Some(field.split('[').next().unwrap_or(&field).to_owned());
    }
    let field = field.strip_prefix("parameters.").unwrap_or(&field);
    match field {
        "body" => None,
        _ if field == "inputs" || field.starts_with("inputs[") => Some("input".to_owned()),
        _ => Some(field.to_owned()),
    }
}

fn type_of(error: &ApiError) -> &'static str {
    use ErrorKind as Kind;
    match error.kind() {
        // OpenAI names what was used up.
        Kind::RateLimitExceeded => match error.exceeded().map(|exceeded| exceeded.unit) {
            Some(Unit::Tokens) => "tokens",
            Some(Unit::Inputs) | None => "requests",
        },
        Kind::ConcurrencyLimitExceeded | Kind::AnswersUnread | Kind::IdempotencyFull => "requests",
        Kind::UnknownTenant | Kind::AccountSuspended | Kind::Forbidden => "permission_error",
        Kind::MissingCredentials
        | Kind::MalformedCredentials
        | Kind::InvalidCredentials
        | Kind::TestKeyRefused
        | Kind::InvalidToken
        | Kind::OverPlanLimit
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::UnsupportedMediaType
        | Kind::UnsupportedContentEncoding
        | Kind::InvalidContentEncoding
        | Kind::UnsupportedCompression
        | Kind::BodyTooLarge
        | Kind::HeadersTooLarge
        | Kind::UriTooLong
        | Kind::MalformedRequest
        | Kind::ServiceNotFound
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
        | Kind::ModelNotFound
        | Kind::ModelRequired
        | Kind::WrongTask
        | Kind::IdempotencyKeyReused
        | Kind::IdempotencyInProgress
        | Kind::IdempotencyAnswerTooLarge
        | Kind::TenantNotFound
        | Kind::TenantNotManaged
        | Kind::TenantExists
        | Kind::KeyNotFound
        | Kind::KeyNotActive
        | Kind::TooManyKeys
        | Kind::SecretShownOnce
        | Kind::ModelNotLoadable
        | Kind::ModelDoesNotFit
        | Kind::Conflict => "invalid_request_error",
        Kind::IssuerUnavailable
        | Kind::LimitsUnavailable
        | Kind::ModelUnavailable
        | Kind::Overloaded
        | Kind::DeadlineInfeasible
        | Kind::DeadlineExceeded
        | Kind::Starting
        | Kind::ShuttingDown
        | Kind::StoreUnavailable
        | Kind::Internal => "server_error",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use api::tasks::InputError;

    use super::*;

    #[test]
    fn durations() {
        let check = |ms: u64, expected: &str| assert_eq!(duration(Duration::from_millis(ms)), expected);
        check(0, "0ms");
        check(250, "250ms");
        check(6_000, "6s");
        check(90_000, "1m30s");
        check(7_260_000, "2h1m0s");
    }

    #[test]
    fn fields() {
        let check = |error: ApiError, expected: Option<&str>| {
            assert_eq!(param(&error).as_deref(), expected, "{error}");
        };
        let invalid = |field: &str| ApiError::InvalidRequest { field: field.into(), problem: String::new() };
        check(InputError::Empty { index: 3 }.into(), Some("input"));
        check(InputError::None.into(), Some("input"));
        check(
            InputError::Parameter { name: "dimensions", message: String::new() }.into(),
            Some("dimensions"),
        );
        check(invalid("input[2]"), Some("input[2]"));
        check(invalid("body"), None);
        check(ApiError::ModelNotFound, Some("model"));
        check(ApiError::Starting, None);
    }

    #[test]
    fn all_four_fields_are_there() {
        let answer = OpenAi::error(&ApiError::Starting, "req_1");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let error = &body["error"];
        let fields: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields.len(), 4, "{fields:?}");
        assert!(error["param"].is_null() && error["code"] == "starting" && error["type"] == "server_error");
        assert_eq!(answer.headers["retry-after-ms"], "1000");
        assert_eq!(answer.headers["x-should-retry"], "true");
    }
}
