//! Errors as Cohere has them: an id and a message.

use api::{ApiError, ErrorKind};
use axum::http::StatusCode;
use serde::Serialize;

use crate::http::dialect::{Answer, Dialect};

/// Cohere's API.
pub(crate) struct Cohere;

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    message: String,
    /// Ours: the stable, machine-readable code.
    code: &'static str,
}

impl Dialect for Cohere {
    const PROTOCOL: &'static str = "cohere";
    const MODELS: &'static str = "GET /v1/models";

    fn error(error: &ApiError, request_id: &str) -> Answer {
        let status = status(error.kind());
        let body = Body { id: request_id, message: Self::message(error), code: error.row().code };
        Answer::json(status, &body).unwrap_or_else(|_| Answer::empty(status))
    }
}

/// Cohere's clients have an exception for each of 400, 401, 403, 404, 422, 429, 498 to 501, 503 and 504. What
/// it answers 498 to, a blocked token, is not known here.
fn status(kind: ErrorKind) -> StatusCode {
    kind.row().http
}
