//! What holds for the head of every request, whatever its route: checked before anything else is done for it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;

use protocols::head::{GRPC_TIMEOUT, REQUEST_TIMEOUT};

use super::unparsed::UnparsedMark;
use crate::config::Config;
use crate::error::ApiError;

/// Marks a request on a connection whose answers are not read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread;

/// How a port says that a request is refused before any route has seen it.
pub(super) type Refuse = Arc<dyn Fn(&ApiError, &Request) -> Response + Send + Sync>;

/// What a head is held to.
#[derive(Debug)]
pub(super) struct HeadLimits {
    header_bytes_max: usize,
    header_fields_max: usize,
    uri_bytes_max: usize,
    body_bytes_max: usize,
}

impl HeadLimits {
    pub(super) fn of(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            header_bytes_max: config.connections.header_bytes_max,
            header_fields_max: config.connections.header_fields_max,
            uri_bytes_max: config.connections.uri_bytes_max,
            body_bytes_max: config.limits.body_bytes_max,
        })
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let too_large = || {
            let (bytes_max, fields_max) = (self.header_bytes_max, self.header_fields_max);
            ApiError::HeadersTooLarge { bytes_max, fields_max }
        };
        let too_long = || ApiError::UriTooLong { limit: self.uri_bytes_max };
        match request.extensions().get::<UnparsedMark>() {
            Some(UnparsedMark(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)) => return Err(too_large()),
            Some(UnparsedMark(StatusCode::URI_TOO_LONG)) => return Err(too_long()),
            Some(UnparsedMark(_)) => return Err(ApiError::MalformedRequest),
            None => {}
        }
        if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > self.uri_bytes_max) {
            return Err(too_long());
        }
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        if bytes > self.header_bytes_max || headers.len() > self.header_fields_max {
            return Err(too_large());
        }
        has_one_meaning(headers)?;
        if request.version() == Version::HTTP_11 {
            is_well_formed(headers)?;
        }
        // What will not be read is refused before it is sent.
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.body_bytes_max as u64) {
            return Err(ApiError::BodyTooLarge { limit: self.body_bytes_max });
        }
        match request.extensions().get::<Unread>() {
            Some(Unread) => Err(ApiError::Overloaded { retry_after: Duration::from_secs(1) }),
            None => Ok(()),
        }
    }
}

fn invalid(field: &str, problem: &str) -> Result<(), ApiError> {
    Err(ApiError::InvalidRequest { field: field.to_owned(), problem: problem.to_owned() })
}

/// Refuses fields that come twice and have one value, of which nobody can tell which one is meant.
fn has_one_meaning(headers: &HeaderMap) -> Result<(), ApiError> {
    let singular = [AUTHORIZATION, CONTENT_TYPE, REQUEST_TIMEOUT, GRPC_TIMEOUT];
    match singular.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => invalid(name.as_str(), "it came more than once"),
        None => Ok(()),
    }
}

/// RFC 9112, sections 3.2 and 6.1.
fn is_well_formed(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return invalid("Host", "HTTP/1.1 requests have it exactly once");
    };
    // Empty where the target has no authority.
    if !host.is_empty() && (Authority::try_from(host.as_bytes()).is_err() || host.as_bytes().contains(&b'@'))
    {
        return invalid("Host", "expected a name or an address, and a port if need be");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => invalid("Transfer-Encoding", "the one coding that is understood is chunked"),
    }
}

/// Refuses a request whose head is not as it should be.
pub(super) async fn check(
    State((limits, refuse)): State<(Arc<HeadLimits>, Refuse)>,
    request: Request,
    next: Next,
) -> Response {
    match limits.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(&error, &request),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use axum::http;

    use super::*;

    #[test]
    fn heads() {
        let limits = HeadLimits {
            header_bytes_max: 100,
            header_fields_max: 3,
            uri_bytes_max: 50,
            body_bytes_max: 1000,
        };
        let check = |version: Version, headers: &[(&str, &str)], expected: Option<&str>| {
            let mut request = http::Request::builder().version(version);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let found = limits.check(&request.body(Body::empty()).unwrap()).err();
            assert_eq!(found.map(|error| error.row().code), expected, "{version:?} {headers:?}");
        };
        let host = ("host", "a");
        check(Version::HTTP_11, &[host], None);
        check(Version::HTTP_11, &[], Some("invalid_request"));
        check(Version::HTTP_11, &[host, host], Some("invalid_request"));
        check(Version::HTTP_10, &[], None);
        check(Version::HTTP_2, &[], None);
        check(Version::HTTP_11, &[host, ("transfer-encoding", "Chunked")], None);
        check(Version::HTTP_11, &[host, ("transfer-encoding", "gzip, chunked")], Some("invalid_request"));
        let twice = [host, ("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")];
        check(Version::HTTP_11, &twice, Some("invalid_request"));
        check(Version::HTTP_11, &[host, ("content-length", "1000")], None);
        check(Version::HTTP_2, &[("content-length", "1001")], Some("body_too_large"));
        check(Version::HTTP_2, &[("x", &"y".repeat(99))], None);
        check(Version::HTTP_2, &[("x", &"y".repeat(100))], Some("headers_too_large"));
        check(Version::HTTP_2, &[("a", ""), ("b", ""), ("b", "")], None);
        check(Version::HTTP_2, &[("a", ""), ("b", ""), ("b", ""), ("c", "")], Some("headers_too_large"));
        check(Version::HTTP_11, &[("host", "")], None);
        check(Version::HTTP_11, &[("host", "[::1]:80")], None);
        for bad in ["a b", "a/b", "user@a", "a:b:c"] {
            check(Version::HTTP_11, &[("host", bad)], Some("invalid_request"));
        }
        for name in ["authorization", "content-type", "x-request-timeout", "grpc-timeout"] {
            check(Version::HTTP_2, &[(name, "1")], None);
            check(Version::HTTP_2, &[(name, "1"), (name, "1")], Some("invalid_request"));
        }
        check(Version::HTTP_2, &[("accept", "a"), ("accept", "b")], None);
    }

    #[test]
    fn targets() {
        let limits = HeadLimits {
            header_bytes_max: 100,
            header_fields_max: 3,
            uri_bytes_max: 50,
            body_bytes_max: 1000,
        };
        let check = |uri: &str, unparsed: Option<u16>, expected: Option<&str>| {
            let mut request = http::Request::builder().uri(uri).version(Version::HTTP_2);
            if let Some(status) = unparsed {
                request = request.extension(UnparsedMark(StatusCode::from_u16(status).unwrap()));
            }
            let found = limits.check(&request.body(Body::empty()).unwrap()).err();
            assert_eq!(found.map(|error| error.row().code), expected, "{uri} {unparsed:?}");
        };
        check("/a?b", None, None);
        check(&format!("https://localhost/{}", "a".repeat(49)), None, None);
        check(&format!("/{}?{}", "a".repeat(25), "b".repeat(24)), None, Some("uri_too_long"));
        check("/", Some(400), Some("malformed_request"));
        check("/", Some(414), Some("uri_too_long"));
        check("/", Some(431), Some("headers_too_large"));
    }
}
