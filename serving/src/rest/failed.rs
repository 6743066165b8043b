//! Errors of handlers: a handler says what failed, and one layer makes the answer of it.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refuse;
use crate::caller;
use crate::error::ApiError;

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
    let Some(Failed { error, is_logged }) = response.extensions().get::<Failed>() else { return response };
    if let Some(detail) = error.log_detail().filter(|_| !is_logged) {
        tracing::error!(%request_id, code = error.row().code, detail, "request failed");
    }
    refuse(error, &request_id)
}
