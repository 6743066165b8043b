//! What a device runs next, and when: the policy by deadlines.
//!
//! A device with nothing to do takes work as soon as there is any. Waiting for company buys nothing here: while devices are
//! idle overhead is free, and once they are busy batches grow by themselves.
//!
//! *Which model* decides how many batches are needed. Every batch costs its overhead, so what counts is that no model is
//! served more often than its target asks. The model goes first of which the smallest share of the target is left once its
//! waiting requests are computed, so that under load all models wait for the same share of their targets. The earliest
//! deadline first, which ignores the targets' lengths, serves the short ones again and again in tiny batches: the ablation in
//! `benches/results/simulation.md` has the numbers.
//!
//! *How much.* A batch ends before the first of its members is due, and early enough that whatever else waits can still be
//! on time: a forward pass gives to other devices what they can take, a backward pass in deadline order finds the latest
//! start of the rest (as in the feasibility tests of deadline scheduling: Stankovic et al., "Deadline Scheduling for Real-Time
//! Systems", 1998, chapter 3). And it keeps no device that is the only one soon free longer than the *quantum*, a share of the
//! shortest target, since the most urgent request may be the next to arrive.
//!
//! *Who rides along.* While shares are enforced, what is within the share of a flow that asks for much more than its share
//! (*capped*) goes after everybody else's, so that a flood is felt by whoever sends it. Batches of its own would cost
//! their overhead, and batches lengthened by it at will make the others wait as if it went first: so it rides in their
//! batches, for a bounded part of their time, and has its own when nobody else waits.
//!
//! *What is given up.* A request whose deadline would cut a batch to less than its quantum is late: it makes place for the
//! others (the early drop of Shen et al., "Nexus", SOSP 2019, section 4.3). Otherwise batches shrink just when load
//! grows, their overhead eats the devices, and the queue never recovers. Late is not refused: it is served after the rest,
//! and has turns of its own.
//!
//! *How long what is late waits.* Among callers who wait for their answers as many come as are answered, so that the backlog
//! stays as it is, and whoever is passed over by everybody else waits for ever. So what is late has a *promise*: the time that
//! it would have taken when it came if all had been served as they came, times the stretch. Until then fresh requests use the
//! time that it can spare; then it goes first. (Slack stealing: Lehoczky and Ramos-Thuel, "An optimal algorithm for scheduling
//! soft-aperiodic tasks in fixed-priority preemptive systems", RTSS 1992; here only the first of the late ones is looked at.)
//! Nothing is promised while the backlog grows: then not everybody can be served, and promises would make all of them late.

use std::time::Duration;

use super::config::{DeadlinePolicy, Order};
use super::cost::Work;
use super::demand::Demand;
use super::fairness::{FlowId, Virtual};
use super::queue::{Claim, ModelQueue, Rank};
use super::{Batch, Decision, Ended, Entry, Scheduler};
use crate::units::{DeviceId, ModelId, Timestamp, Tokens};

/// How many requests that do not fit a batch are passed over before it is closed.
const LOOK_AHEAD: usize = 32;

/// Quanta of device time owed to requests without a claim after which they go first whoever else is urgent.
const TURN_QUANTA: u32 = 4;

/// A model with work that a device could run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    model: ModelId,
    claim: Claim,
    /// When the first request is due.
    due: Timestamp,
    /// Planned time of a batch of all requests of this claim.
    time: Duration,
    target: Duration,
    /// The counter of its first flow, if that is ahead of others by more than the longest lag.
    ahead: Virtual,
    /// The counter of its first flow.
    counter: Virtual,
    /// The last batch of this model without a claim.
    last_turn: u64,
}

/// What to run: a batch of a model's requests that have a claim, to end by a moment.
#[derive(Debug, Clone, Copy)]
struct Choice {
    model: ModelId,
    claim: Claim,
    end_max: Timestamp,
    /// Other models have entitled requests waiting.
    is_pressed: bool,
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

    /// The shortest batch that is worth running.
    fn least(&self, quantum: Duration) -> Duration {
        self.time.min(quantum)
    }
}

/// Of the models with entitled requests the most urgent, capped ones after the others.
fn most_urgent(candidates: &[Candidate], start: Timestamp, order: Order) -> Option<&Candidate> {
    let entitled = candidates.iter().filter(|candidate| candidate.claim.is_entitled());
    entitled.min_by(|a, b| {
        let by_urgency = || a.urgency(start, order).total_cmp(&b.urgency(start, order));
        a.claim.cmp(&b.claim).then_with(by_urgency)
    })
}

/// Of the models with requests without a claim the one whose last turn is longest ago: a single late request does not wait
/// for another model's thousand.
fn next_in_turn(candidates: &[Candidate]) -> Option<&Candidate> {
    let lower = candidates.iter().filter(|candidate| !candidate.claim.is_entitled());
    lower.min_by_key(|candidate| (candidate.ahead, candidate.last_turn))
}

