//! Where queued requests are kept: places that are used again, so that a request in the steady state costs no allocation.

use super::cost::Work;
use super::fairness::FlowId;
use super::queue::Claim;
use super::{Entry, RequestId};
use crate::units::Timestamp;

/// A queued request with what the scheduler knows of it.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    pub(super) entry: Entry<P>,
    pub(super) flow: FlowId,
    pub(super) work: Work,
    /// Device seconds that it asked for.
    pub(super) seconds: f64,
    /// The moment at which it should be answered: its target, or its deadline if that is earlier.
    pub(super) due: Timestamp,
    /// The moment at which it is answered if it is late: see [`super::dispatch`].
    pub(super) promise: Timestamp,
    /// The band in which it stands.
    pub(super) claim: Claim,
}

/// Queued requests by id.
#[derive(Debug)]
pub(super) struct Slots<P> {
    slots: Vec<Option<Waiting<P>>>,
    free: Vec<u32>,
    next_number: u64,
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), next_number: 0 }
    }
}

impl<P> Slots<P> {
    /// An id that no request had before, for the next [`put`](Self::put).
    pub(super) fn next_id(&mut self) -> RequestId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.next_number += 1;
        RequestId { number: self.next_number - 1, slot }
    }

    pub(super) fn put(&mut self, waiting: Waiting<P>) {
        let slot = waiting.entry.id.slot as usize;
        self.slots[slot] = Some(waiting);
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Waiting<P>> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|waiting| waiting.entry.id == id)
    }

    /// Whether a request stands in this band.
    pub(super) fn is_in(&self, id: RequestId, claim: Claim) -> bool {
        self.get(id).is_some_and(|waiting| waiting.claim == claim)
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Waiting<P>> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|waiting| waiting.entry.id == id)
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Waiting<P>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let waiting = slot.take_if(|waiting| waiting.entry.id == id)?;
        self.free.push(id.slot);
        Some(waiting)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
