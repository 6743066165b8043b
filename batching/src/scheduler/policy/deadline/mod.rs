//! What a device runs next, and when: the policy by deadlines.
//!
//! A device with nothing to do takes work as soon as there is any. Waiting for company buys nothing here:
//! while devices are idle overhead is free, and once they are busy batches grow by themselves.
//!
//! *Which model* decides how many batches are needed. Every batch costs its overhead, so what counts is that
//! no model is served more often than its target asks. The model goes first of which the smallest share of
//! the target is left once its waiting sequences are computed, so that under load all models wait for the
//! same share of their targets. The earliest deadline first, which ignores the targets' lengths, serves the
//! short ones again and again in tiny batches: the ablation in `benches/results/simulation.md` has the
//! numbers.
//!
//! *How much.* A batch ends before the first of its members is due, and early enough that whatever else waits
//! can still be on time: a forward pass gives to other devices what they can take, a backward pass in
//! deadline order finds the latest start of the rest (as in the feasibility tests of deadline scheduling:
//! Stankovic et al., "Deadline Scheduling for Real-Time Systems", 1998, chapter 3). And it keeps no device
//! that is the only one soon free longer than the *quantum*, a share of the shortest target, since the most
//! urgent sequence may be the next to arrive. The more is asked for, the longer the quantum: short batches
//! would leave no time for the work beside their overhead.
//!
//! *Who rides along.* While shares are enforced, what is within the share of a flow that asks for much more
//! than its share (*capped*) goes after everybody else's, so that a flood is felt by whoever sends it.
//! Batches of its own would cost their overhead, and batches lengthened by it at will make the others wait as
//! if it went first: so it rides in their batches, for a bounded part of their time, and has its own when
//! nobody else waits.
//!
//! *What is given up.* A sequence whose deadline would cut a batch to less than its quantum is late: it makes
//! place for the others (the early drop of Shen et al., "Nexus", SOSP 2019, section 4.3). Otherwise batches
//! shrink just when load grows, their overhead eats the devices, and the queue never recovers. Late is not
//! refused: it is served after the rest, and has turns of its own.
//!
//! *How long what is late waits.* Among callers who wait for their answers as many come as are answered, so
//! that the backlog stays as it is, and whoever is passed over by everybody else waits for ever. So what is
//! late has a *promise*: the time that it would have taken in a line when it came, in which flows move by
//! their shares, times the stretch. Until then fresh sequences use the time that it can spare; then it goes
//! first. (Slack stealing: Lehoczky and Ramos-Thuel, "An optimal algorithm for scheduling soft-aperiodic
//! tasks in fixed-priority preemptive systems", RTSS 1992; here only the first of the late ones is looked
//! at.) It goes before entitled sequences of flows that were served no less than its own. Once a promise is
//! due, what its flow asks of the same model stands in line behind it.
//!
//! Nothing is promised in overload, but to flows within their share where another asks for much more than its
//! own: not everybody can be served, and promises would make all of them late. In an overload that lasts,
//! what is late is refused after the longest wait: the time of what nobody waits for any more is better given
//! to others.

mod candidate;
mod fill;
mod limit;

use std::time::Duration;

use units::{DeviceId, ModelId, Timestamp};

use super::super::config::{DeadlinePolicy, Order};
use super::super::cost::{CostModel, Rate, Seconds};
use super::super::standing::{Claim, FlowId, Standing};
use super::bands::{ModelBands, Rank};
use super::demand::{Ask, Demand};
use super::fairness::Flows;
use super::line::Lines;
use super::{CallSize, Decision, EndReason, Entry, RefusedWork, RejectReason, SequenceId, State, Waiting};
use candidate::Candidate;

/// Quanta of device time owed to sequences without a claim after which they go first whoever else is urgent.
const TURN_QUANTA: u32 = 4;
/// Of the time that is not for overheads so much is to be enough for the work, and the share of a batch that
/// its overhead need not be cut below.
const BUSY: f64 = 0.9;
const OVERHEAD_SHARE_MIN: f64 = 0.04;
/// How long what is late of a flow within its share waits in overload before it goes first.
const OVERLOAD_WAIT_MIN: Duration = Duration::from_millis(300);

