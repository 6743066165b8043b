//! Segments of the journal on the disk: `<number of the first record>.ndjson`, lines in the order of their
//! numbers.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::{self, Entry};
use super::{files, removed};

/// Bytes at the end of a segment among which its last line is.
const TAIL_BYTES: u64 = 64 << 10;
/// What the name of a damaged segment ends with, after it was set aside.
const DAMAGED: &str = "damaged";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Number of its first record.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

/// What is in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// Number after its last record.
    pub(super) end: u64,
    pub(super) records: u64,
    /// Lines that are not as they were written.
    pub(super) damaged: u64,
    /// All damage is before this record.
    pub(super) damaged_until: u64,
    /// Number of the first damaged line.
    pub(super) damaged_from: u64,
    /// Where an unfinished end begins, in bytes.
    pub(super) torn_at: Option<u64>,
}

/// The end of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// Number after its last record.
    pub(super) next: u64,
    /// All damage that was met is before this record.
    pub(super) damaged_until: u64,
    /// Epoch of the last record that has one.
    pub(super) epoch: Option<String>,
}

/// The segment that begins with a record.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(file_name(first))
}

pub(super) fn file_name(first: u64) -> String {
    format!("{first:020}.ndjson")
}

/// All segments, oldest first; nothing that is no file, whatever it is called.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let first = name.strip_suffix(".ndjson").and_then(|number| number.parse().ok());
        if let Some(first) = first.filter(|_| path.is_file()) {
            segments.push(Segment { first, path });
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Gives segments whose names put them in a wrong place the numbers of their first records for names, or
/// sets them aside where there is one of that name. Returns what was done, in words.
///
/// # Errors
/// The disk refuses.
pub(super) fn name_rightly(folder: &Path) -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    let all = list(folder)?;
    for segment in &all {
        let Some(first) = segment.first_number()? else { continue };
        // Of one that was damaged at its beginning the first record may be gone.
        let between = segment.first + 1..first;
        let is_right = segment.first <= first && !all.iter().any(|other| between.contains(&other.first));
        if is_right {
            continue;
        }
        let (from, to) = (segment.path.display(), path(folder, first));
        if to.exists() {
            segment.remove()?;
            done.push(format!("{from}: set aside, since it begins with record {first}, as another one does"));
        } else {
            std::fs::rename(&segment.path, &to)?;
            files::sync_folder(folder)?;
            done.push(format!("{from}: renamed to {}, the number of its first record", to.display()));
        }
    }
    Ok(done)
}

