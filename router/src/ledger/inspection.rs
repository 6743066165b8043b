//! Compares a journal with itself, with its followers' positions and with the sums of a store; and mends what
//! can be mended while no server runs.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::error::JournalError;
use super::extents::{self, Extents};
use super::line::Entry;
use super::numbers;
use super::segments::{self, Gaps, Segment};
use super::{Sum, SumKey, TenantDay, UsageStore, files, line, written};
use crate::store::StoreError;

/// What was found in one segment, or at one follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFinding {
    pub file: PathBuf,
    /// Numbers of its records: the first, and the one after the last. Of a follower: what it reads next,
    /// twice.
    pub numbers: (u64, u64),
    /// Good records. Of a follower: those that it has not read.
    pub records: u64,
    /// What is wrong. None: nothing.
    pub problem: Option<String>,
}

/// What was found of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantFinding {
    /// Records in the journal.
    pub records: u64,
    /// Number after the last of them.
    pub end: u64,
    /// Records of them that the store has summed. None: it was not asked.
    pub summed: Option<u64>,
    /// Records that are not in the sums.
    pub missing: u64,
}

/// A day of a tenant whose sums are not what the records add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsoundDay {
    pub place: TenantDay,
    /// Records that the store says are in its sums. None: an older version did not count them.
    pub records: Option<u64>,
    /// Records of them in this journal.
    pub in_journal: u64,
}

/// What was found in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Segments, oldest first.
    pub segments: Vec<JournalFinding>,
    /// Followers: the sums (`shipped`) and the sinks.
    pub followers: Vec<JournalFinding>,
    /// Damaged segments that were set aside.
    pub set_aside: Vec<PathBuf>,
    /// Tenants with records in the journal.
    pub tenants: BTreeMap<Arc<str>, TenantFinding>,
    /// Days whose sums are not what they should be.
    pub unsound: Vec<UnsoundDay>,
    /// What is wrong beside that.
    pub problems: Vec<String>,
    /// Number after the last record of each tenant's day, by epoch; none is the journal's name.
    places: BTreeMap<TenantDay, BTreeMap<Option<Arc<str>>, u64>>,
}

/// Reads a journal, which may be written meanwhile. Blocks; reads all of it.
///
/// # Errors
/// The disk refuses.
pub fn inspect(folder: &Path) -> Result<Inspection, JournalError> {
    let mut found = Inspection { set_aside: segments::set_aside(folder)?, ..Inspection::default() };
    // Before the records: who reads while it is written is not ahead of it.
    let followers = follower_files(folder)?;
    let checkpoint = Checkpoint::read(folder)?;
    let journal: Arc<str> =
        Arc::from(checkpoint.as_ref().map_or("", |checkpoint| checkpoint.journal.as_str()));
    let known = Extents::known(written::written(folder)?, checkpoint.as_ref());
    let mut extents = Extents::default();
    let (mut end, mut gaps) = (0, Gaps::new());
    for segment in segments::list(folder)? {
        let mut epoch: Option<Arc<str>> = None;
        // What is damaged at its beginning and end is not lost.
        let mut first = segment.first;
        let scan = segment.visit(|number, text| {
            let Some(record) = line::parse(text) else { return Ok(()) };
            let named = line::epoch_in(text);
            if epoch.as_deref() != named {
                epoch = named.map(Arc::from);
            }
            extents.add(epoch.as_ref().unwrap_or(&journal), first.min(number)..number + 1);
            first = u64::MAX;
            // What another segment has already counts once.
            if number >= end {
                found.add(&Entry { number, epoch: epoch.clone(), record });
            }
            Ok(())
        })?;
        if first == u64::MAX {
            let until = scan.end.max(scan.damaged_until);
            extents.add(epoch.as_ref().unwrap_or(&journal), scan.end - 1..until);
        }
        let numbers = segment.first..scan.end;
        let gap = gaps.before(numbers.clone(), epoch.as_deref());
        let gap = gap.filter(|gap| !Segment::was_set_aside_in(folder, gap));
        let problem = problem(&scan, numbers, end, gap);
        let numbers = (segment.first, scan.end);
        found.segments.push(JournalFinding { file: segment.path, numbers, records: scan.records, problem });
        end = end.max(scan.end);
    }
    found.problems = extents::problems(&extents.lost(folder, &known)?, checkpoint.as_ref());
    for (file, next) in followers {
        let (next, problem) = match next {
            None => (0, Some("holds no record's number".to_owned())),
            Some(next) if next > end => (next, Some(format!("is ahead of the journal, which ends at {end}"))),
            Some(next) => (next, None),
        };
        let records = found.segments.iter().map(|segment| segment.records_from(next)).sum();
        found.followers.push(JournalFinding { file, numbers: (next, next), records, problem });
    }
    Ok(found)
}

