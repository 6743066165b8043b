//! The body of a request, bounded in time and in bytes: charged to its call's place as it arrives, whatever
//! protocol reads it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::ApiError;

/// When to come again while the tenant has all that it may have.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A body is long from so many bytes on, or a message in it: to decode and to parse it is work.
pub const LONG_BYTES: usize = 64 << 10;
const FULL: u8 = Fault::Full as u8;
const LATE: u8 = Fault::Late as u8;

/// What a body's bytes are charged to, and how it went. In the extensions of every request; nothing is
/// charged before [`admit`](Self::admit).
#[derive(Debug, Clone, Default)]
pub struct BodyMeter(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Time for a body to arrive that nobody admits, of whatever route: none for one that is not read
    /// from a peer.
    timeout: Option<Duration>,
    /// Whether it becomes more when it is decoded.
    is_compressed: bool,
    admitted: OnceLock<Admission>,
    fault: AtomicU8,
    /// Read so far.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Admission {
    /// None for a stream of messages, which is charged by its reader, for each message as a whole.
    place: Option<Box<dyn ChargedPlace>>,
    timeout: Option<Duration>,
}

/// What a body's bytes are charged to.
pub trait ChargedPlace: Debug + Send + Sync {
    /// Holds so many bytes more, or says that there is no room for them.
    fn hold(&self, bytes: usize) -> bool;
}

/// Why a body was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The tenant has all that it may have.
    Full = 1,
    /// It was not there in time.
    Late = 2,
}

impl BodyMeter {
    /// Of a body that has to be there within `timeout` until it is admitted.
    pub fn within(timeout: Duration, is_compressed: bool) -> Self {
        Self(Arc::new(Inner { timeout: Some(timeout), is_compressed, ..Inner::default() }))
    }

    /// Whether so much came of it that to decode and to parse it is work.
    pub fn is_long(&self) -> bool {
        self.bytes() >= LONG_BYTES as u64
    }

    /// Whether it is long, or may turn out to be.
    pub fn may_be_long(&self) -> bool {
        self.0.is_compressed || self.is_long()
    }

    /// From here on the body is charged to `place` and has to be there within `timeout`.
    pub fn admit(&self, place: impl ChargedPlace + 'static, timeout: Duration) {
        // A request is admitted once; were it twice, the first counts.
        let _ = self.0.admitted.set(Admission { place: Some(Box::new(place)), timeout: Some(timeout) });
    }

    /// From here on whoever reads the body's messages charges each of them, and bounds its time.
    pub fn admit_messages(&self) {
        let _ = self.0.admitted.set(Admission { place: None, timeout: None });
    }

    /// Whether the body is of somebody who is known.
    pub fn is_admitted(&self) -> bool {
        self.0.admitted.get().is_some()
    }

    /// Holds so many bytes more for what the body turned out to be.
    ///
    /// # Errors
    /// The tenant has all that it may have.
    pub fn hold(&self, bytes: usize) -> Result<(), ApiError> {
        let is_held = self.place().is_none_or(|place| place.hold(bytes));
        if is_held { Ok(()) } else { Err(ApiError::Overloaded { retry_after: RETRY_AFTER }) }
    }

    /// The body was decoded to so many bytes.
    pub fn decoded(&self, bytes: usize) {
        self.0.bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that were read of the body, or that it was decoded to if these are more.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// So many bytes of the body came.
    ///
    /// # Errors
    /// The tenant has all that it may have: the body is to be broken off.
    pub fn came(&self, bytes: usize) -> Result<(), Fault> {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.place().is_none_or(|place| place.hold(bytes)) { Ok(()) } else { Err(Fault::Full) }
    }

    fn place(&self) -> Option<&dyn ChargedPlace> {
        self.0.admitted.get()?.place.as_deref()
    }

    /// Time left for the body to arrive.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.admitted.get().map_or(self.0.timeout, |admitted| admitted.timeout)
    }

    /// The body is broken off.
    pub fn break_off(&self, fault: Fault) {
        self.0.fault.store(fault as u8, Ordering::Release);
    }

    /// Why the body broke off, if it was our doing.
    pub fn fault(&self) -> Option<ApiError> {
        match self.0.fault.load(Ordering::Acquire) {
            FULL => Some(ApiError::Overloaded { retry_after: RETRY_AFTER }),
            LATE => Some(ApiError::BodyIncomplete),
            _ => None,
        }
    }
}
