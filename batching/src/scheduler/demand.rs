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
use crate::units::{Priority, TenantId, Timestamp};

/// Time constant of the smoothed demand, in seconds.
const SMOOTHING: f64 = 0.25;
/// Demand over capacity that is a flood: shares are enforced before anybody is late.
const FLOOD: f64 = 1.2;
/// Share of requests late at which shares are enforced if demand is high.
const MISSED_MAX: f64 = 0.02;
/// How often the level is found anew.
const LEVEL_EVERY: Duration = Duration::from_millis(20);
/// A flow may use so many seconds of its level at once.
const BURST: f64 = 0.1;
/// Demand in device time by the second that is too small to matter.
const NEGLIGIBLE: f64 = 1e-6;

/// Shares of the fluid limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shares {
    /// Demand above this is too much.
    pub(super) feasible: f64,
    /// In overload, what is promised is at least this.
    pub(super) promised: f64,
}

/// The demand of all flows.
#[derive(Debug)]
pub(super) struct Demand {
    flows: Vec<Flow>,
    by_key: HashMap<(TenantId, Priority), u32>,
    total: Decaying,
    /// Requests by the second, and of these entitled ones that cannot meet their target.
    arrived: Decaying,
    missed: Decaying,
    shares: Shares,
    /// Device seconds by the second at weight 1; none while all demand is feasible.
    level: Option<f64>,
    level_at: Timestamp,
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
    pub(super) fn new(shares: Shares) -> Self {
        Self {
            flows: Vec::new(),
            by_key: HashMap::new(),
            total: Decaying::default(),
            arrived: Decaying::default(),
            missed: Decaying::default(),
            shares,
            level: None,
            level_at: Timestamp::ZERO,
            scratch: Vec::new(),
        }
    }

    /// Counts a request that asks for `cost` seconds of a device, where `capacity` is the fluid limit in device seconds by
    /// the second. Returns whether it is within its flow's share.
    pub(super) fn asked(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        priority: Priority,
        weight: u32,
        cost: f64,
        capacity: f64,
    ) -> bool {
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
        let Some(level) = self.level else { return true };
        let flow = &mut self.flows[index];
        let elapsed = now.saturating_duration_since(flow.credit_at).as_secs_f64();
        let share = level * flow.weight;
        flow.credit = (flow.credit + share * elapsed).min((share * BURST).max(cost));
        flow.credit_at = now;
        let is_within = flow.credit >= cost;
        if is_within {
            flow.credit -= cost;
        }
        is_within
    }

    /// An entitled request cannot meet its target.
    pub(super) fn missed(&mut self, now: Timestamp) {
        self.missed.add(now, 1.0);
    }

    /// Finds the level at which the flows' demands, each cut to the level times its weight, add up to what is promised.
    fn find_level(&mut self, now: Timestamp, capacity: f64) {
        let total = self.total.at(now);
        let Shares { feasible, promised } = self.shares;
        let is_missing = self.missed.at(now) > MISSED_MAX * self.arrived.at(now);
        if total <= feasible * capacity || (self.level.is_none() && !is_missing && total <= FLOOD * capacity)
        {
            self.level = None;
            return;
        }
        let demands = self.flows.iter().map(|flow| (flow.rate.at(now), flow.weight));
        self.scratch.clear();
        self.scratch.extend(demands.filter(|(rate, _)| *rate > NEGLIGIBLE));
        self.scratch.sort_unstable_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        // The more is asked for, the less is promised, down to the share that leaves everybody's answers prompt.
        let given = (2.0 * feasible * capacity - total).max(promised * capacity);
        self.level = divide(&self.scratch, given);
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
    /// share of each flow's demand that was within its share.
    fn within(rates: &[f64], weights: &[u32], capacity: f64, seconds: f64) -> Vec<f64> {
        const COST: f64 = 0.001;
        let mut demand = Demand::new(Shares { feasible: 0.9, promised: 0.8 });
        let mut counts = vec![(0u32, 0u32); rates.len()];
        let mut owed = vec![0.0; rates.len()];
        let steps = (seconds * 10_000.0) as u64;
        for step in 0..steps {
            let now = Timestamp::from_nanos(step * 100_000);
            for (flow, rate) in rates.iter().enumerate() {
                owed[flow] += rate * 1e-4;
                while owed[flow] >= COST {
                    owed[flow] -= COST;
                    let tenant = TenantId(flow as u32);
                    let is_within =
                        demand.asked(now, tenant, Priority::Normal, weights[flow], COST, capacity);
                    if step > steps / 2 {
                        counts[flow].0 += 1;
                        counts[flow].1 += u32::from(is_within);
                    }
                }
            }
        }
        counts.into_iter().map(|(asked, within)| f64::from(within) / f64::from(asked)).collect()
    }

    #[test]
    fn uneven_but_feasible_demand_is_let_be() {
        assert_eq!(within(&[0.8, 0.02, 0.02], &[1, 1, 1], 1.0, 4.0), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn only_those_who_ask_for_too_much_are_held_back() {
        let shares = within(&[0.2, 0.2, 3.0], &[1, 1, 1], 1.0, 4.0);
        assert_eq!(shares[..2], [1.0, 1.0]);
        // 0.8 promised, less 0.4 for the others, of 3.0.
        assert!((shares[2] - 0.4 / 3.0).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn weights_count() {
        let shares = within(&[2.0, 2.0], &[3, 1], 1.0, 4.0);
        assert!((shares[0] - 0.3).abs() < 0.02 && (shares[1] - 0.1).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn a_flood_is_noticed_at_once() {
        let mut demand = Demand::new(Shares { feasible: 0.9, promised: 0.8 });
        let ask =
            |demand: &mut Demand| demand.asked(Timestamp::ZERO, TenantId(0), Priority::Normal, 1, 0.01, 1.0);
        let within = (0..1000).filter(|_| ask(&mut demand)).count();
        // What is feasible within the time constant, and the burst.
        assert!(within < 40, "{within}");
    }
}
