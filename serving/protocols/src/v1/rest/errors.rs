//! Errors as REST has them. A handler says what failed, and one layer makes the answer of it.

use api::error::{ErrorCode, docs_url};
use api::tasks::InputError;
use api::{ApiError, request_id};
use axum::Json;
use axum::extract::Request;
use axum::extract::rejection::PathRejection;
use axum::http::header::{ACCEPT_ENCODING, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::{self, ACCEPTED_CODINGS, body, limits};

/// What a handler answers with.
pub type Answer = Result<Response, Failed>;

/// Why there is no answer. [`explain`] makes the error's envelope of it, which needs the request's id.
#[derive(Clone)]
pub struct Failed {
    error: ApiError,
    is_logged: bool,
}

impl Failed {
    /// What the log has already.
    pub fn logged(error: ApiError) -> Self {
        Self { error, is_logged: true }
    }
}

/// A part of a path that is no text once it is decoded.
pub fn bad_path(_: PathRejection) -> ApiError {
    let problem = "not valid UTF-8 once its percent-encoding is decoded".to_owned();
    ApiError::InvalidRequest { field: "path".to_owned(), problem }
}

impl<E: Into<ApiError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { error: error.into(), is_logged: false }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Answers for handlers that failed.
pub async fn explain(request: Request, next: Next) -> Response {
    let request_id = request_id(request.extensions());
    let response = next.run(request).await;
    let Some(Failed { error, is_logged }) = response.extensions().get::<Failed>() else {
        return in_our_form(response, &request_id);
    };
    if let Some(detail) = error.log_detail().filter(|_| !is_logged) {
        tracing::error!(%request_id, code = error.row().code, detail, "request failed");
    }
    refuse(error, &request_id)
}

/// Whatever else refuses, such as an extractor whose text nobody here wrote, does it in our form too.
fn in_our_form(response: Response, request_id: &str) -> Response {
    let extensions = response.extensions();
    let is_ours = extensions.get::<ErrorCode>().is_some() || extensions.get::<tonic::Status>().is_some();
    // Of what handlers extract by themselves: bodies are read by hand.
    let (field, problem) =
        ("path or query".to_owned(), "not valid once its percent-encoding is decoded".to_owned());
    let error = match response.status() {
        _ if is_ours => return response,
        StatusCode::NOT_FOUND => ApiError::RouteNotFound,
        StatusCode::METHOD_NOT_ALLOWED => ApiError::MethodNotAllowed,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::UnsupportedMediaType { expected: body::MEDIA_TYPE },
        status if status.is_client_error() => ApiError::InvalidRequest { field, problem },
        status if status.is_server_error() => ApiError::internal(status),
        _ => return response,
    };
    refuse(&error, request_id)
}

/// An error as a REST response.
pub fn refuse(error: &ApiError, request_id: &str) -> Response {
    let status = error.row().http;
    let mut response = http::failed(error, (status, Json(Envelope::of(error, request_id))).into_response());
    let headers = response.headers_mut();
    if matches!(error, ApiError::UnsupportedContentEncoding) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED_CODINGS));
    }
    limits::show_refused(error, headers);
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// An error as documents tell it: its status and its body.
pub fn form(error: &ApiError, request_id: &str) -> (StatusCode, serde_json::Value) {
    let body = serde_json::to_value(Envelope::of(error, request_id));
    (error.row().http, body.unwrap_or_default())
}

/// Error body of the platform's REST APIs.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    error: EnvelopeError<'a>,
}

/// The inside of an [`Envelope`].
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InputFault")]
pub(super) struct EnvelopeError<'a> {
    /// Stable, machine-readable code.
    code: &'static str,
    /// What is wrong, for a person.
    message: String,
    /// The call's id; none in the error of one input.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    /// Where the code is explained.
    docs_url: String,
}

impl<'a> Envelope<'a> {
    fn of(error: &ApiError, request_id: &'a str) -> Self {
        Self { error: EnvelopeError::of(error, Some(request_id)) }
    }
}

impl<'a> EnvelopeError<'a> {
    fn of(error: &ApiError, request_id: Option<&'a str>) -> Self {
        let code = error.row().code;
        Self { code, message: error.to_string(), request_id, docs_url: docs_url(code) }
    }

    /// The error of one input, in the place of its result.
    pub(super) fn of_input(error: InputError) -> Self {
        Self::of(&ApiError::Input(error), None)
    }
}
