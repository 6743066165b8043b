//! Reads the journal's records in order, while it is being written.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::JournalError;
use super::line::{self, Entry};
use super::segments;

/// Reads records from a number on.
pub(super) struct Reader {
    folder: PathBuf,
    /// Number of the next record, or one before it: numbers may have gaps.
    next: u64,
    /// Damaged lines before this number are passed over: they were read once, or nobody needs them.
    passes_below: u64,
    /// How many were, or are missing.
    passed: u64,
    /// Epoch of the last record that had one, and the number that the next one of it has if nothing is
    /// missing.
    last: Option<(Arc<str>, u64)>,
    open: Option<Open>,
}

struct Open {
    first: u64,
    path: PathBuf,
    file: BufReader<File>,
    /// Where the next line begins, in bytes.
    offset: u64,
    /// Its number, if it does not say one.
    place: u64,
    /// Nothing more is written to it.
    is_complete: bool,
}

impl Reader {
    /// A reader that begins with record `next`, or the oldest there is.
    pub(super) fn new(folder: &Path, next: u64) -> Self {
        Self { folder: folder.to_owned(), next, passes_below: 0, passed: 0, last: None, open: None }
    }

    /// Damaged lines before this number are no error.
    pub(super) fn pass_damage_below(mut self, number: u64) -> Self {
        self.passes_below = number;
        self
    }

    /// Number of the next record, or one before it.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Damaged lines that were passed over, and numbers of an epoch that are missing, since this was asked.
    pub(super) fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    /// The next records, with their numbers, up to `until`, and no more than `records_max`. Blocks.
    ///
    /// # Errors
    /// The disk refuses, or the journal is damaged.
    pub(super) fn read(&mut self, until: u64, records_max: usize) -> Result<Vec<Entry>, JournalError> {
        let mut records = Vec::new();
        let mut text = Vec::new();
        // What was read ahead may have been of a write that failed, and was written anew since.
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_complete) {
            open.stay()?;
        }
        while self.next < until && records.len() < records_max {
            if self.open.is_none() && !self.seek()? {
                break;
            }
            let Some(open) = &mut self.open else { break };
            let bytes = line::read(&mut open.file, &mut text)?;
            if bytes == 0 {
                if !self.advance()? {
                    break;
                }
                continue;
            }
            let number = line::number_in(&text).unwrap_or(open.place);
            // Not there yet: it is being written.
            if !text.ends_with(b"\n") && !open.is_complete {
                open.stay()?;
                break;
            }
            if number < self.next && text.ends_with(b"\n") {
                open.pass(bytes, number);
                continue;
            }
            match line::parse(&text) {
                Some(_) if number >= until => {
                    open.stay()?;
                    break;
                }
                Some(record) => {
                    open.pass(bytes, number);
                    let epoch = self.follow(number, line::epoch_in(&text));
                    records.push(Entry { number, epoch, record });
                    self.next = number + 1;
                }
                None if open.place < self.passes_below => {
                    let place = open.place;
                    open.pass(bytes, place);
                    self.passed += 1;
                    if let Some((_, expected)) = &mut self.last {
                        *expected += 1;
                    }
                }
                None => {
                    open.stay()?;
                    let damage = JournalError::Damaged { number: open.place, file: open.path.clone() };
                    // What is before it is not kept waiting.
                    return if records.is_empty() { Err(damage) } else { Ok(records) };
                }
            }
        }
        Ok(records)
    }

    /// The epoch of a record; counts what is missing before it, since an epoch's numbers have no gaps.
    fn follow(&mut self, number: u64, epoch: Option<&str>) -> Option<Arc<str>> {
        let epoch = epoch?;
        let epoch = match self.last.take() {
            Some((last, expected)) if *last == *epoch => {
                self.passed += number.saturating_sub(expected);
                last
            }
            _ => Arc::from(epoch),
        };
        self.last = Some((Arc::clone(&epoch), number + 1));
        Some(epoch)
    }

    /// Opens the segment of the next record.
    fn seek(&mut self) -> Result<bool, JournalError> {
        let segments = segments::list(&self.folder)?;
        let index = segments.partition_point(|segment| segment.first <= self.next).saturating_sub(1);
        let Some(segment) = segments.into_iter().nth(index) else { return Ok(false) };
        self.next = self.next.max(segment.first);
        self.open = Some(Open::new(segment)?);
        Ok(true)
    }

    /// At the end of a segment: opens the one after it. Whether there is anything to read.
    fn advance(&mut self) -> Result<bool, JournalError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let segments = segments::list(&self.folder)?;
        let Some(later) = segments.into_iter().find(|segment| segment.first > open.first) else {
            return Ok(false);
        };
        // Since there is a later one nothing more is written to this one; but something may have been since
        // it was read.
        if !open.is_complete {
            open.is_complete = true;
            return Ok(true);
        }
        self.next = self.next.max(later.first);
        self.open = Some(Open::new(later)?);
        Ok(true)
    }
}

impl Open {
    fn new(segment: segments::Segment) -> Result<Self, JournalError> {
        let file = BufReader::new(File::open(&segment.path)?);
        let (first, path) = (segment.first, segment.path);
        Ok(Self { first, path, file, offset: 0, place: first, is_complete: false })
    }

    /// Goes on after a line.
    fn pass(&mut self, bytes: usize, number: u64) {
        self.offset += bytes as u64;
        self.place = number + 1;
    }

    /// Goes back to the beginning of the line, and forgets what was read: it may be written anew.
    fn stay(&mut self) -> Result<(), JournalError> {
        self.file.seek(SeekFrom::Start(self.offset))?;
        Ok(())
    }
}
