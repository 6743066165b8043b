//! The write-ahead journal: what was used, on the local disk before the answer goes out.
//!
//! Segments `<number of the first record>.ndjson` in one folder. A line is the CRC-32 of the rest of it in eight hexadecimal
//! digits, a space, and the record as JSON. A line that is cut off or does not fit its sum at the end of the last segment was
//! being written when the process ended: nobody was answered for it, and it is cut away. Anywhere else it is damage, and an
//! error. One thread writes; what has come meanwhile goes out in one write, and one flush if the policy asks for one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::UsageRecord;

/// When a record is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// On the disk before the answer: survives a power failure. An `fsync` for every group of records.
    Always,
    /// With the operating system before the answer, which survives the end of the process, and on the disk within so long.
    EveryMs(u64),
}

/// How a journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// The folder.
    pub folder: PathBuf,
    /// When a record is safe.
    pub flush: Flush,
    /// A segment that has so many bytes is followed by another.
    pub segment_bytes_max: u64,
    /// Records on their way to the disk; more wait.
    pub pending_max: usize,
    /// Whether records are kept at all. Without, nothing is metered: to measure what that costs.
    pub is_on: bool,
}

/// Why a record was not written, or the journal not opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refuses.
    #[error("the usage journal cannot be used: {0}")]
    Io(#[from] io::Error),
    /// A line in the midst of the journal is not what was written.
    #[error("the usage journal is damaged: record {number} in {file}")]
    Damaged {
        /// The record's number.
        number: u64,
        /// The segment.
        file: PathBuf,
    },
    /// The writer has ended.
    #[error("the usage journal is closed")]
    Closed,
}

/// A record on its way, and whom to tell when it is safe.
type Pending = (UsageRecord, Option<oneshot::Sender<Result<(), JournalError>>>);

/// Appends records.
pub struct Journal {
    pending: Mutex<Option<mpsc::Sender<Pending>>>,
    written: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
    folder: PathBuf,
    is_on: bool,
}

struct Writer {
    config: JournalConfig,
    file: File,
    bytes: u64,
    next: u64,
    written: Arc<AtomicU64>,
    is_flushed: bool,
    /// The file has more than `bytes`: a group that failed.
    is_torn: bool,
}

impl Journal {
    /// Opens the journal in its folder, mends its end, and starts its writer. Blocks.
    ///
    /// # Errors
    /// The folder cannot be used, or what is in it is damaged.
    pub fn open(config: JournalConfig) -> Result<Self, JournalError> {
        std::fs::create_dir_all(&config.folder)?;
        let (path, next) = match segments(&config.folder)?.pop() {
            None => (segment(&config.folder, 0), 0),
            Some((first, path)) => {
                let next = mend(&path, first)?;
                (path, next)
            }
        };
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let written = Arc::new(AtomicU64::new(next));
        let (sender, receiver) = mpsc::channel(config.pending_max.max(1));
        let (folder, is_on) = (config.folder.clone(), config.is_on);
        let writer = Writer {
            config,
            file,
            bytes,
            next,
            written: Arc::clone(&written),
            is_flushed: true,
            is_torn: false,
        };
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let writer = thread.spawn(move || writer.run(receiver))?;
        let (pending, writer) = (Mutex::new(Some(sender)), Mutex::new(Some(writer)));
        Ok(Self { pending, written, writer, folder, is_on })
    }

