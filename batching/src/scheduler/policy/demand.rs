//! Who asks for more than the devices can give.
//!
//! While there is enough for all nobody is held back, however uneven the shares. Shares are enforced once
//! demand is high and sequences are late, or at once in a flood, and until demand is feasible again: they
//! begin on evidence and end on demand, so that they do not come and go with their own success. Then the
//! devices are divided max-min fairly (Bertsekas and Gallager, "Data Networks", 2nd edition, section 6.5.2):
//! there is a level such that flows that ask for less than it, times their weight, are given all they ask
//! for, and the others the level. What a flow asks for beyond that is its *excess*. It is not refused: it is
//! served with what the others leave.
//!
//! Demand is device time asked for by the second, smoothed, refused and expired sequences included. What is
//! feasible is a share of the fluid limit: batches of a model need not come more often than its target asks,
//! so each of `N` devices has `1 - sum a / (D - a) / N` of its time for work, with `a` a model's overhead for
//! each batch and `D` its target.
//!
//! *Callers that wait for their answers* never ask for more than they are given, so by their rate nothing is
//! ever too much, while the flow with the most connections takes the device. There are two signs of them.
//! Requests are late although no more is asked for than served; then a late sequence that waits counts as
//! demand, too: had it been answered at its target `D`, its caller would have asked again every `D`, so it
//! stands for its cost over `D`. Or more than is feasible is asked for without a break, and all of it served:
//! by chance that does not happen for seconds on end. In either case what the devices do give is divided, so
//! that what the model of their cost gets wrong cancels. A flow's part among all that ask is *firm*; what it
//! may have beyond, because others ask for less, it *borrows*: it is capped, and goes after what is firm. As
//! others are answered sooner they ask for more, the level falls, and what is borrowed with it, until shares
//! are by weight.

use std::time::Duration;

use units::Timestamp;

use super::super::cost::{Rate, Seconds};
use super::super::standing::{Claim, FlowId};
use super::fairness::Weight;
use super::overload::{FLOOD, Overload};
use super::rate::SmoothedRate;

/// Share of sequences late at which shares are enforced if demand is high.
const MISSED_MAX: f64 = 0.02;
/// A flow that asks for so many times its share is capped: what is within its share is served after everybody
/// else's.
const CAPPED: f64 = 1.3;
/// Demand over what is served above which it is not bounded by callers that wait.
const OPEN: f64 = 1.1;
/// How long demand must be above what is feasible for the devices to be saturated.
const SATURATED_AFTER: Duration = Duration::from_secs(2);
/// How often the level is found anew.
const LEVEL_EVERY: Duration = Duration::from_millis(20);
/// A flow may use so many seconds of its level at once.
const BURST: f64 = 0.1;
/// Time constant, in seconds, of the demand by which a flow is within its share while another one is not.
const STEADY: f64 = 5.0;
/// The other one asks for so many times its share: farther from [`CAPPED`] than flows are by chance that are
/// alike.
const BEYOND: f64 = 2.0;
/// Demand in device time by the second that is too small to matter.
const NEGLIGIBLE: f64 = 1e-6;

/// What a call asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) flow: FlowId,
    pub(super) weight: Weight,
    pub(super) cost: Seconds,
    pub(super) sequences: f64,
}

/// What a flow asks for by the second.
#[derive(Debug, Clone, Copy)]
struct Want {
    rate: f64,
    weight: f64,
}

impl Want {
    fn for_weight(&self) -> f64 {
        self.rate / self.weight
    }
}

