//! Who is calling and for how long, read from the head of a request of either protocol; and the id every request has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use router::{AuthenticationError, CredentialError, Peer};
use ulid::Ulid;

use crate::body_meter::BodyMeter;
use crate::error::ApiError;
use crate::pipeline::Caller;
use crate::server::Account;
use crate::telemetry::Access;
use crate::tls::ServiceId;

/// Echoed on every response; taken from the request if it brings a usable one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest the caller will wait, in milliseconds.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The gRPC protocol's own.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Longest id accepted from a caller, in bytes.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
struct RequestId(Arc<str>);

/// The host that a request asked for, in its extensions.
#[derive(Debug, Clone)]
struct AskedHost(Option<Arc<str>>);

/// Gives every request an id and every response the same, whatever the protocol. Once, however many layers ask for it.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<RequestId>().is_some() {
        return next.run(request).await;
    }
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_usable(id))
        .map_or_else(new_id, Arc::from);
    let host = asked_host(&request);
    request.extensions_mut().insert(AskedHost(host));
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// `:authority` of HTTP/2 and of absolute targets, or else the `Host` header.
fn asked_host(request: &Request) -> Option<Arc<str>> {
    if let Some(authority) = request.uri().authority() {
        return Some(Arc::from(authority.as_str()));
    }
    request.headers().get(HOST).map(|host| Arc::from(String::from_utf8_lossy(host.as_bytes())))
}

/// The id given by [`identify`].
pub(crate) fn request_id(extensions: &Extensions) -> Arc<str> {
    extensions.get::<RequestId>().map_or_else(new_id, |id| Arc::clone(&id.0))
}

/// Whether a request is a gRPC call, whose messages are protobuf. `application/grpc-web` is another protocol.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"].iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// The caller of a request over `protocol`, from its head.
///
/// # Errors
/// An `Authorization` header that is not text.
pub(crate) fn caller(
    headers: &HeaderMap,
    extensions: &Extensions,
    protocol: &'static str,
) -> Result<Caller, ApiError> {
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::to_str).transpose();
    let authorization = authorization
        .map_err(|_| AuthenticationError::Credential(CredentialError::Malformed))?
        .map(str::to_owned);
    // A request without an address came from no network.
    let address = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let service = extensions.get::<ServiceId>().map(|id| Arc::clone(&id.0));
    let host = extensions.get::<AskedHost>().and_then(|host| host.0.clone());
    let peer = Peer { address, service, host };
    let access = extensions.get::<Access>().cloned().unwrap_or_default();
    let body = extensions.get::<BodyMeter>().cloned().unwrap_or_default();
    let account = extensions.get::<Account>().cloned().unwrap_or_default();
    Ok(Caller { authorization, peer, request_id: request_id(extensions), protocol, access, body, account })
}

/// The caller of a REST request.
///
/// # Errors
/// An `Authorization` header that is not text.
pub(crate) fn rest_caller(request: &Request) -> Result<Caller, ApiError> {
    caller(request.headers(), request.extensions(), "rest")
}

/// How long a REST caller will wait: `X-Request-Timeout`, in milliseconds.
///
/// # Errors
/// A value that is not a whole number of at least 1.
pub(crate) fn rest_timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let parse = |text: &str| text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    timeout(headers, &REQUEST_TIMEOUT, parse, "expected a whole number of milliseconds, at least 1")
}

/// How long a gRPC caller will wait: `grpc-timeout`, one to eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Timeout").
///
/// # Errors
/// A value of another form.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
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

fn new_id() -> Arc<str> {
    Arc::from(format!("req_{}", Ulid::new()))
}

fn is_usable(id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    !id.is_empty() && id.len() <= REQUEST_ID_LENGTH_MAX && id.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_from_callers() {
        let check = |id: &str, expected: bool| assert_eq!(is_usable(id), expected, "{id:?}");
        check("req_01ABC", true);
        check("a-b.c:d_e", true);
        check("", false);
        check("a b", false);
        check("a\"b", false);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
    }

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
