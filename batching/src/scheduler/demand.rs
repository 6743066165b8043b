//! Who asks for more than the devices can give.
//!
//! While there is enough for all nobody is held back, however uneven the shares. Shares are enforced once demand is high and
//! requests are late, or at once in a flood, and until demand is feasible again: they begin on evidence and end on demand, so
//! that they do not come and go with their own success. Then the devices are divided max-min fairly (Bertsekas and
//! Gallager, "Data Networks", 2nd edition, section 6.5.2): there is a level such that flows that ask for less than it, times
//! their weight, are given all they ask for, and the others the level. What a flow asks for beyond that is its *excess*. It
//! is not refused: it is served with what the others leave.
//!
//! Demand is device time asked for by the second, smoothed, refused and expired requests included. What is feasible is a
//! share of the fluid limit: batches of a model need not come more often than its target asks, so each of `N` devices has
//! `1 - sum a / (D - a) / N` of its time for work, with `a` a model's overhead for each batch and `D` its target.

use std::collections::HashMap;
use std::time::Duration;

use super::fairness::class_weight;
use super::queue::Claim;
use crate::units::{Priority, TenantId, Timestamp};

/// Time constant of the smoothed demand, in seconds.
const SMOOTHING: f64 = 0.25;
/// Demand over capacity that is a flood: shares are enforced before anybody is late.
const FLOOD: f64 = 1.2;
/// Share of requests late at which shares are enforced if demand is high.
const MISSED_MAX: f64 = 0.02;
/// A flow that asks for so many times its share is capped: what is within its share is served after everybody else's.
const CAPPED: f64 = 1.3;
/// How often the level is found anew.
const LEVEL_EVERY: Duration = Duration::from_millis(20);
/// A flow may use so many seconds of its level at once.
const BURST: f64 = 0.1;
/// Demand in device time by the second that is too small to matter.
const NEGLIGIBLE: f64 = 1e-6;

/// The demand of all flows.
#[derive(Debug)]
pub(super) struct Demand {
    flows: Vec<Flow>,
    by_key: HashMap<(TenantId, Priority), u32>,
    total: Decaying,
    /// Requests by the second, and of these entitled ones that cannot meet their target.
    arrived: Decaying,
    missed: Decaying,
    /// Share of the fluid limit above which demand is too much, and which is then divided.
    feasible: f64,
    /// Device seconds by the second at weight 1; none while all demand is feasible.
    level: Option<f64>,
    level_at: Timestamp,
    /// A flow asks for so much more than its share that it is capped.
    is_flooded: bool,
    scratch: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    weight: f64,
    rate: Decaying,
    /// Device seconds that it may still use at once.
    credit: f64,
    credit_at: Timestamp,
}

/// A rate that decays with [`SMOOTHING`].
#[derive(Debug, Clone, Copy, Default)]
struct Decaying {
    value: f64,
    at: Timestamp,
}

impl Decaying {
    fn at(&self, now: Timestamp) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * (-elapsed / SMOOTHING).exp()
    }

    fn add(&mut self, now: Timestamp, amount: f64) {
        self.value = self.at(now) + amount / SMOOTHING;
        self.at = now;
    }
}

impl Demand {
    pub(super) fn new(feasible: f64) -> Self {
        Self {
            flows: Vec::new(),
            by_key: HashMap::new(),
            total: Decaying::default(),
            arrived: Decaying::default(),
            missed: Decaying::default(),
            feasible,
            level: None,
            level_at: Timestamp::ZERO,
            is_flooded: false,
            scratch: Vec::new(),
        }
    }

    /// Counts a request that asks for `cost` seconds of a device, where `capacity` is the fluid limit in device seconds by
    /// the second. Returns how good its claim is.
    pub(super) fn asked(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        priority: Priority,
        weight: u32,
        cost: f64,
        capacity: f64,
    ) -> Claim {
        let next = self.flows.len() as u32;
        let index = *self.by_key.entry((tenant, priority)).or_insert(next) as usize;
        let weight = f64::from(weight.max(1)) * class_weight(priority) as f64;
        if index == self.flows.len() {
            self.flows.push(Flow {
                weight,
                rate: Decaying::default(),
                credit: f64::INFINITY,
                credit_at: now,
            });
        }
        self.total.add(now, cost);
        let flow = &mut self.flows[index];
        flow.weight = weight;
        flow.rate.add(now, cost);
        self.arrived.add(now, 1.0);
        let is_flooded = self.level.is_none() && self.total.value > FLOOD * capacity;
        if is_flooded || now >= self.level_at + LEVEL_EVERY {
            self.level_at = now;
            self.find_level(now, capacity);
        }
        let Some(level) = self.level else { return Claim::Entitled };
        let flow = &mut self.flows[index];
        let elapsed = now.saturating_duration_since(flow.credit_at).as_secs_f64();
        let share = level * flow.weight;
        flow.credit = (flow.credit + share * elapsed).min((share * BURST).max(cost));
        flow.credit_at = now;
        if flow.credit < cost {
            return Claim::Excess;
        }
        flow.credit -= cost;
        if flow.rate.value > CAPPED * share { Claim::Capped } else { Claim::Entitled }
    }

    /// An entitled request cannot meet its target.
    pub(super) fn missed(&mut self, now: Timestamp) {
        self.missed.add(now, 1.0);
    }

    /// Whether a flow asks for much more than its share.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded
    }

    /// Finds the level at which the flows' demands, each cut to the level times its weight, add up to what is feasible.
    fn find_level(&mut self, now: Timestamp, capacity: f64) {
        let total = self.total.at(now);
        let feasible = self.feasible * capacity;
        let is_missing = self.missed.at(now) > MISSED_MAX * self.arrived.at(now);
        if total <= feasible || (self.level.is_none() && !is_missing && total <= FLOOD * capacity) {
            (self.level, self.is_flooded) = (None, false);
            return;
        }
        let demands = self.flows.iter().map(|flow| (flow.rate.at(now), flow.weight));
        self.scratch.clear();
        self.scratch.extend(demands.filter(|(rate, _)| *rate > NEGLIGIBLE));
        self.scratch.sort_unstable_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        self.level = divide(&self.scratch, feasible);
        let highest = self.scratch.last().map_or(0.0, |(rate, weight)| rate / weight);
        self.is_flooded = self.level.is_some_and(|level| highest > CAPPED * level);
    }
}

/// Divides `left` among demands with weights, sorted by demand over weight: the level, if anybody asks for more than it.
fn divide(demands: &[(f64, f64)], mut left: f64) -> Option<f64> {
    let mut weights: f64 = demands.iter().map(|(_, weight)| weight).sum();
    for (rate, weight) in demands {
        let level = left / weights;
        if rate / weight > level {
            return Some(level.max(0.0));
        }
        left -= rate;
        weights -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisions_are_max_min_fair() {
        let check = |demands: &[(f64, f64)], left: f64, expected: Option<f64>| {
            let level = divide(demands, left);
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

    /// Lets flows ask by turns for `seconds`, each for 1 ms at its rate in device seconds by the second, and returns the
    /// claims that each flow's requests had in the second half.
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
                    let tenant = TenantId(flow as u32);
                    let claim = demand.asked(now, tenant, Priority::Normal, weights[flow], COST, capacity);
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
        let ask =
            |demand: &mut Demand| demand.asked(Timestamp::ZERO, TenantId(0), Priority::Normal, 1, 0.01, 1.0);
        let within = (0..1000).filter(|_| ask(&mut demand).is_entitled()).count();
        // What is feasible within the time constant, and the burst.
        assert!(within < 40, "{within}");
    }
}
