//! Who is calling and how, before anything is checked.

use std::sync::{Arc, OnceLock};

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

/// Who a caller turns out to be: known once its credentials were looked at, to whoever has put this into the
/// extensions of its request. It tells callers apart, and is not to be shown.
#[derive(Debug, Clone, Default)]
pub struct Identity(Arc<OnceLock<Arc<str>>>);

impl Identity {
    /// Of the caller of a request with these extensions.
    pub fn to_be_known(extensions: &mut Extensions) -> Self {
        let identity = Self::default();
        extensions.insert(identity.clone());
        identity
    }

    /// It is known: those who share limits are one. The first one to say so counts.
    pub fn set(&self, name: &Arc<str>) {
        // A request has one caller.
        let _ = self.0.set(Arc::clone(name));
    }

    /// It, if it is known.
    pub fn known(&self) -> Option<Arc<str>> {
        self.0.get().cloned()
    }
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

const API_KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

impl Caller {
    /// The caller of a request over the dialect `protocol` of another server, whose clients also send the key
    /// without the word before it, or in a header of its own.
    pub fn of_dialect(headers: &HeaderMap, extensions: Extensions, protocol: &'static str) -> Self {
        let caller = Self::new(headers, extensions, protocol);
        let is_bare = |value: &&HeaderValue| value.as_bytes().starts_with(b"tc_");
        let bare = match &caller.authorization {
            Some(value) => Some(value).filter(is_bare),
            None => API_KEY_HEADERS.iter().find_map(|name| headers.get(*name)),
        };
        let bearer = bare.and_then(|key| HeaderValue::try_from([b"Bearer ", key.as_bytes()].concat()).ok());
        Self { authorization: bearer.or(caller.authorization), ..caller }
    }

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
