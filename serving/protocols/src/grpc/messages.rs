//! The messages of a call's body as gRPC frames them: a flag, a length, and so many bytes
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Length-Prefixed-Message").

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::body::LONG_BYTES;
use api::{ApiError, BodyMeter, CallStream};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State as Given};
use axum::http::{Extensions, HeaderMap};
use axum::middleware::Next;
use axum::response::Response;
use flate2::read::{GzDecoder, ZlibDecoder};
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::message::GRPC_ENCODING;

/// Bytes before a message.
const HEAD_BYTES: usize = 5;
/// Most bytes that one byte of gzip or deflate becomes (<https://zlib.net/zlib_tech.html>, "Maximum
/// Compression Factor").
const EXPANSION_MAX: usize = 1032;

/// What comes before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    flag: u8,
    length: usize,
}

impl Head {
    fn of([flag, length @ ..]: [u8; HEAD_BYTES]) -> Self {
        Self { flag, length: u32::from_be_bytes(length) as usize }
    }
}

fn invalid(problem: impl Into<String>) -> ApiError {
    ApiError::InvalidRequest { field: "message".to_owned(), problem: problem.into() }
}

/// How the messages of a call are compressed that are.
#[derive(Debug, Clone, Copy)]
enum Compression {
    Gzip,
    Deflate,
}

impl Compression {
    /// What the metadata name; what is not understood was refused before ([`super::form`]).
    fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(GRPC_ENCODING)?.as_bytes() {
            b"gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// Decompresses a message, which then has `bytes_max` bytes at most.
    fn expand(self, message: &[u8], bytes_max: usize) -> Result<Vec<u8>, ApiError> {
        let (mut expanded, limit) = (Vec::new(), bytes_max as u64 + 1);
        let (read, name): (io::Result<usize>, _) = match self {
            Self::Gzip => (GzDecoder::new(message).take(limit).read_to_end(&mut expanded), "gzip"),
            Self::Deflate => (ZlibDecoder::new(message).take(limit).read_to_end(&mut expanded), "deflate"),
        };
        read.map_err(|_| invalid(format!("it is not valid {name}")))?;
        if expanded.len() > bytes_max {
            Err(ApiError::BodyTooLarge { limit: bytes_max })
        } else {
            Ok(expanded)
        }
    }
}

/// The body of a call whose service reads its messages itself, in the request's extensions.
#[derive(Clone)]
struct SetAside(Arc<Mutex<Option<Body>>>);

/// Middleware that gives the body of a method's calls to its service as it is: tonic's reader keeps room for
/// the largest message of a stream for as long as the stream lasts, and waits for none.
pub async fn set_aside(Given(of): Given<&'static str>, mut request: Request, next: Next) -> Response {
    if method(&request) == of {
        let body = std::mem::take(request.body_mut());
        request.extensions_mut().insert(SetAside(Arc::new(Mutex::new(Some(body)))));
    }
    next.run(request).await
}

/// The method that a call is for.
pub(super) fn method(request: &Request) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}

/// The messages of a stream, read one at a time. Each waits for room in its tenant's shares of unread answers
/// and of the bytes of bodies before anything of it but its length is read; meanwhile HTTP/2 flow control
/// holds the sender back.
pub struct Messages {
    body: Body,
    meter: BodyMeter,
    stream: Arc<dyn CallStream>,
    compression: Option<Compression>,
    /// Longest message, in bytes.
    bytes_max: usize,
    /// Time for a message to arrive once there is room for it.
    patience: Duration,
    /// Has come, and was not looked at yet.
    chunk: Bytes,
    state: State,
}

