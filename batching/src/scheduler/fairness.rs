//! Who may be served next: virtual counters of device time.
//!
//! A *flow* is a tenant's work of one class. Its counter is the device time it was given, over all models, divided by its
//! weight: the tenant's own times its class's. A flow may be served while its counter is at most `spread` above the lowest
//! among those that have work: within that latitude deadlines decide. With no latitude this is the virtual token counter of
//! Sheng et al. ("Fairness in Serving Large Language Models", OSDI 2024), with unlimited latitude earliest deadline first.
//!
//! *Bound.* Let `U` be the largest charge of one request over its weight. A counter is raised only while it is within
//! `spread` of the lowest, so counters of flows that always have work never differ by more than `spread + U`, and the time
//! that two such flows are given in any interval, over their weights, by no more than `2 (spread + U)`.
//!
//! *Absence.* A flow that returns does not go below the level it finds, so that absence earns no credit. The level is the
//! highest that the lowest counter has been.

use std::collections::HashMap;
use std::time::Duration;

use super::heap::IndexedHeap;
use crate::units::{Priority, TenantId};

/// A flow: a dense number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowId(pub(super) u32);

/// Device time over weight, in units of a nanosecond at the weight [`UNIT_WEIGHT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Virtual(u64);

impl Virtual {
    pub(super) const MAX: Self = Self(u64::MAX);
}

/// The weight at which a nanosecond of device time is a unit: that of a tenant of weight 1 in the normal class.
const UNIT_WEIGHT: u64 = 4;

#[derive(Debug)]
pub(super) struct Flows {
    by_key: HashMap<(TenantId, Priority), FlowId>,
    flows: Vec<Flow>,
    /// Flows that have queued requests, by counter.
    backlogged: IndexedHeap<Virtual>,
    level: Virtual,
    spread: Virtual,
}

#[derive(Debug)]
struct Flow {
    weight: u64,
    counter: Virtual,
    queued: usize,
}

/// Weight of a class beside the others.
pub(super) const fn class_weight(priority: Priority) -> u64 {
    match priority {
        Priority::Critical => 16,
        Priority::High => 8,
        Priority::Normal => 4,
        Priority::Low => 1,
    }
}

impl Flows {
    /// `spread`: the latitude for deadlines.
    pub(super) fn new(spread: Duration) -> Self {
        Self {
            by_key: HashMap::new(),
            flows: Vec::new(),
            backlogged: IndexedHeap::default(),
            level: Virtual(0),
            spread: Virtual(nanos(spread)),
        }
    }

    /// The flow of a tenant and class, with the weight of its newest request.
    pub(super) fn of(&mut self, tenant: TenantId, priority: Priority, weight: u32) -> FlowId {
        let next = FlowId(self.flows.len() as u32);
        let id = *self.by_key.entry((tenant, priority)).or_insert(next);
        let weight = u64::from(weight.max(1)) * class_weight(priority);
        match self.flows.get_mut(id.0 as usize) {
            Some(flow) => flow.weight = weight,
            None => self.flows.push(Flow { weight, counter: Virtual(0), queued: 0 }),
        }
        id
    }

