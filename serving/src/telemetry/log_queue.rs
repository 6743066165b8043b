//! Log lines on their way to standard error.
//!
//! Whoever logs never waits and never fails: a line goes into a bounded queue, or is dropped and counted. One
//! thread writes. A disk that is full, a reader that is gone and a pipe that nobody empties cost lines and
//! nothing else, and hold the exit no longer than the flush may take.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Log;

/// How long to wait before asking again whether a non-blocking standard error takes more.
const RETRY: Duration = Duration::from_millis(5);
/// How long a text for a person may take to be written.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The process's queue, once there is one.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// Lines on their way to one writer.
#[derive(Clone)]
pub(super) struct LogQueue {
    lines: SyncSender<Box<[u8]>>,
    state: Arc<State>,
}

struct State {
    bytes_max: usize,
    flush_timeout: Duration,
    bytes: AtomicUsize,
    /// Lines that were taken.
    taken: AtomicU64,
    /// Lines of these that were written or lost.
    ended: Mutex<u64>,
    progress: Condvar,
    dropped: Counter,
}

impl LogQueue {
    /// The process's queue, whose lines go to standard error.
    ///
    /// # Errors
    /// Standard error cannot be used, or there is no thread to be had.
    pub(super) fn of_process(log: &Log) -> io::Result<Self> {
        // A handle of its own: the lock of `std::io::stderr` would be held while a write hangs.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let queue = Self::start(stderr, log)?;
        Ok(QUEUE.get_or_init(|| queue).clone())
    }

    fn start(writer: impl Write + Send + 'static, log: &Log) -> io::Result<Self> {
        let (lines, receiver) = mpsc::sync_channel(log.queue_lines_max);
        let state = Arc::new(State {
            bytes_max: log.queue_bytes_max,
            flush_timeout: Duration::from_millis(log.flush_timeout_ms),
            bytes: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            ended: Mutex::new(0),
            progress: Condvar::new(),
            dropped: Counter::default(),
        });
        let of_thread = Arc::clone(&state);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&receiver, writer, &of_thread))?;
        Ok(Self { lines, state })
    }

    /// Takes a line, or drops it. Never waits.
    fn push(&self, line: &[u8]) {
        let state = &self.state;
        let waiting = state.bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        if waiting <= state.bytes_max && self.lines.try_send(Box::from(line)).is_ok() {
            state.taken.fetch_add(1, Ordering::Relaxed);
        } else {
            state.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            state.dropped.inc();
        }
    }

    /// Waits until what was taken is written, or for as long as the configuration lets it.
    fn flush(&self) {
        let state = &self.state;
        let taken = state.taken.load(Ordering::Relaxed);
        let ended = state.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it was in time or not: there is nothing else to do.
        let _ = state.progress.wait_timeout_while(ended, state.flush_timeout, |ended| *ended < taken);
    }
}

/// Writes lines for as long as there is somebody who may log.
fn write(lines: &Receiver<Box<[u8]>>, mut writer: impl Write, state: &State) {
    let mut is_torn = false;
    for line in lines {
        let written = (|| {
            if is_torn {
                // The last line was cut off in the middle: this one begins a line of its own.
                write_all(&mut writer, b"\n").map_err(|_| true)?;
            }
            write_all(&mut writer, &line).map_err(|written| written > 0)
        })();
        is_torn = written.err().unwrap_or(false);
        if written.is_err() {
            state.dropped.inc();
        }
        state.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        *state.ended.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        state.progress.notify_all();
    }
}

/// Writes all of a line; if that fails, says how many bytes it wrote.
fn write_all(writer: &mut impl Write, line: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while written < line.len() {
        match writer.write(&line[written..]) {
            Ok(0) => return Err(written),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else who has this pipe made it non-blocking. The queue is what is bounded, so wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

pub(super) struct Entry<'a>(&'a LogQueue);

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry(self)
    }
}

impl Write for Entry<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of the process's log that nobody could be given.
pub(super) fn dropped() -> Counter {
    QUEUE.get().map(|queue| queue.state.dropped.clone()).unwrap_or_default()
}

/// Writes the log's last lines before the process ends, if they can be written within `log.flush_timeout_ms`.
pub fn flush_logs() {
    if let Some(queue) = QUEUE.get() {
        queue.flush();
    }
}

