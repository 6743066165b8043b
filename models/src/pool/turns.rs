//! Whose turn it is: decoding before preparing, and within each the tenant that was served least.

use std::collections::{BTreeSet, HashMap, VecDeque};

use units::TenantId;

/// Least that a turn costs its tenant, in bytes, so that many tiny ones are not free.
const TURN_BYTES_MIN: u64 = 256;

/// Stages of a call on the pool, in the order of precedence: what is decoded was paid for with device time
/// already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Prepare,
}

/// Who works at what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stage: Stage,
    pub(super) tenant: TenantId,
    pub(super) weight: u32,
}

/// Work that waits for its turn.
#[derive(Debug)]
pub(super) struct Turns<W> {
    stages: [Flows<W>; 2],
}

/// Start-time fair queueing (Goyal, Vin and Cheng, 1996) over tenants: each has a virtual time that advances
/// by what it is served, divided by its weight; the least is next; who comes back starts at the present.
#[derive(Debug)]
struct Flows<W> {
    flows: HashMap<TenantId, Flow<W>>,
    /// Tenants with waiting work by their virtual time.
    ready: BTreeSet<(u64, TenantId)>,
    /// Virtual time of whoever was served last.
    present: u64,
}

#[derive(Debug)]
struct Flow<W> {
    waiting: VecDeque<W>,
    virtual_time: u64,
    running: usize,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Self { stages: [Flows::new(), Flows::new()] }
    }
}

impl<W> Turns<W> {
    /// Takes in new work.
    pub(super) fn add(&mut self, place: Place, work: W) {
        self.stage(place).add(place.tenant, work);
    }

    /// The work whose turn it is. Ended by [`Self::ended`].
    pub(super) fn next(&mut self) -> Option<W> {
        self.stages.iter_mut().find_map(Flows::next)
    }

    /// A turn of so many bytes is over; `rest` is what is left to do.
    pub(super) fn ended(&mut self, place: Place, bytes: u64, rest: Option<W>) {
        self.stage(place).ended(place, bytes, rest);
    }

    fn stage(&mut self, place: Place) -> &mut Flows<W> {
        match place.stage {
            Stage::Decode => &mut self.stages[0],
            Stage::Prepare => &mut self.stages[1],
        }
    }
}

impl<W> Flows<W> {
    fn new() -> Self {
        Self { flows: HashMap::new(), ready: BTreeSet::new(), present: 0 }
    }

    fn add(&mut self, tenant: TenantId, work: W) {
        let present = self.present;
        let flow = self.flows.entry(tenant).or_insert_with(|| Flow {
            waiting: VecDeque::new(),
            virtual_time: present,
            running: 0,
        });
        if flow.waiting.is_empty() {
            flow.virtual_time = flow.virtual_time.max(present);
            self.ready.insert((flow.virtual_time, tenant));
        }
        flow.waiting.push_back(work);
    }

    fn next(&mut self) -> Option<W> {
        let (virtual_time, tenant) = self.ready.pop_first()?;
        self.present = self.present.max(virtual_time);
        let flow = self.flows.get_mut(&tenant)?;
        let work = flow.waiting.pop_front();
        flow.running += 1;
        if !flow.waiting.is_empty() {
            self.ready.insert((virtual_time, tenant));
        }
        work
    }

    fn ended(&mut self, place: Place, bytes: u64, rest: Option<W>) {
        let Place { tenant, weight, .. } = place;
        let Some(flow) = self.flows.get_mut(&tenant) else { return };
        flow.running = flow.running.saturating_sub(1);
        let was_ready = self.ready.remove(&(flow.virtual_time, tenant));
        flow.virtual_time += bytes.max(TURN_BYTES_MIN).saturating_mul(64) / u64::from(weight.max(1));
        // Behind its tenant's other work, so that a long text does not hold up its own tenant's short ones
        // either.
        flow.waiting.extend(rest);
        debug_assert!(was_ready || flow.waiting.len() <= 1, "a flow with waiting work is ready");
        if !flow.waiting.is_empty() {
            self.ready.insert((flow.virtual_time, tenant));
        } else if flow.running == 0 {
            self.flows.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn place(stage: Stage, tenant: u32, weight: u32) -> Place {
        Place { stage, tenant: TenantId(tenant), weight }
    }

    #[test]
    fn decoding_goes_first_and_a_long_text_behind_short_ones() {
        let mut turns = Turns::default();
        let (one, two) = (place(Stage::Prepare, 1, 1), place(Stage::Prepare, 2, 1));
        turns.add(one, "long");
        assert_eq!(turns.next(), Some("long"));
        turns.add(one, "short of the same");
        turns.add(two, "short of another");
        turns.add(place(Stage::Decode, 3, 1), "answer");
        turns.ended(one, 16_384, Some("long"));
        assert_eq!(turns.next(), Some("answer"));
        assert_eq!(turns.next(), Some("short of another"));
        assert_eq!(turns.next(), Some("short of the same"));
        turns.ended(one, 10, None);
        assert_eq!(turns.next(), Some("long"));
        turns.ended(one, 10, None);
        assert_eq!(turns.next(), None);
        assert_eq!(turns.stages[1].flows.len(), 1, "only the one that has not ended is remembered");
    }

    proptest! {
        /// While two tenants have work all the time, what they are served is as their weights, but for a
        /// slice each.
        #[test]
        fn tenants_are_served_by_weight(
            weights in proptest::array::uniform2(1u32..9),
            sizes in proptest::collection::vec(300u64..20_000, 200..400),
        ) {
            let mut turns = Turns::default();
            let places = [place(Stage::Prepare, 1, weights[0]), place(Stage::Prepare, 2, weights[1])];
            (0..2).for_each(|i| turns.add(places[i], i));
            let mut served = [0u64; 2];
            for size in sizes {
                let i = turns.next().unwrap();
                turns.ended(places[i], size, Some(i));
                served[i] += size;
            }
            let share = |i: usize| served[i] as f64 / f64::from(weights[i]);
            let slack = 20_001.0 / f64::from(weights[0]) + 20_001.0 / f64::from(weights[1]);
            prop_assert!((share(0) - share(1)).abs() <= slack, "{served:?} {weights:?}");
        }
    }
}