/// Share of device time that requests without a claim are owed, by how long the first of them is overdue; none without any.
/// Among callers that wait for their answers nobody is impatient who was served more than whoever would have to wait.
fn turns(
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

impl<P> Scheduler<P> {
    pub(super) fn poll_by_deadline(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        policy: &DeadlinePolicy,
    ) -> Decision<P> {
        let state = &self.devices[usize::from(device.0)];
        if state.in_flight > 0 && state.free_at > now + policy.handover_lead {
            return Decision::WaitUntil(state.free_at.back(policy.handover_lead));
        }
        let start = state.free_at.max(now);
        let quantum = self.quantum(policy);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        for index in 0..self.queues.len() {
            let model = ModelId(index as u16);
            self.sort_out(start, model, quantum);
            for claims in [&[Claim::Entitled][..], &[Claim::Capped], &[Claim::Excess, Claim::Late]] {
                candidates.extend(self.candidate(start, device, model, claims));
            }
        }
        let choice = self
            .pressing(start, device, &candidates, quantum)
            .or_else(|| self.choose(start, device, &candidates, (quantum, policy.order)));
        let turns = turns(&candidates, start, policy, &self.demand);
        self.candidates = candidates;
        let batch = choice.and_then(|choice| self.fill(now, start, device, choice, policy.riders));
        let Some(batch) = batch else { return Decision::Idle };
        self.owed = match choice {
            Some(Choice { claim, .. }) if claim.is_entitled() => {
                turns.map_or(Duration::ZERO, |turns| self.owed + batch.predicted.mul_f64(turns))
            }
            None => Duration::ZERO,
            Some(_) => {
                self.queues[usize::from(batch.model.0)].last_turn = self.next_batch;
                self.owed.saturating_sub(batch.predicted)
            }
        };
        Decision::Dispatch(batch)
    }

    /// The longest that all devices may be busy with one model, and the least that a batch is cut to.
    fn quantum(&self, policy: &DeadlinePolicy) -> Duration {
        let shortest = self.config.models.iter().map(|model| model.latency_target).min();
        shortest.unwrap_or_default().mul_f64(policy.quantum)
    }

    /// Moves the first requests of a model that cannot meet their target in a batch worth running out of the way of the
    /// others, and those that cannot meet their deadline at all out of the queue.
    fn sort_out(&mut self, start: Timestamp, model: ModelId, quantum: Duration) {
        let index = usize::from(model.0);
        for claim in Claim::ALL {
            while let Some((flow, rank)) = self.queues[index].first(claim, &self.flows) {
                let Some(waiting) = self.slots.get(rank.id()) else { break };
                let Some(cost) = self.fastest(model) else { return };
                let alone = start + cost.predict(waiting.work);
                let needed = cost.plan(self.queues[index].band(claim).work).min(quantum);
                let is_late = alone > waiting.entry.request.deadline;
                if claim == Claim::Entitled && (is_late || alone.max(start + needed) > rank.due) {
                    self.demand.missed(start);
                }
                if is_late {
                    self.end(rank.id(), Ended::DeadlineExceeded);
                } else if claim != Claim::Late && alone.max(start + needed) > rank.due {
                    self.make_late(model, flow, rank, claim);
                } else {
                    break;
                }
            }
        }
    }

    fn make_late(&mut self, model: ModelId, flow: FlowId, rank: Rank, from: Claim) {
        let Some(waiting) = self.slots.get_mut(rank.id()) else { return };
        waiting.claim = Claim::Late;
        waiting.due = if self.demand.is_overload() { waiting.due } else { waiting.promise };
        let late = Rank::new(waiting);
        let (work, seconds) = (waiting.work, waiting.seconds);
        let slots = &self.slots;
        let queue = &mut self.queues[usize::from(model.0)];
        queue.band_mut(from).remove(flow, work, |rank| slots.is_in(rank.id(), from));
        queue.band_mut(Claim::Late).insert(flow, late, work);
        if from.is_entitled() {
            self.flows.waits(flow);
        }
        let target = self.config.models[usize::from(model.0)].latency_target;
        self.demand.held_up(flow, seconds / target.as_secs_f64());
    }

    /// A model's work with the first of `claims` that any of its requests has. What this device could not compute in time
    /// is left to a faster one.
    fn candidate(
        &mut self,
        start: Timestamp,
        device: DeviceId,
        model: ModelId,
        claims: &[Claim],
    ) -> Option<Candidate> {
        let index = usize::from(model.0);
        let (queue, flows) = (&mut self.queues[index], &self.flows);
        // Within the longest lag the claim decides; beyond it who was served least.
        let within = claims.iter().find_map(|claim| {
            if let Some(first) = queue.first(*claim, flows) {
                return Some((*claim, first));
            }
            let first = queue.first_ahead(*claim).filter(|_| !claim.is_entitled())?;
            flows.is_within_lag(first.0).then_some((*claim, first))
        });
        let beyond = || {
            let lower = claims.iter().filter(|claim| !claim.is_entitled());
            let firsts = lower.filter_map(|claim| Some((*claim, queue.first_ahead(*claim)?)));
            firsts.min_by_key(|(_, (flow, _))| flows.counter(*flow))
        };
        let (claim, (flow, rank)) = within.or_else(beyond)?;
        let ahead = if within.is_some() { Virtual::default() } else { flows.counter(flow) };
        let cost = &self.devices[usize::from(device.0)].costs[index];
        let work = self.slots.get(rank.id())?.work;
        if claim.is_entitled() && start + cost.predict(work) > rank.due {
            return None;
        }
        let target = self.config.models[index].latency_target;
        let (due, time, last_turn) = (rank.due, cost.plan(queue.band(claim).work), queue.last_turn);
        Some(Candidate { model, claim, due, time, target, ahead, counter: flows.counter(flow), last_turn })
    }

    /// What is late and can wait no longer.
    fn pressing(
        &mut self,
        start: Timestamp,
        device: DeviceId,
        candidates: &[Candidate],
        quantum: Duration,
    ) -> Option<Choice> {
        if self.demand.is_overload() || self.demand.is_contended() {
            return None;
        }
        let entitled = candidates.iter().filter(|candidate| candidate.claim.is_entitled());
        let least = entitled.map(|candidate| candidate.counter).min();
        let mut first: Option<Candidate> = None;
        for index in 0..self.queues.len() {
            let late = self.candidate(start, device, ModelId(index as u16), &[Claim::Late]);
            let Some(late) = late else { continue };
            let is_pressing =
                start + late.least(quantum) >= late.due && least.is_none_or(|least| late.counter <= least);
            if is_pressing && first.is_none_or(|first| late.due < first.due) {
                first = Some(late);
            }
        }
        let late = first?;
        let limit = self.limit(start, device, &late, candidates, quantum);
        let end_max = limit.max(start + late.least(quantum));
        Some(Choice { model: late.model, claim: Claim::Late, end_max, is_pressed: true })
    }

    /// The model to run, and when its batch must have ended for the sake of the others.
    fn choose(
        &self,
        start: Timestamp,
        device: DeviceId,
        candidates: &[Candidate],
        (quantum, order): (Duration, Order),
    ) -> Option<Choice> {
        let needed = |candidate: &Candidate| start + candidate.least(quantum);
        let chosen = |candidate: &Candidate, end_max: Timestamp| Choice {
            model: candidate.model,
            claim: candidate.claim,
            end_max: end_max.max(needed(candidate)),
            is_pressed: candidates
                .iter()
                .any(|other| other.claim == Claim::Entitled && other.model != candidate.model),
        };
        // What has no claim has its turn all the same: when nobody minds, or after long enough in any case.
        let lower = next_in_turn(candidates);
        if let Some(lower) = lower
            && self.owed >= lower.least(quantum)
        {
            let limit = self.limit(start, device, lower, candidates, quantum);
            if needed(lower) <= limit || self.owed >= quantum * TURN_QUANTA {
                return Some(chosen(lower, limit));
            }
        }
        let first = most_urgent(candidates, start, order).or(lower)?;
        let limit = self.limit(start, device, first, candidates, quantum);
        if needed(first) <= limit {
            return Some(chosen(first, limit));
        }
        // What stands in the way is more urgent than it seemed.
        let urgent = candidates.iter().min_by_key(|candidate| (candidate.claim, candidate.due))?;
        Some(chosen(urgent, self.limit(start, device, urgent, candidates, quantum)))
    }

    /// When a batch must have ended so that every other model's entitled requests can still be answered in time, by this
    /// device or another, and so that nobody finds all devices busy for too long.
    fn limit(
        &self,
        start: Timestamp,
        device: DeviceId,
        chosen: &Candidate,
        candidates: &[Candidate],
        quantum: Duration,
    ) -> Timestamp {
        let mut others: Vec<Timestamp> = self
            .devices
            .iter()
            .enumerate()
            .filter(|(index, other)| *index != usize::from(device.0) && !other.is_lost)
            .map(|(_, other)| other.free_at.max(start))
            .collect();
        let mut waiting: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| (candidate.model, candidate.claim) != (chosen.model, chosen.claim))
            .filter(|candidate| candidate.claim.is_entitled() && candidate.claim <= chosen.claim)
            .collect();
        waiting.sort_unstable_by_key(|candidate| candidate.due);
        // Forward: what other devices can take in time, they take.
        waiting.retain(|candidate| {
            let Some(free) = others.iter_mut().min() else { return true };
            let end = *free + candidate.least(quantum);
            let fits = end <= candidate.due;
            if fits {
                *free = end;
            }
            !fits
        });
        // Backward: the rest is this device's, after this batch.
        let rest = waiting.iter().rev();
        let limit = rest
            .fold(Timestamp::MAX, |next, candidate| next.min(candidate.due).back(candidate.least(quantum)));
        // Nobody who is yet to come may find all devices busy for too long; and what has no claim keeps none for long.
        let is_other_free = others.iter().any(|free| *free <= start + quantum);
        let may_be_long = is_other_free && chosen.claim == Claim::Entitled;
        if may_be_long { limit } else { limit.min(start + quantum) }
    }

    /// Takes a batch out of a model's queue that ends by the chosen moment; its first member may end it later.
    fn fill(
        &mut self,
        now: Timestamp,
        start: Timestamp,
        device: DeviceId,
        choice: Choice,
        riders: f64,
    ) -> Option<Batch<P>> {
        let Choice { model, claim, mut end_max, is_pressed } = choice;
        let index = usize::from(model.0);
        let cost = &self.devices[usize::from(device.0)].costs[index];
        let (overhead, slope) = (cost.overhead(), cost.slope());
        let bounds = &self.config.models[index];
        let (tokens_max, sequences_max) = (bounds.batch_tokens_max, bounds.batch_sequences_max);
        let mut members: Vec<Entry<P>> = Vec::new();
        let mut charged: Vec<FlowId> = Vec::new();
        let mut aside: Vec<(Claim, FlowId)> = Vec::new();
        let (mut tokens, mut work) = (Tokens(0), Work::default());
        // Requests without a claim of flows that are ahead of others by more than the longest lag are taken last.
        let passes = match claim {
            Claim::Entitled => &[(Claim::Entitled, true), (Claim::Capped, true)][..],
            Claim::Capped => &[(Claim::Capped, true)],
            Claim::Excess => {
                &[(Claim::Excess, true), (Claim::Late, true), (Claim::Excess, false), (Claim::Late, false)]
            }
            Claim::Late => &[
                (Claim::Late, true),
                (Claim::Entitled, true),
                (Claim::Capped, true),
                (Claim::Excess, true),
                (Claim::Late, false),
                (Claim::Excess, false),
            ],
        };
        for (claim, is_within_lag) in passes {
            // Capped requests save a batch of their own, but others do not wait long for them.
            if *claim == Claim::Capped && is_pressed && !members.is_empty() {
                let own = overhead + Duration::from_secs_f64(slope * work.0);
                end_max = end_max.min(start + own.mul_f64(1.0 + riders));
            }
            let aside_max = aside.len() + LOOK_AHEAD;
            while members.len() < sequences_max && aside.len() < aside_max {
                let (queue, flows) = (&mut self.queues[index], &self.flows);
                let is_first = members.is_empty();
                let ahead = |queue: &ModelQueue| {
                    let first = queue.first_ahead(*claim).filter(|_| !claim.is_entitled());
                    first.filter(|(flow, _)| flows.is_within_lag(*flow) || (is_first && !is_within_lag))
                };
                let first = queue.first(*claim, flows).or_else(|| ahead(queue));
                let Some((flow, rank)) = first else { break };
                let Some(waiting) = self.slots.get(rank.id()) else { break };
                let request = &waiting.entry.request;
                let end = start + overhead + Duration::from_secs_f64(slope * (work + waiting.work).0);
                let due = if *claim == Claim::Late { request.deadline } else { rank.due };
                let fits = tokens + request.tokens <= tokens_max && (is_first || end <= end_max.min(due));
                if request.deadline <= now || !fits {
                    queue.band_mut(*claim).set_aside(flow);
                    aside.push((*claim, flow));
                    continue;
                }
                if due >= end {
                    end_max = end_max.min(due);
                }
                tokens += request.tokens;
                work = work + waiting.work;
                self.demand.served(now, waiting.seconds);
                // Before it leaves, so that whoever leaves the field empty leaves this charge's level behind.
                self.flows.charge(flow, Duration::from_secs_f64(slope * waiting.work.0));
                members.extend(self.remove(rank.id()));
                charged.push(flow);
            }
        }
        for (claim, flow) in aside.drain(..) {
            self.queues[index].band_mut(claim).resume(flow);
        }
        if members.is_empty() {
            return None;
        }
        for flow in &charged {
            self.flows.charge(*flow, overhead / charged.len() as u32);
        }
        Some(self.sent(now, device, model, members))
    }
}
