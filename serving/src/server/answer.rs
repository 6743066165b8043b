//! The body of an answer on its way out: counted while it waits, in pieces so small that whoever does not read them is noticed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::activity::{Activity, AnswerId};

/// Largest piece that is handed out at once. HTTP/2 takes the next one only when the peer's window has room again.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A request on a connection, until its answer has gone or it was given up.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    /// Bytes of answers that wait, of all connections.
    unread: Arc<AtomicUsize>,
    answer: AnswerId,
    waiting_bytes: usize,
}

impl InFlight {
    pub(super) fn new(activity: &Arc<Activity>, unread: &Arc<AtomicUsize>) -> Self {
        activity.request_began();
        let answer = activity.answer();
        Self { activity: Arc::clone(activity), unread: Arc::clone(unread), answer, waiting_bytes: 0 }
    }

    fn wait(&mut self, bytes: usize) {
        self.waiting_bytes += bytes;
        self.unread.fetch_add(bytes, Ordering::Relaxed);
        self.activity.unread(bytes, 0);
    }

    fn leave(&mut self, bytes: usize) {
        let bytes = bytes.min(self.waiting_bytes);
        self.waiting_bytes -= bytes;
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
        self.activity.unread(0, bytes);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave(usize::MAX);
        self.activity.piece_left(self.answer);
        self.activity.request_ended(Instant::now());
    }
}

/// The body of an answer.
pub(super) struct AnswerBody {
    body: Body,
    /// What is left of the chunk that is being handed out.
    chunk: Bytes,
    in_flight: InFlight,
}

impl AnswerBody {
    pub(super) fn new(body: Body, mut in_flight: InFlight) -> Self {
        // It is there already, whoever asks for it when.
        let bytes = body.size_hint().exact().unwrap_or(0);
        in_flight.wait(usize::try_from(bytes).unwrap_or(usize::MAX));
        Self { body, chunk: Bytes::new(), in_flight }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.chunk.split_to(self.chunk.len().min(PIECE_BYTES_MAX));
        self.in_flight.leave(piece.len());
        self.in_flight.activity.piece_waits(self.in_flight.answer, Instant::now());
        Frame::data(piece)
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.in_flight.activity.piece_left(this.in_flight.answer);
        if !this.chunk.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        match frame?.into_data() {
            Ok(chunk) => {
                let uncounted = chunk.len().saturating_sub(this.in_flight.waiting_bytes);
                this.in_flight.wait(uncounted);
                this.chunk = chunk;
                Poll::Ready(Some(Ok(this.piece())))
            }
            Err(trailers) => Poll::Ready(Some(Ok(trailers))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunk.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.chunk.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + left);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + left);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::server::activity::{Patience, Verdict};

    fn activity() -> Arc<Activity> {
        let second = Duration::from_secs(1);
        let patience = Patience { header: second, keep_alive: second, write: second, half_close: second };
        Arc::new(Activity::new(patience, false, Instant::now()))
    }

    #[tokio::test]
    async fn an_answer_leaves_in_pieces_and_is_counted_until_then() {
        let (activity, unread) = (activity(), Arc::new(AtomicUsize::new(0)));
        let text = vec![b'x'; PIECE_BYTES_MAX * 2 + 5];
        let mut body = AnswerBody::new(Body::from(text.clone()), InFlight::new(&activity, &unread));
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let mut found = Vec::new();
        for expected in [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 5] {
            assert!(!body.is_end_stream());
            assert_eq!(unread.load(Ordering::Relaxed), text.len() - found.len());
            assert_eq!(activity.unread_bytes(), text.len() - found.len());
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), expected);
            found.extend_from_slice(&piece);
            assert_eq!(body.size_hint().exact(), Some((text.len() - found.len()) as u64));
        }
        assert!(body.is_end_stream() && found == text);
        // The last piece waits until it is gone.
        let late = Instant::now() + Duration::from_secs(2);
        assert_eq!(activity.verdict(late), Verdict::Close("write_timeout"));
        drop(body);
        assert!(!activity.is_busy());
        assert_eq!((unread.load(Ordering::Relaxed), activity.unread_bytes()), (0, 0));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_back() {
        let (activity, unread) = (activity(), Arc::new(AtomicUsize::new(0)));
        let mut body = AnswerBody::new(Body::from(vec![0; 50_000]), InFlight::new(&activity, &unread));
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!((unread.load(Ordering::Relaxed), activity.unread_bytes()), (0, 0));
    }
}