/// The policy by deadlines at work.
#[derive(Debug)]
pub(in crate::scheduler) struct Deadline {
    policy: DeadlinePolicy,
    /// Indexed by model.
    bands: Vec<ModelBands>,
    flows: Flows,
    demand: Demand,
    lines: Lines,
    /// The fluid limit of all devices.
    capacity: Rate,
    /// The longest that all devices may be busy with one model, and the least that a batch is cut to.
    quantum: Duration,
    /// The shortest target, and the longest overhead of a batch.
    shortest: Duration,
    overhead: Duration,
    /// Device time that sequences without a claim may still take before others.
    owed: Duration,
    candidates: Vec<Candidate>,
}

/// What to run: a batch of a model's sequences that have a claim, to end by a moment.
#[derive(Debug, Clone, Copy)]
struct Choice {
    model: ModelId,
    claim: Claim,
    end_max: Timestamp,
    /// Other models have entitled sequences waiting.
    is_pressed: bool,
}

/// A device that is to be given a batch, and when it could begin.
#[derive(Debug, Clone, Copy)]
struct Opening {
    device: DeviceId,
    now: Timestamp,
    start: Timestamp,
}

impl Deadline {
    pub(super) fn new(policy: DeadlinePolicy) -> Self {
        Self {
            bands: Vec::new(),
            flows: Flows::new(policy.spread, policy.lag_max),
            demand: Demand::new(policy.feasible),
            lines: Lines::default(),
            capacity: Rate(f64::INFINITY),
            quantum: Duration::ZERO,
            shortest: Duration::ZERO,
            overhead: Duration::ZERO,
            owed: Duration::ZERO,
            candidates: Vec::new(),
            policy,
        }
    }

    pub(super) fn models_changed<P>(&mut self, state: &State<P>) {
        self.bands.resize_with(state.models.len(), ModelBands::default);
        self.capacity = state.fluid_limit();
        let shortest = state.models.iter().map(|(_, queue)| queue.config.latency_target).min();
        self.shortest = shortest.unwrap_or_default();
        let overhead = |model: &ModelId| state.fleet.fastest(*model).map(CostModel::overhead);
        self.overhead = state.models.present().iter().filter_map(overhead).max().unwrap_or_default();
    }

    /// With little to do a device is kept for the least quantum. The more is asked for, the longer the
    /// batches must be for their overhead to leave time for the work: of each `q` of device time `q - a` is
    /// left, and about half a sequence does not fit. In overload, and where shares are enforced among callers
    /// who do not wait, not everything is to be done.
    fn set_quantum<P>(&mut self, state: &State<P>, now: Timestamp) {
        let least = self.shortest.mul_f64(self.policy.quantum);
        self.quantum = least;
        if self.demand.overload.is_on() || (self.demand.is_enforced() && !self.demand.is_contended()) {
            return;
        }
        let asked = self.demand.overload.asked(now).0 / f64::from(state.fleet.count());
        let for_overhead = (1.0 - asked / BUSY).max(OVERHEAD_SHARE_MIN);
        let needed = self.overhead.as_secs_f64() / for_overhead + 0.5 * self.demand.of_sequence(now).0;
        let longest = self.shortest.mul_f64(self.policy.quantum_max);
        self.quantum = Duration::from_secs_f64(needed).min(longest).max(least);
    }

    pub(super) fn admit<P>(
        &mut self,
        state: &mut State<P>,
        now: Timestamp,
        call: &CallSize,
    ) -> Result<Claim, RejectReason> {
        let flow = self.flows.of(now, call.tenant, call.priority, call.weight);
        let (weight, sequences) = (self.flows.weight(flow), call.sequences as f64);
        let ask = Ask { flow, weight, cost: call.seconds, sequences };
        let claim = self.demand.count(now, ask, self.capacity);
        self.flows.is_enforced = self.demand.is_enforced();
        // An entitled call goes before whatever has a weaker claim, so that only what the devices hold is
        // certain to be before it; another one waits for all that is queued.
        let alone = call.earliest_end(state, now);
        let end = if claim.is_entitled() { alone } else { alone + state.queued_time_of_all() };
        if end > call.deadline {
            return Err(RejectReason::Infeasible);
        }
        // Some of it in time helps nobody who waits for all of it.
        let in_time = now + state.models[call.model].config.latency_target;
        let is_late = claim.is_entitled() && call.sequences > 1 && end + self.entitled_time(state) > in_time;
        self.sort_out_excess(state, now, flow, call.model);
        let claim = if is_late || self.is_behind(now, flow, call, in_time) { Claim::Late } else { claim };
        while call.overfills(state) {
            let bands = &self.bands[call.model.index()];
            let weakest = bands.weakest(claim, &self.flows).ok_or(RejectReason::QueueFull)?;
            self.end(state, weakest, EndReason::Shed);
        }
        Ok(claim)
    }

