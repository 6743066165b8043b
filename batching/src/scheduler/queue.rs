//! What waits for one model: a lane for each class and tenant, earliest deadline first within a lane.

use std::collections::{BTreeMap, BTreeSet};

use super::fairness::Counters;
use super::{Entry, ModelSnapshot, Request, RequestId};
use crate::units::{Priority, TenantId, Timestamp, Tokens};

/// The queue of one model. Holds ids; the entries are the scheduler's.
#[derive(Debug, Default)]
pub(super) struct ModelQueue {
    /// By class, then tenant; a lane that empties is removed.
    classes: [Class; Priority::ALL.len()],
    /// Served tokens by class, over the class's weight.
    class_counters: Counters<Priority>,
    /// Every request with its arrival; ids increase, so the first is the oldest.
    by_age: BTreeMap<RequestId, Timestamp>,
    /// Tokens waiting.
    pub(super) tokens: Tokens,
    /// Requests dispatched and not completed.
    pub(super) in_flight: usize,
}

/// Requests of a tenant in the order they should run, with their tokens.
type Lane = BTreeSet<(Timestamp, RequestId, Tokens)>;

#[derive(Debug, Default)]
struct Class {
    lanes: BTreeMap<TenantId, Lane>,
    counters: Counters<TenantId>,
}

impl ModelQueue {
    /// Requests waiting.
    pub(super) fn requests(&self) -> usize {
        self.by_age.len()
    }

    /// When the oldest request arrived.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.by_age.first_key_value().map(|(_, arrival)| *arrival)
    }

    /// Whether a critical request waits.
    pub(super) fn has_critical(&self) -> bool {
        !self.class(Priority::Critical).lanes.is_empty()
    }

    pub(super) fn insert<P>(&mut self, id: RequestId, now: Timestamp, request: &Request<P>) {
        let Request { tenant, priority, tokens, deadline, .. } = *request;
        let class = &mut self.classes[priority as usize];
        if class.lanes.is_empty() {
            self.class_counters.activate(priority);
        }
        let lane = class.lanes.entry(tenant).or_default();
        if lane.is_empty() {
            class.counters.activate(tenant);
        }
        lane.insert((deadline, id, tokens));
        self.by_age.insert(id, now);
        self.tokens += tokens;
    }

    pub(super) fn remove<P>(&mut self, entry: &Entry<P>) {
        let Request { tenant, priority, tokens, deadline, .. } = entry.request;
        if self.by_age.remove(&entry.id).is_none() {
            return;
        }
        self.tokens -= tokens;
        let class = &mut self.classes[priority as usize];
        if let Some(lane) = class.lanes.get_mut(&tenant) {
            lane.remove(&(deadline, entry.id, tokens));
            if lane.is_empty() {
                class.lanes.remove(&tenant);
                class.counters.deactivate(tenant);
            }
        }
        if class.lanes.is_empty() {
            self.class_counters.deactivate(priority);
        }
    }

    /// The request that should join a batch next, among those of at most `room` tokens: critical ones first, then the
    /// least served class, in it the least served tenant, of it the earliest deadline. One whose next request does not fit
    /// is passed over by those at most `spread_max` tokens ahead of it; its counter keeps its turn.
    pub(super) fn next(&self, room: Tokens, spread_max: Tokens) -> Option<RequestId> {
        let spread_max = u64::from(spread_max.0);
        let classes = self.class_counters.in_order(spread_max * scale(Priority::Low));
        let rest = classes.into_iter().filter(|class| *class != Priority::Critical);
        std::iter::once(Priority::Critical).chain(rest).find_map(|priority| {
            let class = self.class(priority);
            class.counters.in_order(spread_max).into_iter().find_map(|tenant| {
                let (_, id, tokens) = class.lanes.get(&tenant)?.first()?;
                (*tokens <= room).then_some(*id)
            })
        })
    }

    /// Counts a request as served. To be called before it is removed, while its lane still counts as backlogged.
    pub(super) fn charge<P>(&mut self, request: &Request<P>) {
        let tokens = u64::from(request.tokens.0);
        self.class_counters.charge(request.priority, tokens * scale(request.priority));
        self.classes[request.priority as usize].counters.charge(request.tenant, tokens);
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> ModelSnapshot {
        ModelSnapshot {
            queued_requests: self.requests(),
            queued_tokens: self.tokens,
            oldest_wait: self
                .oldest()
                .map(|oldest| now.saturating_duration_since(oldest))
                .unwrap_or_default(),
            in_flight_requests: self.in_flight,
        }
    }

    fn class(&self, priority: Priority) -> &Class {
        &self.classes[priority as usize]
    }
}

/// What a token costs a class: weights 8 : 4 : 1, as integers. Critical requests go first and are not weighed.
const fn scale(priority: Priority) -> u64 {
    match priority {
        Priority::Critical => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 8,
    }
}
