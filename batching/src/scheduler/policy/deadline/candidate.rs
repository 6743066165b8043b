//! The models that a device could run, and which of them comes first.

use std::time::Duration;

use units::{ModelId, Timestamp};

use super::super::super::standing::FlowId;
use super::super::fairness::Virtual;
use super::{Claim, Deadline, DeadlinePolicy, Demand, Opening, Order, State};

/// A model with work that a device could run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) model: ModelId,
    pub(super) claim: Claim,
    /// When the first sequence is due.
    pub(super) due: Timestamp,
    /// When the first came, and when it goes first if it is late.
    pub(super) arrived: Timestamp,
    pub(super) promise: Timestamp,
    /// Planned time of a batch of all sequences of this claim.
    time: Duration,
    target: Duration,
    /// The counter of its first flow, if that is ahead of others by more than the longest lag.
    ahead: Virtual,
    pub(super) flow: FlowId,
    /// The counter of its first flow.
    counter: Virtual,
    /// The last batch of this model without a claim.
    last_turn: u64,
}

impl Candidate {
    /// How urgent a batch is, least first: the share of its target that is left once it is computed.
    fn urgency(&self, start: Timestamp, order: Order) -> f64 {
        let until_due = self.due.saturating_duration_since(start).as_secs_f64();
        match order {
            Order::LeastSlackShare => (until_due - self.time.as_secs_f64()) / self.target.as_secs_f64(),
            Order::EarliestDue => until_due,
        }
    }

    /// How long its first sequence has waited, in times of what it was promised.
    pub(super) fn slowdown(&self, start: Timestamp) -> f64 {
        let promised = self.promise.saturating_duration_since(self.arrived).max(Duration::from_millis(1));
        start.saturating_duration_since(self.arrived).as_secs_f64() / promised.as_secs_f64()
    }

    /// The shortest batch that is worth running.
    pub(super) fn least(&self, quantum: Duration) -> Duration {
        self.time.min(quantum)
    }
}

/// Of the models with entitled sequences the most urgent, capped ones after the others.
pub(super) fn most_urgent(candidates: &[Candidate], start: Timestamp, order: Order) -> Option<&Candidate> {
    let entitled = candidates.iter().filter(|candidate| candidate.claim.is_entitled());
    entitled.min_by(|a, b| {
        let by_urgency = || a.urgency(start, order).total_cmp(&b.urgency(start, order));
        a.claim.place().cmp(&b.claim.place()).then_with(by_urgency)
    })
}

/// Of the models with sequences without a claim the one whose last turn is longest ago: a single late
/// sequence does not wait for another model's thousand.
pub(super) fn next_in_turn(candidates: &[Candidate]) -> Option<&Candidate> {
    let lower = candidates.iter().filter(|candidate| !candidate.claim.is_entitled());
    lower.min_by_key(|candidate| (candidate.ahead, candidate.last_turn))
}

/// Share of device time that sequences without a claim are owed, by how long the first of them is overdue;
/// none without any. Among callers that wait for their answers nobody is impatient who was served more than
/// whoever would have to wait.
pub(super) fn turns(
    candidates: &[Candidate],
    start: Timestamp,
    policy: &DeadlinePolicy,
    demand: &Demand,
) -> Option<f64> {
    let lower = || candidates.iter().filter(|candidate| !candidate.claim.is_entitled());
    lower().next()?;
    let entitled = candidates.iter().filter(|candidate| candidate.claim.is_entitled());
    let least = entitled.map(|candidate| candidate.counter).min().filter(|_| demand.is_contended());
    let impatient = lower().filter(|candidate| least.is_none_or(|least| candidate.counter <= least));
    let overdue = impatient.map(|candidate| start.saturating_duration_since(candidate.due)).max();
    if demand.is_flooded() {
        return Some(policy.turns);
    }
    let overdue = overdue.unwrap_or_default().as_secs_f64();
    let impatience = (overdue / policy.patience.as_secs_f64()).min(1.0);
    Some(policy.turns + (policy.turns_max - policy.turns) * impatience)
}

impl Deadline {
    /// A model's work with the first of `claims` that any of its sequences has. What this device could not
    /// compute in time is left to a faster one.
    pub(super) fn candidate<P>(
        &mut self,
        state: &State<P>,
        opening: Opening,
        model: ModelId,
        claims: &[Claim],
    ) -> Option<Candidate> {
        let (bands, flows) = (&mut self.bands[model.index()], &self.flows);
        // Within the longest lag the claim decides; beyond it who was served least.
        let within = claims.iter().find_map(|claim| {
            if let Some(first) = bands.first(*claim, flows) {
                return Some((*claim, first));
            }
            let first = bands.first_ahead(*claim).filter(|_| !claim.is_entitled())?;
            flows.is_within_lag(first.0).then_some((*claim, first))
        });
        let beyond = || {
            let lower = claims.iter().filter(|claim| !claim.is_entitled());
            let firsts = lower.filter_map(|claim| Some((*claim, bands.first_ahead(*claim)?)));
            firsts.min_by_key(|(_, (flow, _))| flows.counter(*flow))
        };
        let (claim, (flow, rank)) = within.or_else(beyond)?;
        let (counter, due) = (flows.counter(flow), rank.due);
        let ahead = if within.is_some() { Virtual::default() } else { counter };
        let cost = state.fleet.get(opening.device)?.costs.get(model.index())?;
        let first = state.slots.get(rank.id())?;
        let (work, promise) = (first.work, first.standing.promise);
        let arrived = first.entry.enqueued_at;
        if claim.is_entitled() && opening.start + cost.predict(work) > due {
            return None;
        }
        let (time, target) = (cost.plan(bands.band(claim).work), state.models[model].config.latency_target);
        Some(Candidate {
            model,
            claim,
            due,
            arrived,
            promise,
            time,
            target,
            ahead,
            flow,
            counter,
            last_turn: bands.last_turn,
        })
    }
}
