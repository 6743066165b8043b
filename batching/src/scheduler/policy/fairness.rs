//! Who may be served next: virtual counters of device time.
//!
//! A *flow* is a tenant's work of one class. Its counter is the device time it was given, over all models,
//! divided by its weight. A tenant's weight is divided between the classes that it uses, by the weights of
//! these: which class a caller states moves its own calls before or behind each other, and nobody else's.
//! Counters are compared with the lowest among flows that have sequences waiting without a claim. Among these
//! a flow may be served while it is at most `spread` above the lowest: within that latitude deadlines decide.
//! With no latitude this is the virtual token counter of Sheng et al. ("Fairness in Serving Large Language
//! Models", OSDI 2024), with unlimited latitude earliest deadline first. While shares are enforced nobody is
//! served at all who is more than the longest *lag* above the lowest, whatever its claim.
//!
//! *Bound.* Let `S` be the longest lag and `U` the largest charge of one sequence over its weight. While
//! shares are enforced a counter is raised only if it is within `S` of the lowest, so counters of flows that
//! always have work waiting without a claim never differ by more than `S + U`, and the time that two such
//! flows are given in any interval, over their weights, by no more than `2 (S + U)`.
//!
//! *Absence.* The level is the highest that the lowest counter has been. A flow that returns is behind it by
//! no more than [`CREDIT`] of the lag: enough that callers who ask again at once keep their place, and no
//! more. While nobody waits without a claim counters rise no further than the lag above the level: what was
//! left over is not held against whoever took it.

use std::collections::HashMap;
use std::time::Duration;

use units::{Priority, TenantId, Timestamp};

use super::super::heap::IndexedHeap;
use super::super::standing::{Claim, FlowId};

/// Share of the devices beside others'.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Weight(pub(super) f64);

/// Device time over weight, in units of a nanosecond at the weight [`UNIT_WEIGHT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Virtual(u64);

impl Virtual {
    pub(super) const MAX: Self = Self(u64::MAX);
}

/// The weight at which a nanosecond of device time is a unit: that of a tenant of weight 1 that uses one
/// class.
const UNIT_WEIGHT: u64 = 1 << 16;

/// A class that a tenant has not used for so long has no part of its weight.
const IN_USE: Duration = Duration::from_secs(1);

/// Part of the longest lag that absence may earn.
const CREDIT: u32 = 4;

#[derive(Debug)]
pub(super) struct Flows {
    tenants: HashMap<TenantId, [Option<Class>; 4]>,
    flows: Vec<Flow>,
    /// Flows with sequences that wait without a claim, by counter.
    waiting: IndexedHeap<Virtual>,
    /// Flows with entitled sequences, by counter.
    entitled: IndexedHeap<Virtual>,
    /// The highest that the lowest of these counters has been.
    level: Virtual,
    spread: Virtual,
    lag_max: Virtual,
    /// Whether shares are enforced, and with them the longest lag.
    pub(super) is_enforced: bool,
}

/// A class that a tenant has used.
#[derive(Debug, Clone, Copy)]
struct Class {
    flow: FlowId,
    asked_at: Timestamp,
}

#[derive(Debug)]
struct Flow {
    weight: u64,
    counter: Virtual,
    /// Sequences that wait without a claim, and with one.
    waiting: usize,
    entitled: usize,
}

impl Flows {
    /// `spread`: the latitude for deadlines among sequences without a claim. `lag_max`: that of sequences
    /// with one.
    pub(super) fn new(spread: Duration, lag_max: Duration) -> Self {
        Self {
            tenants: HashMap::new(),
            flows: Vec::new(),
            waiting: IndexedHeap::default(),
            entitled: IndexedHeap::default(),
            level: Virtual(0),
            spread: Virtual(nanos(spread)),
            lag_max: Virtual(nanos(lag_max)),
            is_enforced: false,
        }
    }

