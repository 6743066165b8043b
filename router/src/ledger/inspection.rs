//! Compares a journal with itself, with its followers' positions and with the sums of a store; and mends what can be mended
//! while no server runs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::journal::JournalError;
use super::numbers::{self, Numbers};
use super::segments::{self, Segment};
use super::{UsageStore, files, line, shipper};
use crate::store::StoreError;

/// What was found in one segment, or at one follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFinding {
    /// The file.
    pub file: PathBuf,
    /// Numbers of its records: the first, and the one after the last. Of a follower: what it reads next, twice.
    pub numbers: (u64, u64),
    /// Good records. Of a follower: those that it has not read.
    pub records: u64,
    /// What is wrong. None: nothing.
    pub problem: Option<String>,
}

/// What was found of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantFinding {
    /// Records in the journal.
    pub records: u64,
    /// Number after the last of them.
    pub end: u64,
    /// How far the store says that the journal is in the tenant's sums. None: it was not asked.
    pub contained: Option<u64>,
    /// Records that are not in the sums.
    pub missing: u64,
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
    /// What is wrong beside that.
    pub problems: Vec<String>,
}

/// Reads a journal, which may be written meanwhile. Blocks; reads all of it.
///
/// # Errors
/// The disk refuses.
pub fn inspect(folder: &Path) -> Result<Inspection, JournalError> {
    let mut found = Inspection { set_aside: segments::set_aside(folder)?, ..Inspection::default() };
    // Before the records: who reads while it is written is not ahead of it.
    let followers = follower_files(folder)?;
    let mut end = 0;
    for segment in segments::list(folder)? {
        let scan = segment.visit(|number, text| {
            let Some(record) = line::parse(text) else { return Ok(()) };
            let tenant = found.tenants.entry(record.tenant).or_insert(TenantFinding {
                records: 0,
                end: 0,
                contained: None,
                missing: 0,
            });
            tenant.records += 1;
            tenant.end = number + 1;
            Ok(())
        })?;
        let problem = if scan.is_damaged() {
            Some(format!("{} damaged lines, from record {} on", scan.damaged, scan.damaged_from))
        } else if segment.first < end {
            Some(format!("begins before the end of the one before, {end}"))
        } else {
            None
        };
        let numbers = (segment.first, scan.end);
        found.segments.push(JournalFinding { file: segment.path, numbers, records: scan.records, problem });
        end = end.max(scan.end);
    }
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

impl JournalFinding {
    /// Records from a number on, if none between is missing.
    fn records_from(&self, number: u64) -> u64 {
        let (first, end) = self.numbers;
        end.saturating_sub(number.max(first)).min(self.records)
    }
}

impl Inspection {
    /// Asks the store how far the journal, which it knows by the name `journal`, is in the sums of each tenant. To be repeated
    /// while a server ships.
    ///
    /// # Errors
    /// The store or the disk.
    pub async fn compare(
        &mut self,
        folder: &Path,
        journal: &str,
        store: &dyn UsageStore,
    ) -> Result<(), InspectionError> {
        let names: Vec<Arc<str>> = self.tenants.keys().cloned().collect();
        let positions = store.positions(journal, &names).await?;
        for (tenant, at) in self.tenants.values_mut().zip(positions) {
            (tenant.contained, tenant.missing) = (Some(at), 0);
        }
        if self.tenants.values().any(|tenant| tenant.contained.is_some_and(|at| at < tenant.end)) {
            let (folder, mut tenants) = (folder.to_owned(), self.tenants.clone());
            let counted =
                tokio::task::spawn_blocking(move || count_missing(&folder, &mut tenants).map(|()| tenants));
            self.tenants = counted.await.map_err(io::Error::other)??;
        }
        let end = store.end(journal).await?;
        let next = numbers::reserved(folder)?
            .unwrap_or(0)
            .max(self.segments.last().map_or(0, |last| last.numbers.1));
        self.problems.clear();
        if end > next {
            self.problems.push(format!(
                "the store has records of this journal up to {end}, and the folder gave out numbers up to {next} alone: it is an \
                 older copy"
            ));
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
        self.missing() == 0 && self.problems.is_empty() && findings.all(|finding| finding.problem.is_none())
    }
}

/// Why a journal could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum InspectionError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn count_missing(folder: &Path, tenants: &mut BTreeMap<Arc<str>, TenantFinding>) -> io::Result<()> {
    for segment in segments::list(folder)? {
        segment.visit(|number, text| {
            let Some(record) = line::parse(text) else { return Ok(()) };
            // A tenant or record that came after the inspection is not looked at.
            if let Some(tenant) = tenants.get_mut(&record.tenant)
                && tenant.contained.is_some_and(|at| at <= number)
                && number < tenant.end
            {
                tenant.missing += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Files of followers, and the number in each. None: it holds none.
fn follower_files(folder: &Path) -> io::Result<Vec<(PathBuf, Option<u64>)>> {
    let names = numbers::follower_names(folder)?;
    names
        .into_iter()
        .map(|name| {
            let path = folder.join(name);
            numbers::number_in(&path).map(|next| (path, next))
        })
        .collect()
}

/// Mends a journal that no server uses: cuts an unfinished end off, sets damaged segments aside and keeps their good records
/// under their numbers, sets positions right that are ahead or cannot be read, and sees to it that no number is given out twice.
/// What the store lacks is for a [`Shipper`](super::Shipper) to move. Returns what was done. Blocks; reads all of it.
///
/// # Errors
/// The disk refuses.
pub fn repair(folder: &Path, store_end: u64) -> Result<Vec<String>, JournalError> {
    let mut done = Vec::new();
    let listed = segments::list(folder)?;
    if let Some(last) = listed.last()
        && last.mend()?.torn_at.is_some()
    {
        done.push(format!("{}: an unfinished record was cut off its end", last.path.display()));
    }
    let mut end = 0;
    for segment in &listed {
        end = end.max(salvage_if_damaged(segment, &mut done)?);
    }
    for (path, next) in follower_files(folder)? {
        match next {
            Some(next) if next <= end => continue,
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
        // With that the shipper asks the store for every record that there is.
        if path.ends_with(shipper::POSITION_FILE) {
            Checkpoint::remove(folder)?;
        }
    }
    let reserved = numbers::reserved(folder)?.unwrap_or(0);
    if store_end > reserved.max(end) {
        Numbers::open(folder, end, store_end)?.reserve(0)?;
        done.push(format!("the next record gets a number above {store_end}, which the store has already"));
    }
    Ok(done)
}

fn salvage_if_damaged(segment: &Segment, done: &mut Vec<String>) -> io::Result<u64> {
    let scan = segment.scan()?;
    if scan.is_damaged() {
        segment.salvage()?;
        done.push(format!(
            "{}: {} damaged lines, from record {} on, were set aside; {} good records are kept and go on to sums and sinks",
            segment.path.display(),
            scan.damaged,
            scan.damaged_from,
            scan.records,
        ));
    }
    Ok(scan.end)
}
