//! One connection, from the first byte to the last: its version, its requests, and how long it may do
//! nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::BodyMeter;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, CONTENT_ENCODING, EXPECT};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version as HttpVersion,
};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tower::Service;

use super::account::Account;
use super::activity::{Activity, Verdict};
use super::answer::{AnswerBody, InFlight};
use super::head::Unread;
use super::io::{self as wire, Socket, Version, Wire};
use super::metered_body::MeteredBody;
use super::port::Port;
use super::request_body::RequestBody;
use super::seats::ConnectionSeat;
use super::unparsed::{Refusals, UnparsedMark};
use crate::tls::ServiceId;

/// How long a connection that has asked nothing is kept once nothing more is accepted.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How long one that has been answered is kept then: over HTTP/2 the end takes an answer of the peer's, which
/// may be gone.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often a connection that may be told to go elsewhere is looked at: over HTTP/2 that takes a first
/// request.
const LEAVING_EVERY: Duration = Duration::from_millis(100);

/// The other end of a connection, as its requests know it.
struct Peer {
    port: Arc<Port>,
    standing: Arc<ConnectionSeat>,
    address: SocketAddr,
    service: Option<ServiceId>,
    activity: Arc<Activity>,
}

/// Serves a connection to its end, and returns why it ended.
pub(super) async fn serve(
    port: Arc<Port>,
    standing: Arc<ConnectionSeat>,
    stream: TcpStream,
    address: SocketAddr,
) -> &'static str {
    let began = Instant::now();
    let deadline = began + port.protocol.patience.header;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the socket was closed at once");
    }
    let socket = Socket::new(stream);
    let Some(tls) = &port.tls else {
        let mut stream = socket.clone();
        return match beginning(&port, deadline, wire::version(&mut stream)).await {
            None => "header_timeout",
            Some(Err(_)) => "broken",
            Some(Ok(None)) => "closed",
            Some(Ok(Some((version, head)))) => {
                let peer = Peer::new(port, standing, (address, None), version, began);
                peer.supervise(stream, head, version, Some(&socket)).await
            }
        };
    };
    let handshake = async {
        let (mut stream, service) = tls.accept(socket).await?;
        let version = wire::version(&mut stream).await?;
        Ok::<_, io::Error>((stream, service, version))
    };
    match beginning(&port, deadline, handshake).await {
        None => "header_timeout",
        Some(Err(_)) => "broken",
        Some(Ok((_, _, None))) => "closed",
        Some(Ok((stream, service, Some((version, head))))) => {
            let peer = Peer::new(Arc::clone(&port), standing, (address, service), version, began);
            // The end of what is encrypted cannot be seen on the socket.
            peer.supervise(stream, head, version, None).await
        }
    }
}

/// What a connection begins with; none if it does not come in time.
async fn beginning<T>(port: &Port, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let last_call = async {
        port.drain.stopping.cancelled().await;
        sleep(LAST_CALL).await;
    };
    tokio::select! {
        begun = future => Some(begun),
        () = sleep_until(deadline) => None,
        () = last_call => None,
    }
}

/// When a connection is looked at next, and what it has been told.
struct Watch {
    next: Instant,
    is_draining: bool,
    is_half_closed: bool,
    is_leaving: bool,
    /// That it should go elsewhere. HTTP/1 is told with each answer.
    is_told: bool,
    /// When one that was told that it is idle is closed.
    idle_until: Option<Instant>,
}

/// What becomes of a connection that was looked at.
enum Look {
    Close(&'static str),
    SayGoodbye,
    Wait,
}

impl Watch {
    fn new(version: Version) -> Self {
        Self {
            next: Instant::now(),
            is_draining: false,
            is_half_closed: false,
            is_leaving: false,
            is_told: version == Version::Http1,
            idle_until: None,
        }
    }

    /// Looks at a connection whose time has come.
    fn look(&mut self, now: Instant, activity: &Activity, header_timeout: Duration) -> Look {
        if self.is_draining && (activity.is_fresh() || activity.is_idle(now, GOODBYE)) {
            return Look::Close("closed");
        }
        // One that comes now is answered first, or its peer would come again for ever.
        let mut look = Look::Wait;
        if self.is_leaving && !self.is_told && !activity.is_fresh() {
            self.is_told = true;
            look = Look::SayGoodbye;
        }
        let latest = if self.is_leaving && !self.is_told { LEAVING_EVERY } else { GOODBYE };
        if self.idle_until.is_some_and(|until| until <= now) {
            return Look::Close("idle");
        }
        match activity.verdict(now) {
            Verdict::Close(reason) => return Look::Close(reason),
            Verdict::Wait(until) if self.is_leaving => self.next = until.min(now + latest),
            Verdict::Wait(until) => self.next = until,
            Verdict::Idle if self.idle_until.is_none() => {
                // HTTP/2 says goodbye first, which takes an answer of the peer's.
                look = Look::SayGoodbye;
                let until = now + header_timeout;
                (self.idle_until, self.next) = (Some(until), until);
            }
            Verdict::Idle => self.next = self.idle_until.unwrap_or(now),
        }
        look
    }
}

impl Peer {
    fn new(
        port: Arc<Port>,
        standing: Arc<ConnectionSeat>,
        (address, service): (SocketAddr, Option<ServiceId>),
        version: Version,
        began: Instant,
    ) -> Self {
        let activity = Arc::new(Activity::new(port.protocol.patience, version == Version::Http1, began));
        standing.follow(&activity);
        Self { port, standing, address, service, activity }
    }

