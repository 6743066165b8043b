//! Who is calling and how, before anything is checked.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap, HeaderValue};
use ulid::Ulid;

use crate::body::BodyMeter;

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// One for a request that brings none.
    pub fn new() -> Self {
        Self(Arc::from(format!("req_{}", Ulid::new())))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

/// The id that the server gave a request.
pub fn request_id(extensions: &Extensions) -> Arc<str> {
    extensions.get::<RequestId>().cloned().unwrap_or_default().0
}

/// The caller of a request, as its head says.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Value of the `Authorization` header or metadata entry.
    pub authorization: Option<HeaderValue>,
    /// Id of the request, `req_…` or the caller's own.
    pub request_id: Arc<str>,
    /// The transport, `rest` or `grpc`.
    pub protocol: &'static str,
    /// What bounds the body of the request while it is read.
    pub body: BodyMeter,
    /// What the server knows of the request's connection.
    pub extensions: Extensions,
}

impl Caller {
    /// The caller of a request over `protocol`, from its head.
    pub fn new(headers: &HeaderMap, extensions: Extensions, protocol: &'static str) -> Self {
        Self {
            authorization: headers.get(AUTHORIZATION).cloned(),
            request_id: request_id(&extensions),
            protocol,
            body: extensions.get::<BodyMeter>().cloned().unwrap_or_default(),
            extensions,
        }
    }
}
