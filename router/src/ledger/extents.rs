//! Which records of each epoch there are, and which there were: numbers of an epoch have no gaps, and the checkpoint remembers the
//! first and the last that were summed. So a lost beginning or end is noticed as a gap is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::segments::Segment;

/// Numbers by epoch, from the first to the one after the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extents(BTreeMap<Arc<str>, Range<u64>>);

impl Extents {
    /// A record of an epoch.
    pub(super) fn add(&mut self, epoch: &Arc<str>, numbers: Range<u64>) {
        match self.0.get_mut(epoch) {
            Some(known) => *known = known.start.min(numbers.start)..known.end.max(numbers.end),
            None => _ = self.0.insert(Arc::clone(epoch), numbers),
        }
    }

    /// What was summed of each epoch.
    fn summed(checkpoint: &Checkpoint) -> Self {
        let mut extents = Self::default();
        for row in checkpoint.sums.iter().filter(|row| row.first < row.own) {
            extents.add(&row.epoch, row.first..row.own);
        }
        extents
    }

    /// What was summed once and is in no segment, though an older one is there: what nobody needed goes oldest first.
    fn missing(&self, summed: &Self, oldest: u64) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        for (epoch, known) in &summed.0 {
            let known = known.start.max(oldest)..known.end;
            let found = self.0.get(epoch).cloned().unwrap_or(known.end..known.end);
            missing.extend([known.start..found.start.min(known.end), found.end.max(known.start)..known.end]);
        }
        missing.retain(|numbers| !numbers.is_empty());
        missing
    }
}

/// What is wrong with a journal in a folder whose segments have these numbers, the oldest from `oldest` on, by its checkpoint.
pub(super) fn problems(folder: &Path, found: &Extents, oldest: u64, checkpoint: &Checkpoint) -> Vec<String> {
    let missing = found.missing(&Extents::summed(checkpoint), oldest);
    let missing = missing.into_iter().filter(|numbers| !Segment::was_set_aside_in(folder, numbers));
    let missing = missing.map(|Range { start, end }| {
        format!("records {start} to {} are missing: a first or last segment of a start is gone", end - 1)
    });
    let lacking = checkpoint.lacking.iter().map(|row| {
        let (tenant, day, last) = (&row.tenant, row.day, row.next - 1);
        format!(
            "the sums of {tenant} on {day} lack those of its records among {} to {last} for good: the store lost them after the \
             journal had dropped them",
            row.first
        )
    });
    missing.chain(lacking).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::single_range_in_vec_init, reason = "one missing range")]
    #[test]
    fn beginnings_and_ends_that_are_gone() {
        let extents = |all: &[(&str, Range<u64>)]| {
            let mut extents = Extents::default();
            for (epoch, numbers) in all {
                extents.add(&Arc::from(*epoch), numbers.clone());
            }
            extents
        };
        let summed = extents(&[("a", 0..3), ("a", 3..10), ("b", 100..120), ("c", 200..201)]);
        let check = |found: &[(&str, Range<u64>)], oldest: u64, expected: &[Range<u64>]| {
            assert_eq!(extents(found).missing(&summed, oldest), expected, "{found:?} from {oldest}");
        };
        let all = [("a", 0..10), ("b", 100..120), ("c", 200..207)];
        check(&all, 0, &[]);
        // Dropped by age.
        check(&[("a", 4..10), ("b", 100..120), ("c", 200..201)], 4, &[]);
        check(&[("b", 110..120), ("c", 200..201)], 110, &[]);
        check(&[("c", 200..201)], 200, &[]);
        // Lost.
        check(&[("a", 0..7), ("b", 100..120), ("c", 200..201)], 0, &[7..10]);
        check(&[("a", 0..10), ("b", 105..120), ("c", 200..201)], 0, &[100..105]);
        check(&[("a", 0..10), ("b", 105..110), ("c", 200..201)], 0, &[100..105, 110..120]);
        check(&[("a", 2..10), ("c", 200..201)], 2, &[100..120]);
        check(&[("a", 2..10), ("b", 100..120)], 2, &[200..201]);
    }
}