/// The demand of all flows.
#[derive(Debug)]
pub(super) struct Demand {
    flows: Vec<Flow>,
    total: SmoothedRate,
    /// When demand, as [`Overload`] smooths it, was last feasible.
    feasible_at: Timestamp,
    /// Device time given, by the second.
    served: SmoothedRate,
    /// Sequences by the second.
    sequences: SmoothedRate,
    /// Requests by the second, and of these entitled ones that cannot meet their target.
    arrived: SmoothedRate,
    missed: SmoothedRate,
    /// Share of the fluid limit above which demand is too much, and which is then divided.
    feasible: f64,
    /// Device seconds by the second at weight 1; none while all demand is feasible.
    level: Option<f64>,
    level_at: Timestamp,
    /// A flow asks for so much more than its share that it is capped.
    is_flooded: bool,
    /// The most that any flow asks for over a longer time, for its weight.
    most_steady: f64,
    /// More is asked for than served, so that demand is what it seems.
    is_open: bool,
    /// The firm part of a flow of weight 1, in device seconds by the second.
    firm: f64,
    pub(super) overload: Overload,
    scratch: Vec<Want>,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    weight: f64,
    rate: SmoothedRate,
    /// The same over a longer time.
    steady: SmoothedRate,
    /// Late sequences that wait, as demand: see the module.
    held_up: f64,
    /// Device seconds that it may still use at once.
    credit: f64,
    /// The same of its firm part.
    firm: f64,
    credit_at: Timestamp,
}

impl Demand {
    pub(super) fn new(feasible: f64) -> Self {
        Self {
            flows: Vec::new(),
            total: SmoothedRate::default(),
            feasible_at: Timestamp::ZERO,
            served: SmoothedRate::default(),
            sequences: SmoothedRate::default(),
            arrived: SmoothedRate::default(),
            missed: SmoothedRate::default(),
            feasible,
            level: None,
            level_at: Timestamp::ZERO,
            is_flooded: false,
            most_steady: 0.0,
            is_open: false,
            firm: 0.0,
            overload: Overload::default(),
            scratch: Vec::new(),
        }
    }

    /// Counts a call that is to be queued. Returns how good its claim is.
    pub(super) fn count(&mut self, now: Timestamp, ask: Ask, capacity: Rate) -> Claim {
        let Ask { flow, cost: Seconds(cost), .. } = ask;
        let index = flow.0 as usize;
        self.ask(now, ask, capacity);
        self.arrived.add(now, 1.0);
        let is_flooded = self.level.is_none() && self.total.last().0 > FLOOD * capacity.0;
        if is_flooded || now >= self.level_at + LEVEL_EVERY {
            self.level_at = now;
            self.find_level(now, capacity);
        }
        let Some(level) = self.level else { return Claim::Entitled };
        let flow = &mut self.flows[index];
        let elapsed = now.saturating_duration_since(flow.credit_at).as_secs_f64();
        let share = level * flow.weight;
        flow.credit = (flow.credit + share * elapsed).min((share * BURST).max(cost));
        let firm = self.firm * flow.weight;
        flow.firm = (flow.firm + firm * elapsed).min((firm * BURST).max(cost));
        flow.credit_at = now;
        if flow.credit < cost {
            return Claim::Excess;
        }
        flow.credit -= cost;
        let is_capped = if self.is_open { flow.rate.last().0 > CAPPED * share } else { flow.firm < cost };
        if is_capped {
            return Claim::Capped;
        }
        flow.firm -= cost;
        Claim::Entitled
    }

    /// Counts what a call asks for. `capacity` is the fluid limit.
    pub(super) fn ask(&mut self, now: Timestamp, ask: Ask, capacity: Rate) {
        let Ask { flow, weight: Weight(weight), cost: Seconds(cost), sequences } = ask;
        let index = flow.0 as usize;
        if index >= self.flows.len() {
            let (rate, credit) = (SmoothedRate::default(), f64::INFINITY);
            let steady = SmoothedRate::over(STEADY);
            let new = Flow { weight, rate, steady, held_up: 0.0, credit, firm: 0.0, credit_at: now };
            self.flows.resize(index + 1, new);
        }
        self.total.add(now, cost);
        self.sequences.add(now, sequences);
        self.overload.ask(now, ask.cost, capacity);
        let flow = &mut self.flows[index];
        flow.weight = weight;
        flow.rate.add(now, cost);
        flow.steady.add(now, cost);
    }

    /// A late sequence of a flow asks for device time, too, while it waits.
    pub(super) fn hold_up(&mut self, flow: FlowId, rate: Rate) {
        if let Some(flow) = self.flows.get_mut(flow.0 as usize) {
            flow.held_up += rate.0;
        }
    }

    /// Ends [`hold_up`](Self::hold_up).
    pub(super) fn let_go(&mut self, flow: FlowId, rate: Rate) {
        self.hold_up(flow, Rate(-rate.0));
    }

