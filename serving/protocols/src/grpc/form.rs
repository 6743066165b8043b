//! The form of calls and of their refusals, the same for every service, whoever has written it: what no
//! service sees is refused here, and where tonic refuses in words and codes of its own, the error table's row
//! takes their place, whether that is said with the answer's head or at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::{ApiError, BodyMeter, request_id};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status};

use super::limits::LastLimits;
use super::message::{GRPC_ENCODING, unreadable};
use super::messages::{OneMessage, method};
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
    /// Methods that take any number of messages; all others take one.
    pub streams: &'static [&'static str],
}

/// The body of an answer, at whose end the error table's row takes the place of what is not of it, and what
/// is left of limits is told of a stream.
struct Ending {
    body: Body,
    limits: Option<LastLimits>,
    request_id: Arc<str>,
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
    if let Err(error) = metadata(request.headers()) {
        return refuse(&error, &request_id);
    }
    let body = request.extensions().get::<BodyMeter>().cloned().unwrap_or_default();
    let is_stream = form.streams.contains(&method(&request));
    let request = if is_stream { request } else { request.map(|body| Body::new(OneMessage::new(body))) };
    let mut response = next.run(request).await;
    let limits = response.extensions_mut().remove::<LastLimits>();
    match form.refusal(response.headers(), &body) {
        Some(error) => refuse(&error, &request_id),
        None => response.map(|body| Body::new(Ending { body, limits, request_id })),
    }
}

/// What holds for the metadata of every call.
fn metadata(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut encodings = headers.get_all(GRPC_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (Some(encoding), None) if COMPRESSIONS.split(',').all(|known| encoding != known) => {
            return Err(ApiError::UnsupportedCompression);
        }
        (_, Some(_)) => {
            let (field, problem) = (GRPC_ENCODING.to_owned(), "it came more than once".to_owned());
            return Err(ApiError::InvalidRequest { field, problem });
        }
        (_, None) => {}
    }
    head::grpc_timeout(headers).map(drop)
}

/// A status that was not made of a row of the error table: those have details.
fn without_row(headers: &HeaderMap) -> Option<Status> {
    let has_details = headers.contains_key(Status::GRPC_STATUS_DETAILS);
    Status::from_header_map(headers).filter(|status| !has_details && status.code() != Code::Ok)
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some(Ok(frame)), Some(limits)) = (&mut frame, &self.limits)
            && let Some(trailers) = frame.trailers_mut()
        {
            limits.show(trailers);
        }
        let trailers = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref());
        let Some(status) = trailers.and_then(without_row) else { return Poll::Ready(frame) };
        // What a caller does to a stream, its service finds: this is tonic's own, such as an answer that
        // cannot be encoded.
        let error =
            ApiError::internal(format!("a stream ended with {:?}: {}", status.code(), status.message()));
        let (request_id, code) = (&*self.request_id, error.row().code);
        tracing::error!(request_id, code, detail = error.log_detail(), "request failed");
        let mut trailers = super::status(&error, request_id).into_http::<Body>().into_parts().0.headers;
        trailers.remove(CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Form {
    /// What tonic refused: our own refusals have details.
    fn refusal(&self, headers: &HeaderMap, body: &BodyMeter) -> Option<ApiError> {
        let status = without_row(headers)?;
        match status.code() {
            Code::Unimplemented if status.message().is_empty() => Some(self.no_method.clone()),
            Code::Unimplemented => Some(ApiError::UnsupportedCompression),
            _ => Some(body.fault().unwrap_or_else(|| unreadable(&status, self.bytes_max))),
        }
    }
}

fn refuse(error: &ApiError, request_id: &str) -> Response {
    let mut response = status(error, request_id).into_http::<Body>();
    if matches!(error, ApiError::UnsupportedCompression) {
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(COMPRESSIONS));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn refusals_of_tonic_get_their_row() {
        let form = Form { bytes_max: 100, no_method: ApiError::RouteNotFound, streams: &[] };
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

    #[tokio::test]
    async fn ends_that_are_of_no_row() {
        async fn check(status: Status, expected: Option<&str>) {
            let trailers = status.clone().into_http::<Body>().into_parts().0.headers;
            let frames = futures_util::stream::iter([Ok::<_, axum::Error>(Frame::trailers(trailers))]);
            let body = Body::new(http_body_util::StreamBody::new(frames));
            let request_id = Arc::from("req_1");
            let read = Ending { body, limits: None, request_id }.collect().await.ok();
            let ended = read.and_then(|read| Status::from_header_map(read.trailers()?));
            let reason = ended.and_then(|ended| ended.get_details_error_info()).map(|info| info.reason);
            assert_eq!(reason.as_deref(), expected, "{status:?}");
        }
        check(Status::internal("cannot be encoded"), Some("internal")).await;
        check(Status::new(Code::Ok, ""), None).await;
        check(super::status(&ApiError::ShuttingDown, "req_1"), Some("shutting_down")).await;
    }
}