    /// Counts what was refused before it came here: asked for and given up.
    pub(super) fn refused_before<P>(&mut self, state: &State<P>, now: Timestamp, refused: &RefusedWork) {
        let RefusedWork { tenant, weight, priority, seconds, calls, .. } = *refused;
        let flow = self.flows.of(now, tenant, priority, weight);
        let (weight, sequences) = (self.flows.weight(flow), calls as f64);
        let ask = Ask { flow, weight, cost: Seconds(seconds), sequences };
        self.demand.ask(now, ask, self.capacity);
        self.demand.overload.give_up(state.shared_by_devices(Duration::from_secs_f64(seconds)));
    }

    /// A surge is not told: many callers who begin at once may look like one for a second.
    pub(super) fn is_overloaded(&self) -> bool {
        self.demand.overload.lasts()
    }

    /// Whether a promise to a flow is due that is not kept yet: then what the flow asks of this model stands
    /// in line, too, or those who came before would never be answered.
    fn is_behind(&self, now: Timestamp, flow: FlowId, call: &CallSize, in_time: Timestamp) -> bool {
        let first = || self.bands[call.model.index()].first_of(Claim::Late, flow);
        call.deadline > in_time
            && !self.demand.overload.is_on()
            && first().is_some_and(|rank| rank.due <= now)
    }

    /// How long the line is: that of a flow, and while no shares are enforced no longer than if all models
    /// with work took turns.
    fn line<P>(&self, state: &State<P>, flow: FlowId, model: ModelId, drain: Duration) -> Duration {
        let own = self.lines.of(flow, model, drain, self.demand.level());
        if self.demand.is_enforced() { own } else { own.min(state.line_of(model)) }
    }

    /// When a sequence is due that is late. In overload nothing is promised, and nothing beyond a deadline.
    fn due_late<P>(&self, waiting: &Waiting<P>) -> Timestamp {
        let Standing { flow, promise, .. } = waiting.standing;
        if self.demand.is_overloaded(flow) || promise == Timestamp::MAX { waiting.due } else { promise }
    }

    /// How long what is within shares and can meet its target will take all devices.
    fn entitled_time<P>(&self, state: &State<P>) -> Duration {
        let time = |model: &ModelId| {
            let bands = &self.bands[model.index()];
            let work = bands.band(Claim::Entitled).work + bands.band(Claim::Capped).work;
            state.fleet.fastest(*model).filter(|_| work.0 > 0.0).map(|cost| cost.predict(work))
        };
        state.shared_by_devices(state.models.present().iter().filter_map(time).sum())
    }

    /// Puts a sequence that is not queued yet where its claim and its flow say.
    pub(super) fn insert<P>(&mut self, state: &State<P>, waiting: &mut Waiting<P>, claim: Claim) {
        let (sequence, arrived) = (&waiting.entry.sequence, waiting.entry.enqueued_at);
        let drain = state.drain();
        self.demand.overload.tell_backlog(arrived, drain);
        let flow = self.flows.of(arrived, sequence.tenant, sequence.priority, sequence.weight);
        self.lines.enter(flow, self.flows.weight(flow), sequence.model, waiting.seconds);
        let line = self.line(state, flow, sequence.model, drain);
        let promise = arrived + line.mul_f64(self.policy.stretch);
        let promise = if sequence.deadline > waiting.due { promise } else { Timestamp::MAX };
        waiting.standing = Standing { flow, claim, promise };
        if claim == Claim::Late {
            waiting.due = self.due_late(waiting);
        }
        let bands = &mut self.bands[sequence.model.index()];
        bands.band_mut(claim).insert(flow, Rank::new(waiting), waiting.work);
        self.flows.enter(flow, claim);
        if claim == Claim::Late {
            self.demand.hold_up(flow, state.rate(sequence.model, waiting.seconds));
        }
    }

    pub(super) fn remove<P>(&mut self, state: &mut State<P>, id: SequenceId) -> Option<Entry<P>> {
        let waiting = state.take(id)?;
        let Standing { flow, claim, .. } = waiting.standing;
        let (model, slots) = (waiting.entry.sequence.model, &state.slots);
        self.lines.leave(flow, model, waiting.seconds);
        let band = self.bands[model.index()].band_mut(claim);
        band.remove(flow, waiting.work, |rank| slots.is_in(rank.id(), claim));
        self.flows.leave(flow, claim);
        if claim == Claim::Late {
            self.demand.let_go(flow, state.rate(model, waiting.seconds));
        }
        Some(waiting.entry)
    }