/// What is wrong with a segment that comes after one which ends at `end`.
fn problem(scan: &segments::Scan, numbers: Range<u64>, end: u64, gap: Option<Range<u64>>) -> Option<String> {
    if numbers.start < end {
        Some(format!("begins before the end of the one before, {end}"))
    } else if scan.is_damaged() {
        Some(format!("{} damaged lines, from record {} on", scan.damaged, scan.damaged_from))
    } else {
        gap.map(|Range { start, end }| format!("records {start} to {} before it are missing", end - 1))
    }
}

impl JournalFinding {
    /// Records from a number on, if none between is missing.
    fn records_from(&self, number: u64) -> u64 {
        let (first, end) = self.numbers;
        end.saturating_sub(number.max(first)).min(self.records)
    }
}

impl Inspection {
    fn add(&mut self, entry: &Entry) {
        let tenant = self.tenants.entry(Arc::clone(&entry.record.tenant)).or_default();
        tenant.records += 1;
        tenant.end = entry.number + 1;
        let epochs = self.places.entry(TenantDay::of(&entry.record)).or_default();
        match epochs.get_mut(&entry.epoch) {
            Some(end) => *end = entry.number + 1,
            None => _ = epochs.insert(entry.epoch.clone(), entry.number + 1),
        }
    }

    /// Asks the store how far the journal, which has the name `journal`, is in the sums of each tenant and
    /// day, and compares the sums themselves with what the records add up to. To be repeated while a server
    /// ships.
    ///
    /// # Errors
    /// The store or the disk.
    pub async fn compare(
        &mut self,
        folder: &Path,
        journal: &str,
        store: &dyn UsageStore,
    ) -> Result<(), InspectionError> {
        let journal: Arc<str> = Arc::from(journal);
        let name = |epoch: &Option<Arc<str>>| epoch.clone().unwrap_or_else(|| Arc::clone(&journal));
        let asked: Vec<_> = self
            .places
            .iter()
            .map(|(place, epochs)| (place.clone(), epochs.keys().map(name).collect::<Vec<_>>()))
            .collect();
        let states = store.days(&asked, true).await?;
        let mut days: BTreeMap<TenantDay, Comparison> = BTreeMap::new();
        for (((place, epochs), (_, names)), state) in self.places.iter().zip(&asked).zip(&states) {
            let known = epochs.iter().zip(names).zip(&state.positions);
            // A record that came after the inspection is not looked at.
            let epochs = known.map(|((epoch, name), at)| (Arc::clone(name), (*at, *epoch.1))).collect();
            days.insert(place.clone(), Comparison { epochs, ..Comparison::default() });
        }
        let folder = folder.to_owned();
        let counted = tokio::task::spawn_blocking(move || {
            segments::walk(&folder, |entry| {
                if let Some(day) = days.get_mut(&TenantDay::of(&entry.record)) {
                    day.add(entry, &journal);
                }
                Ok(())
            })?;
            io::Result::Ok(days)
        });
        let days = counted.await.map_err(io::Error::other)??;
        for tenant in self.tenants.values_mut() {
            (tenant.summed, tenant.missing) = (Some(0), 0);
        }
        self.unsound.clear();
        for ((place, day), state) in days.into_iter().zip(states) {
            if let Some(tenant) = self.tenants.get_mut(&place.tenant) {
                tenant.summed = tenant.summed.map(|summed| summed + day.records);
                tenant.missing += day.missing;
            }
            let sums = store.sums(&place.tenant, place.day, place.day).await?;
            if !state.is_sound || !day.is_in(&sums, state.records) {
                let (records, in_journal) = (state.records, day.records);
                self.unsound.push(UnsoundDay { place, records, in_journal });
            }
        }
        Ok(())
    }

    /// Records that are not in the sums.
    pub fn missing(&self) -> u64 {
        self.tenants.values().map(|tenant| tenant.missing).sum()
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        let mut findings = self.segments.iter().chain(&self.followers);
        let is_summed = self.missing() == 0 && self.unsound.is_empty();
        is_summed && self.problems.is_empty() && findings.all(|finding| finding.problem.is_none())
    }
}

