//! What holds for the head of every request, whatever its route: checked before anything else is done for it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::caller;
use crate::config::Config;
use crate::error::ApiError;
use crate::rest;

/// Marks a request on a connection whose answers are not read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread;

/// What a head is held to.
#[derive(Debug)]
pub(super) struct HeadLimits {
    header_bytes_max: usize,
    body_bytes_max: usize,
}

impl HeadLimits {
    pub(super) fn of(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            header_bytes_max: config.connections.header_bytes_max,
            body_bytes_max: config.limits.body_bytes_max,
        })
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
            > self.header_bytes_max
        {
            return Err(ApiError::HeadersTooLarge { limit: self.header_bytes_max });
        }
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

/// RFC 9112, sections 3.2 and 6.1.
fn is_well_formed(headers: &HeaderMap) -> Result<(), ApiError> {
    let invalid = |field: &str, problem: &str| {
        Err(ApiError::InvalidRequest { field: field.to_owned(), problem: problem.to_owned() })
    };
    if headers.get_all(HOST).iter().count() != 1 {
        return invalid("Host", "HTTP/1.1 requests have it exactly once");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => invalid("Transfer-Encoding", "the one coding that is understood is chunked"),
    }
}

/// Refuses a request whose head is not as it should be.
pub(super) async fn check(State(limits): State<Arc<HeadLimits>>, request: Request, next: Next) -> Response {
    match limits.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(&error, &request),
    }
}

/// An error as its caller's protocol has it.
pub(super) fn refuse(error: &ApiError, request: &Request) -> Response {
    let request_id = caller::request_id(request.extensions());
    if caller::is_grpc(request.headers()) {
        return error.to_status(&request_id).into_http::<axum::body::Body>();
    }
    rest::refuse(error, &request_id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use axum::http;

    use super::*;

    #[test]
    fn heads() {
        let limits = HeadLimits { header_bytes_max: 100, body_bytes_max: 1000 };
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
    }
}
