//! The body of a request, of which what nobody has read is read when the answer is there: only then the
//! connection can be used again, and whoever asks next on it is not cut off without a word.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// Most bytes that are read for nothing.
const LEFT_BYTES_MAX: u64 = 64 << 10;
/// How long they may take to come. Those that were sent with the head are there.
const PATIENCE: Duration = Duration::from_millis(100);

/// A body that its reader may drop before its end.
pub(super) struct RequestBody<B>(Arc<Mutex<Inner<B>>>);

struct Inner<B> {
    body: B,
    is_over: bool,
}

impl<B> Clone for RequestBody<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> RequestBody<B> {
    pub(super) fn new(body: B) -> Self {
        let is_over = body.is_end_stream();
        Self(Arc::new(Mutex::new(Inner { body, is_over })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of it was read, or little enough was left. To be called once there is an answer.
    pub(super) async fn finish(mut self) -> bool {
        if self.is_end_stream() {
            return true;
        }
        if Arc::strong_count(&self.0) > 1 {
            // It is being read, beside the answer.
            return true;
        }
        let mut left = LEFT_BYTES_MAX;
        if self.size_hint().lower() > left {
            return false;
        }
        let reading = async {
            while let Some(frame) = self.frame().await {
                let Ok(frame) = frame else { return false };
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(less) = left.checked_sub(bytes) else { return false };
                left = less;
            }
            true
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or(false)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut inner = self.inner();
        if inner.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut inner.body).poll_frame(context));
        inner.is_over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.inner();
        inner.is_over || inner.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner().body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;

    use super::*;

    #[tokio::test]
    async fn what_is_left_is_read() {
        async fn check(name: &str, body: Body, read: usize, expected: bool) {
            let mut body = RequestBody::new(body);
            for _ in 0..read {
                body.frame().await;
            }
            assert_eq!(body.finish().await, expected, "{name}");
        }
        let pieces = |count: usize| {
            let pieces = (0..count).map(|_| Ok::<_, std::io::Error>(vec![0; 1 << 10]));
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        check("none", Body::empty(), 0, true).await;
        check("little", Body::from("x"), 0, true).await;
        check("read", pieces(100), 101, true).await;
        check("pieces", pieces(64), 0, true).await;
        check("the rest", pieces(100), 36, true).await;
        check("too many pieces", pieces(65), 0, false).await;
        check("too much", Body::from(vec![0; (64 << 10) + 1]), 0, false).await;
        check(
            "never",
            Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>()),
            0,
            false,
        )
        .await;
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let broken = Body::from_stream(futures_util::stream::iter([Err::<Vec<u8>, _>(broken)]));
        check("broken", broken, 0, false).await;
        // Somebody reads it still.
        let body = RequestBody::new(pieces(1000));
        let reader = body.clone();
        assert!(body.finish().await);
        drop(reader);
    }
}
