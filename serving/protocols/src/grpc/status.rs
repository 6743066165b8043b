//! Errors as gRPC has them: a status with `google.rpc` details.

use api::{ApiError, Exceeded, GrpcCode, Row};
use axum::http::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::http::limits;

/// An error as a status.
pub fn status(error: &ApiError, request_id: &str) -> Status {
    status_as(error, error.row().grpc, error.to_string(), request_id)
}

/// An error as a status with a dialect's own code and words.
pub fn status_as(error: &ApiError, grpc: GrpcCode, message: String, request_id: &str) -> Status {
    let Row { code, .. } = error.row();
    let mut details = ErrorDetails::new();
    details.set_error_info(code, "ml.inference.v1", std::collections::HashMap::new());
    details.set_request_info(request_id, "");
    details.add_help_link("error codes", api::error::docs_url(code));
    if let Some(retry_after) = error.retry_after() {
        details.set_retry_info(Some(retry_after));
    }
    if let Some(Exceeded { unit, period, .. }) = error.exceeded() {
        let subject = format!("{}/{}", unit.name(), period.name());
        details.add_quota_failure_violation(subject, error.to_string());
    }
    if let Some((field, problem)) = error.field_violation() {
        details.add_bad_request_violation(field, problem);
    }
    let mut metadata = HeaderMap::new();
    limits::show_reached(error, &mut metadata);
    let metadata = MetadataMap::from_headers(metadata);
    Status::with_error_details_and_metadata(Code::from_i32(grpc as i32), message, details, metadata)
}
