//! The body of a request, bounded in time and in bytes: charged to its call's place as it arrives, whatever protocol reads it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use router::{Place, PlaceError, PlaceMeter};
use tokio::time::Sleep;

use crate::error::ApiError;

/// What a body's bytes are charged to, and how it went. In the extensions of every request; nothing is charged before
/// [`admit`](Self::admit).
#[derive(Debug, Clone, Default)]
pub struct BodyMeter(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// In which a body has to be there that nobody admits, of whatever route: none for one that is not read from a peer.
    timeout: Option<Duration>,
    admitted: OnceLock<Admitted>,
    fault: AtomicU8,
    /// Read so far.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Admitted {
    place: PlaceMeter,
    /// None for a stream of messages, which is charged by its reader, for each message as a whole.
    timeout: Option<Duration>,
}

const FULL: u8 = 1;
const LATE: u8 = 2;

impl BodyMeter {
    /// Of a body that has to be there within `timeout` until it is admitted.
    pub(crate) fn within(timeout: Duration) -> Self {
        Self(Arc::new(Inner { timeout: Some(timeout), ..Inner::default() }))
    }

    /// From here on the body is charged to `place` and has to be there within `timeout`.
    pub(crate) fn admit(&self, place: &Place, timeout: Duration) {
        // A request is admitted once; were it twice, the first counts.
        let _ = self.0.admitted.set(Admitted { place: place.meter(), timeout: Some(timeout) });
    }

    /// From here on whoever reads the body's messages charges each of them to `place` ([`hold_in_turn`](Self::hold_in_turn)), and
    /// bounds its time.
    pub(crate) fn admit_messages(&self, place: &Place) {
        let _ = self.0.admitted.set(Admitted { place: place.meter(), timeout: None });
    }

    /// Holds so many bytes more for what the body turned out to be.
    ///
    /// # Errors
    /// The tenant has all that it may have.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), ApiError> {
        let held = self.0.admitted.get().map_or(Ok(()), |admitted| admitted.place.hold(bytes));
        held.map_err(|_| ApiError::Overloaded { retry_after: Duration::from_secs(1) })
    }

    /// Holds so many bytes as soon as the tenant may have them.
    ///
    /// # Errors
    /// Nobody may ever have so many.
    pub(crate) fn hold_in_turn(
        &self,
        bytes: usize,
    ) -> impl Future<Output = Result<(), PlaceError>> + Send + use<> {
        let held = self.0.admitted.get().map(|admitted| admitted.place.hold_in_turn(bytes));
        async move {
            match held {
                Some(held) => held.await,
                None => Ok(()),
            }
        }
    }

    /// What has been read of a stream is charged elsewhere from here on.
    pub(crate) fn release(&self) {
        if let Some(admitted) = self.0.admitted.get() {
            admitted.place.release();
        }
    }

    /// The body was decoded to so many bytes.
    pub(crate) fn decoded(&self, bytes: usize) {
        self.0.bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that were read of the body, or that it was decoded to if these are more.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Why the body broke off, if it was our doing.
    pub(crate) fn fault(&self) -> Option<ApiError> {
        match self.0.fault.load(Ordering::Acquire) {
            FULL => Some(ApiError::Overloaded { retry_after: Duration::from_secs(1) }),
            LATE => Some(ApiError::BodyIncomplete),
            _ => None,
        }
    }
}

/// A body that is charged as it is read.
pub(crate) struct MeteredBody<B> {
    body: B,
    meter: BodyMeter,
    /// Runs from the first time that there is nothing to read.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Why a body was broken off; who reads it asks [`BodyMeter::fault`].
#[derive(Debug, thiserror::Error)]
#[error("the body was broken off")]
struct BrokenOff;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B> MeteredBody<B> {
    pub(crate) fn new(body: B, meter: BodyMeter) -> Self {
        Self { body, meter, deadline: None }
    }

    fn broken_off(&self, fault: u8) -> Poll<Option<Result<Frame<axum::body::Bytes>, BoxError>>> {
        self.meter.0.fault.store(fault, Ordering::Release);
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
            let Inner { admitted, timeout, .. } = &*this.meter.0;
            let Some(timeout) = admitted.get().map_or(*timeout, |admitted| admitted.timeout) else {
                return Poll::Pending;
            };
            let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
            ready!(deadline.as_mut().poll(context));
            return this.broken_off(LATE);
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if let Some(data) = frame.data_ref() {
            this.meter.0.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if let (Some(data), Some(Admitted { place, timeout: Some(_) })) =
            (frame.data_ref(), this.meter.0.admitted.get())
            && place.hold(data.len()).is_err()
        {
            return this.broken_off(FULL);
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
