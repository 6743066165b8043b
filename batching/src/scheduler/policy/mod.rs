//! How batches are made: the policies, each with a state of its own.

mod bands;
mod deadline;
mod demand;
mod fairness;
mod first_come;
mod line;
mod overload;
mod rate;

use units::{DeviceId, Timestamp};

use deadline::Deadline;
use first_come::{PreferredSizeState, TokenBudgetState};

use super::admission::CallSize;
use super::config::Policy;
use super::decision::{Batch, Decision, EndReason, RejectReason};
use super::sequence::{Entry, RefusedWork, SequenceId};
use super::slots::Waiting;
use super::standing::Claim;
use super::state::State;

/// A policy at work.
#[derive(Debug)]
pub(super) enum PolicyState {
    Deadline(Box<Deadline>),
    PreferredSize(PreferredSizeState),
    TokenBudget(TokenBudgetState),
}

impl PolicyState {
    pub(super) fn new(policy: Policy) -> Self {
        match policy {
            Policy::Deadline(policy) => Self::Deadline(Box::new(Deadline::new(policy))),
            Policy::PreferredSize(policy) => Self::PreferredSize(PreferredSizeState::new(policy)),
            Policy::TokenBudget(policy) => Self::TokenBudget(TokenBudgetState::new(policy)),
        }
    }

    /// The models or what is known of their costs have changed.
    pub(super) fn models_changed<P>(&mut self, state: &State<P>) {
        if let Self::Deadline(deadline) = self {
            deadline.models_changed(state);
        }
    }

    /// Whether a call may be queued, and with what claim. Makes place for it where the queue is full and
    /// something with a weaker claim waits.
    pub(super) fn admit<P>(
        &mut self,
        state: &mut State<P>,
        now: Timestamp,
        call: &CallSize,
    ) -> Result<Claim, RejectReason> {
        match self {
            Self::Deadline(deadline) => deadline.admit(state, now, call),
            Self::PreferredSize(_) | Self::TokenBudget(_) => first_come::admit(state, now, call),
        }
    }

    /// Counts what was refused before it came here.
    pub(super) fn refused_before<P>(&mut self, state: &State<P>, now: Timestamp, refused: &RefusedWork) {
        if let Self::Deadline(deadline) = self {
            deadline.refused_before(state, now, refused);
        }
    }

    /// Whether not everybody can be answered. First come, first served nobody looks.
    pub(super) fn is_overloaded(&self) -> bool {
        match self {
            Self::Deadline(deadline) => deadline.is_overloaded(),
            Self::PreferredSize(_) | Self::TokenBudget(_) => false,
        }
    }

    /// Queues an admitted sequence.
    pub(super) fn queue<P>(&mut self, state: &mut State<P>, entry: Entry<P>, claim: Claim) {
        let mut waiting = state.appraise(entry);
        if let Self::Deadline(deadline) = self {
            deadline.insert(state, &mut waiting, claim);
        }
        state.put(waiting);
    }

    /// Takes a sequence out of every structure it is in.
    pub(super) fn remove<P>(&mut self, state: &mut State<P>, id: SequenceId) -> Option<Entry<P>> {
        match self {
            Self::Deadline(deadline) => deadline.remove(state, id),
            Self::PreferredSize(_) | Self::TokenBudget(_) => Some(state.take(id)?.entry),
        }
    }

    /// Takes a sequence out, to be given back.
    pub(super) fn end<P>(&mut self, state: &mut State<P>, id: SequenceId, why: EndReason) {
        if let Some(entry) = self.remove(state, id) {
            state.give_back(entry, why);
        }
    }

    /// What a device should run next. It is there, and has room for a batch.
    pub(super) fn poll<P>(&mut self, state: &mut State<P>, now: Timestamp, device: DeviceId) -> Decision<P> {
        match self {
            Self::Deadline(deadline) => deadline.poll(state, now, device),
            Self::PreferredSize(policy) => policy.poll(state, now, device),
            Self::TokenBudget(policy) => policy.poll(state, now, device),
        }
    }
}