    /// The flow of a tenant and class, with the weight of its newest call.
    pub(super) fn of(&mut self, now: Timestamp, tenant: TenantId, priority: Priority, weight: u32) -> FlowId {
        let classes = self.tenants.entry(tenant).or_default();
        let next = FlowId(self.flows.len() as u32);
        let class = classes[priority as usize].get_or_insert(Class { flow: next, asked_at: now });
        class.asked_at = now;
        let id = class.flow;
        if id == next {
            self.flows.push(Flow { weight: 1, counter: Virtual(0), waiting: 0, entitled: 0 });
        }
        let flows = &self.flows;
        let is_in_use =
            |class: &Class| now <= class.asked_at + IN_USE || flows[class.flow.0 as usize].waiting > 0;
        let in_use = Priority::ALL.into_iter().zip(classes.iter());
        let in_use = in_use.filter(|(_, class)| class.as_ref().is_some_and(is_in_use));
        let all: u64 = in_use.map(|(priority, _)| u64::from(priority.weight())).sum();
        let weight = u64::from(weight.max(1)) * UNIT_WEIGHT * u64::from(priority.weight()) / all.max(1);
        self.flows[id.0 as usize].weight = weight.max(1);
        id
    }

    /// A flow's weight beside that of a tenant of weight 1.
    pub(super) fn weight(&self, id: FlowId) -> Weight {
        Weight(self.flows[id.0 as usize].weight as f64 / UNIT_WEIGHT as f64)
    }

    /// A sequence of the flow waits without a claim.
    fn waits(&mut self, id: FlowId) {
        let counter = self.counter(id);
        let flow = &mut self.flows[id.0 as usize];
        flow.waiting += 1;
        if flow.waiting == 1 {
            flow.counter = counter;
            self.waiting.set(id.0, counter);
            self.raise_level();
        }
    }

