//! What the head of a request says, whatever protocol it is of: how long its caller waits, and whether it is
//! gRPC.

use std::time::Duration;

use api::ApiError;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};

/// Longest the caller will wait, in milliseconds.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The gRPC protocol's own.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether a request is a gRPC call, whose messages are protobuf. `application/grpc-web` is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"].iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// How long a REST caller will wait: `X-Request-Timeout`, in milliseconds.
///
/// # Errors
/// A value that is not a whole number of at least 1.
pub fn rest_timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let parse = |text: &str| text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    timeout(headers, &REQUEST_TIMEOUT, parse, "expected a whole number of milliseconds, at least 1")
}

/// How long a gRPC caller will wait: `grpc-timeout`, one to eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Timeout").
///
/// # Errors
/// A value of another form.
pub fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    timeout(
        headers,
        &GRPC_TIMEOUT,
        parse_grpc_timeout,
        "expected one to eight digits and a unit of H, M, S, m, u or n",
    )
}

fn timeout(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&str) -> Option<Duration>,
    problem: &str,
) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let invalid = || ApiError::InvalidRequest { field: name.to_string(), problem: problem.to_owned() };
    value.to_str().ok().and_then(parse).map(Some).ok_or_else(invalid)
}

fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn rest_timeouts() {
        let check = |value: &str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_TIMEOUT, HeaderValue::from_str(value).unwrap());
            let read = rest_timeout(&headers).ok().flatten();
            assert_eq!(read, expected.map(Duration::from_millis), "{value:?}");
        };
        check("250", Some(250));
        check("0", None);
        check("-1", None);
        check("1.5", None);
        check("soon", None);
        assert!(rest_timeout(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn grpc_timeouts() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(parse_grpc_timeout(text), expected, "{text:?}");
        };
        check("1H", Some(Duration::from_secs(3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("30S", Some(Duration::from_secs(30)));
        check("250m", Some(Duration::from_millis(250)));
        check("99999999u", Some(Duration::from_micros(99_999_999)));
        check("5n", Some(Duration::from_nanos(5)));
        for malformed in ["", "S", "1", "1é", "-1S", "1.5S", "123456789S"] {
            check(malformed, None);
        }
    }
}
