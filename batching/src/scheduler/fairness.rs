//! Who is served next: virtual token counters.
//!
//! Each backlogged member has a counter of what it was served, and the least served goes first; a member that was away
//! comes back at the level of those present, so that absence earns no credit (Sheng et al., "Fairness in Serving Large
//! Language Models", OSDI 2024, the virtual token counter with its lift).
//!
//! A batch has gaps that only small requests fit, so strict order would leave devices idle, and filling every gap would
//! favour whoever sends small requests without bound. The middle way: a member may be served out of turn while its counter
//! is at most `spread_max` above the lowest. Continuously backlogged members then differ by at most `spread_max` and one
//! charge.

use std::collections::BTreeMap;

/// Counters of members that compete, keyed by `K`. Only backlogged members are held.
#[derive(Debug)]
pub(super) struct Counters<K> {
    backlogged: BTreeMap<K, u64>,
    /// Level of the last member served: where one that returns to an empty field comes in.
    level: u64,
}

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self { backlogged: BTreeMap::new(), level: 0 }
    }
}

impl<K: Ord + Copy> Counters<K> {
    /// A member has work again.
    pub(super) fn activate(&mut self, member: K) {
        let level = self.backlogged.values().min().copied().unwrap_or(self.level);
        self.backlogged.entry(member).or_insert(level);
    }

    /// A member has no more work.
    pub(super) fn deactivate(&mut self, member: K) {
        if let Some(counter) = self.backlogged.remove(&member) {
            self.level = self.level.max(counter);
        }
    }

    /// A backlogged member was served.
    pub(super) fn charge(&mut self, member: K, amount: u64) {
        if let Some(counter) = self.backlogged.get_mut(&member) {
            *counter = counter.saturating_add(amount);
        }
    }

    /// Backlogged members that may be served, least served first: those within `spread_max` of the lowest counter.
    pub(super) fn in_order(&self, spread_max: u64) -> Vec<K> {
        let lowest = self.backlogged.values().min().copied().unwrap_or(0);
        let is_eligible = |counter: u64| counter - lowest <= spread_max;
        let mut members: Vec<_> = self
            .backlogged
            .iter()
            .filter(|(_, counter)| is_eligible(**counter))
            .map(|(member, counter)| (*counter, *member))
            .collect();
        members.sort_unstable();
        members.into_iter().map(|(_, member)| member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_served_goes_first() {
        let mut counters = Counters::default();
        for member in [1, 2, 3] {
            counters.activate(member);
        }
        counters.charge(1, 10);
        counters.charge(2, 5);
        assert_eq!(counters.in_order(u64::MAX), [3, 2, 1]);
    }

    #[test]
    fn whoever_is_far_ahead_waits() {
        let mut counters = Counters::default();
        for member in [1, 2, 3] {
            counters.activate(member);
        }
        counters.charge(1, 11);
        counters.charge(2, 10);
        assert_eq!(counters.in_order(10), [3, 2]);
    }

    #[test]
    fn absence_earns_no_credit() {
        let mut counters = Counters::default();
        counters.activate(1);
        counters.activate(2);
        counters.deactivate(2);
        counters.charge(1, 1000);
        counters.activate(2);
        counters.charge(2, 1);
        assert_eq!(counters.in_order(u64::MAX), [1, 2], "2 came back level with 1 and was served since");
    }

    #[test]
    fn leaving_loses_no_debt() {
        let mut counters = Counters::default();
        counters.activate(1);
        counters.charge(1, 1000);
        counters.deactivate(1);
        counters.activate(2);
        counters.activate(1);
        counters.charge(2, 1);
        assert_eq!(counters.in_order(u64::MAX), [1, 2], "both came into an empty field at the same level");
    }
}
