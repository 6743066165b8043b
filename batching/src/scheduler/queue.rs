//! What waits for one model.
//!
//! Requests of a flow stand in a *lane*, earliest due first. Requests with claims of different worth stand in *bands* of
//! lanes, so that for one what is late does not make the rest late too. The lanes of a band are
//! ordered by their first request; those of flows that are ahead of their share are parked aside until it is their turn.

use std::collections::HashMap;

use super::cost::Work;
use super::fairness::{FlowId, Flows, Virtual};
use super::heap::{IndexedHeap, LazyHeap};
use super::{Offered, RequestId, Waiting};
use crate::units::{Priority, Timestamp, Tokens};

/// In which order requests run: critical ones first, then by the moment at which they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    is_not_critical: bool,
    pub(super) due: Timestamp,
    id: RequestId,
}

impl Rank {
    pub(super) fn new<P>(waiting: &Waiting<P>) -> Self {
        let is_not_critical = waiting.entry.request.priority != Priority::Critical;
        Self { is_not_critical, due: waiting.due, id: waiting.entry.id }
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }
}

/// How good a request's claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// Within its flow's share, and can meet its target.
    Entitled,
    /// So is this, but its flow asks for much more than its share: everybody else comes first.
    Capped,
    /// More than its flow's share, and can meet its target.
    Excess,
    /// Cannot meet its target.
    Late,
}

impl Claim {
    pub(super) const ALL: [Self; 4] = [Self::Entitled, Self::Capped, Self::Excess, Self::Late];

    /// Whether it is within a share and can meet its target.
    pub(super) fn is_entitled(self) -> bool {
        self <= Self::Capped
    }
}

/// The queue of one model. Holds ids; the entries are the scheduler's.
#[derive(Debug)]
pub(super) struct ModelQueue {
    /// By claim.
    bands: [Band; 4],
    /// Everything, in the order of arrival.
    pub(super) arrivals: LazyHeap<RequestId>,
    pub(super) requests: usize,
    pub(super) tokens: Tokens,
    /// Requests dispatched and not completed.
    pub(super) in_flight: usize,
    /// What was asked for since the start.
    pub(super) offered: Offered,
    /// Number of the last batch of requests without a claim.
    pub(super) last_turn: u64,
}

/// Lanes, one a flow.
#[derive(Debug, Default)]
pub(super) struct Band {
    lanes: Vec<Lane>,
    /// Lanes of no flow; they keep their memory.
    free: Vec<u32>,
    by_flow: HashMap<FlowId, u32>,
    /// Lanes by their first request.
    ready: IndexedHeap<Rank>,
    /// Lanes whose flow was ahead of its share when last looked at, by its counter then.
    parked: IndexedHeap<Virtual>,
    /// All requests' work.
    pub(super) work: Work,
}

#[derive(Debug)]
struct Lane {
    flow: FlowId,
    requests: LazyHeap<Rank>,
    living: usize,
}

impl ModelQueue {
    pub(super) fn new() -> Self {
        Self {
            bands: Default::default(),
            arrivals: LazyHeap::default(),
            requests: 0,
            tokens: Tokens(0),
            in_flight: 0,
            offered: Offered::default(),
            last_turn: 0,
        }
    }

    pub(super) fn band(&self, claim: Claim) -> &Band {
        &self.bands[claim as usize]
    }

    pub(super) fn band_mut(&mut self, claim: Claim) -> &mut Band {
        &mut self.bands[claim as usize]
    }

    /// All requests' work.
    pub(super) fn work(&self) -> Work {
        self.bands.iter().fold(Work::default(), |sum, band| sum + band.work)
    }

    /// What is served next in a band: the first request of a flow that is not too far ahead of those that wait without a
    /// claim.
    pub(super) fn first(&mut self, claim: Claim, flows: &Flows) -> Option<(FlowId, Rank)> {
        let ceiling = if claim.is_entitled() { flows.limit() } else { flows.ceiling() };
        self.bands[claim as usize].first(flows, ceiling)
    }

    /// Of a band in which [`first`](Self::first) found nothing, what is served if nobody else has anything: the first
    /// request of the flow that is least far ahead.
    pub(super) fn first_ahead(&self, claim: Claim) -> Option<(FlowId, Rank)> {
        self.bands[claim as usize].first_parked()
    }

    /// The first request of the flow that was served most for its weight, in the band of the weakest claim that is weaker
    /// than `claim`.
    pub(super) fn weakest(&self, claim: Claim, flows: &Flows) -> Option<RequestId> {
        let weaker = Claim::ALL.iter().rev().take_while(|other| **other > claim);
        weaker.map(|claim| self.band(*claim)).find_map(|band| band.most_served(flows))
    }
}

impl Band {
    pub(super) fn insert(&mut self, flow: FlowId, rank: Rank, work: Work) {
        let number = match self.by_flow.get(&flow) {
            Some(number) => *number,
            None => self.open(flow),
        };
        let lane = &mut self.lanes[number as usize];
        lane.requests.push(rank);
        lane.living += 1;
        self.work = self.work + work;
        if !self.parked.contains(number)
            && let Some(first) = lane.requests.first()
        {
            self.ready.set(number, first);
        }
    }

    /// Takes a request out that stands anywhere. `is_alive` must already say no to it.
    pub(super) fn remove(&mut self, flow: FlowId, work: Work, is_alive: impl Fn(&Rank) -> bool) {
        let Some(number) = self.by_flow.get(&flow).copied() else { return };
        let lane = &mut self.lanes[number as usize];
        lane.requests.bury(is_alive);
        lane.living -= 1;
        self.work = Work((self.work.0 - work.0).max(0.0));
        self.restore(number);
    }

    /// The first request of all flows whose counters are not above the ceiling.
    fn first(&mut self, flows: &Flows, ceiling: Virtual) -> Option<(FlowId, Rank)> {
        while let Some((counter, number)) = self.parked.first() {
            if counter > ceiling {
                break;
            }
            self.parked.remove(number);
            if let Some(first) = self.lanes[number as usize].requests.first() {
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
        Some((lane.flow, lane.requests.first()?))
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

    /// The first request of the flow with the highest counter.
    fn most_served(&self, flows: &Flows) -> Option<RequestId> {
        let most = self.by_flow.iter().max_by_key(|(flow, _)| (flows.counter(**flow), **flow))?;
        self.lanes[*most.1 as usize].requests.first().map(|rank| rank.id())
    }

    fn open(&mut self, flow: FlowId) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(Lane { flow, requests: LazyHeap::default(), living: 0 });
            (self.lanes.len() - 1) as u32
        });
        self.lanes[number as usize].flow = flow;
        self.by_flow.insert(flow, number);
        number
    }

    /// Puts a lane whose requests have changed where it belongs.
    fn restore(&mut self, number: u32) {
        let lane = &self.lanes[number as usize];
        if lane.living == 0 {
            self.by_flow.remove(&lane.flow);
            self.ready.remove(number);
            self.parked.remove(number);
            self.free.push(number);
        } else if !self.parked.contains(number)
            && let Some(first) = lane.requests.first()
        {
            self.ready.set(number, first);
        }
    }
}