    /// Writes a record; resolves when it is safe. If the future is dropped the record is written all the same, once it was
    /// polled.
    ///
    /// # Errors
    /// The disk refuses, or the journal is closed.
    pub async fn append(&self, record: UsageRecord) -> Result<(), JournalError> {
        if !self.is_on {
            return Ok(());
        }
        let (done, safe) = oneshot::channel();
        self.hand_over((record, Some(done)))?;
        safe.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Writes a record that nobody waits for.
    pub fn append_detached(&self, record: UsageRecord) {
        if !self.is_on {
            return;
        }
        let request_id = Arc::clone(&record.request_id);
        if let Err(error) = self.hand_over((record, None)) {
            tracing::error!(%request_id, %error, "a usage record is lost");
        }
    }

    /// Does not block: if more is pending than allowed, a task of its own waits, so that a record is not lost with whoever
    /// waits for it.
    fn hand_over(&self, pending: Pending) -> Result<(), JournalError> {
        let sender = self.sender().ok_or(JournalError::Closed)?;
        match (sender.try_send(pending), tokio::runtime::Handle::try_current()) {
            (Ok(()), _) => Ok(()),
            (Err(mpsc::error::TrySendError::Full(pending)), Ok(runtime)) => {
                runtime.spawn(async move { sender.send(pending).await });
                Ok(())
            }
            (Err(_), _) => Err(JournalError::Closed),
        }
    }

    /// Number of the next record: all before it are in the files.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The newest records, oldest first, at most so many. Blocks.
    ///
    /// # Errors
    /// The disk refuses, or the journal is damaged.
    pub fn newest(&self, records_max: u64) -> Result<Vec<UsageRecord>, JournalError> {
        let until = self.written();
        let mut reader = Reader::new(&self.folder, until.saturating_sub(records_max));
        Ok(reader.read(until, usize::MAX)?.into_iter().map(|(_, record)| record).collect())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes what is pending and ends the writer. Blocks.
    pub fn close(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the usage journal's writer panicked");
        }
    }

    fn sender(&self) -> Option<mpsc::Sender<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Writer {
    fn run(mut self, mut pending: mpsc::Receiver<Pending>) {
        let mut group = Vec::new();
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
        runtime.block_on(async move {
            loop {
                let limit = group.capacity().max(1024);
                let received = match self.config.flush {
                    Flush::EveryMs(ms) if !self.is_flushed => {
                        let wait = pending.recv_many(&mut group, limit);
                        tokio::time::timeout(Duration::from_millis(ms.max(1)), wait).await.ok()
                    }
                    Flush::EveryMs(_) | Flush::Always => Some(pending.recv_many(&mut group, limit).await),
                };
                match received {
                    Some(0) => break,
                    Some(_) => self.write_group(&mut group),
                    None => self.flush(),
                }
            }
            self.flush();
        });
    }

    fn write_group(&mut self, group: &mut Vec<Pending>) {
        let result = self.try_write(group);
        if let Err(error) = &result {
            tracing::error!(%error, "usage records cannot be written");
        }
        for (_, done) in group.drain(..) {
            let told = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(JournalError::Io(io::Error::new(error.kind(), error.to_string()))),
            };
            // Nobody waits any more: the caller left.
            let _ = done.map(|done| done.send(told));
        }
    }

    fn try_write(&mut self, group: &[Pending]) -> io::Result<()> {
        if self.bytes >= self.config.segment_bytes_max {
            self.file.sync_data()?;
            self.file =
                OpenOptions::new().create(true).append(true).open(segment(&self.config.folder, self.next))?;
            self.bytes = 0;
        }
        let mut text = Vec::with_capacity(group.len() * 320);
        for (record, _) in group {
            write_line(&mut text, record)?;
        }
        // What a failure left behind goes first, since nobody was told of it and records are numbered by their place.
        if self.is_torn {
            self.file.set_len(self.bytes)?;
        }
        self.is_torn = true;
        self.file.write_all(&text)?;
        if self.config.flush == Flush::Always {
            self.file.sync_data()?;
        }
        self.is_torn = false;
        self.is_flushed = self.config.flush == Flush::Always;
        self.bytes += text.len() as u64;
        self.next += group.len() as u64;
        self.written.store(self.next, Ordering::Release);
        Ok(())
    }

    fn flush(&mut self) {
        match self.file.sync_data() {
            Ok(()) => self.is_flushed = true,
            Err(error) => tracing::error!(%error, "usage records cannot be flushed"),
        }
    }
}

/// Reads records from a number on.
pub(super) struct Reader {
    folder: PathBuf,
    /// Number of the next record.
    next: u64,
    open: Option<BufReader<File>>,
}

impl Reader {
    /// A reader that begins with record `next`, or the oldest there is.
    pub(super) fn new(folder: &Path, next: u64) -> Self {
        Self { folder: folder.to_owned(), next, open: None }
    }

    /// Number of the next record.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The next records, with their numbers, up to `until`, and no more than `records_max`. Blocks.
    ///
    /// # Errors
    /// The disk refuses, or the journal is damaged.
    pub(super) fn read(
        &mut self,
        until: u64,
        records_max: usize,
    ) -> Result<Vec<(u64, UsageRecord)>, JournalError> {
        let mut records = Vec::new();
        while self.next < until && records.len() < records_max {
            if self.open.is_none() && !self.seek()? {
                break;
            }
            let Some(file) = &mut self.open else { break };
            let mut line = String::new();
            if file.read_line(&mut line)? == 0 {
                // The end of a segment that is not the last one.
                self.open = None;
                if !segments(&self.folder)?.iter().any(|(first, _)| *first == self.next) {
                    break;
                }
                continue;
            }
            let damaged = || JournalError::Damaged { number: self.next, file: self.folder.clone() };
            records.push((self.next, parse_line(&line).ok_or_else(damaged)?));
            self.next += 1;
        }
        Ok(records)
    }

