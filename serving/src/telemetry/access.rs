//! The access log: one line a call, over every protocol, answered or not; and none of its text.
//!
//! A layer around all routes begins the line and writes it when the answer's last byte is out or the call is
//! given up, so streams and callers who leave are seen. What only the handlers know, they tell through
//! [`Access`]. A message of a stream is a call, and has a line of its own.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use models::tasks::Operation;
use protocols::Dialects;
use router::Principal;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Level;
use units::{Clock, MonotonicClock, Timestamp};

use super::{CallEnd, EndCode, Telemetry, Timeliness};
use crate::error::{ApiError, ErrorCode, ErrorKind};

/// HTTP status of a call whose caller left before there was one; nobody gets it.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// Longest detail of a failure in a line, in characters.
const DETAIL_LENGTH_MAX: usize = 300;
/// The route of a call that has none.
const UNKNOWN: &str = "unknown";
/// Routes that are asked every few seconds by machines: their lines are for `debug`, unless something is
/// wrong.
const PROBES: [&str; 15] = [
    "/metrics",
    "/livez",
    "/readyz",
    "/healthz",
    "/scaling",
    "/grpc.health.v1.Health/{*method}",
    "/externalscaler.ExternalScaler/{*method}",
    "/ping",
    "/health",
    "/v1/health/live",
    "/v1/health/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// Where lines come from.
pub(crate) struct AccessLog {
    telemetry: Arc<Telemetry>,
    clock: MonotonicClock,
    /// Whether calls are the service's requests, and are counted as such.
    is_api: bool,
    /// Which dialects are spoken.
    dialects: Dialects,
}

impl AccessLog {
    /// The log of the API, or else of operations.
    pub(crate) fn new(telemetry: Arc<Telemetry>, is_api: bool, dialects: Dialects) -> Arc<Self> {
        Arc::new(Self { telemetry, clock: MonotonicClock::new(), is_api, dialects })
    }
}

/// Through which a handler tells what it learns of its call.
#[derive(Clone, Default)]
pub struct Access(Option<Arc<Call>>);

struct Call {
    log: Arc<AccessLog>,
    request_id: Arc<str>,
    method: &'static str,
    route: Arc<str>,
    is_grpc: bool,
    started: Timestamp,
    bytes_in: Option<u64>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    tenant: Option<Arc<str>>,
    key: Option<Arc<str>>,
    model: Option<Arc<str>>,
    inputs: Option<u64>,
    inputs_refused: Option<u64>,
    tokens: Option<u64>,
    code: Option<EndCode>,
    grpc: Option<Code>,
    detail: Option<String>,
    /// Whether it is in the metrics already.
    is_counted: bool,
}

impl Facts {
    fn end(&mut self, error: Option<&ApiError>) {
        self.code = Some(error.map_or(EndCode::Ok, |error| EndCode::Error(error.kind())));
        self.grpc = Some(error.map_or(Code::Ok, grpc_code));
        let detail = error.and_then(ApiError::log_detail);
        self.detail = detail.map(|detail| detail.chars().take(DETAIL_LENGTH_MAX).collect());
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Access").field(&self.0.as_ref().map(|call| &call.request_id)).finish()
    }
}

impl Access {
    fn tell(&self, tell: impl FnOnce(&mut Facts)) {
        if let Some(call) = &self.0 {
            tell(&mut call.facts.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(crate) fn identified(&self, principal: &Principal) {
        self.tell(|facts| {
            facts.tenant = Some(Arc::clone(&principal.tenant().name));
            facts.key = Some(Arc::from(principal.key().to_string()));
        });
    }

    /// How much is asked, and of which model.
    pub(crate) fn asked(&self, model: &str, inputs: usize) {
        self.tell(|facts| {
            facts.model = Some(Arc::from(model));
            facts.inputs = Some(inputs as u64);
        });
    }

    /// How many of the inputs have an error in the place of a result.
    pub(crate) fn refused_inputs(&self, inputs: usize) {
        self.tell(|facts| facts.inputs_refused = (inputs > 0).then_some(inputs as u64));
    }

    /// How many tokens the inputs are.
    pub(crate) fn sized(&self, tokens: usize) {
        self.tell(|facts| facts.tokens = Some(tokens as u64));
    }

    /// How the call ended, which the metrics know too.
    pub(crate) fn ended(&self, error: Option<&ApiError>) {
        self.tell(|facts| {
            facts.end(error);
            facts.is_counted = true;
        });
    }

    /// The caller left before there was an answer; the metrics know.
    pub(crate) fn abandoned(&self) {
        self.tell(|facts| {
            (facts.code, facts.grpc) = (Some(EndCode::Cancelled), Some(Code::Cancelled));
            facts.is_counted = true;
        });
    }

    /// The call was refused before anything counted it.
    pub(crate) fn refused(&self, error: &ApiError) {
        self.tell(|facts| facts.end(Some(error)));
    }

    /// The line of a message of this call, which is a call too.
    pub(crate) fn message(&self, request_id: &Arc<str>) -> Line {
        Line::new(self.0.as_ref().map(|stream| {
            Arc::new(Call {
                log: Arc::clone(&stream.log),
                request_id: Arc::clone(request_id),
                method: stream.method,
                route: Arc::clone(&stream.route),
                is_grpc: stream.is_grpc,
                started: stream.log.clock.now(),
                bytes_in: None,
                facts: Mutex::default(),
            })
        }))
    }
}

/// The status of gRPC that an error has.
fn grpc_code(error: &ApiError) -> Code {
    Code::from_i32(error.row().grpc as i32)
}

/// One line, written when it is dropped.
pub(crate) struct Line {
    call: Option<Arc<Call>>,
    status: Option<StatusCode>,
    bytes_out: u64,
    /// Whether the answer went out whole; none: there is no answer of its own to go out.
    is_sent: Option<bool>,
}

impl Line {
    fn new(call: Option<Arc<Call>>) -> Self {
        Self { call, status: None, bytes_out: 0, is_sent: None }
    }

    fn begin(log: &Arc<AccessLog>, request: &Request) -> Self {
        let headers = request.headers();
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let call = Call {
            log: Arc::clone(log),
            request_id: api::request_id(request.extensions()),
            method: method(request.method()),
            route: route(request),
            is_grpc: protocols::head::is_grpc(headers),
            started: log.clock.now(),
            bytes_in: length.and_then(|length| length.parse().ok()),
            facts: Mutex::default(),
        };
        Self::new(Some(Arc::new(call)))
    }

    pub(crate) fn access(&self) -> Access {
        Access(self.call.clone())
    }

    /// Follows an answer to its end.
    fn follow(mut self, response: Response, is_head: bool) -> Response {
        self.status = Some(response.status());
        let access = self.access();
        if let Some(&ErrorCode(kind)) = response.extensions().get() {
            access.tell(|facts| facts.code = facts.code.or(Some(EndCode::Error(kind))));
        }
        match response.extensions().get::<Status>() {
            Some(status) => take_over(status, &access),
            None => read_status(response.headers(), &access),
        }
        // The answer to HEAD has no body to send.
        self.is_sent = Some(is_head);
        response.map(|inner| Body::new(WatchedBody { inner, line: self }))
    }
}

/// Takes over the status that ends a gRPC call, if it is there.
fn read_status(headers: &HeaderMap, access: &Access) {
    if let Some(status) = Status::from_header_map(headers) {
        take_over(&status, access);
    }
}

/// Takes over the status that ends a gRPC call, with the reason that its caller is given.
fn take_over(status: &Status, access: &Access) {
    let reason = || ErrorKind::of_code(&status.get_details_error_info()?.reason).map(EndCode::Error);
    access.tell(|facts| {
        facts.grpc = Some(status.code());
        facts.code = facts.code.or_else(reason);
    });
}

/// The methods of HTTP by name; whatever else a caller made up is not repeated.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

/// The route as it is declared, so that no caller's text is in it; of gRPC with the name of the method, if it
/// is one of ours.
fn route(request: &Request) -> Arc<str> {
    let Some(route) = request.extensions().get::<MatchedPath>() else { return Arc::from(UNKNOWN) };
    let path = request.uri().path();
    Arc::from(if protocols::grpc::is_method(path) { path } else { route.as_str() })
}

/// The task that a route is for: `other` of routes without, `unknown` of what is no route.
fn task(route: &str) -> &'static str {
    match route {
        UNKNOWN => UNKNOWN,
        route => protocols::operation_of(route).map_or("other", Operation::as_str),
    }
}

/// Begins the line of a request, and follows its answer.
pub(crate) async fn record(State(log): State<Arc<AccessLog>>, mut request: Request, next: Next) -> Response {
    let line = Line::begin(&log, &request);
    let is_head = request.method() == Method::HEAD;
    request.extensions_mut().insert(line.access());
    let response = next.run(request).await;
    line.follow(response, is_head)
}

/// An answer's body, which knows whether it went out whole.
struct WatchedBody {
    inner: Body,
    line: Line,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        match &frame {
            Poll::Ready(None) => self.line.is_sent = Some(true),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.line.bytes_out += data.len() as u64;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    read_status(trailers, &self.line.access());
                    self.line.is_sent = Some(true);
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        // A body whose length is known is not asked for its end.
        if self.inner.is_end_stream() {
            self.line.is_sent = Some(true);
        }
    }
}

/// How a call ended, as its line tells it.
struct Outcome {
    code: EndCode,
    status: Option<u16>,
    grpc: Option<Code>,
    /// Whether the caller left while the answer was on its way.
    is_aborted: bool,
}

impl Outcome {
    fn of(call: &Call, line: &Line, facts: &Facts) -> Self {
        let silent = if line.is_sent == Some(true) { Code::Ok } else { Code::Cancelled };
        let grpc = call.is_grpc.then(|| facts.grpc.unwrap_or(silent));
        // What is refused has a row: what has none is a fault of ours.
        let code = facts.code.unwrap_or(match (grpc, line.status) {
            (Some(Code::Ok), _) => EndCode::Ok,
            (Some(Code::Cancelled), _) | (None, None) => EndCode::Cancelled,
            (None, Some(status)) if !(status.is_client_error() || status.is_server_error()) => EndCode::Ok,
            _ => EndCode::Error(ErrorKind::Internal),
        });
        let status = line.status.map(|status| status.as_u16());
        let status = if call.is_grpc { status } else { status.or(Some(CLIENT_CLOSED_REQUEST)) };
        Self { code, status, grpc, is_aborted: line.is_sent == Some(false) }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let mut facts = call.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = std::mem::take(&mut *facts);
        let outcome = Outcome::of(&call, self, &facts);
        let duration = call.log.clock.now().saturating_duration_since(call.started);
        let protocol = protocols::protocol_of(&call.route, call.is_grpc, call.log.dialects);
        let is_probe = PROBES.contains(&&*call.route);
        if call.log.is_api && !facts.is_counted && !is_probe {
            call.log.telemetry.calls.ended(CallEnd {
                protocol,
                task: task(&call.route),
                model: facts.model.as_deref().unwrap_or_default(),
                code: outcome.code,
                timeliness: Timeliness::Irrelevant,
                duration,
            });
        }
        macro_rules! write_line {
            ($level:expr) => {
                tracing::event!(
                    target: "access",
                    $level,
                    method = call.method,
                    route = &*call.route,
                    protocol,
                    status = outcome.status,
                    grpc_status = outcome.grpc.map(grpc_name),
                    code = outcome.code.as_str(),
                    aborted = outcome.is_aborted.then_some(true),
                    duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3,
                    request_id = &*call.request_id,
                    tenant = facts.tenant.as_deref(),
                    key = facts.key.as_deref(),
                    model = facts.model.as_deref(),
                    inputs = facts.inputs,
                    inputs_refused = facts.inputs_refused,
                    tokens = facts.tokens,
                    bytes_in = call.bytes_in,
                    bytes_out = self.is_sent.map(|_| self.bytes_out),
                    detail = facts.detail.as_deref(),
                    "call"
                )
            };
        }
        if is_probe && outcome.code == EndCode::Ok {
            write_line!(Level::DEBUG);
        } else {
            write_line!(Level::INFO);
        }
    }
}

/// A gRPC status as the protocol names it.
const fn grpc_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_routes() {
        let check = |route: &str, expected: &str| assert_eq!(task(route), expected, "{route}");
        check("/v1/ml/sentiment", "sentiment");
        check("/v1/ml/embeddings", "embeddings");
        check("/ml.inference.v1.InferenceService/Summarize", "summarization");
        check("/ml.inference.v1.InferenceService/{*method}", "other");
        check("/v1/ml/keys/{id}", "other");
        check("unknown", "unknown");
    }

    #[test]
    fn methods_nobody_knows_are_not_repeated() {
        let check = |name: &[u8], expected: &str| {
            let found = Method::from_bytes(name).map(|name| method(&name)).ok();
            assert_eq!(found, Some(expected));
        };
        check(b"PATCH", "PATCH");
        check(b"MYSECRET", "other");
    }
}
