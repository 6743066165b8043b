//! What hyper refuses by itself, because it is no HTTP request: the bare head that hyper answers with is held
//! back, and what goes out in its place is the answer of our own routes, so that there is an envelope, an id
//! and a line in the access log.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;

/// Longest head that hyper makes, in bytes.
const AUTOMATIC_BYTES_MAX: usize = 256;
/// Longest body of a refusal, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Marks the request that stands for one that could not be parsed, with the status that hyper has for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnparsedMark(pub(super) StatusCode);

type MakeAnswer = Box<dyn Fn(StatusCode) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send>;

/// Answers in hyper's place.
pub(super) struct Refusals {
    make: MakeAnswer,
    answer: Option<Answer>,
}

enum Answer {
    Making(Pin<Box<dyn Future<Output = Bytes> + Send>>),
    Made(Bytes),
}

/// A head of hyper's own at the end of what is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Automatic {
    status: StatusCode,
    date: String,
    pub(super) length: usize,
}

impl Refusals {
    pub(super) fn new(make: MakeAnswer) -> Self {
        Self { make, answer: None }
    }

    /// What is left to be written in the place of `automatic`.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, automatic: &Automatic) -> Poll<&mut Bytes> {
        let answer = self.answer.get_or_insert_with(|| {
            let (response, date) = ((self.make)(automatic.status), automatic.date.clone());
            Answer::Making(Box::pin(async move { written(response.await, &date).await }))
        });
        if let Answer::Making(making) = answer {
            match making.as_mut().poll(context) {
                Poll::Ready(bytes) => *answer = Answer::Made(bytes),
                Poll::Pending => return Poll::Pending,
            }
        }
        match answer {
            Answer::Made(bytes) => Poll::Ready(bytes),
            Answer::Making(_) => Poll::Pending,
        }
    }
}

impl Automatic {
    /// Finds a head that hyper made by itself. All of ours say more.
    pub(super) fn find(slices: &[IoSlice<'_>]) -> Option<Self> {
        let last = slices.iter().rev().find(|slice| !slice.is_empty())?;
        if !last.ends_with(b"\r\n\r\n") {
            return None;
        }
        let tail = last.get(last.len().saturating_sub(AUTOMATIC_BYTES_MAX)..)?;
        let start = tail.windows(9).rposition(|window| window == b"HTTP/1.1 ")?;
        let head = std::str::from_utf8(tail.get(start..)?).ok()?;
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let is_refused = [400, 414, 431].contains(&status);
        let (mut date, mut is_empty) = (None, false);
        for line in lines {
            match line.split_once(": ")? {
                ("content-length", "0") => is_empty = true,
                ("connection", "close") => {}
                ("date", value) => date = Some(value.to_owned()),
                _ => return None,
            }
        }
        let status = StatusCode::from_u16(status).ok().filter(|_| is_refused && is_empty)?;
        Some(Self { status, date: date.unwrap_or_default(), length: head.len() })
    }
}

/// An answer as HTTP/1.1 has it, after which the connection ends.
async fn written(response: Response, date: &str) -> Bytes {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    if !head.headers.contains_key(axum::http::header::CONTENT_LENGTH) {
        text.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    text.extend_from_slice(format!("connection: close\r\ndate: {date}\r\n\r\n").as_bytes());
    text.extend_from_slice(&body);
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "date: Sat, 28 Nov 2026 08:00:00 GMT";

    #[test]
    fn heads_that_hyper_makes() {
        let check = |parts: &[&str], expected: Option<(u16, usize)>| {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part.as_bytes())).collect();
            let found = Automatic::find(&slices);
            let found = found.as_ref().map(|found| (found.status.as_u16(), found.length));
            assert_eq!(found, expected, "{parts:?}");
        };
        let bare =
            format!("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n{DATE}\r\n\r\n");
        let long = format!("HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\n{DATE}\r\n\r\n");
        check(&[&bare], Some((400, bare.len())));
        check(&[&long, ""], Some((414, long.len())));
        // After the end of another answer, wherever that ends.
        check(&["HTTP/1.1 200 OK\r\n\r\n{}", &bare], Some((400, bare.len())));
        check(&[&format!("HTTP/1.1 200 OK\r\n\r\n{{}}{bare}")], Some((400, bare.len())));
        // Ours.
        check(
            &[&format!("HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\ncontent-length: 0\r\n{DATE}\r\n\r\n")],
            None,
        );
        check(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], None);
        check(&["HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n"], None);
        check(&["HTTP/1.1 100 Continue\r\n\r\n"], None);
        check(&["{}"], None);
        check(&["0\r\n\r\n"], None);
        check(&[], None);
        check(&["", ""], None);
    }
}