enum State {
    Between,
    Waiting { head: Head, room: BoxFuture<'static, Result<(), ApiError>> },
    Begun { head: Head, bytes: Vec<u8>, due: Instant },
}

impl Messages {
    /// Of a call whose body was [`set_aside`].
    pub fn new(
        headers: &HeaderMap,
        extensions: &Extensions,
        meter: BodyMeter,
        stream: Arc<dyn CallStream>,
    ) -> Self {
        let aside = extensions.get::<SetAside>();
        let body = aside.and_then(|aside| aside.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (compression, bounds) = (Compression::of(headers), stream.bounds());
        let (bytes_max, patience) = (bounds.message_bytes_max, bounds.message_timeout);
        let (body, chunk) = (body.unwrap_or_default(), Bytes::new());
        Self { body, meter, stream, compression, bytes_max, patience, chunk, state: State::Between }
    }

    /// Whether a message has begun: it is read to its end, or what it has taken would keep others waiting.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// The next message; none if there are no more. What is dropped goes on where it was. Its bytes are
    /// charged to the stream until its call has a place ([`CallStream::next_call`]).
    ///
    /// # Errors
    /// It is too large, not what it should be, or does not come in time.
    pub async fn next<Q: prost::Message + Default>(&mut self) -> Result<Option<Q>, ApiError> {
        loop {
            match &mut self.state {
                State::Between => match self.head()? {
                    Some(head) => {
                        self.state = State::Waiting { head, room: self.room(head) };
                    }
                    None if self.fill().await? => {}
                    None if self.chunk.is_empty() => return Ok(None),
                    None => return Err(invalid("it ends too soon")),
                },
                State::Waiting { head, room } => {
                    room.await?;
                    let (head, bytes) = (*head, Vec::with_capacity(head.length));
                    self.state = State::Begun { head, bytes, due: Instant::now() + self.patience };
                }
                State::Begun { head, bytes, due } => {
                    let count = (head.length - bytes.len()).min(self.chunk.len());
                    bytes.extend_from_slice(&self.chunk.split_to(count));
                    if bytes.len() == head.length {
                        let (head, bytes) = (*head, std::mem::take(bytes));
                        self.state = State::Between;
                        let is_long = head.flag == 1 || bytes.len() >= LONG_BYTES;
                        let decode = || self.decode(head, bytes).map(Some);
                        // Others of this thread go on elsewhere.
                        return if is_long { tokio::task::block_in_place(decode) } else { decode() };
                    }
                    let due = *due;
                    match timeout_at(due, self.fill()).await {
                        Ok(Ok(true)) => {}
                        Ok(Ok(false)) => return Err(invalid("it ends too soon")),
                        Ok(Err(error)) => return Err(error),
                        Err(_) => return Err(ApiError::BodyIncomplete),
                    }
                }
            }
        }
    }

    /// What comes before the next message, once it is there.
    fn head(&mut self) -> Result<Option<Head>, ApiError> {
        let Some(bytes) = self.chunk.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let head = Head::of(*bytes);
        match (head.flag, self.compression) {
            (0, _) | (1, Some(_)) => {}
            (1, None) => return Err(invalid("it is compressed, and the call names no grpc-encoding")),
            _ => return Err(invalid("its first byte is neither 0 nor 1")),
        }
        if head.length > self.bytes_max {
            return Err(ApiError::BodyTooLarge { limit: self.bytes_max });
        }
        let _ = self.chunk.split_to(HEAD_BYTES);
        Ok(Some(head))
    }

    /// Waits until there is room for a message, and for its answer.
    fn room(&self, Head { flag, length }: Head) -> BoxFuture<'static, Result<(), ApiError>> {
        let bytes = if flag == 0 { length } else { length.saturating_mul(EXPANSION_MAX).min(self.bytes_max) };
        Arc::clone(&self.stream).room(bytes)
    }

