//! How long a batch may be for the sake of what else waits.

use units::Timestamp;

use super::{Candidate, Claim, Deadline, Opening, State};

impl Deadline {
    /// When a batch must have ended so that every other model's entitled sequences can still be answered in
    /// time, by this device or another, and so that nobody finds all devices busy for too long.
    pub(super) fn limit<P>(
        &self,
        state: &State<P>,
        opening: Opening,
        chosen: &Candidate,
        candidates: &[Candidate],
    ) -> Timestamp {
        let (start, quantum) = (opening.start, self.quantum);
        let others = state.fleet.devices.iter().enumerate();
        let others = others.filter(|(index, other)| *index != opening.device.index() && !other.is_lost);
        let mut others: Vec<Timestamp> = others.map(|(_, other)| other.free_at.max(start)).collect();
        let is_chosen =
            |candidate: &Candidate| (candidate.model, candidate.claim) == (chosen.model, chosen.claim);
        let mut waiting: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.claim.is_entitled() && !is_chosen(candidate))
            .filter(|candidate| !candidate.claim.yields_to(chosen.claim))
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
        let latest_start =
            |next: Timestamp, candidate: &&Candidate| next.min(candidate.due) - candidate.least(quantum);
        let limit = waiting.iter().rev().fold(Timestamp::MAX, latest_start);
        // Nobody who is yet to come may find all devices busy for too long; and what has no claim keeps none
        // for long.
        let is_other_free = others.iter().any(|free| *free <= start + quantum);
        let may_be_long = is_other_free && chosen.claim == Claim::Entitled;
        if may_be_long { limit } else { limit.min(start + quantum) }
    }
}