    /// A device is given so much work.
    pub(super) fn serve(&mut self, now: Timestamp, work: Seconds) {
        self.served.add(now, work.0);
        self.overload.serve(now, work);
    }

    /// An entitled sequence cannot meet its target.
    pub(super) fn miss(&mut self, now: Timestamp) {
        self.missed.add(now, 1.0);
    }

    /// Whether not everybody can be served, and a flow not either. Where one asks for much more than its
    /// share those are served all the same that do not.
    pub(super) fn is_overloaded(&self, flow: FlowId) -> bool {
        let is_within = |level: f64| {
            let flow = self.flows.get(flow.0 as usize);
            let is_within = |flow: &Flow| flow.steady.last().0 <= CAPPED * level * flow.weight;
            self.most_steady > BEYOND * level && flow.is_some_and(is_within)
        };
        self.overload.is_on() && !self.level.is_some_and(is_within)
    }

    /// What a sequence takes, of late.
    pub(super) fn of_sequence(&self, now: Timestamp) -> Seconds {
        let sequences = self.sequences.at(now).0;
        Seconds(if sequences > NEGLIGIBLE { self.total.at(now).0 / sequences } else { 0.0 })
    }

    /// Whether a flow asks for much more than its share.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded
    }

    /// Whether shares are enforced.
    pub(super) fn is_enforced(&self) -> bool {
        self.level.is_some()
    }

    /// The rate at which a flow of weight 1 is served while shares are enforced.
    pub(super) fn level(&self) -> Option<Rate> {
        self.level.map(Rate)
    }

    /// Whether they are enforced among callers that wait for their answers.
    pub(super) fn is_contended(&self) -> bool {
        self.is_enforced() && !self.is_open
    }

    /// Finds the level at which the flows' demands, each cut to the level times its weight, add up to what is
    /// divided.
    fn find_level(&mut self, now: Timestamp, capacity: Rate) {
        let (Rate(total), Rate(served)) = (self.total.at(now), self.served.at(now));
        let feasible = self.feasible * capacity.0;
        let is_missing = self.missed.at(now).0 > MISSED_MAX * self.arrived.at(now).0;
        let is_high = total > feasible && (self.is_enforced() || is_missing || total > FLOOD * capacity.0);
        let is_open = is_high && total > OPEN * served;
        let is_held_up = self.flows.iter().any(|flow| flow.held_up > NEGLIGIBLE);
        // What drains a backlog serves more than is asked for.
        let is_late = is_held_up && served <= OPEN * total && (self.is_enforced() || is_missing);
        if self.overload.asked(now).0 <= feasible {
            self.feasible_at = now;
        }
        let is_saturated = now > self.feasible_at + SATURATED_AFTER;
        (self.level, self.is_open, self.is_flooded) = (None, is_open, false);
        if !(is_high || is_late || is_saturated) {
            return;
        }
        let steady = self.flows.iter().map(|flow| flow.steady.at(now).0 / flow.weight);
        self.most_steady = steady.fold(0.0, f64::max);
        let want = |flow: &Flow| Want {
            rate: flow.rate.at(now).0 + if is_open { 0.0 } else { flow.held_up },
            weight: flow.weight,
        };
        self.scratch.clear();
        self.scratch.extend(self.flows.iter().map(want).filter(|want| want.rate > NEGLIGIBLE));
        if !is_open && self.scratch.len() < 2 {
            return;
        }
        self.scratch.sort_unstable_by(|a, b| a.for_weight().total_cmp(&b.for_weight()));
        let divided = if is_open { feasible } else { self.feasible * served };
        self.level = divide(&self.scratch, divided);
        self.firm = divided / self.scratch.iter().map(|want| want.weight).sum::<f64>();
        let highest = self.scratch.last().map_or(0.0, Want::for_weight);
        self.is_flooded = is_open && self.level.is_some_and(|level| highest > CAPPED * level);
    }
}