    /// Opens the segment of the next record, at it.
    fn seek(&mut self) -> Result<bool, JournalError> {
        let segments = segments(&self.folder)?;
        let Some((oldest, _)) = segments.first() else { return Ok(false) };
        self.next = self.next.max(*oldest);
        let found = segments.into_iter().rev().find(|(first, _)| *first <= self.next);
        let Some((first, path)) = found else { return Ok(false) };
        let mut file = BufReader::new(File::open(path)?);
        for _ in first..self.next {
            if file.skip_until(b'\n')? == 0 {
                return Ok(false);
            }
        }
        self.open = Some(file);
        Ok(true)
    }
}

/// Removes segments all of whose records are before `next`, but for the newest `keep` of them. Blocks.
///
/// # Errors
/// The disk refuses.
pub(super) fn remove_read(folder: &Path, next: u64, keep: usize) -> io::Result<()> {
    let segments = segments(folder)?;
    let ends = segments.iter().skip(1).map(|(first, _)| *first);
    let shipped: Vec<&PathBuf> =
        segments.iter().zip(ends).filter(|(_, end)| *end <= next).map(|((_, path), _)| path).collect();
    let removed = shipped.len().saturating_sub(keep);
    shipped.into_iter().take(removed).try_for_each(std::fs::remove_file)
}

fn segment(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.ndjson"))
}

/// Segments by the number of their first record.
fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(".ndjson").and_then(|number| number.parse().ok()) {
            segments.push((first, path));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Cuts an unfinished end off the last segment. Returns the number of the record after it.
fn mend(path: &Path, first: u64) -> Result<u64, JournalError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut next, mut good) = (first, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = reader.read_until(b'\n', &mut line)?;
        if bytes == 0 {
            return Ok(next);
        }
        if std::str::from_utf8(&line).ok().and_then(parse_line).is_some() {
            next += 1;
            good += bytes as u64;
            continue;
        }
        // Only what nobody was answered for may be missing, and that is one group at the end.
        if reader.lines().any(|line| line.is_ok_and(|line| parse_line(&(line + "\n")).is_some())) {
            return Err(JournalError::Damaged { number: next, file: path.to_owned() });
        }
        tracing::warn!(record = next, "the usage journal ends in an unfinished record, which is cut off");
        file.set_len(good)?;
        (&file).seek(SeekFrom::End(0))?;
        file.sync_all()?;
        return Ok(next);
    }
}

fn write_line(text: &mut Vec<u8>, record: &UsageRecord) -> io::Result<()> {
    let start = text.len();
    text.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *text, record)?;
    let sum = crc32fast::hash(&text[start + 9..]);
    text[start..start + 8].copy_from_slice(format!("{sum:08x}").as_bytes());
    text.push(b'\n');
    Ok(())
}

fn parse_line(line: &str) -> Option<UsageRecord> {
    let (sum, json) = line.strip_suffix('\n')?.split_at_checked(9)?;
    let sum = u32::from_str_radix(sum.strip_suffix(' ')?, 16).ok()?;
    (crc32fast::hash(json.as_bytes()) == sum).then(|| serde_json::from_str(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ledger::tests::record;

    fn config(folder: &Path) -> JournalConfig {
        JournalConfig {
            folder: folder.to_owned(),
            flush: Flush::EveryMs(10),
            segment_bytes_max: 2_000,
            pending_max: 16,
            is_on: true,
        }
    }

    fn append(journal: &Journal, numbers: std::ops::Range<u64>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in numbers {
            runtime.block_on(journal.append(record("acme", number))).unwrap();
        }
    }

    fn read(folder: &Path, from: u64) -> Vec<u64> {
        let mut reader = Reader::new(folder, from);
        reader.read(u64::MAX, usize::MAX).unwrap().iter().map(|(_, record)| record.inputs).collect()
    }

    #[test]
    fn what_is_written_is_read_over_segments_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        for start in [0, 20, 40] {
            let journal = Journal::open(config(folder.path())).unwrap();
            assert_eq!(journal.written(), start);
            append(&journal, start..start + 20);
        }
        assert!(segments(folder.path()).unwrap().len() > 3);
        assert_eq!(read(folder.path(), 0), (0..60).collect::<Vec<_>>());
        assert_eq!(read(folder.path(), 33), (33..60).collect::<Vec<_>>());
        remove_read(folder.path(), 45, 0).unwrap();
        let left = read(folder.path(), 0);
        assert!(left[0] > 0 && left[0] <= 45 && left.last() == Some(&59), "{left:?}");
        assert_eq!(Journal::open(config(folder.path())).unwrap().written(), 60);
    }

    #[test]
    fn a_cut_off_end_is_mended_and_damage_is_not() {
        for cut in 1..40 {
            let folder = tempfile::tempdir().unwrap();
            append(&Journal::open(config(folder.path())).unwrap(), 0..3);
            let path = segment(folder.path(), 0);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let journal = Journal::open(config(folder.path())).unwrap();
            assert_eq!(journal.written(), 2, "cut by {cut}");
            append(&journal, 2..4);
            drop(journal);
            assert_eq!(read(folder.path(), 0), [0, 1, 2, 3], "cut by {cut}");
        }
        let folder = tempfile::tempdir().unwrap();
        append(&Journal::open(config(folder.path())).unwrap(), 0..3);
        let path = segment(folder.path(), 0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Journal::open(config(folder.path())), Err(JournalError::Damaged { number: 0, .. })));
    }

    #[test]
    fn closed_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(folder.path())).unwrap();
        journal.close();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(matches!(runtime.block_on(journal.append(record("acme", 1))), Err(JournalError::Closed)));
    }
}
