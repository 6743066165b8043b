//! The tenant of a request, as far as known, to which its waiting answer is charged. In the extensions of
//! every request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use units::TenantId;

use super::holder::Holder;
use super::seats::ConnectionSeat;
use super::unread::{NoRoom, UnreadAnswers};
use crate::error::ApiError;

/// When to come again after answers could not be begun.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The account of a request. Of one that came over no connection, nothing is counted.
#[derive(Debug, Clone, Default)]
pub struct Account {
    request: Option<Arc<Request>>,
    /// Whether it is of a message of a stream, whose reader waits for room instead.
    is_held_back: bool,
}

#[derive(Debug)]
struct Request {
    standing: Arc<ConnectionSeat>,
    unread: Arc<UnreadAnswers>,
    holder: OnceLock<Holder>,
}

/// A call that is worked on: its connection does not give way to newcomers before those without one do.
#[derive(Debug)]
pub(crate) struct WorkGuard(Option<Arc<Request>>);

/// Bytes of answers that wait in somebody's name; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct WaitingBytes {
    of: Option<(Arc<Request>, Holder)>,
    bytes: usize,
}

impl Account {
    pub(super) fn new(standing: &Arc<ConnectionSeat>, unread: &Arc<UnreadAnswers>) -> Self {
        let (standing, unread) = (Arc::clone(standing), Arc::clone(unread));
        let request = Arc::new(Request { standing, unread, holder: OnceLock::new() });
        Self { request: Some(request), is_held_back: false }
    }

    /// Of the messages of a stream, which are not refused for what waits: they are not read then
    /// ([`room`](Self::room)).
    pub(crate) fn of_messages(&self) -> Self {
        Self { request: self.request.clone(), is_held_back: true }
    }

    /// It is a tenant's: its connection is, if the tenant has not too many, and its answer waits in the
    /// tenant's name.
    ///
    /// # Errors
    /// See [`check`](Self::check).
    pub(crate) fn identify(&self, tenant: TenantId) -> Result<(), ApiError> {
        self.belong(Holder::Tenant(tenant));
        self.check()
    }

    /// It is the operator's.
    pub(crate) fn operate(&self) {
        self.belong(Holder::Operator);
    }

    fn belong(&self, holder: Holder) {
        if let Some(request) = &self.request {
            // A request belongs to whom it belonged first.
            let _ = request.holder.set(holder);
            request.standing.claim(holder);
        }
    }

    /// Whether one more answer may be begun.
    ///
    /// # Errors
    /// So many of the tenant's wait for its peers already, or of all tenants'.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let Some((request, tenant)) = self.tenant().filter(|_| !self.is_held_back) else { return Ok(()) };
        request.unread.check(tenant).map_err(|why| match why {
            NoRoom::Own => ApiError::AnswersUnread { retry_after: RETRY_AFTER },
            NoRoom::Others => ApiError::Overloaded { retry_after: RETRY_AFTER },
        })
    }

    /// Resolves when one more answer may be begun; none if it may be now.
    pub(crate) fn room(&self) -> Option<OwnedNotified> {
        self.tenant().and_then(|(request, tenant)| request.unread.room(tenant))
    }

    fn tenant(&self) -> Option<(&Request, TenantId)> {
        let request = self.request.as_deref()?;
        match request.holder.get() {
            Some(Holder::Tenant(tenant)) => Some((request, *tenant)),
            _ => None,
        }
    }

    /// The call has a place.
    pub(crate) fn work(&self) -> WorkGuard {
        if let Some(request) = &self.request {
            request.standing.work(true);
        }
        WorkGuard(self.request.clone())
    }

    /// What counts bytes that wait in the name of whom the request, or else its connection, belongs to now.
    pub(crate) fn waiting(&self) -> WaitingBytes {
        let of = self.request.as_ref().map(|request| {
            let holder = request.holder.get().copied().unwrap_or_else(|| request.standing.holder());
            (Arc::clone(request), holder)
        });
        WaitingBytes { of, bytes: 0 }
    }
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        if let Some(request) = &self.0 {
            request.standing.work(false);
        }
    }
}

impl WaitingBytes {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.change(bytes, 0);
    }

    /// Fewer wait. Returns how many fewer, which is not more than there were.
    pub(crate) fn remove(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.change(0, bytes);
        bytes
    }

    fn change(&self, more: usize, fewer: usize) {
        let Some((request, holder)) = &self.of else { return };
        request.unread.change(*holder, more, fewer);
        if *holder == Holder::Nobody {
            request.standing.anonymous(more, fewer);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        self.remove(usize::MAX);
    }
}
