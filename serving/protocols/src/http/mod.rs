//! What protocols over HTTP share: bodies, their codings, and what is wrong with a caller's JSON or query.

pub mod body;
mod coding;
pub mod dialect;
pub mod explain;
pub mod inputs;
pub mod limits;
mod objects;
pub mod outline;
pub mod target;
pub mod told;
pub mod vectors;
pub mod words;

pub use coding::ACCEPTED as ACCEPTED_CODINGS;

use api::ApiError;
use api::error::ErrorCode;
use axum::response::Response;

/// The answer of a call that failed, in a protocol's form, with the error for the access log and the metrics.
pub fn failed(error: &ApiError, mut response: Response) -> Response {
    response.extensions_mut().insert(ErrorCode(error.kind()));
    response
}