/// Damaged segments that were set aside.
pub(super) fn set_aside(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == DAMAGED) {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Shows each good record of a journal once, in the order of their numbers. Blocks; reads all of it.
///
/// # Errors
/// The disk refuses.
pub(super) fn walk(folder: &Path, mut on_entry: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
    let mut end = 0;
    let mut epoch: Option<Arc<str>> = None;
    for segment in list(folder)? {
        segment.visit(|number, text| {
            let Some(record) = line::parse(text).filter(|_| number >= end) else { return Ok(()) };
            end = number + 1;
            let named = line::epoch_in(text);
            if epoch.as_deref() != named {
                epoch = named.map(Arc::from);
            }
            on_entry(Entry { number, epoch: epoch.clone(), record })
        })?;
    }
    Ok(())
}

/// Numbers that are missing between segments of one epoch, whose numbers have no gaps: segments, or ends of
/// them, are gone.
pub(super) struct Gaps {
    /// Epoch and end of the last segment that had one.
    last: Option<(Arc<str>, u64)>,
}

impl Gaps {
    pub(super) fn new() -> Self {
        Self { last: None }
    }

    /// What is missing before a segment, of whose records the last is of this epoch.
    pub(super) fn before(&mut self, numbers: Range<u64>, epoch: Option<&str>) -> Option<Range<u64>> {
        let epoch = epoch?;
        let gap = match &self.last {
            Some((last, end)) if **last == *epoch && *end < numbers.start => Some(*end..numbers.start),
            _ => None,
        };
        self.last = Some((Arc::from(epoch), numbers.end));
        gap
    }
}

impl Segment {
    /// Reads all of it, and shows each good line with its number.
    pub(super) fn visit(&self, mut on_line: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<Scan> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut scan = Scan { end: self.first, ..Scan::default() };
        // Number of the next line if nothing is missing, and bad lines since the last good one.
        let (mut place, mut bad, mut offset) = (self.first, 0, 0);
        let mut text = Vec::new();
        loop {
            let bytes = line::read(&mut reader, &mut text)? as u64;
            if bytes == 0 {
                break;
            }
            let number = line::number_in(&text).unwrap_or(place);
            if line::is_good(&text) && number >= scan.end {
                if bad > 0 {
                    scan.damage(bad, number);
                    bad = 0;
                }
                scan.torn_at = None;
                scan.records += 1;
                scan.end = number + 1;
                place = scan.end;
                on_line(number, &text)?;
            } else {
                bad += 1;
                place += 1;
                // Nobody was answered for what was being written at the end.
                if !line::is_torn(&text) {
                    scan.damage(bad, place);
                    (scan.torn_at, bad) = (None, 0);
                } else if scan.torn_at.is_none() {
                    scan.torn_at = Some(offset);
                }
            }
            offset += bytes;
        }
        Ok(scan)
    }

    /// The number in its first line, if that is good and has one.
    fn first_number(&self) -> io::Result<Option<u64>> {
        let mut text = Vec::new();
        line::read(&mut BufReader::new(File::open(&self.path)?), &mut text)?;
        Ok(line::number_in(&text).filter(|_| line::is_good(&text)))
    }

    /// Reads all of it.
    pub(super) fn scan(&self) -> io::Result<Scan> {
        self.visit(|_, _| Ok(()))
    }

    /// Its end: from its last line, if that says it.
    pub(super) fn end(&self) -> io::Result<End> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        let last = tail.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
        match line::number_in(last) {
            Some(number) if line::is_good(last) => {
                let epoch = line::epoch_in(last).map(str::to_owned);
                Ok(End { next: number + 1, damaged_until: 0, epoch })
            }
            _ => {
                let mut epoch = None;
                let scan = self.visit(|_, text| {
                    epoch = line::epoch_in(text).map(str::to_owned);
                    Ok(())
                })?;
                Ok(End { next: scan.end, damaged_until: scan.damaged_until, epoch })
            }
        }
    }

    /// Cuts an unfinished end off.
    pub(super) fn mend(&self) -> io::Result<Scan> {
        let scan = self.scan()?;
        if let Some(good) = scan.torn_at {
            tracing::warn!(
                record = scan.end,
                "the usage journal ends in an unfinished record, which is cut off"
            );
            let file = File::options().write(true).open(&self.path)?;
            file.set_len(good)?;
            file.sync_all()?;
        }
        Ok(scan)
    }

    /// Takes a segment away, under a name that ends in `damaged`.
    pub(super) fn remove(&self) -> io::Result<()> {
        std::fs::rename(&self.path, self.name_aside())?;
        self.path.parent().map_or(Ok(()), files::sync_folder)
    }

    /// Whether what is missing was damaged, and set aside with the segment that it was in.
    pub(super) fn was_set_aside_in(folder: &Path, gap: &Range<u64>) -> bool {
        let segments = list(folder).unwrap_or_default();
        let segment = segments.iter().rev().find(|segment| segment.first <= gap.start);
        segment.is_some_and(|segment| PathBuf::from(format!("{}.{DAMAGED}", segment.path.display())).exists())
    }

    /// File name that the segment gets when it is set aside.
    fn name_aside(&self) -> PathBuf {
        (0..)
            .map(|count: u32| match count {
                0 => PathBuf::from(format!("{}.{DAMAGED}", self.path.display())),
                _ => PathBuf::from(format!("{}.{count}.{DAMAGED}", self.path.display())),
            })
            .find(|path| !path.exists())
            .unwrap_or_else(|| self.path.with_extension(DAMAGED))
    }

    /// Sets a damaged segment aside, under a name that ends in `damaged`, and puts one with its good lines in
    /// its place.
    pub(super) fn salvage(&self) -> io::Result<Scan> {
        let (new, scan) = self.copy_good(0)?;
        let aside = self.name_aside();
        // Under both names at once, so that there is a segment at every moment.
        if std::fs::hard_link(&self.path, &aside).is_err() {
            std::fs::copy(&self.path, &aside)?;
        }
        std::fs::rename(&new, &self.path)?;
        self.path.parent().map_or(Ok(()), files::sync_folder)?;
        Ok(scan)
    }

    /// Sets a segment aside, and keeps the good lines from a number on as one that begins there. Returns how
    /// many these are.
    pub(super) fn salvage_from(&self, number: u64) -> io::Result<u64> {
        let (new, scan) = self.copy_good(number)?;
        if let Some(folder) = self.path.parent() {
            std::fs::rename(&new, path(folder, number))?;
        }
        self.remove()?;
        Ok(scan.records)
    }

    /// Copies the good lines from a number on into a file beside it.
    fn copy_good(&self, from: u64) -> io::Result<(PathBuf, Scan)> {
        let new = self.path.with_extension("new");
        let mut file =
            io::BufWriter::new(files::private().create(true).write(true).truncate(true).open(&new)?);
        let mut copied = 0;
        let scan = self.visit(|number, text| {
            if number < from {
                return Ok(());
            }
            copied += 1;
            file.write_all(&line::numbered(text, number))
        })?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok((new, Scan { records: copied, ..scan }))
    }
}

impl Scan {
    fn damage(&mut self, lines: u64, until: u64) {
        if self.damaged == 0 {
            self.damaged_from = self.end;
        }
        self.damaged += lines;
        self.damaged_until = until;
    }

    /// Lines that are lost to a reader of the segment as it is.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged > 0
    }
}

/// Removes segments all of whose records are before `next`, but for the newest of them: so many, and of at
/// least so many bytes, since a process that often starts anew makes many small ones. Blocks.
///
/// # Errors
/// The disk refuses.
pub(super) fn remove_read(folder: &Path, next: u64, keep: usize, keep_bytes: u64) -> io::Result<()> {
    let segments = list(folder)?;
    let ends = segments.iter().skip(1).map(|segment| segment.first);
    let read: Vec<(&Segment, u64)> = segments.iter().zip(ends).filter(|(_, end)| *end <= next).collect();
    let mut bytes = 0;
    let mut kept = 0;
    for (segment, _) in read.iter().rev() {
        if kept >= keep && bytes >= keep_bytes {
            break;
        }
        bytes += std::fs::metadata(&segment.path)?.len();
        kept += 1;
    }
    let (removed, _) = read.split_at(read.len() - kept);
    if let Some((_, end)) = removed.last() {
        // Before it is so: what is gone and not noted would be taken for lost.
        removed::set(folder, *end)?;
    }
    removed.iter().try_for_each(|(segment, _)| std::fs::remove_file(&segment.path))
}
