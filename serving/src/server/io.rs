//! The bytes of a connection: what was read to tell the version comes again, and a write that nobody takes
//! ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::activity::Activity;
use super::unparsed::{Automatic, Refusals};

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket that its supervisor can look at while it is read and written.
#[derive(Debug, Clone)]
pub(super) struct Socket(Arc<TcpStream>);

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Resolves when the peer has closed its sending side and all that it sent was read; an error if it is
    /// gone. Looks only while a request is worked on, when nobody reads; to be polled after whoever reads at
    /// other times, on the same task.
    pub(super) async fn half_closed(&self, is_busy: impl Fn() -> bool) -> io::Result<()> {
        let mut byte = [0];
        poll_fn(|context| {
            if !is_busy() {
                return Poll::Pending;
            }
            match self.0.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // What is there wakes whoever reads it.
                Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads as far as it takes to tell the version, and returns what was read; none if the peer left without a
/// byte.
pub(super) async fn version(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Version, Bytes)>> {
    let mut buffer = [0; HTTP2_PREFACE.len()];
    let mut filled = 0;
    let version = loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        filled += read;
        let head = buffer.get(..filled).unwrap_or_default();
        if head == HTTP2_PREFACE {
            break Version::Http2;
        }
        if read == 0 || !HTTP2_PREFACE.starts_with(head) {
            break Version::Http1;
        }
    };
    let head = buffer.get(..filled).unwrap_or_default();
    Ok((filled > 0).then(|| (version, Bytes::copy_from_slice(head))))
}

/// A connection's stream of bytes.
pub(super) struct Wire<S> {
    stream: S,
    /// Read already.
    head: Bytes,
    activity: Arc<Activity>,
    write_timeout: Duration,
    /// Of HTTP/1.
    refusals: Option<Refusals>,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, head: Bytes, activity: Arc<Activity>, write_timeout: Duration) -> Self {
        Self { stream, head, activity, write_timeout, refusals: None, stall: None }
    }

    /// What hyper refuses is answered by `refusals`.
    pub(super) fn with_refusals(self, refusals: Option<Refusals>) -> Self {
        Self { refusals, ..self }
    }

    /// What a write came to, or that it waited for too long.
    fn in_time<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stall = None;
            return result;
        }
        let timeout = self.write_timeout;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            let count = self.head.len().min(buffer.remaining());
            buffer.put_slice(&self.head.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.read(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes what answers in the place of `automatic`, which is written when all of that is.
    fn refuse(&mut self, context: &mut Context<'_>, automatic: &Automatic) -> Poll<io::Result<usize>> {
        let Self { stream, refusals: Some(refusals), .. } = self else {
            return Poll::Ready(Ok(automatic.length));
        };
        let bytes = ready!(refusals.poll(context, automatic));
        while !bytes.is_empty() {
            let count = ready!(Pin::new(&mut *stream).poll_write(context, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = bytes.split_to(count.min(bytes.len()));
        }
        Poll::Ready(Ok(automatic.length))
    }

    /// What of `slices` may be written as it is, and what of them hyper answers by itself.
    fn automatic<'a>(&self, slices: &'a [io::IoSlice<'a>]) -> Option<(Vec<io::IoSlice<'a>>, Automatic)> {
        // While somebody answers, what is written is an answer.
        if self.refusals.is_none() || self.activity.is_busy() {
            return None;
        }
        let automatic = Automatic::find(slices)?;
        let mut left = slices.iter().map(|slice| slice.len()).sum::<usize>() - automatic.length;
        let mut before = Vec::new();
        for slice in slices {
            let count = slice.len().min(left);
            left -= count;
            before.extend(slice.get(..count).filter(|slice| !slice.is_empty()).map(io::IoSlice::new));
        }
        Some((before, automatic))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match self.automatic(slices) {
            None => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
            Some((before, automatic)) if before.is_empty() => self.refuse(context, &automatic),
            Some((before, _)) => Pin::new(&mut self.stream).poll_write_vectored(context, &before),
        };
        self.in_time(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn versions() {
        async fn check(sent: &[u8], expected: Option<(Version, &[u8])>) {
            let found = version(&mut &*sent).await.unwrap();
            let found = found.as_ref().map(|(version, head)| (*version, head.as_ref()));
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(sent));
        }
        check(b"", None).await;
        check(b"GET / HTTP/1.1\r\n\r\n", Some((Version::Http1, b"GET / HTTP/1.1\r\n\r\n"))).await;
        check(b"PRI", Some((Version::Http1, b"PRI"))).await;
        check(b"PRINT / HTTP/1.1\r\nHost: a\r\n", Some((Version::Http1, b"PRINT / HTTP/1.1\r\nHost: ")))
            .await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Some((Version::Http2, HTTP2_PREFACE))).await;
    }
}
