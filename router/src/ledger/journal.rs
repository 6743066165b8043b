//! The write-ahead journal: what was used, on the local disk before the answer goes out.
//!
//! Segments of lines in one folder (`segments`, `line`). A line that is cut off at the end of the last
//! segment was being written when the process or the machine ended: nobody was answered for it, and it is cut
//! away. Anywhere else it is damage: an error where somebody still needs the record, and set aside where
//! nobody does. One thread writes; what has come meanwhile goes out in one write, and one flush if the policy
//! asks for one. The same thread tries the disk while nothing is to be written, so that it is known whether
//! the next record will find room.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use super::checkpoint::Checkpoint;
use super::config::JournalConfig;
use super::error::JournalError;
use super::extents::{self, Extents};
use super::follower::Followers;
use super::numbers::Numbers;
use super::presence::Held;
use super::reader::Reader;
use super::segments::{self, End, Segment};
use super::state::{Pending, State};
use super::writer::Writer;
use super::{UsageRecord, files, removed, written};

/// Appends records.
pub struct Journal {
    pending: Mutex<Option<mpsc::Sender<Pending>>>,
    state: Arc<State>,
    writer: Mutex<Option<JoinHandle<()>>>,
    folder: PathBuf,
    is_on: bool,
}

impl Journal {
    /// Opens the journal in its folder, mends its end, and starts its writer. Blocks.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(config: JournalConfig) -> Result<Self, JournalError> {
        Self::open_above(config, 0, Vec::new())
    }

    /// Opens it; its next record has no lower number than `floor`, if it ever had a record. Nothing is
    /// written, and it is not healthy, while something of `held`, or the folder itself, is not where it was.
    /// Blocks.
    ///
    /// # Errors
    /// The folder cannot be used, or another process uses it.
    pub fn open_above(config: JournalConfig, floor: u64, mut held: Vec<Held>) -> Result<Self, JournalError> {
        files::make_folder(&config.folder)?;
        let in_use = || JournalError::InUse { folder: config.folder.clone() };
        held.push(Held::folder(&config.folder)?.ok_or_else(in_use)?);
        let checkpoint = Checkpoint::read(&config.folder)?;
        let journal: Arc<str> = Arc::from(checkpoint.as_ref().map_or("", |checkpoint| &checkpoint.journal));
        let known = Extents::known(written::written(&config.folder)?, checkpoint.as_ref());
        for done in segments::name_rightly(&config.folder)? {
            tracing::error!("a segment of the usage journal has another's name: {done}");
        }
        let (mut before, mut found, mut lost) = (Vec::new(), Extents::default(), Vec::new());
        let mut gaps = segments::Gaps::new();
        let mut segments = segments::list(&config.folder)?;
        if let Some(last) = segments.last() {
            last.mend()?;
        }
        for entry in std::fs::read_dir(&config.folder)? {
            let path = entry?.path();
            if path.is_file() {
                files::make_private(&path)?;
            }
        }
        for segment in segments.drain(..) {
            let End { next, damaged_until, epoch } = segment.end()?;
            let numbers = segment.first..next;
            let gap = gaps.before(numbers.clone(), epoch.as_deref());
            lost.extend(gap.filter(|gap| !Segment::was_set_aside_in(&config.folder, gap)));
            let epoch = epoch.map_or_else(|| Arc::clone(&journal), Arc::from);
            found.add(&epoch, segment.first..next.max(damaged_until));
            before.push(numbers);
        }
        lost.extend(found.lost(&config.folder, &known)?);
        for Range { start: from, end: to } in &lost {
            tracing::error!(
                from,
                to,
                "records of the usage journal are missing: a segment of it, or an end of one, is gone; what of it was not in the \
                 sums is lost"
            );
        }
        let removed = extents::removed(&config.folder)?;
        if let Err(error) = removed::set(&config.folder, removed) {
            tracing::debug!(%error, "up to where records were removed cannot be noted");
        }
        let end = before.last().map_or(0, |numbers| numbers.end);
        // Every start begins a segment, so that numbers have no gaps in one.
        let numbers = Numbers::open(&config.folder, end, floor)?;
        let set_aside = segments::set_aside(&config.folder)?.len() as u64;
        let state = Arc::new(State {
            epoch: Ulid::new().to_string(),
            before,
            first: numbers.next(),
            next: AtomicU64::new(numbers.next()),
            set_aside: AtomicU64::new(set_aside),
            missing: lost.iter().map(|numbers| numbers.end - numbers.start).sum(),
            problem: Mutex::new(None),
        });
        let (sender, receiver) = mpsc::channel(config.pending_max.max(1));
        let (folder, is_on) = (config.folder.clone(), config.is_on);
        let known = known.not_before(removed);
        let mut writer = Writer::new(config, held, numbers, &known, Arc::clone(&state))?;
        if is_on {
            // So that it is known before the first call.
            writer.try_disk();
        }
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let writer = thread.spawn(move || writer.run(receiver))?;
        let (pending, writer) = (Mutex::new(Some(sender)), Mutex::new(Some(writer)));
        Ok(Self { pending, state, writer, folder, is_on })
    }

    /// Looks for damage in what somebody still needs. Call it when all followers are known. Blocks.
    ///
    /// Damaged lines that were no record as far as is known, rubbish that somebody else wrote, are needed by
    /// nobody; yet who reads would stop at them.
    ///
    /// # Errors
    /// Records are damaged that a follower has not read yet.
    pub fn check(&self, followers: &Followers) -> Result<(), JournalError> {
        let done = followers.done();
        for (segment, numbers) in self.segments_before()? {
            // Who goes on behind the last record comes by what stands there, and is misled by lines that
            // there are too many of.
            let is_in_the_way = || {
                segment.scan().map(|scan| {
                    scan.damaged_until > done || scan.records + scan.damaged > numbers.end - numbers.start
                })
            };
            if numbers.end > done || (numbers.end == done && is_in_the_way()?) {
                self.set_aside_if_damaged(&segment, done)?;
            }
        }
        Ok(())
    }

    /// Looks for damage in segments that all followers are done with, and sets damaged ones aside: nobody
    /// needs them unless the store goes back, and their good records stay. Blocks; reads all of them, until
    /// told to stop.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn scrub(&self, followers: &Followers, is_stopped: impl Fn() -> bool) -> Result<(), JournalError> {
        let done = followers.done();
        for (segment, numbers) in self.segments_before()? {
            if is_stopped() {
                break;
            }
            if numbers.end <= done {
                self.set_aside_if_damaged(&segment, done)?;
            }
        }
        Ok(())
    }

    /// Segments that earlier processes wrote, with the numbers in them: they stay as they are.
    fn segments_before(&self) -> Result<Vec<(Segment, Range<u64>)>, JournalError> {
        let segments = segments::list(&self.folder)?.into_iter();
        let numbers = |first| self.state.before.iter().find(|numbers| numbers.start == first).cloned();
        Ok(segments.filter_map(|segment| numbers(segment.first).map(|numbers| (segment, numbers))).collect())
    }

    fn set_aside_if_damaged(&self, segment: &Segment, done: u64) -> Result<(), JournalError> {
        let scan = match segment.scan() {
            // Nobody needed it: it was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            scan => scan?,
        };
        if !scan.is_damaged() {
            return Ok(());
        }
        let file = segment.path.clone();
        let needed = scan.damaged_from.max(done)..scan.damaged_until;
        if !needed.is_empty() && self.was_written(&needed)? {
            return Err(JournalError::Damaged { number: scan.damaged_from, file });
        }
        segment.salvage()?;
        self.state.set_aside.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            file = %file.display(),
            records = scan.damaged,
            "a segment of the usage journal is damaged and was set aside; what is damaged was summed and delivered before, \
             or was no record; the good ones are kept"
        );
        Ok(())
    }

    /// Whether one of these records was written. Where it is not known what was, any may have been.
    fn was_written(&self, numbers: &Range<u64>) -> Result<bool, JournalError> {
        let known = Extents::known(written::written(&self.folder)?, Checkpoint::read(&self.folder)?.as_ref());
        Ok(known.iter().next().is_none() || known.have_any(numbers))
    }

    /// Writes a record; resolves when it is safe. If the future is dropped the record is written all the
    /// same, once it was polled.
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

    /// Does not block: if more is pending than allowed, a task of its own waits, so that a record is not lost
    /// with whoever waits for it.
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

    /// Number of the next record: all before it are in the files. Numbers have gaps.
    pub fn written(&self) -> u64 {
        self.state.next.load(Ordering::Acquire)
    }

    /// Names the records of this process.
    pub fn epoch(&self) -> &str {
        &self.state.epoch
    }

    /// Whether anything is recorded.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Records that this process has written.
    pub fn records(&self) -> u64 {
        self.written() - self.state.first
    }

    /// Records from a number on.
    pub fn records_from(&self, number: u64) -> u64 {
        let own = std::iter::once(self.state.first..self.written());
        let ranges = self.state.before.iter().cloned().chain(own);
        ranges.map(|numbers| numbers.end.saturating_sub(number.max(numbers.start))).sum()
    }

    /// Damaged segments that were set aside, and lie in the folder.
    pub fn damaged_segments(&self) -> u64 {
        self.state.set_aside.load(Ordering::Relaxed)
    }

    /// Records of earlier processes that are missing: between segments, or at an end of what a process wrote.
    pub fn missing(&self) -> u64 {
        self.state.missing
    }

    /// Whether records can be written.
    ///
    /// # Errors
    /// Why not, as of the last attempt; the journal tries again by itself.
    pub fn health(&self) -> Result<(), String> {
        match &*self.state.problem.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }

    /// The newest records, oldest first, at most so many; without those that are damaged. Blocks.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn newest(&self, records_max: u64) -> Result<Vec<UsageRecord>, JournalError> {
        let (mut from, mut left) = (self.written(), records_max);
        for numbers in self.state.before.iter().cloned().chain(std::iter::once(self.state.first..from)).rev()
        {
            if left == 0 {
                break;
            }
            let taken = left.min(numbers.end - numbers.start);
            from = numbers.end - taken;
            left -= taken;
        }
        let mut reader = Reader::new(&self.folder, from).pass_damage_below(u64::MAX);
        Ok(reader.read(self.written(), usize::MAX)?.into_iter().map(|entry| entry.record).collect())
    }

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

impl State {
    /// Keeps how the last attempt went, and says so when that changes.
    pub(super) fn tell(&self, result: &io::Result<()>) {
        let now = result.as_ref().err().map(ToString::to_string);
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*problem, &now) {
            (None, Some(error)) => {
                tracing::error!(%error, "usage records cannot be written; this server is not ready");
            }
            (Some(_), None) => tracing::info!("usage records can be written again"),
            _ => {}
        }
        *problem = now;
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}
