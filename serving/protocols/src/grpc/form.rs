//! The form of calls and of their refusals, the same for every service, whoever has written it: what no service sees is refused
//! here, and where tonic refuses in words and codes of its own, the error table's row takes their place.

use std::sync::Arc;

use api::{ApiError, BodyMeter, request_id};
use axum::extract::{Request, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tonic::{Code, Status};

use super::message::{GRPC_ENCODING, unreadable};
use super::status;
use crate::head;
use crate::v1::rest;

/// Compressions of messages that are understood, as `grpc-accept-encoding` has them.
const COMPRESSIONS: &str = "identity,gzip,deflate";
/// The type of calls' messages.
const MEDIA_TYPE: &str = "application/grpc";

/// What a service's calls are held to.
#[derive(Debug)]
pub struct Form {
    /// Longest message, in bytes.
    pub bytes_max: usize,
    /// What is said of methods that there are not.
    pub no_method: ApiError,
}

/// Holds calls and refusals to their form.
pub(super) async fn hold(State(form): State<Arc<Form>>, request: Request, next: Next) -> Response {
    let request_id = request_id(request.extensions());
    if !head::is_grpc(request.headers()) {
        // "gRPC servers SHOULD respond with HTTP status of 415" (PROTOCOL-HTTP2.md, "Content-Type").
        return rest::refuse(&ApiError::UnsupportedMediaType { expected: MEDIA_TYPE }, &request_id);
    }
    if request.method() != Method::POST {
        let mut response = rest::refuse(&ApiError::MethodNotAllowed, &request_id);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let encoding = request.headers().get(GRPC_ENCODING);
    if encoding.is_some_and(|encoding| COMPRESSIONS.split(',').all(|known| encoding != known)) {
        return refuse(&ApiError::UnsupportedCompression, &request_id);
    }
    let body = request.extensions().get::<BodyMeter>().cloned().unwrap_or_default();
    let response = next.run(request).await;
    match form.refusal(response.headers(), &body) {
        Some(error) => refuse(&error, &request_id),
        None => response,
    }
}

impl Form {
    /// What tonic refused: our own refusals have details.
    fn refusal(&self, headers: &HeaderMap, body: &BodyMeter) -> Option<ApiError> {
        let has_details = headers.contains_key(Status::GRPC_STATUS_DETAILS);
        let status = Status::from_header_map(headers).filter(|_| !has_details)?;
        match status.code() {
            Code::Ok => None,
            Code::Unimplemented if status.message().is_empty() => Some(self.no_method.clone()),
            Code::Unimplemented => Some(ApiError::UnsupportedCompression),
            _ => Some(body.fault().unwrap_or_else(|| unreadable(&status, self.bytes_max))),
        }
    }
}

fn refuse(error: &ApiError, request_id: &str) -> Response {
    let mut response = status(error, request_id).into_http::<axum::body::Body>();
    if matches!(error, ApiError::UnsupportedCompression) {
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(COMPRESSIONS));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_tonic_get_their_row() {
        let form = Form { bytes_max: 100, no_method: ApiError::RouteNotFound };
        let check = |status: Status, expected: Option<&str>| {
            let headers = status.clone().into_http::<()>().into_parts().0.headers;
            let found = form.refusal(&headers, &BodyMeter::default());
            assert_eq!(found.map(|error| error.row().code), expected, "{status:?}");
        };
        check(Status::internal("failed to decode"), Some("invalid_request"));
        check(Status::out_of_range("too large"), Some("body_too_large"));
        check(Status::resource_exhausted("size limit"), Some("body_too_large"));
        check(Status::unimplemented(""), Some("not_found"));
        check(Status::unimplemented("compressed with `x`"), Some("unsupported_compression"));
        check(Status::cancelled(""), Some("body_incomplete"));
        check(super::status(&ApiError::DeadlineExceeded, "req_1"), None);
        check(Status::new(Code::Ok, ""), None);
    }
}