    /// It does not wait any more.
    fn left(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.0 as usize];
        debug_assert!(flow.waiting > 0, "a sequence left a flow of which none waits");
        flow.waiting -= 1;
        if flow.waiting == 0 {
            self.waiting.remove(id.0);
            self.raise_level();
        }
    }

    /// A sequence of the flow waits with a claim.
    pub(super) fn enter(&mut self, id: FlowId, claim: Claim) {
        if !claim.is_entitled() {
            return self.waits(id);
        }
        let flow = &mut self.flows[id.0 as usize];
        flow.entitled += 1;
        if flow.entitled == 1 {
            self.entitled.set(id.0, flow.counter);
        }
    }

    /// It does not wait any more, or has another claim by now.
    pub(super) fn leave(&mut self, id: FlowId, claim: Claim) {
        if !claim.is_entitled() {
            return self.left(id);
        }
        let flow = &mut self.flows[id.0 as usize];
        debug_assert!(flow.entitled > 0, "an entitled sequence left a flow of which none waits");
        flow.entitled -= 1;
        if flow.entitled == 0 {
            self.entitled.remove(id.0);
        }
    }

    /// Whether no flow with entitled sequences was served less than this one.
    pub(super) fn is_least(&self, id: FlowId) -> bool {
        let least = self.entitled.first().map(|(_, number)| self.counter(FlowId(number)));
        least.is_none_or(|least| self.counter(id) <= least)
    }

    /// The flow is given this much device time.
    pub(super) fn charge(&mut self, id: FlowId, time: Duration) {
        let before = self.counter(id);
        let flow = &mut self.flows[id.0 as usize];
        let charge = nanos(time).saturating_mul(UNIT_WEIGHT) / flow.weight;
        let mut counter = Virtual(before.0.saturating_add(charge));
        if self.waiting.is_empty() {
            // Nobody is kept waiting: what is used now is not held against it without bound.
            counter = counter.min(Virtual(self.level.0.saturating_add(self.lag_max.0)).max(before));
        }
        flow.counter = counter;
        if flow.entitled > 0 {
            self.entitled.set(id.0, counter);
        }
        if flow.waiting > 0 {
            self.waiting.set(id.0, counter);
            self.raise_level();
        }
    }

    /// A flow's counter. Who was away is behind the others by no more than absence may earn.
    pub(super) fn counter(&self, id: FlowId) -> Virtual {
        let floor = Virtual(self.level.0.saturating_sub(self.lag_max.0 / u64::from(CREDIT)));
        self.flows[id.0 as usize].counter.max(floor)
    }

    /// The highest counter at which a flow may be served without a claim.
    pub(super) fn ceiling(&self) -> Virtual {
        self.above_lowest(self.spread)
    }

    /// The highest counter at which a flow may be served at all while others wait without a claim.
    pub(super) fn limit(&self) -> Virtual {
        if self.is_enforced { self.above_lowest(self.lag_max) } else { Virtual::MAX }
    }

    /// Whether a flow is no further ahead of the lowest than the longest lag.
    pub(super) fn is_within_lag(&self, id: FlowId) -> bool {
        self.counter(id) <= self.above_lowest(self.lag_max)
    }

    fn above_lowest(&self, latitude: Virtual) -> Virtual {
        self.waiting.first().map_or(Virtual::MAX, |(lowest, _)| Virtual(lowest.0.saturating_add(latitude.0)))
    }

    fn raise_level(&mut self) {
        if let Some((lowest, _)) = self.waiting.first() {
            self.level = self.level.max(lowest);
        }
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
    const NOW: Timestamp = Timestamp::ZERO;

    fn backlogged(weights: &[u32]) -> (Flows, Vec<FlowId>) {
        let mut flows = Flows::new(SPREAD, SPREAD * 50);
        let ids = (0..)
            .zip(weights)
            .map(|(tenant, weight)| flows.of(NOW, TenantId(tenant), Priority::Normal, *weight));
        let ids: Vec<_> = ids.collect();
        ids.iter().for_each(|id| flows.waits(*id));
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
    fn absence_earns_little_credit_and_loses_no_debt() {
        let (mut flows, ids) = backlogged(&[1, 1, 1]);
        flows.left(ids[1]);
        flows.charge(ids[2], SPREAD * 300);
        flows.left(ids[2]);
        flows.charge(ids[0], SPREAD * 200);
        flows.waits(ids[1]);
        let behind = flows.counter(ids[0]).0 - flows.counter(ids[1]).0;
        assert_eq!(behind, nanos(SPREAD * 50) / u64::from(CREDIT));
        flows.waits(ids[2]);
        assert_eq!(flows.counter(ids[2]).0 - flows.counter(ids[0]).0, nanos(SPREAD * 100), "as it left");
    }

    #[test]
    fn what_nobody_waits_for_is_not_held_against_who_takes_it() {
        let (mut flows, ids) = backlogged(&[1, 1]);
        ids.iter().for_each(|id| flows.left(*id));
        flows.charge(ids[0], SPREAD * 10_000);
        flows.waits(ids[1]);
        flows.is_enforced = true;
        assert!(flows.counter(ids[0]) <= flows.limit());
        flows.charge(ids[0], Duration::from_nanos(1));
        assert!(flows.counter(ids[0]) > flows.limit(), "beyond the lag it waits");
    }

    #[test]
    fn classes_are_weighed() {
        let mut flows = Flows::new(Duration::ZERO, SPREAD);
        let of = |flows: &mut Flows, priority| flows.of(NOW, TenantId(0), priority, 1);
        for priority in Priority::ALL {
            of(&mut flows, priority);
        }
        let ids = Priority::ALL.map(|priority| of(&mut flows, priority));
        ids.iter().for_each(|id| flows.waits(*id));
        let mut served = [0; 4];
        for _ in 0..2900 {
            let least = ids.iter().position(|id| may_be_served(&flows, *id)).unwrap_or_default();
            flows.charge(ids[least], Duration::from_micros(16));
            served[least] += 1;
        }
        assert_eq!(served, [1600, 800, 400, 100]);
    }

    #[test]
    fn a_class_takes_from_the_tenants_other_classes_only() {
        let mut flows = Flows::new(Duration::ZERO, SPREAD);
        let check = |flows: &mut Flows, now, priority, expected: f64| {
            let id = flows.of(now, TenantId(0), priority, 5);
            assert!((flows.weight(id).0 - expected).abs() < 1e-3, "{priority:?}: {:?}", flows.weight(id));
            id
        };
        for priority in Priority::ALL {
            // Alone, each is the whole tenant; the one before is forgotten.
            check(&mut flows, Timestamp::ZERO + IN_USE * (2 * priority as u32 + 2), priority, 5.0);
        }
        let now = Timestamp::ZERO + Duration::from_secs(60);
        check(&mut flows, now, Priority::Normal, 5.0);
        let critical = check(&mut flows, now, Priority::Critical, 4.0);
        check(&mut flows, now, Priority::Normal, 1.0);
        let later = now + IN_USE + Duration::from_nanos(1);
        check(&mut flows, later, Priority::Normal, 5.0);
        flows.waits(critical);
        check(&mut flows, later, Priority::Normal, 1.0);
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
