//! Who is calling, as a request's connection shows it, and the id that every request has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use api::RequestId;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::HOST;
use axum::http::{Extensions, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use router::Peer;

use crate::tls::ServiceId;

/// Echoed on every response; taken from the request if it brings a usable one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id accepted from a caller, in bytes.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// The host that a request asked for, in its extensions.
#[derive(Debug, Clone)]
struct AskedHost(Option<Arc<str>>);

/// Gives every request an id and every response the same, whatever the protocol. Once, however many layers
/// ask for it.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<RequestId>().is_some() {
        return next.run(request).await;
    }
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_usable(id))
        .map_or_else(RequestId::new, |id| RequestId(Arc::from(id)));
    let host = asked_host(&request);
    request.extensions_mut().insert(AskedHost(host));
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// `:authority` of HTTP/2 and of absolute targets, or else the `Host` header.
fn asked_host(request: &Request) -> Option<Arc<str>> {
    if let Some(authority) = request.uri().authority() {
        return Some(Arc::from(authority.as_str()));
    }
    request.headers().get(HOST).map(|host| Arc::from(String::from_utf8_lossy(host.as_bytes())))
}

/// The other end of the connection that a request came over.
pub(crate) fn peer(extensions: &Extensions) -> Peer {
    // A request without an address came from no network.
    let address = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let service = extensions.get::<ServiceId>().map(|id| Arc::clone(&id.0));
    let host = extensions.get::<AskedHost>().and_then(|host| host.0.clone());
    Peer { address, service, host }
}

fn is_usable(id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    !id.is_empty() && id.len() <= REQUEST_ID_LENGTH_MAX && id.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_callers() {
        let check = |id: &str, expected: bool| assert_eq!(is_usable(id), expected, "{id:?}");
        check("req_01ABC", true);
        check("a-b.c:d_e", true);
        check("", false);
        check("a b", false);
        check("a\"b", false);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
    }
}