    /// Takes more of the body; false if there is no more.
    async fn fill(&mut self) -> Result<bool, ApiError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| self.meter.fault().unwrap_or(ApiError::BodyIncomplete))?;
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) if self.chunk.is_empty() => {
                    self.chunk = data;
                    return Ok(true);
                }
                // Less than a head was left.
                Ok(data) => {
                    self.chunk = [&*self.chunk, &*data].concat().into();
                    return Ok(true);
                }
                Err(_trailers) => {}
            }
        }
        Ok(false)
    }

    fn decode<Q: prost::Message + Default>(&self, head: Head, bytes: Vec<u8>) -> Result<Q, ApiError> {
        let bytes = match self.compression.filter(|_| head.flag == 1) {
            Some(compression) => compression.expand(&bytes, self.bytes_max)?,
            None => bytes,
        };
        Q::decode(bytes.as_slice()).map_err(|error| invalid(format!("invalid message: {error}")))
    }
}

/// The body of a call that has one message.
pub(super) struct OneMessage {
    body: Body,
    part: Part,
}

/// What comes next.
#[derive(Debug)]
enum Part {
    Head { bytes: [u8; HEAD_BYTES], filled: usize },
    Message { left: usize },
}

impl OneMessage {
    pub(super) fn new(body: Body) -> Self {
        Self { body, part: Part::Head { bytes: [0; HEAD_BYTES], filled: 0 } }
    }

    /// Whether what comes belongs to the one message.
    fn takes(&mut self, mut data: &[u8]) -> bool {
        if let Part::Head { bytes, filled } = &mut self.part {
            let (head, rest) = data.split_at((HEAD_BYTES - *filled).min(data.len()));
            for (place, byte) in bytes.iter_mut().skip(*filled).zip(head) {
                *place = *byte;
            }
            *filled += head.len();
            data = rest;
            if *filled == HEAD_BYTES {
                self.part = Part::Message { left: Head::of(*bytes).length };
            }
        }
        match &mut self.part {
            Part::Message { left } => left.checked_sub(data.len()).map(|less| *left = less).is_some(),
            Part::Head { .. } => true,
        }
    }
}

