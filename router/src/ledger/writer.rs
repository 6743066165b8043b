//! The thread that writes the journal: in groups, where its paths lead, with a flush where the policy asks
//! for one. While there is nothing to write it looks whether there could be.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::config::{Flush, JournalConfig};
use super::error::JournalError;
use super::extents::Extents;
use super::numbers::Numbers;
use super::presence::Held;
use super::state::{Pending, State};
use super::written::EpochLine;
use super::{files, line, segments};

/// How often it is looked whether the folder is still there while there is nothing to write.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the disk is tried while there is nothing to write: while it works, and while it does not.
const TRY_EVERY: Duration = Duration::from_secs(5);
const TRY_AGAIN_EVERY: Duration = Duration::from_millis(500);
/// What is written to try it, in bytes: room for some hundred records.
const TRY_BYTES: usize = 64 << 10;
/// The file that is written for that.
const TRY_FILE: &str = "try";

pub(super) struct Writer {
    config: JournalConfig,
    /// Names the records of this process.
    epoch: String,
    /// What must stay where it is.
    held: Vec<Held>,
    numbers: Numbers,
    /// None: the next record begins a segment.
    open: Option<OpenSegment>,
    written: EpochLine,
    state: Arc<State>,
    is_flushed: bool,
    /// When the disk was tried last.
    tried_at: Option<Instant>,
}

/// The segment that is written.
struct OpenSegment {
    held: Held,
    bytes: u64,
    /// The file has more than `bytes`: a group that failed.
    is_torn: bool,
}

impl Writer {
    /// A writer of a new epoch of a journal, who writes while all that is `held` stays where it is;
    /// `known` is what earlier ones wrote.
    pub(super) fn new(
        config: JournalConfig,
        held: Vec<Held>,
        numbers: Numbers,
        known: &Extents,
        state: Arc<State>,
    ) -> io::Result<Self> {
        let epoch = state.epoch.clone();
        let written = EpochLine::open(&config.folder, &epoch, known)?;
        let (open, tried_at) = (None, None);
        Ok(Self { config, epoch, held, numbers, open, written, state, is_flushed: true, tried_at })
    }

    /// Writes what comes until nothing more can.
    pub(super) fn run(mut self, mut pending: mpsc::Receiver<Pending>) {
        let mut group = Vec::new();
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
        runtime.block_on(async move {
            // When what was written must be on the disk.
            let mut due: Option<Instant> = None;
            loop {
                let limit = group.capacity().max(1024);
                let received =
                    tokio::time::timeout(self.patience(), pending.recv_many(&mut group, limit)).await;
                match received {
                    Ok(0) => break,
                    Ok(_) => self.write_group(&mut group),
                    Err(_) if self.is_flushed => self.look(),
                    Err(_) => {}
                }
                let now = Instant::now();
                match (self.config.flush, due) {
                    (Flush::EveryMs(ms), None) if !self.is_flushed => {
                        due = Some(now + Duration::from_millis(ms));
                    }
                    // Also while records come without a pause.
                    (_, Some(due_at)) if due_at <= now => {
                        self.flush();
                        due = None;
                    }
                    _ => {}
                }
            }
            self.flush();
        });
    }

    /// How long to wait for records before something else is to be done.
    fn patience(&self) -> Duration {
        match self.config.flush {
            Flush::EveryMs(ms) if !self.is_flushed => Duration::from_millis(ms.max(1)),
            _ if self.state.is_healthy() => LOOK_EVERY,
            _ => TRY_AGAIN_EVERY,
        }
    }

    fn write_group(&mut self, group: &mut Vec<Pending>) {
        let result = self.try_write(group);
        self.state.tell(&result);
        for (record, done) in group.drain(..) {
            let told = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(JournalError::Io(io::Error::new(error.kind(), error.to_string()))),
            };
            match done {
                // It may be that nobody waits any more: the caller left.
                Some(done) => drop(done.send(told)),
                None if told.is_err() => {
                    tracing::error!(request_id = %record.request_id, "a usage record is lost");
                }
                None => {}
            }
        }
    }

    fn try_write(&mut self, group: &[Pending]) -> io::Result<()> {
        // What is written elsewhere is lost, and who waits for it must not be answered.
        self.check_held()?;
        let count = group.len() as u64;
        self.numbers.reserve(count)?;
        let first = self.numbers.next();
        let mut text = Vec::with_capacity(group.len() * 320);
        for (number, (record, _)) in (first..).zip(group) {
            line::write(&mut text, number, &self.epoch, record)?;
        }
        let is_flushed = self.config.flush == Flush::Always;
        if let Some(full) = self.open.take_if(|open| open.bytes >= self.config.segment_bytes_max) {
            full.held.file().sync_data()?;
        }
        if let Some(problem) = self.open.as_ref().and_then(|open| open.held.check().err()) {
            tracing::error!(problem, "the segment that is written was taken away; another one is begun");
            self.open = None;
        }
        let segment = match &mut self.open {
            Some(segment) => segment,
            none => none.insert(OpenSegment::new(&self.config.folder, first)?),
        };
        segment.write(&text, is_flushed)?;
        self.is_flushed = is_flushed;
        self.numbers.used(count);
        debug_assert_eq!(self.numbers.next(), first + count, "numbers have no gaps");
        self.written.tell(first, self.numbers.next());
        self.state.next.store(self.numbers.next(), Ordering::Release);
        Ok(())
    }

    fn flush(&mut self) {
        if self.is_flushed {
            return;
        }
        let result = self.open.as_ref().map_or(Ok(()), |segment| segment.held.file().sync_data());
        self.is_flushed = result.is_ok();
        self.state.tell(&result);
    }

    /// Whether everything is where it was.
    fn check_held(&self) -> io::Result<()> {
        self.held.iter().try_for_each(Held::check).map_err(io::Error::other)
    }

    /// Looks whether records could be written, while there are none.
    fn look(&mut self) {
        let is_due = self.tried_at.is_none_or(|at| at.elapsed() >= TRY_EVERY);
        if is_due || !self.state.is_healthy() {
            self.try_disk();
        } else if let missing @ Err(_) = self.check_held() {
            self.state.tell(&missing);
        }
    }

    /// Whether the disk takes anything, while there is nothing to write.
    pub(super) fn try_disk(&mut self) {
        self.tried_at = Some(Instant::now());
        if let missing @ Err(_) = self.check_held() {
            return self.state.tell(&missing);
        }
        let path = self.config.folder.join(TRY_FILE);
        let write = || {
            let mut file = files::private().create(true).write(true).truncate(true).open(&path)?;
            file.write_all(&[0; TRY_BYTES])
        };
        let result = write();
        // It makes room again also if not all of it could be written.
        let removed = std::fs::remove_file(&path);
        self.state.tell(&result.and(removed));
    }
}

impl OpenSegment {
    fn new(folder: &Path, first: u64) -> io::Result<Self> {
        let path = segments::path(folder, first);
        let file = files::private().create(true).append(true).open(&path)?;
        files::sync_folder(folder)?;
        let bytes = file.metadata()?.len();
        Ok(Self { held: Held::new(&path, file)?, bytes, is_torn: false })
    }

    fn write(&mut self, text: &[u8], is_flushed: bool) -> io::Result<()> {
        let mut file = self.held.file();
        // What a failure left behind goes first, since nobody was told of it and its numbers are used again.
        if self.is_torn {
            file.set_len(self.bytes)?;
        }
        self.is_torn = true;
        file.write_all(text)?;
        if is_flushed {
            file.sync_data()?;
        }
        self.is_torn = false;
        self.bytes += text.len() as u64;
        Ok(())
    }
}
