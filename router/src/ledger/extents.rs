//! Which records of each epoch there are, and which there were: numbers of an epoch have no gaps, and two
//! files remember the first and the last, of those that were [written](super::written) and of those that were
//! summed. So a lost beginning or end is noticed as a gap is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::removed;
use super::segments::{self, Segment};

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

    /// Each epoch with its numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Range<u64>)> {
        self.0.iter()
    }

    /// What a journal should have: what was written, and what was summed, of each epoch. To be read before
    /// the segments are.
    pub(super) fn known(written: Self, checkpoint: Option<&Checkpoint>) -> Self {
        let mut extents = written;
        let rows = checkpoint.iter().flat_map(|checkpoint| &checkpoint.sums);
        for row in rows.filter(|row| row.first < row.own) {
            extents.add(&row.epoch, row.first..row.own);
        }
        extents
    }

    /// What is in no segment of a folder of what was `known`, but what was removed since nobody needed it,
    /// and what is damaged and set aside. To be asked after the segments were read.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn lost(&self, folder: &Path, known: &Self) -> io::Result<Vec<Range<u64>>> {
        let mut missing = self.missing(known, removed(folder)?);
        missing.retain(|numbers| !Segment::was_set_aside_in(folder, numbers));
        Ok(missing)
    }

    /// Whether a record of one of these numbers was written, as far as that is known: somebody may have been
    /// answered for it.
    pub(super) fn have_any(&self, numbers: &Range<u64>) -> bool {
        self.0.values().any(|known| known.start.max(numbers.start) < known.end.min(numbers.end))
    }

    /// Those that have a record which was not removed.
    pub(super) fn not_before(mut self, removed: u64) -> Self {
        self.0.retain(|_, numbers| numbers.end > removed);
        self
    }

    /// What was there once and is in no segment, but for what was removed.
    fn missing(&self, known: &Self, removed: u64) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        for (epoch, known) in &known.0 {
            let known = known.start.max(removed)..known.end;
            let found = self.0.get(epoch).cloned().unwrap_or(known.end..known.end);
            missing.extend([known.start..found.start.min(known.end), found.end.max(known.start)..known.end]);
        }
        missing.retain(|numbers| !numbers.is_empty());
        missing
    }
}

/// All records before this one were removed. Where that was not noted, by an older version: it removed oldest
/// first.
pub(super) fn removed(folder: &Path) -> io::Result<u64> {
    let oldest = || io::Result::Ok(segments::list(folder)?.first().map_or(0, |segment| segment.first));
    removed::removed(folder)?.map_or_else(oldest, Ok)
}

/// What is wrong with a journal that lost these records, by its checkpoint.
pub(super) fn problems(lost: &[Range<u64>], checkpoint: Option<&Checkpoint>) -> Vec<String> {
    let lost = lost.iter().map(|Range { start, end }| {
        format!("records {start} to {} are missing: a first or last segment of a start is gone", end - 1)
    });
    let lacking = checkpoint.iter().flat_map(|checkpoint| &checkpoint.lacking).map(|row| {
        let (tenant, day, last) = (&row.tenant, row.day, row.next - 1);
        format!(
            "the sums of {tenant} on {day} lack those of its records among {} to {last} for good: the store lost them after the \
             journal had dropped them",
            row.first
        )
    });
    lost.chain(lacking).collect()
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