/// Writes a text for a person. Waits a second at most, and takes no harm if nobody reads it.
pub fn tell(mut stream: impl Write + Send + 'static, text: String) {
    let (done, is_done) = mpsc::sync_channel(1);
    let telling = thread::Builder::new().name("tell".to_owned()).spawn(move || {
        let _ = writeln!(stream, "{text}").and_then(|()| stream.flush());
        let _ = done.send(());
    });
    if telling.is_ok() {
        let _ = is_done.recv_timeout(TELL_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A writer that does as it is told, one answer a call: take so many bytes, or fail.
    struct Script {
        answers: Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let answer = self.answers.recv().map_err(io::Error::other)?.map(|most| most.min(bytes.len()));
            if let Ok(taken) = &answer {
                self.written.lock().unwrap().extend_from_slice(&bytes[..*taken]);
            }
            answer
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue, what tells its writer what to do, and what that wrote.
    type Scripted = (LogQueue, SyncSender<io::Result<usize>>, Arc<Mutex<Vec<u8>>>);

    fn queue(log: &Log) -> Scripted {
        let (tell, answers) = mpsc::sync_channel(64);
        let written = Arc::new(Mutex::new(Vec::new()));
        let script = Script { answers, written: Arc::clone(&written) };
        (LogQueue::start(script, log).unwrap(), tell, written)
    }

    #[test]
    fn what_a_writer_does_costs_lines_and_nothing_else() {
        let check = |answers: Vec<io::Result<usize>>, expected: &str, dropped: u64| {
            let log = Log { flush_timeout_ms: 60_000, ..Log::default() };
            let (queue, script, written) = queue(&log);
            for line in ["one\n", "two\n", "three\n"] {
                queue.push(line.as_bytes());
            }
            let name = format!("{answers:?}");
            for answer in answers {
                script.send(answer).unwrap();
            }
            queue.flush();
            assert_eq!(String::from_utf8_lossy(&written.lock().unwrap()), expected, "{name}");
            assert_eq!(queue.state.dropped.get(), dropped, "{name}");
            assert_eq!(queue.state.bytes.load(Ordering::Relaxed), 0, "{name}");
        };
        let all = || Ok(usize::MAX);
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        let later = || Err(io::Error::from(io::ErrorKind::WouldBlock));
        check(vec![all(), all(), all()], "one\ntwo\nthree\n", 0);
        check(vec![Ok(2), Ok(1), later(), all(), all(), all()], "one\ntwo\nthree\n", 0);
        check(vec![all(), full(), all()], "one\nthree\n", 1);
        // Cut in the middle: what comes next is a line of its own.
        check(vec![all(), Ok(2), full(), all(), all()], "one\ntw\nthree\n", 1);
        check(vec![full(), full(), full()], "", 3);
        check(vec![all(), Ok(0), all()], "one\nthree\n", 1);
    }

    #[test]
    fn a_writer_that_hangs_holds_nobody() {
        let log = Log { queue_lines_max: 4, flush_timeout_ms: 10, ..Log::default() };
        let (queue, script, written) = queue(&log);
        for _ in 0..100 {
            queue.push(b"line\n");
        }
        queue.flush();
        // Four wait, and one is with the writer if it got so far.
        let dropped = queue.state.dropped.get();
        assert!((95..=96).contains(&dropped), "{dropped}");
        assert!(written.lock().unwrap().is_empty());
        for _ in dropped..100 {
            script.send(Ok(usize::MAX)).unwrap();
        }
        let patient = Log { flush_timeout_ms: 60_000, ..Log::default() };
        let state = &queue.state;
        let ended = state.ended.lock().unwrap();
        let patience = Duration::from_millis(patient.flush_timeout_ms);
        drop(state.progress.wait_timeout_while(ended, patience, |ended| *ended < 100 - dropped).unwrap());
        assert_eq!(written.lock().unwrap().len() as u64, (100 - dropped) * 5);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let log = Log { queue_bytes_max: 100, flush_timeout_ms: 60_000, ..Log::default() };
        let (queue, script, written) = queue(&log);
        queue.push(&[b'x'; 101]);
        queue.push(&[b'y'; 60]);
        queue.push(&[b'z'; 60]);
        script.send(Ok(usize::MAX)).unwrap();
        queue.flush();
        assert_eq!((written.lock().unwrap().len(), queue.state.dropped.get()), (60, 2));
    }
}
