//! Which records each start of a server wrote, in a small file beside the segments: so a segment that is lost
//! is missed also if it is the last one, and if nothing else remembers it.
//!
//! The file of what was written has a line of fixed length for each epoch. The line of the epoch that is
//! written is overwritten with every group of records, after them and before anybody is told that they are
//! safe. That costs one write of a page that is in memory: the end of the process loses none of it; a power
//! failure may, and then less is missed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::extents::Extents;
use super::files;

const WRITTEN: &str = "written";

/// The line of the epoch that is written.
pub(super) struct EpochLine {
    epoch: String,
    file: File,
    /// Where the line begins, in bytes.
    offset: u64,
    first: Option<u64>,
    is_lost: bool,
}

impl EpochLine {
    /// Keeps the lines of these epochs, and puts one of a new epoch after them once it has a record.
    pub(super) fn open(folder: &Path, epoch: &str, kept: &Extents) -> io::Result<Self> {
        let mut lines: String =
            kept.iter().map(|(epoch, numbers)| line(epoch, numbers.start, numbers.end)).collect();
        let path = folder.join(WRITTEN);
        if let Err(error) = files::replace(&path, lines.as_bytes()) {
            // On a full disk the old lines stay.
            tracing::debug!(%error, "epochs that are not needed any more stay noted");
            lines = files::read(&path)?.map(|text| text + "\n").unwrap_or_default();
        }
        let file = files::private().create(true).write(true).truncate(false).open(path)?;
        Ok(Self { epoch: epoch.to_owned(), file, offset: lines.len() as u64, first: None, is_lost: false })
    }

    /// All records of the epoch from `first` on, when first asked, to before `next` are written.
    pub(super) fn tell(&mut self, first: u64, next: u64) {
        let first = *self.first.get_or_insert(first);
        debug_assert!(first <= next, "an epoch begins before it ends");
        let told = self.file.write_all_at(line(&self.epoch, first, next).as_bytes(), self.offset);
        if let (Err(error), false) = (&told, self.is_lost) {
            tracing::warn!(%error, "which records were written is not noted: if they are lost, nobody will know");
        }
        self.is_lost = told.is_err();
    }
}

/// What was written, as far as it is known.
pub(super) fn written(folder: &Path) -> io::Result<Extents> {
    let mut extents = Extents::default();
    let text = files::read(&folder.join(WRITTEN))?.unwrap_or_default();
    for (epoch, first, next) in text.lines().filter_map(parse) {
        extents.add(&Arc::from(epoch), first..next);
    }
    Ok(extents)
}

fn line(epoch: &str, first: u64, next: u64) -> String {
    let rest = format!("{epoch} {first:020} {next:020}");
    format!("{:08x} {rest}\n", crc32fast::hash(rest.as_bytes()))
}

fn parse(line: &str) -> Option<(&str, u64, u64)> {
    let (sum, rest) = line.split_once(' ')?;
    let is_good = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(rest.as_bytes());
    let mut words = rest.split(' ').filter(|_| is_good);
    let (epoch, first, next) = (words.next()?, words.next()?, words.next()?);
    Some((epoch, first.parse().ok()?, next.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[expect(clippy::single_range_in_vec_init, reason = "one epoch")]
    #[test]
    fn what_is_told_is_known_after_a_start_and_after_damage() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let told = || written(folder).unwrap().iter().map(|(_, numbers)| numbers.clone()).collect::<Vec<_>>();
        let mut first = EpochLine::open(folder, "01A", &written(folder).unwrap()).unwrap();
        assert_eq!(told(), []);
        first.tell(0, 3);
        first.tell(3, 10);
        assert_eq!(told(), [0..10]);
        let mut second = EpochLine::open(folder, "01B", &written(folder).unwrap()).unwrap();
        second.tell(100, 101);
        second.tell(101, 300);
        assert_eq!(told(), [0..10, 100..300]);
        let mut bytes = std::fs::read(folder.join(WRITTEN)).unwrap();
        bytes[20] ^= 1;
        std::fs::write(folder.join(WRITTEN), bytes).unwrap();
        assert_eq!(told(), [100..300]);
    }
}
