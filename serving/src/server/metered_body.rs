//! The body of a request as it is read: charged to its call's place, and broken off where it is too much or
//! too late.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::BodyMeter;
use api::body::Fault;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// How long a body that nobody has admitted may still take once the server stops.
const LAST_BODY: Duration = Duration::from_secs(2);

/// A body that is charged as it is read.
pub(crate) struct MeteredBody<B> {
    body: B,
    meter: BodyMeter,
    /// Runs from the first time that there is nothing to read.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Is over some time after the server has begun to stop.
    last: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why a body was broken off; who reads it asks [`BodyMeter::fault`].
#[derive(Debug, thiserror::Error)]
#[error("the body was broken off")]
struct BrokenOff;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B> MeteredBody<B> {
    /// The body of a server that stops when `stopping` says so.
    pub(crate) fn new(body: B, meter: BodyMeter, stopping: CancellationToken) -> Self {
        let last = Box::pin(async move {
            stopping.cancelled_owned().await;
            tokio::time::sleep(LAST_BODY).await;
        });
        Self { body, meter, deadline: None, last }
    }

    fn broken_off(&self, fault: Fault) -> Poll<Option<Result<Frame<axum::body::Bytes>, BoxError>>> {
        self.meter.break_off(fault);
        Poll::Ready(Some(Err(Box::new(BrokenOff))))
    }
}

impl<B> Body for MeteredBody<B>
where
    B: Body<Data = axum::body::Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = axum::body::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            // Whoever shows no credentials does not hold up the end.
            if !this.meter.is_admitted() && this.last.as_mut().poll(context).is_ready() {
                return this.broken_off(Fault::Late);
            }
            let Some(timeout) = this.meter.timeout() else { return Poll::Pending };
            let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
            ready!(deadline.as_mut().poll(context));
            return this.broken_off(Fault::Late);
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if let Some(data) = frame.data_ref()
            && let Err(fault) = this.meter.came(data.len())
        {
            return this.broken_off(fault);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