/// Why a journal could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum InspectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the journal has of a tenant's day, and how much of that the store says it has.
#[derive(Default)]
struct Comparison {
    /// By epoch: number after what the store has, and after what is looked at.
    epochs: BTreeMap<Arc<str>, (u64, u64)>,
    /// Records that the store has, and what they add up to.
    records: u64,
    sums: BTreeMap<SumKey, Sum>,
    /// Records that it does not have.
    missing: u64,
}

impl Comparison {
    fn add(&mut self, entry: Entry, journal: &Arc<str>) {
        let Entry { number, epoch, record } = entry;
        let (at, end) = self.epochs.get(epoch.as_ref().unwrap_or(journal)).copied().unwrap_or_default();
        if number < at {
            self.records += 1;
            *self.sums.entry(SumKey::of(&record)).or_default() += Sum::of(&record);
        } else if number < end {
            self.missing += 1;
        }
    }

    /// Whether a store's sums of so many records have these in them: just these, if there are no others.
    fn is_in(&self, sums: &BTreeMap<SumKey, Sum>, records: Option<u64>) -> bool {
        let has = |(key, sum): (&SumKey, &Sum)| sums.get(key).is_some_and(|total| sum.is_within(total));
        match records {
            Some(records) if records == self.records => *sums == self.sums,
            Some(records) => records > self.records && self.sums.iter().all(has),
            None => self.sums.iter().all(has),
        }
    }
}

/// Where the sums of this journal are, as a server found them last: see [`UsageStore::home`].
///
/// # Errors
/// The disk refuses.
pub fn home(folder: &Path) -> io::Result<Option<String>> {
    Ok(Checkpoint::read(folder)?.and_then(|checkpoint| checkpoint.home))
}

/// Files of followers, and the number in each. None: it holds none.
fn follower_files(folder: &Path) -> io::Result<Vec<(PathBuf, Option<u64>)>> {
    let names = numbers::follower_names(folder)?;
    names
        .into_iter()
        .map(|name| {
            let path = folder.join(name);
            files::number_in(&path).map(|next| (path, next))
        })
        .collect()
}

/// Mends a journal that no server uses: cuts an unfinished end off, sets damaged segments and copies aside
/// and keeps their good records under their numbers, and sets positions right that are ahead or cannot be
/// read. What the store lacks is for a [`Shipper`](super::Shipper) to move, which after this looks at all
/// records again. Returns what was done. Blocks; reads all of it.
///
/// # Errors
/// The disk refuses.
pub fn repair(folder: &Path) -> Result<Vec<String>, JournalError> {
    let mut done = segments::name_rightly(folder)?;
    let listed = segments::list(folder)?;
    if let Some(last) = listed.last()
        && last.mend()?.torn_at.is_some()
    {
        done.push(format!("{}: an unfinished record was cut off its end", last.path.display()));
    }
    let mut end = 0;
    for segment in &listed {
        end = end.max(salvage_if_damaged(segment, end, &mut done)?);
    }
    for (path, next) in follower_files(folder)? {
        match next {
            Some(next) if next <= end => {}
            Some(next) => {
                files::replace(&path, end.to_string().as_bytes())?;
                done.push(format!("{}: set from {next} to {end}, the journal's end", path.display()));
            }
            None => {
                std::fs::remove_file(&path)?;
                done.push(format!(
                    "{}: removed, since it held no number; all records are looked at again",
                    path.display()
                ));
            }
        }
    }
    // With that the shipper asks the store for every record that there is.
    Checkpoint::reset(folder)?;
    Ok(done)
}

/// Sets a segment aside that is damaged, or has what the segments before it have, which end at `end`. Returns
/// its own end.
fn salvage_if_damaged(segment: &Segment, end: u64, done: &mut Vec<String>) -> io::Result<u64> {
    let scan = segment.scan()?;
    let path = segment.path.display();
    let has_room = !segment.path.with_file_name(segments::file_name(end)).exists();
    if segment.first < end && (scan.end <= end || !has_room) {
        segment.remove()?;
        done.push(format!("{path}: set aside, since the segments before it have its records"));
    } else if segment.first < end {
        let good = segment.salvage_from(end)?;
        done.push(format!(
            "{path}: set aside, since it begins before the end of the segments before it; {good} records after that are kept"
        ));
    } else if scan.is_damaged() {
        segment.salvage()?;
        done.push(format!(
            "{path}: {} damaged lines, from record {} on, were set aside; {} good records are kept and go on to sums and sinks",
            scan.damaged, scan.damaged_from, scan.records,
        ));
    }
    Ok(scan.end)
}
