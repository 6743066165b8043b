//! What waits for one model, by claim and flow.
//!
//! Sequences of a flow stand in a *lane*, earliest due first. Sequences with claims of different worth stand
//! in *bands* of lanes, so that for one what is late does not make the rest late too. The lanes of a band are
//! ordered by their first sequence; those of flows that are ahead of their share are parked aside until it is
//! their turn.

use std::collections::HashMap;

use units::{Priority, Timestamp};

use super::super::cost::Work;
use super::super::heap::{IndexedHeap, LazyHeap};
use super::super::standing::{Claim, FlowId};
use super::fairness::{Flows, Virtual};
use super::{SequenceId, Waiting};

/// In which order sequences run: critical ones first, then by the moment at which they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    is_not_critical: bool,
    pub(super) due: Timestamp,
    id: SequenceId,
}

impl Rank {
    pub(super) fn new<P>(waiting: &Waiting<P>) -> Self {
        let is_not_critical = waiting.entry.sequence.priority != Priority::Critical;
        Self { is_not_critical, due: waiting.due, id: waiting.entry.id }
    }

    pub(super) fn id(&self) -> SequenceId {
        self.id
    }
}

/// All that waits for one model.
#[derive(Debug, Default)]
pub(super) struct ModelBands {
    /// By claim.
    bands: [Band; 4],
    /// Number of the last batch of sequences without a claim.
    pub(super) last_turn: u64,
}

/// Lanes, one a flow.
#[derive(Debug, Default)]
pub(super) struct Band {
    lanes: Vec<Lane>,
    /// Lanes of no flow; they keep their memory.
    free: Vec<u32>,
    by_flow: HashMap<FlowId, u32>,
    /// Lanes by their first sequence.
    ready: IndexedHeap<Rank>,
    /// Lanes whose flow was ahead of its share when last looked at, by its counter then.
    parked: IndexedHeap<Virtual>,
    /// All sequences' work.
    pub(super) work: Work,
}

#[derive(Debug)]
struct Lane {
    flow: FlowId,
    sequences: LazyHeap<Rank>,
    living: usize,
}

impl ModelBands {
    pub(super) fn band(&self, claim: Claim) -> &Band {
        &self.bands[claim.place()]
    }

    pub(super) fn band_mut(&mut self, claim: Claim) -> &mut Band {
        &mut self.bands[claim.place()]
    }

    /// What is served next in a band: the first sequence of a flow that is not too far ahead of those that
    /// wait without a claim.
    pub(super) fn first(&mut self, claim: Claim, flows: &Flows) -> Option<(FlowId, Rank)> {
        let ceiling = if claim.is_entitled() { flows.limit() } else { flows.ceiling() };
        self.bands[claim.place()].first(flows, ceiling)
    }

    /// The first sequence of a flow in a band.
    pub(super) fn first_of(&self, claim: Claim, flow: FlowId) -> Option<Rank> {
        let band = self.band(claim);
        band.lanes[*band.by_flow.get(&flow)? as usize].sequences.first()
    }

    /// Of a band in which [`first`](Self::first) found nothing, what is served if nobody else has anything:
    /// the first request of the flow that is least far ahead.
    pub(super) fn first_ahead(&self, claim: Claim) -> Option<(FlowId, Rank)> {
        self.bands[claim.place()].first_parked()
    }

    /// The first sequence of the flow that was served most for its weight, in the band of the weakest claim
    /// that is weaker than `claim`.
    pub(super) fn weakest(&self, claim: Claim, flows: &Flows) -> Option<SequenceId> {
        let weaker = Claim::ALL.into_iter().rev().take_while(|weaker| weaker.yields_to(claim));
        weaker.map(|claim| self.band(claim)).find_map(|band| band.most_served(flows))
    }
}

impl Band {
    pub(super) fn insert(&mut self, flow: FlowId, rank: Rank, work: Work) {
        let number = match self.by_flow.get(&flow) {
            Some(number) => *number,
            None => self.open(flow),
        };
        let lane = &mut self.lanes[number as usize];
        lane.sequences.push(rank);
        lane.living += 1;
        self.work = self.work + work;
        if !self.parked.contains(number)
            && let Some(first) = lane.sequences.first()
        {
            self.ready.set(number, first);
        }
    }

    /// Takes a sequence out that stands anywhere. `is_alive` must already say no to it.
    pub(super) fn remove(&mut self, flow: FlowId, work: Work, is_alive: impl Fn(&Rank) -> bool) {
        let Some(number) = self.by_flow.get(&flow).copied() else { return };
        let lane = &mut self.lanes[number as usize];
        lane.sequences.bury(is_alive);
        debug_assert!(lane.living > 0, "a sequence left an empty lane");
        lane.living -= 1;
        self.work = self.work.less(work);
        self.restore(number);
    }

    /// The first sequence of all flows whose counters are not above the ceiling.
    fn first(&mut self, flows: &Flows, ceiling: Virtual) -> Option<(FlowId, Rank)> {
        while let Some((counter, number)) = self.parked.first() {
            if counter > ceiling {
                break;
            }
            self.parked.remove(number);
            if let Some(first) = self.lanes[number as usize].sequences.first() {
                self.ready.set(number, first);
            }
        }
        while let Some((rank, number)) = self.ready.first() {
            let flow = self.lanes[number as usize].flow;
            let counter = flows.counter(flow);
            if counter <= ceiling {
                return Some((flow, rank));
            }
            self.ready.remove(number);
            self.parked.set(number, counter);
        }
        None
    }

    fn first_parked(&self) -> Option<(FlowId, Rank)> {
        let (_, number) = self.parked.first()?;
        let lane = &self.lanes[number as usize];
        Some((lane.flow, lane.sequences.first()?))
    }

    /// Keeps a flow's lane out of [`first`](Self::first) until [`resume`](Self::resume).
    pub(super) fn set_aside(&mut self, flow: FlowId) {
        if let Some(number) = self.by_flow.get(&flow) {
            self.ready.remove(*number);
            self.parked.remove(*number);
        }
    }

    /// Ends [`set_aside`](Self::set_aside).
    pub(super) fn resume(&mut self, flow: FlowId) {
        if let Some(number) = self.by_flow.get(&flow).copied() {
            self.restore(number);
        }
    }

    /// The first sequence of the flow with the highest counter.
    fn most_served(&self, flows: &Flows) -> Option<SequenceId> {
        let most = self.by_flow.iter().max_by_key(|(flow, _)| (flows.counter(**flow), **flow))?;
        self.lanes[*most.1 as usize].sequences.first().map(|rank| rank.id())
    }

    fn open(&mut self, flow: FlowId) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(Lane { flow, sequences: LazyHeap::default(), living: 0 });
            (self.lanes.len() - 1) as u32
        });
        self.lanes[number as usize].flow = flow;
        self.by_flow.insert(flow, number);
        number
    }

    /// Puts a lane whose sequences have changed where it belongs.
    fn restore(&mut self, number: u32) {
        let lane = &self.lanes[number as usize];
        if lane.living == 0 {
            self.by_flow.remove(&lane.flow);
            self.ready.remove(number);
            self.parked.remove(number);
            self.free.push(number);
        } else if !self.parked.contains(number)
            && let Some(first) = lane.sequences.first()
        {
            self.ready.set(number, first);
        }
    }
}