    /// A request of the flow was queued.
    pub(super) fn queued(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.0 as usize];
        flow.queued += 1;
        if flow.queued == 1 {
            flow.counter = flow.counter.max(self.level);
            self.backlogged.set(id.0, flow.counter);
        }
    }

    /// A request of the flow left the queue.
    pub(super) fn left(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.0 as usize];
        flow.queued -= 1;
        if flow.queued == 0 {
            // Whoever leaves the field empty leaves its level behind.
            let counter = flow.counter;
            self.backlogged.remove(id.0);
            self.raise_level(if self.backlogged.is_empty() { Some(counter) } else { None });
        }
    }

    /// The flow is given this much device time.
    pub(super) fn charge(&mut self, id: FlowId, time: Duration) {
        let flow = &mut self.flows[id.0 as usize];
        flow.counter.0 = flow.counter.0.saturating_add(nanos(time).saturating_mul(UNIT_WEIGHT) / flow.weight);
        if flow.queued > 0 {
            self.backlogged.set(id.0, flow.counter);
        }
        self.raise_level(None);
    }

    pub(super) fn counter(&self, id: FlowId) -> Virtual {
        self.flows[id.0 as usize].counter
    }

    /// The highest counter at which a flow may be served.
    pub(super) fn ceiling(&self) -> Virtual {
        let lowest = self.backlogged.first().map_or(self.level, |(lowest, _)| lowest);
        Virtual(lowest.0.saturating_add(self.spread.0))
    }

    fn raise_level(&mut self, left: Option<Virtual>) {
        let lowest = self.backlogged.first().map(|(lowest, _)| lowest).or(left);
        self.level = self.level.max(lowest.unwrap_or_default());
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPREAD: Duration = Duration::from_millis(2);

    fn backlogged(weights: &[u32]) -> (Flows, Vec<FlowId>) {
        let mut flows = Flows::new(SPREAD);
        let ids =
            (0..).zip(weights).map(|(tenant, weight)| flows.of(TenantId(tenant), Priority::Normal, *weight));
        let ids: Vec<_> = ids.collect();
        ids.iter().for_each(|id| flows.queued(*id));
        (flows, ids)
    }

    fn may_be_served(flows: &Flows, id: FlowId) -> bool {
        flows.counter(id) <= flows.ceiling()
    }

    #[test]
    fn whoever_is_far_ahead_waits() {
        let (mut flows, ids) = backlogged(&[1, 1]);
        flows.charge(ids[0], SPREAD);
        assert!(may_be_served(&flows, ids[0]), "as far ahead as one may be");
        flows.charge(ids[0], Duration::from_nanos(1));
        assert!(!may_be_served(&flows, ids[0]));
        flows.left(ids[1]);
        assert!(may_be_served(&flows, ids[0]), "nobody else waits");
    }

    #[test]
    fn absence_earns_no_credit_and_loses_no_debt() {
        let (mut flows, ids) = backlogged(&[1, 1, 1]);
        flows.left(ids[1]);
        flows.charge(ids[2], SPREAD * 3);
        flows.left(ids[2]);
        flows.charge(ids[0], SPREAD * 10);
        flows.queued(ids[1]);
        assert_eq!(
            flows.counter(ids[1]),
            flows.counter(ids[0]),
            "who was away comes in at the level of the rest"
        );
        flows.left(ids[0]);
        flows.left(ids[1]);
        flows.queued(ids[2]);
        assert_eq!(flows.counter(ids[2]), flows.counter(ids[0]), "the level outlives an empty queue");
    }

    #[test]
    fn classes_are_weighed() {
        let mut flows = Flows::new(Duration::ZERO);
        let ids = Priority::ALL.map(|priority| flows.of(TenantId(0), priority, 1));
        ids.iter().for_each(|id| flows.queued(*id));
        let mut served = [0; 4];
        for _ in 0..2900 {
            let least = ids.iter().position(|id| may_be_served(&flows, *id)).unwrap_or_default();
            flows.charge(ids[least], Duration::from_micros(16));
            served[least] += 1;
        }
        assert_eq!(served, [1600, 800, 400, 100]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The bound of the module's documentation, whatever is served in whatever order.
        #[test]
        fn backlogged_flows_stay_together(
            weights in proptest::collection::vec(1u32..8, 2..6),
            choices in proptest::collection::vec((0usize..6, 1u64..5_000_000), 1..400),
        ) {
            let (mut flows, ids) = backlogged(&weights);
            let mut largest = 0;
            for (choice, nanos) in choices {
                let able: Vec<_> = ids.iter().filter(|id| may_be_served(&flows, **id)).collect();
                let id = *able[choice % able.len()];
                let before = flows.counter(id).0;
                flows.charge(id, Duration::from_nanos(nanos));
                largest = largest.max(flows.counter(id).0 - before);
                let counters = ids.iter().map(|id| flows.counter(*id).0);
                let spread = counters.clone().max().unwrap_or(0) - counters.min().unwrap_or(0);
                prop_assert!(spread <= flows.spread.0 + largest, "{spread} > {} + {largest}", flows.spread.0);
            }
        }
    }
}