    /// Serves requests until the connection ends. With a socket, an HTTP/1 peer may close its sending side
    /// and still be answered.
    async fn supervise<S>(
        self,
        stream: S,
        head: axum::body::Bytes,
        version: Version,
        socket: Option<&Socket>,
    ) -> &'static str
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (port, activity) = (Arc::clone(&self.port), Arc::clone(&self.activity));
        let socket = socket.filter(|_| version == Version::Http1);
        let mut builder = match version {
            Version::Http1 => port.protocol.http1.clone(),
            Version::Http2 => port.protocol.http2.clone(),
        };
        builder.http1().half_close(socket.is_some());
        let peer = Arc::new(self);
        let refusals = (version == Version::Http1).then(|| {
            let peer = Arc::clone(&peer);
            Refusals::new(Box::new(move |status| Box::pin(refuse(Arc::clone(&peer), status))))
        });
        let service = service_fn(move |request| answer(Arc::clone(&peer), request));
        let wire = Wire::new(stream, head, Arc::clone(&activity), port.protocol.patience.write);
        let wire = wire.with_refusals(refusals);
        let connection = builder.serve_connection(TokioIo::new(wire), service);
        tokio::pin!(connection);

        let mut watch = Watch::new(version);
        loop {
            let half_closed = async {
                match socket {
                    Some(socket) => socket.half_closed(|| activity.is_busy()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The connection first: whether it is busy decides who looks at the socket.
                biased;
                result = connection.as_mut() => return match result {
                    Ok(()) => "closed",
                    Err(error) if is_malformed(&*error) => "malformed",
                    Err(_) => "broken",
                },
                () = port.drain.kill.cancelled() => return "drain_timeout",
                () = port.drain.stopping.cancelled(), if !watch.is_draining => {
                    watch.is_draining = true;
                    activity.stopping();
                    // Whoever has come and not asked yet is answered, and told with the answer.
                    if version == Version::Http2 || !activity.is_fresh() {
                        connection.as_mut().graceful_shutdown();
                    }
                    watch.next = Instant::now() + LAST_CALL;
                }
                () = port.drain.leaving.cancelled(), if !watch.is_leaving => {
                    watch.is_leaving = true;
                    watch.next = Instant::now();
                }
                result = half_closed, if !watch.is_half_closed => match result {
                    Ok(()) => {
                        watch.is_half_closed = true;
                        activity.half_closed(Instant::now());
                        watch.next = Instant::now();
                    }
                    Err(_) => return "broken",
                },
                () = sleep_until(watch.next) => {
                    match watch.look(Instant::now(), &activity, port.protocol.patience.header) {
                        Look::Close(reason) => return reason,
                        Look::SayGoodbye => connection.as_mut().graceful_shutdown(),
                        Look::Wait => {}
                    }
                }
            }
        }
    }

    /// Whether too much waits for this peer to begin anything that makes it more.
    fn is_unread(&self) -> bool {
        self.activity.unread_bytes() > self.port.protocol.unread_bytes_max
    }
}

async fn answer(peer: Arc<Peer>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
    let is_unread = peer.is_unread();
    let in_flight = InFlight::new(&peer.activity);
    let account = Account::new(&peer.standing, &peer.port.unread);
    let is_compressed = is_compressed(request.headers());
    let meter = BodyMeter::within(peer.port.protocol.body_timeout, is_compressed);
    let is_http1 = request.version() < HttpVersion::HTTP_2;
    let is_asked_for = request.headers().contains_key(EXPECT);
    let (head, body) = request.into_parts();
    let body = RequestBody::new(body);
    let metered = axum::body::Body::new(MeteredBody::new(
        body.clone(),
        meter.clone(),
        peer.port.drain.stopping.clone(),
    ));
    let mut request = Request::from_parts(head, metered);
    let extensions = request.extensions_mut();
    extensions.insert(meter);
    extensions.insert(account.clone());
    extensions.insert(ConnectInfo(peer.address));
    if let Some(service) = &peer.service {
        extensions.insert(service.clone());
    }
    if is_unread {
        extensions.insert(Unread);
    }
    let Ok(mut response) = peer.port.routes.current().call(request).await;
    // With the rest of a body on it the connection cannot be used again. To read what was not asked for yet
    // would ask for it.
    let ends = is_http1
        && (peer.port.drain.leaving.is_cancelled()
            || if is_asked_for { !body.is_end_stream() } else { !body.finish().await });
    if ends {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let response = response.map(|body| AnswerBody::new(body, &account, in_flight));
    if peer.port.unread.is_anonymous_over() {
        peer.port.seats.end_least_read();
    }
    Ok(response)
}

/// Whether a body, or the messages in it, are declared as compressed.
fn is_compressed(headers: &HeaderMap) -> bool {
    let codings = [CONTENT_ENCODING, HeaderName::from_static("grpc-encoding")];
    codings.iter().flat_map(|name| headers.get_all(name)).any(|coding| coding != "identity")
}

/// Answers what could not be parsed, for which hyper has a status: by a request that stands for it.
async fn refuse(peer: Arc<Peer>, status: StatusCode) -> axum::response::Response {
    let mut request = Request::new(axum::body::Body::empty());
    // Of no path, so that no dialect answers in its form.
    *request.uri_mut() = Uri::from_static("*");
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(peer.address));
    extensions.insert(UnparsedMark(status));
    let Ok(response) = peer.port.routes.current().call(request).await;
    response
}

/// Whether a connection ended because what came is not HTTP/1.
fn is_malformed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}
