//! What waits for one model.
//!
//! Requests of a flow stand in a *lane*, earliest due first. Requests that can still meet their target and those that
//! cannot stand in two *bands* of lanes, so that what is late does not make the rest late too. The lanes of a band are
//! ordered by their first request; those of flows that are ahead of their share are parked aside until it is their turn.

use std::collections::HashMap;

use super::cost::Work;
use super::fairness::{FlowId, Flows, Virtual};
use super::heap::{IndexedHeap, LazyHeap};
use super::{RequestId, Waiting};
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

    pub(super) fn is_critical(&self) -> bool {
        !self.is_not_critical
    }
}

/// The queue of one model. Holds ids; the entries are the scheduler's.
#[derive(Debug, Default)]
pub(super) struct ModelQueue {
    /// What can still meet its target.
    pub(super) on_time: Band,
    /// What cannot.
    pub(super) late: Band,
    /// Everything, in the order of arrival.
    pub(super) arrivals: LazyHeap<RequestId>,
    pub(super) requests: usize,
    pub(super) tokens: Tokens,
    /// Requests dispatched and not completed.
    pub(super) in_flight: usize,
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

    /// The request that is served next: the first of all flows that may be served.
    pub(super) fn first(&mut self, flows: &Flows) -> Option<(FlowId, Rank)> {
        let ceiling = flows.ceiling();
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

    /// Keeps a flow's lane out of [`first`](Self::first) until [`resume`](Self::resume).
    pub(super) fn set_aside(&mut self, flow: FlowId) {
        if let Some(number) = self.by_flow.get(&flow) {
            self.ready.remove(*number);
        }
    }

    /// Ends [`set_aside`](Self::set_aside).
    pub(super) fn resume(&mut self, flow: FlowId) {
        if let Some(number) = self.by_flow.get(&flow).copied() {
            self.restore(number);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_flow.is_empty()
    }

    /// Any one flow that has requests here and the rank of its first, whether it may be served or not.
    pub(super) fn flows(&self) -> impl Iterator<Item = FlowId> {
        self.by_flow.keys().copied()
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