/// Divides `left` among wants, sorted by rate for weight: the level, if anybody asks for more than it.
fn divide(wants: &[Want], mut left: f64) -> Option<f64> {
    let mut weights: f64 = wants.iter().map(|want| want.weight).sum();
    for want in wants {
        let level = left / weights;
        if want.for_weight() > level {
            return Some(level.max(0.0));
        }
        left -= want.rate;
        weights -= want.weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisions_are_max_min_fair() {
        let check = |demands: &[(f64, f64)], left: f64, expected: Option<f64>| {
            let wants: Vec<_> =
                demands.iter().map(|(rate, weight)| Want { rate: *rate, weight: *weight }).collect();
            let level = divide(&wants, left);
            match (level, expected) {
                (Some(level), Some(expected)) => {
                    assert!((level - expected).abs() < 1e-12, "{demands:?}: {level}");
                }
                (level, expected) => assert_eq!(level, expected, "{demands:?}"),
            }
        };
        check(&[], 1.0, None);
        check(&[(0.2, 1.0), (0.3, 1.0)], 1.0, None);
        check(&[(0.1, 1.0), (5.0, 1.0), (9.0, 1.0)], 1.0, Some(0.45));
        check(&[(0.1, 1.0), (5.0, 2.0), (9.0, 1.0)], 1.0, Some(0.3));
        check(&[(5.0, 1.0)], 0.0, Some(0.0));
    }

    /// Lets flows ask by turns for `seconds`, each for 1 ms at its rate in device seconds by the second, and
    /// returns the claims that each flow's sequences had in the second half.
    fn claims(rates: &[f64], weights: &[u32], capacity: f64, seconds: f64) -> Vec<Vec<Claim>> {
        const COST: f64 = 0.001;
        let mut demand = Demand::new(0.9);
        let mut claims = vec![Vec::new(); rates.len()];
        let mut owed = vec![0.0; rates.len()];
        let steps = (seconds * 10_000.0) as u64;
        for step in 0..steps {
            let now = Timestamp::from_nanos(step * 100_000);
            for (flow, rate) in rates.iter().enumerate() {
                owed[flow] += rate * 1e-4;
                while owed[flow] >= COST {
                    owed[flow] -= COST;
                    let weight = Weight(f64::from(weights[flow]));
                    let ask = Ask { flow: FlowId(flow as u32), weight, cost: Seconds(COST), sequences: 1.0 };
                    let claim = demand.count(now, ask, Rate(capacity));
                    if step > steps / 2 {
                        claims[flow].push(claim);
                    }
                }
            }
        }
        claims
    }

    /// The share of a flow's demand that was within its share.
    fn within(rates: &[f64], weights: &[u32]) -> Vec<f64> {
        let share = |claims: &Vec<Claim>| {
            claims.iter().filter(|claim| claim.is_entitled()).count() as f64 / claims.len() as f64
        };
        claims(rates, weights, 1.0, 4.0).iter().map(share).collect()
    }

    #[test]
    fn uneven_but_feasible_demand_is_let_be() {
        assert_eq!(within(&[0.8, 0.02, 0.02], &[1, 1, 1]), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn only_those_who_ask_for_too_much_are_held_back() {
        let shares = within(&[0.2, 0.2, 3.0], &[1, 1, 1]);
        assert_eq!(shares[..2], [1.0, 1.0]);
        // 0.9 feasible, less 0.4 for the others, of 3.0.
        assert!((shares[2] - 0.5 / 3.0).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn what_is_within_a_flood_goes_after_the_others() {
        let claims = claims(&[0.2, 0.2, 3.0], &[1, 1, 1], 1.0, 4.0);
        assert!(claims[..2].iter().flatten().all(|claim| *claim == Claim::Entitled));
        assert!(claims[2].iter().all(|claim| matches!(claim, Claim::Capped | Claim::Excess)));
    }

    #[test]
    fn weights_count() {
        let shares = within(&[2.0, 2.0], &[3, 1]);
        assert!((shares[0] - 0.3375).abs() < 0.02 && (shares[1] - 0.1125).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn a_flood_is_noticed_at_once() {
        let mut demand = Demand::new(0.9);
        let ask = |demand: &mut Demand| {
            demand.count(
                Timestamp::ZERO,
                Ask { flow: FlowId(0), weight: Weight(1.0), cost: Seconds(0.01), sequences: 1.0 },
                Rate(1.0),
            )
        };
        let within = (0..1000).filter(|_| ask(&mut demand).is_entitled()).count();
        // What is feasible within the time constant, and the burst.
        assert!(within < 40, "{within}");
    }
}
