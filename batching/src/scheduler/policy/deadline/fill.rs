//! Batches, filled one sequence at a time.

use std::time::Duration;

use units::{Timestamp, Tokens};

use super::super::super::config::ModelConfig;
use super::super::super::cost::{CostModel, Seconds, Work};
use super::super::super::decision::Batch;
use super::super::super::standing::FlowId;
use super::super::bands::{ModelBands, Rank};
use super::super::fairness::Flows;
use super::{Choice, Claim, Deadline, Entry, Opening, State, Waiting};

/// How many sequences that do not fit a batch are passed over before it is closed.
const LOOK_AHEAD: usize = 32;

/// Sequences of one claim, offered to a batch in turn.
#[derive(Debug, Clone, Copy)]
struct Pass {
    claim: Claim,
    /// Sequences without a claim of flows that are ahead of others by more than the longest lag are taken
    /// last.
    is_within_lag: bool,
}

/// Who rides in a batch of this claim, in order.
const fn passes(claim: Claim) -> &'static [Pass] {
    const fn within(claim: Claim) -> Pass {
        Pass { claim, is_within_lag: true }
    }
    const fn beyond(claim: Claim) -> Pass {
        Pass { claim, is_within_lag: false }
    }
    use Claim::{Capped, Entitled, Excess, Late};
    const ENTITLED: [Pass; 2] = [within(Entitled), within(Capped)];
    const CAPPED: [Pass; 1] = [within(Capped)];
    const EXCESS: [Pass; 4] = [within(Excess), within(Late), beyond(Excess), beyond(Late)];
    const LATE: [Pass; 6] =
        [within(Late), within(Entitled), within(Capped), within(Excess), beyond(Late), beyond(Excess)];
    match claim {
        Entitled => &ENTITLED,
        Capped => &CAPPED,
        Excess => &EXCESS,
        Late => &LATE,
    }
}

/// A batch in the making: what it holds, and when it may end at the latest.
#[derive(Debug)]
struct BatchBuilder<P> {
    start: Timestamp,
    now: Timestamp,
    end_max: Timestamp,
    /// Planned time of a batch beside its work, and the seconds that a unit of work adds.
    overhead: Duration,
    slope: f64,
    tokens_max: Tokens,
    sequences_max: usize,
    tokens: Tokens,
    work: Work,
    members: Vec<Entry<P>>,
    /// The flow of each member.
    flows: Vec<FlowId>,
}

impl<P> BatchBuilder<P> {
    fn new(opening: Opening, end_max: Timestamp, config: &ModelConfig, cost: &CostModel) -> Self {
        Self {
            start: opening.start,
            now: opening.now,
            end_max,
            overhead: cost.overhead(),
            slope: cost.slope(),
            tokens_max: config.batch_tokens_max,
            sequences_max: config.batch_sequences_max,
            tokens: Tokens(0),
            work: Work::default(),
            members: Vec::new(),
            flows: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.members.len() >= self.sequences_max
    }

    fn time(&self, work: Work) -> Duration {
        Duration::from_secs_f64(self.slope * work.0)
    }

    /// Bounds what is taken from now on to a part of the time of what is there.
    fn bound_riders(&mut self, part: f64) {
        let own = self.overhead + self.time(self.work);
        self.end_max = self.end_max.min(self.start + own.mul_f64(1.0 + part));
    }

    /// Whether a sequence fits; if so the batch ends in time for it. The first member may end the batch later
    /// than was asked.
    fn offer(&mut self, waiting: &Waiting<P>, rank: Rank) -> bool {
        let sequence = &waiting.entry.sequence;
        let end = self.start + self.overhead + self.time(self.work + waiting.work);
        let is_late = waiting.standing.claim == Claim::Late;
        let due = if is_late { sequence.deadline } else { rank.due };
        let is_in_time = self.members.is_empty() || end <= self.end_max.min(due);
        let has_room = self.tokens + sequence.tokens <= self.tokens_max;
        if sequence.deadline <= self.now || !has_room || !is_in_time {
            return false;
        }
        if due >= end {
            self.end_max = self.end_max.min(due);
        }
        self.tokens += sequence.tokens;
        self.work = self.work + waiting.work;
        true
    }

    fn take(&mut self, flow: FlowId, entry: Entry<P>) {
        self.members.push(entry);
        self.flows.push(flow);
    }
}

/// What a pass offers next to a batch that is empty or not.
fn next(bands: &mut ModelBands, flows: &Flows, pass: Pass, is_empty: bool) -> Option<(FlowId, Rank)> {
    if let Some(first) = bands.first(pass.claim, flows) {
        return Some(first);
    }
    let ahead = bands.first_ahead(pass.claim).filter(|_| !pass.claim.is_entitled());
    ahead.filter(|(flow, _)| flows.is_within_lag(*flow) || (is_empty && !pass.is_within_lag))
}

impl Deadline {
    /// Takes a batch out of a model's queue that ends by the chosen moment; its first member may end it
    /// later.
    pub(super) fn fill<P>(
        &mut self,
        state: &mut State<P>,
        opening: Opening,
        choice: Choice,
    ) -> Option<Batch<P>> {
        let (model, index) = (choice.model, choice.model.index());
        let cost = state.fleet.get(opening.device)?.costs.get(index)?;
        let mut batch = BatchBuilder::new(opening, choice.end_max, &state.models[model].config, cost);
        let mut aside: Vec<(Claim, FlowId)> = Vec::new();
        for pass in passes(choice.claim) {
            // Capped sequences save a batch of their own, but others do not wait long for them.
            if pass.claim == Claim::Capped && choice.is_pressed && !batch.members.is_empty() {
                batch.bound_riders(self.policy.riders);
            }
            let aside_max = aside.len() + LOOK_AHEAD;
            while !batch.is_full() && aside.len() < aside_max {
                let bands = &mut self.bands[index];
                let is_empty = batch.members.is_empty();
                let Some((flow, rank)) = next(bands, &self.flows, *pass, is_empty) else { break };
                let Some(waiting) = state.slots.get(rank.id()) else { break };
                if !batch.offer(waiting, rank) {
                    bands.band_mut(pass.claim).set_aside(flow);
                    aside.push((pass.claim, flow));
                    continue;
                }
                let (seconds, time) = (waiting.seconds, batch.time(waiting.work));
                self.charge(opening.now, flow, seconds, time);
                let Some(entry) = self.remove(state, rank.id()) else { break };
                batch.take(flow, entry);
            }
        }
        for (claim, flow) in aside {
            self.bands[index].band_mut(claim).resume(flow);
        }
        let BatchBuilder { overhead, members, flows, .. } = batch;
        if members.is_empty() {
            return None;
        }
        for flow in &flows {
            self.flows.charge(*flow, overhead / flows.len() as u32);
        }
        Some(state.dispatch(opening.now, opening.device, model, members))
    }

    /// Counts what a sequence is given. Before it leaves its queue, so that whoever leaves the field empty
    /// leaves this charge's level behind.
    fn charge(&mut self, now: Timestamp, flow: FlowId, seconds: Seconds, time: Duration) {
        self.demand.serve(now, seconds);
        self.flows.charge(flow, time);
    }
}