impl HttpBody for OneMessage {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let problem = match &frame {
            Some(Ok(frame)) if frame.data_ref().is_some_and(|data| !self.takes(data)) => {
                "expected one, got several"
            }
            None if matches!(self.part, Part::Head { filled: 0, .. }) => "expected one, got none",
            _ => return Poll::Ready(frame),
        };
        Poll::Ready(Some(Err(axum::Error::new(Status::invalid_argument(problem)))))
    }

    fn is_end_stream(&self) -> bool {
        // Only after a look at whether a message has come.
        self.body.is_end_stream() && matches!(self.part, Part::Message { .. })
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use api::{HeldAnswerBytes, NextCall, StreamBounds};
    use axum::http::HeaderValue;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use futures_util::FutureExt;
    use prost::Message;
    use proto::v1::GetModelRequest;

    use super::*;

    /// A stream with room for everything of up to 1000 bytes.
    struct Roomy;

    impl CallStream for Roomy {
        fn room(self: Arc<Self>, _: usize) -> BoxFuture<'static, Result<(), ApiError>> {
            std::future::ready(Ok(())).boxed()
        }

        fn next_call(&self, _: usize) -> Option<NextCall> {
            None
        }

        fn freed(&self) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }

        fn stopping(&self) -> BoxFuture<'_, ()> {
            std::future::pending().boxed()
        }

        fn waiting(&self) -> Box<dyn HeldAnswerBytes> {
            unreachable!("no answer waits")
        }

        fn bounds(&self) -> StreamBounds {
            let message_timeout = Duration::from_secs(600);
            StreamBounds { calls_max: 1, answer_bytes_max: 1, message_bytes_max: 1000, message_timeout }
        }
    }

    fn request(name: &str) -> Vec<u8> {
        GetModelRequest { name: name.to_owned() }.encode_to_vec()
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    fn body(pieces: Vec<Vec<u8>>) -> Body {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        Body::from_stream(futures_util::stream::iter(pieces))
    }

    fn compressed(compression: Compression, message: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::best();
        match compression {
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(message).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(message).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// The names that are read of a body, and the code of the error at its end, however the body is cut.
    #[test]
    fn messages_of_a_stream() {
        let check = |encoding: &str, sent: &[u8], names: &[&str], code: Option<&str>| {
            for size in [1, 2, 4, 5, 6, 7, 100, 1 << 20] {
                let mut headers = HeaderMap::new();
                headers.insert(GRPC_ENCODING, HeaderValue::from_str(encoding).unwrap());
                let mut extensions = Extensions::new();
                let pieces = sent.chunks(size).map(<[u8]>::to_vec).collect();
                extensions.insert(SetAside(Arc::new(Mutex::new(Some(body(pieces))))));
                let meter = BodyMeter::default();
                let mut messages = Messages::new(&headers, &extensions, meter, Arc::new(Roomy));
                let mut found = Vec::new();
                let ended = loop {
                    match messages.next::<GetModelRequest>().now_or_never().unwrap() {
                        Ok(Some(message)) => found.push(message.name),
                        Ok(None) => break None,
                        Err(error) => break Some(error.row().code),
                    }
                };
                assert_eq!(ended, code, "{encoding}, {sent:?} by {size}");
                assert_eq!(found, names, "{encoding}, {sent:?} by {size}");
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let [one, two] = ["one", "two"].map(|name| framed(0, &request(name)));
        let empty = framed(0, &[]);
        check("identity", &[], &[], None);
        check("identity", &[&*one, &two, &empty].concat(), &["one", "two", ""], None);
        let long = "x".repeat(995);
        check("identity", &framed(0, &request(&long)), &[&long], None);
        check("identity", &[&*one, &framed(0, &[0; 1001])].concat(), &["one"], Some("body_too_large"));
        check("identity", &[&*one, &two[..4]].concat(), &["one"], Some("invalid_request"));
        check("identity", &[&*one, &two[..7]].concat(), &["one"], Some("invalid_request"));
        check("identity", &[&*one, &framed(0, b"\xff\xff")].concat(), &["one"], Some("invalid_request"));
        check("identity", &framed(2, &request("one")), &[], Some("invalid_request"));
        check("identity", &framed(1, &request("one")), &[], Some("invalid_request"));
        for (name, compression) in [("gzip", Compression::Gzip), ("deflate", Compression::Deflate)] {
            let sent = |name: &str| framed(1, &compressed(compression, &request(name)));
            check(name, &[&*sent("one"), &two, &sent(&long)].concat(), &["one", "two", &long], None);
            check(name, &sent(&"x".repeat(998)), &[], Some("body_too_large"));
            check(name, &sent(&"x".repeat(1 << 24)), &[], Some("body_too_large"));
            check(name, &framed(1, b"nothing"), &[], Some("invalid_request"));
            let cut = compressed(compression, &request("one"));
            check(name, &framed(1, &cut[..cut.len() - 5]), &[], Some("invalid_request"));
        }
    }

    #[test]
    fn one_message_and_no_other() {
        let check = |sent: &[u8], expected: Result<(), &str>| {
            for size in [1, 3, 5, 6, 100] {
                let pieces: Vec<_> = sent.chunks(size).map(<[u8]>::to_vec).collect();
                let read = OneMessage::new(body(pieces)).collect().now_or_never().unwrap();
                let found = read.map(|read| assert_eq!(read.to_bytes(), sent));
                let found = found.map_err(|error| error.to_string());
                assert_eq!(found.is_ok(), expected.is_ok(), "{sent:?} by {size}: {found:?}");
                if let (Err(found), Err(expected)) = (found, expected) {
                    assert!(found.contains(expected), "{found}");
                }
            }
        };
        let one = framed(0, b"abc");
        check(&one, Ok(()));
        check(&framed(0, b""), Ok(()));
        // Who reads it says what is wrong with half a message.
        check(&one[..4], Ok(()));
        check(&one[..7], Ok(()));
        check(&[], Err("expected one, got none"));
        check(&[&*one, &one].concat(), Err("expected one, got several"));
        check(&[&*one, &[0]].concat(), Err("expected one, got several"));
    }
}
