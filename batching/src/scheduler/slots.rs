//! Where queued sequences are kept: places that are used again, so that a sequence in the steady state costs
//! no allocation.

use units::Timestamp;

use super::cost::{Seconds, Work};
use super::sequence::{Entry, SequenceId};
use super::standing::{Claim, Standing};

/// A queued sequence with what the scheduler knows of it.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    pub(super) entry: Entry<P>,
    pub(super) work: Work,
    /// Device time that it asked for.
    pub(super) seconds: Seconds,
    /// The moment at which it should be answered: its target, or its deadline if that is earlier.
    pub(super) due: Timestamp,
    /// What the policy makes of it.
    pub(super) standing: Standing,
}

/// Queued sequences by id.
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
    /// An id that no sequence had before, for the next [`put`](Self::put).
    pub(super) fn next_id(&mut self) -> SequenceId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.next_number += 1;
        SequenceId { number: self.next_number - 1, slot }
    }

    pub(super) fn put(&mut self, waiting: Waiting<P>) {
        let slot = waiting.entry.id.slot as usize;
        self.slots[slot] = Some(waiting);
    }

    pub(super) fn get(&self, id: SequenceId) -> Option<&Waiting<P>> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|waiting| waiting.entry.id == id)
    }

    /// Whether a sequence stands in this band.
    pub(super) fn is_in(&self, id: SequenceId, claim: Claim) -> bool {
        self.get(id).is_some_and(|waiting| waiting.standing.claim == claim)
    }

    pub(super) fn get_mut(&mut self, id: SequenceId) -> Option<&mut Waiting<P>> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|waiting| waiting.entry.id == id)
    }

    pub(super) fn take(&mut self, id: SequenceId) -> Option<Waiting<P>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let waiting = slot.take_if(|waiting| waiting.entry.id == id)?;
        self.free.push(id.slot);
        Some(waiting)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