    fn end<P>(&mut self, state: &mut State<P>, id: SequenceId, why: EndReason) {
        // What would have been in time in its line is no sign of overload.
        let is_too_much = |waiting: &Waiting<P>| {
            why == EndReason::Shed || waiting.standing.promise > waiting.entry.sequence.deadline
        };
        if let Some(waiting) = state.slots.get(id).filter(|waiting| is_too_much(waiting)) {
            let time = Duration::from_secs_f64(waiting.seconds.0);
            self.demand.overload.give_up(state.shared_by_devices(time));
        }
        if let Some(entry) = self.remove(state, id) {
            state.give_back(entry, why);
        }
    }

    pub(super) fn poll<P>(&mut self, state: &mut State<P>, now: Timestamp, device: DeviceId) -> Decision<P> {
        let Some(holder) = state.fleet.get(device) else { return Decision::Idle };
        let lead = self.policy.handover_lead;
        if holder.in_flight > 0 && holder.free_at > now + lead {
            return Decision::WaitUntil(holder.free_at - lead);
        }
        let opening = Opening { device, now, start: holder.free_at.max(now) };
        self.set_quantum(state, now);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        for index in 0..state.models.present().len() {
            let Some(model) = state.models.present().get(index).copied() else { break };
            self.sort_out(state, opening.start, model);
            for claims in [&[Claim::Entitled][..], &[Claim::Capped], &[Claim::Excess, Claim::Late]] {
                candidates.extend(self.candidate(state, opening, model, claims));
            }
        }
        let choice =
            self.pressing(state, opening, &candidates).or_else(|| self.choose(state, opening, &candidates));
        let turns = candidate::turns(&candidates, opening.start, &self.policy, &self.demand);
        self.candidates = candidates;
        let batch = choice.and_then(|choice| self.fill(state, opening, choice));
        let Some(batch) = batch else { return Decision::Idle };
        self.owed = match choice {
            Some(Choice { claim, .. }) if claim.is_entitled() => {
                turns.map_or(Duration::ZERO, |turns| self.owed + batch.predicted.mul_f64(turns))
            }
            None => Duration::ZERO,
            Some(_) => {
                self.bands[batch.model.index()].last_turn = state.fleet.next_batch();
                self.owed.saturating_sub(batch.predicted)
            }
        };
        Decision::Dispatch(batch)
    }

    /// Moves the first sequences of a model that cannot meet their target in a batch worth running out of the
    /// way of the others, and those that cannot meet their deadline at all out of the queue.
    fn sort_out<P>(&mut self, state: &mut State<P>, start: Timestamp, model: ModelId) {
        if self.demand.overload.lasts() {
            self.refuse_oldest(state, start, model);
        }
        for claim in Claim::ALL {
            while let Some((flow, rank)) = self.bands[model.index()].first(claim, &self.flows) {
                let Some(waiting) = state.slots.get(rank.id()) else { break };
                let Some(cost) = state.fleet.fastest(model) else { return };
                let alone = start + cost.predict(waiting.work);
                let needed = cost.plan(self.bands[model.index()].band(claim).work).min(self.quantum);
                let is_hopeless = alone > waiting.entry.sequence.deadline;
                let is_late = alone.max(start + needed) > rank.due;
                if claim == Claim::Entitled && (is_hopeless || is_late) {
                    self.demand.miss(start);
                }
                if is_hopeless {
                    self.end(state, rank.id(), EndReason::DeadlineExceeded);
                } else if claim != Claim::Late && is_late {
                    self.make_late(state, model, flow, rank, claim);
                } else {
                    break;
                }
            }
        }
    }

    /// Moves sequences of a flow whose promise is due from what is in excess to what is late. The flow may be
    /// ahead of the others, so that [`sort_out`](Self::sort_out) does not come to it for long, and what it
    /// asks for from now on must not go before.
    fn sort_out_excess<P>(&mut self, state: &mut State<P>, now: Timestamp, flow: FlowId, model: ModelId) {
        while let Some(rank) = self.bands[model.index()].first_of(Claim::Excess, flow) {
            let promise = state.slots.get(rank.id()).map(|waiting| waiting.standing.promise);
            if rank.due > now || promise.is_none_or(|promise| promise > now) {
                break;
            }
            self.make_late(state, model, flow, rank, Claim::Excess);
        }
    }

