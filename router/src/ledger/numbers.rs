//! Numbers of records: none is ever given out twice in one folder. (Between folders, and where all but the
//! segments is lost, epochs tell records apart: see `line`.)
//!
//! They are reserved in blocks on the disk before the first of a block is used, and every start begins above
//! all that an earlier one had reserved. So the end of the journal may be lost in a power failure, after it
//! was shipped, and no new record is taken for a lost one. Where the reservation is lost too, or older than
//! the rest (a folder from a backup), a start also begins above what the segments and the followers know, and
//! above a number made of the clock. Numbers have gaps between starts, and none within one.

use std::io;
use std::path::{Path, PathBuf};

use ulid::Ulid;

use super::error::JournalError;
use super::{files, segments};
use units::WallTime;

/// Numbers reserved at once.
const BLOCK: u64 = 1 << 20;
/// File with the first number that is not reserved.
const RESERVED: &str = "reserved";
/// File with the journal's name.
const NAME: &str = "name";

pub(super) struct Numbers {
    path: PathBuf,
    next: u64,
    /// Numbers before this one may be given out.
    reserved: u64,
}

impl Numbers {
    /// Begins above everything that was given out before: `end` is the number after the journal's last
    /// record, and `floor` one that is known elsewhere. A journal that never had a record begins with 0.
    /// Blocks.
    pub(super) fn open(folder: &Path, end: u64, floor: u64) -> io::Result<Self> {
        let path = folder.join(RESERVED);
        let reserved = reserved(folder)?;
        let followed = followed(folder)?;
        let is_used = reserved.is_some() || end > 0 || followed > 0;
        // Without a reservation: an older version's journal, whose end may be lost.
        let margin = if reserved.is_none() && is_used { BLOCK } else { 0 };
        let known = [reserved.unwrap_or(0), end, followed, if is_used { floor } else { 0 }];
        let next = known.into_iter().max().unwrap_or(0) + margin;
        Ok(Self { path, next, reserved: 0 })
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Reserves so many numbers, if they are not; they are the next ones.
    pub(super) fn reserve(&mut self, count: u64) -> io::Result<()> {
        let end = self.next.saturating_add(count);
        if end > self.reserved {
            let reserved = end.saturating_add(BLOCK);
            files::replace(&self.path, reserved.to_string().as_bytes())?;
            self.reserved = reserved;
        }
        Ok(())
    }

    /// So many were used.
    pub(super) fn used(&mut self, count: u64) {
        self.next += count;
    }
}

/// A number that no start before `now` can have reached, by the clock: a million a second since 1970.
pub fn number_by_clock(now: WallTime) -> u64 {
    // A clock that is centuries ahead says nothing.
    Some(now.0 / 1000).filter(|seconds| *seconds < 1 << 33).map_or(0, |seconds| seconds << 20)
}

/// The first number that is not reserved, if that is known.
pub(super) fn reserved(folder: &Path) -> io::Result<Option<u64>> {
    files::number_in(&folder.join(RESERVED))
}

/// Names of the files that say how far the followers are.
pub(super) fn follower_names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_position =
            name == super::shipper::POSITION_FILE || name.starts_with(super::sink::POSITION_PREFIX);
        if is_position && !name.ends_with(".new") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The number after all that the followers have read.
fn followed(folder: &Path) -> io::Result<u64> {
    let mut last = 0;
    for name in follower_names(folder)? {
        last = last.max(files::number_in(&folder.join(name))?.unwrap_or(0));
    }
    Ok(last)
}

/// Name of the journal in this folder, which names its server, and the records of an older version. Makes one
/// for a journal that has none. What else is named is named by its epoch, so no name can have it charged
/// again. Blocks.
///
/// # Errors
/// The disk refuses; or there are records of an older version, and under which name they were charged cannot
/// be told.
pub fn journal_name(folder: &Path) -> Result<String, JournalError> {
    files::make_folder(folder)?;
    let path = folder.join(NAME);
    let is_good = |name: &String| Ulid::from_string(name).is_ok_and(|ulid| ulid.to_string() == *name);
    let written = files::read(&path)?;
    let named = written.clone().filter(is_good);
    let known = super::checkpoint::Checkpoint::read(folder)?.map(|checkpoint| checkpoint.journal);
    let name = match (named, known.filter(is_good)) {
        (Some(name), None) => return Ok(name),
        (Some(name), Some(known)) if name == known => return Ok(name),
        (Some(named), Some(known)) if has_unnamed_records(folder)? => {
            return Err(JournalError::Disputed { file: path, named, known });
        }
        (_, Some(known)) => known,
        (None, None) if has_unnamed_records(folder)? => return Err(JournalError::Nameless { file: path }),
        (None, None) => Ulid::new().to_string(),
    };
    if written.is_some() {
        tracing::error!(name, "the usage journal's name was lost or changed; it is this one again");
    }
    files::replace(&path, name.as_bytes())?;
    Ok(name)
}

/// Name of the journal in this folder, to look at it; nothing is made or mended. Empty: it cannot be told.
/// Blocks.
///
/// # Errors
/// The disk refuses.
pub fn known_name(folder: &Path) -> io::Result<String> {
    let known = super::checkpoint::Checkpoint::read(folder)?.map(|checkpoint| checkpoint.journal);
    Ok(known.or(files::read(&folder.join(NAME))?).unwrap_or_default())
}

/// Whether there are records without an epoch. They are the oldest.
fn has_unnamed_records(folder: &Path) -> io::Result<bool> {
    for segment in segments::list(folder)? {
        let (mut is_unnamed, mut is_named) = (false, false);
        segment.visit(|_, text| {
            let has_epoch = super::line::epoch_in(text).is_some();
            (is_unnamed, is_named) = (is_unnamed || !has_epoch, is_named || has_epoch);
            Ok(())
        })?;
        if is_unnamed || is_named {
            return Ok(is_unnamed);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_start_begins_above_what_any_can_have_given_out() {
        let check = |files: &[(&str, &str)], end: u64, floor: u64, expected: u64| {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            let next = Numbers::open(folder.path(), end, floor).unwrap().next();
            assert_eq!(next, expected, "{files:?}, {end}, {floor}");
        };
        check(&[], 0, 77 << 20, 0);
        check(&[("reserved", "5000")], 17, 0, 5000);
        check(&[("reserved", "5000")], 17, 77 << 20, 77 << 20);
        check(&[("reserved", "5000")], 6000, 0, 6000);
        check(&[("reserved", "5000"), ("sink-x", "7000\n"), ("shipped", "10")], 17, 0, 7000);
        // An older version's.
        check(&[("shipped", "20")], 17, 0, 20 + BLOCK);
        check(&[], 17, 0, 17 + BLOCK);
        // Not ours.
        check(&[("reserved", ""), ("shipped", "20")], 17, 0, 20 + BLOCK);
        check(&[("reserved", "18446744073709551615")], 17, 0, 17 + BLOCK);
    }

    #[test]
    fn numbers_are_reserved_before_they_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = 0;
        for used in [3, 0, 2 * BLOCK] {
            let mut numbers = Numbers::open(folder.path(), 0, 0).unwrap();
            assert_eq!(numbers.next(), expected);
            numbers.reserve(used).unwrap();
            numbers.used(used);
            expected += used + BLOCK;
        }
    }

    #[test]
    fn the_name_stays_or_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let name = journal_name(folder.path()).unwrap();
        assert_eq!(journal_name(folder.path()).unwrap(), name);
        // A name that was lost before there was a record is made anew; after that it is not.
        std::fs::write(folder.path().join(NAME), "").unwrap();
        let name = journal_name(folder.path()).unwrap();
        assert!(!name.is_empty());
        let checkpoint = |name: &str| {
            let text = format!(r#"{{"journal":"{name}","life":null,"next":0,"tenants":{{}}}}"#);
            std::fs::write(folder.path().join("tenants.json"), text).unwrap();
        };
        let json = serde_json::to_string(&crate::ledger::tests::record("acme", 1)).unwrap();
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        let check = |written: Option<&str>, expected: Option<&str>| {
            match written {
                Some(text) => std::fs::write(folder.path().join(NAME), text).unwrap(),
                None => std::fs::remove_file(folder.path().join(NAME)).unwrap(),
            }
            assert_eq!(journal_name(folder.path()).ok().as_deref(), expected, "{written:?}");
        };
        let other = Ulid::new().to_string();
        checkpoint(&name);
        // Records have epochs, or there are none: the checkpoint decides.
        for written in [Some(""), Some(other.as_str()), Some("\u{0}\u{0}"), Some(&name[..20]), None] {
            check(written, Some(&name));
        }
        check(Some(&name.to_lowercase()), Some(&name));
        // Records of an older version.
        std::fs::write(segments::path(folder.path(), 0), &line).unwrap();
        for written in ["", "\u{0}", &name[..20], &name.to_lowercase()] {
            check(Some(written), Some(&name));
        }
        check(Some(&other), None);
        std::fs::remove_file(folder.path().join("tenants.json")).unwrap();
        check(Some(&name), Some(&name));
        check(Some(&name[..20]), None);
    }
}
