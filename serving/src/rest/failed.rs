//! Errors of handlers: a handler says what failed, and one layer makes the answer of it.

use axum::extract::Request;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{body, refuse};
use crate::caller;
use crate::error::{ApiError, ErrorCode};

/// What a handler answers with.
pub(crate) type Answer = Result<Response, Failed>;

/// Why there is no answer. [`explain`] makes the error's envelope of it, which needs the request's id.
#[derive(Clone)]
pub(crate) struct Failed {
    error: ApiError,
    is_logged: bool,
}

impl Failed {
    /// What the log has already.
    pub(super) fn logged(error: ApiError) -> Self {
        Self { error, is_logged: true }
    }
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
pub(crate) async fn explain(request: Request, next: Next) -> Response {
    let request_id = caller::request_id(request.extensions());
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

impl From<PathRejection> for ApiError {
    /// A part of a path that is no text once it is decoded.
    fn from(_: PathRejection) -> Self {
        let problem = "not valid UTF-8 once its percent-encoding is decoded".to_owned();
        Self::InvalidRequest { field: "path".to_owned(), problem }
    }
}