    /// Ends sequences without a claim that have waited for as long as anybody does in overload.
    fn refuse_oldest<P>(&mut self, state: &mut State<P>, now: Timestamp, model: ModelId) {
        while let Some(oldest) = state.models[model].arrivals.first().and_then(|id| state.slots.get(id)) {
            let waited = now.saturating_duration_since(oldest.entry.enqueued_at);
            if oldest.standing.claim.is_entitled() || waited <= self.policy.late_wait_max {
                return;
            }
            let id = oldest.entry.id;
            self.end(state, id, EndReason::Shed);
        }
    }

    fn make_late<P>(&mut self, state: &mut State<P>, model: ModelId, flow: FlowId, rank: Rank, from: Claim) {
        let Some(waiting) = state.slots.get_mut(rank.id()) else { return };
        waiting.standing.claim = Claim::Late;
        waiting.due = self.due_late(waiting);
        let late = Rank::new(waiting);
        let (work, seconds) = (waiting.work, waiting.seconds);
        let (slots, bands) = (&state.slots, &mut self.bands[model.index()]);
        bands.band_mut(from).remove(flow, work, |rank| slots.is_in(rank.id(), from));
        bands.band_mut(Claim::Late).insert(flow, late, work);
        self.flows.enter(flow, Claim::Late);
        self.flows.leave(flow, from);
        self.demand.hold_up(flow, state.rate(model, seconds));
    }

    /// What is late and can wait no longer.
    fn pressing<P>(
        &mut self,
        state: &State<P>,
        opening: Opening,
        candidates: &[Candidate],
    ) -> Option<Choice> {
        let (start, quantum) = (opening.start, self.quantum);
        let mut first: Option<Candidate> = None;
        for model in state.models.present() {
            let Some(late) = self.candidate(state, opening, *model, &[Claim::Late]) else { continue };
            // In overload no sooner than after a while: what is late is of little use, and costs batches.
            let waited = start.saturating_duration_since(late.arrived);
            let is_kept = !self.demand.overload.is_on() || waited > OVERLOAD_WAIT_MIN;
            let is_promised = is_kept && !self.demand.is_overloaded(late.flow);
            let is_due = start + late.least(quantum) >= late.promise;
            let is_pressing = is_promised && is_due && self.flows.is_least(late.flow);
            // The longest line is not to be overtaken by much, and the shortest not to wait for it.
            let is_slower = |first: Candidate| late.slowdown(start) > first.slowdown(start);
            if is_pressing && first.is_none_or(is_slower) {
                first = Some(late);
            }
        }
        let late = first?;
        let end_max = self.limit(state, opening, &late, candidates).max(start + late.least(quantum));
        Some(Choice { model: late.model, claim: Claim::Late, end_max, is_pressed: true })
    }

    /// The model to run, and when its batch must have ended for the sake of the others.
    fn choose<P>(&self, state: &State<P>, opening: Opening, candidates: &[Candidate]) -> Option<Choice> {
        let (start, quantum) = (opening.start, self.quantum);
        let needed = |candidate: &Candidate| start + candidate.least(quantum);
        let limit = |candidate: &Candidate| self.limit(state, opening, candidate, candidates);
        let chosen = |candidate: &Candidate, end_max: Timestamp| Choice {
            model: candidate.model,
            claim: candidate.claim,
            end_max: end_max.max(needed(candidate)),
            is_pressed: candidates
                .iter()
                .any(|other| other.claim == Claim::Entitled && other.model != candidate.model),
        };
        // What has no claim has its turn all the same: when nobody minds, or after long enough in any case.
        let lower = candidate::next_in_turn(candidates);
        if let Some(lower) = lower
            && self.owed >= lower.least(quantum)
        {
            let limit = limit(lower);
            if needed(lower) <= limit || self.owed >= quantum * TURN_QUANTA {
                return Some(chosen(lower, limit));
            }
        }
        let first = candidate::most_urgent(candidates, start, self.policy.order).or(lower)?;
        let first_limit = limit(first);
        if needed(first) <= first_limit {
            return Some(chosen(first, first_limit));
        }
        // What stands in the way is more urgent than it seemed.
        let urgent = candidates.iter().min_by_key(|candidate| (candidate.claim.place(), candidate.due))?;
        Some(chosen(urgent, limit(urgent)))
    }
}
