//! A pool of threads for work that would hold up the threads that serve requests: tokenising and decoding.
//!
//! Work is a future that waits for nothing but its turn. It says what it does ([`Pace::spend`]) and after a
//! slice its thread takes what is next: decoding before preparing, and of several tenants the one that was
//! served least for its weight, so that a long text of one holds up short ones of another for a slice and no
//! longer. Before each turn the pool asks whether the caller is still there and in time; work that nobody
//! waits for is dropped where it stands.

mod pace;
mod turns;

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use units::{Clock, TenantId, Timestamp};

pub use pace::Pace;
pub(crate) use pace::complete;
pub use turns::Stage;
use turns::{Place, Turns};

/// Bounds of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Threads; at least one is started.
    pub threads: usize,
    /// Pieces of work that wait or run.
    pub waiting_max: usize,
    /// Bytes of text that wait or are worked on.
    pub waiting_bytes_max: u64,
    /// Bytes of text of one tenant among them.
    pub tenant_bytes_max: u64,
    /// Bytes of text worked on before another's turn.
    pub slice_bytes: u64,
}

/// What is to be done, for whom and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errand {
    pub stage: Stage,
    pub tenant: TenantId,
    /// The tenant's share beside the others', at least 1.
    pub weight: u32,
    /// Bytes of text; 0 where there are none.
    pub bytes: u64,
    /// Whether it takes less time than to wake a thread for it. It is done at once, by whoever asks.
    pub is_short: bool,
    /// Not worked on at or after this moment, on the pool's clock.
    pub deadline: Timestamp,
}

/// Why work gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The threads could not be started.
    #[error("worker threads could not be started: {0}")]
    Start(String),
    /// As much work waits already as may, in all or of this tenant.
    #[error("as much work waits for worker threads as may")]
    Full {
        /// How long what waits is predicted to take.
        drain: Duration,
    },
    /// The deadline passed before the work was done.
    #[error("the deadline passed before the work was done")]
    DeadlinePassed,
    /// The work panicked.
    #[error("a worker thread panicked")]
    Panicked,
}

/// Threads that run work for async callers. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct WorkPool {
    shared: Arc<PoolCore>,
    _threads: Arc<Threads>,
}

struct PoolCore {
    config: PoolConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    has_work: Condvar,
}

#[derive(Default)]
struct State {
    turns: Turns<Arc<Piece>>,
    waiting: usize,
    waiting_bytes: u64,
    tenants: HashMap<TenantId, u64>,
    /// Nanoseconds that a byte of preparing takes a thread.
    nanos_per_byte: Option<f64>,
    is_closed: bool,
}

/// One piece of work.
struct Piece {
    place: Place,
    deadline: Timestamp,
    pace: Pace,
    /// Taken out while it is worked on, and when it is over or nobody waits for it.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    is_abandoned: AtomicBool,
    is_late: AtomicBool,
}

/// Counts a piece of work as waiting or running until it is dropped, whatever happens to it.
struct Share {
    shared: Arc<PoolCore>,
    tenant: TenantId,
    bytes: u64,
}

/// Tells the task that its caller has left.
struct Wish(Arc<Piece>);

struct Threads(Arc<PoolCore>);

impl WorkPool {
    /// Starts the threads. They tell the time by `clock`, which is also the one of the deadlines.
    ///
    /// # Errors
    /// When the system refuses the threads.
    pub fn new(config: PoolConfig, clock: Arc<dyn Clock>) -> Result<Self, PoolError> {
        let shared = Arc::new(PoolCore { config, clock, state: Mutex::default(), has_work: Condvar::new() });
        let threads = Arc::new(Threads(Arc::clone(&shared)));
        for index in 0..config.threads.max(1) {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("text-{index}"))
                .spawn(move || shared.work())
                .map_err(|error| PoolError::Start(error.to_string()))?;
        }
        Ok(Self { shared, _threads: threads })
    }

    /// Does what `work` makes of a pace, in turns, or at once if it is short. Dropping the future ends the
    /// work: at once if it waits, after the slice if it runs.
    ///
    /// # Errors
    /// When too much work waits already, the deadline passes, or the work panics.
    pub async fn run<T, F>(&self, errand: Errand, work: impl FnOnce(Pace) -> F + Send) -> Result<T, PoolError>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        if errand.is_short {
            return self.shared.at_once(errand, work);
        }
        let pace = Pace::slices_of(self.shared.config.slice_bytes);
        let share = self.take_share(errand)?;
        let (sender, receiver) = oneshot::channel();
        let future = work(pace.clone());
        let future = async move {
            let result = future.await;
            // Before the answer, so that a caller who has it finds the place free.
            drop(share);
            let _ = sender.send(result);
        };
        let Errand { stage, tenant, weight, deadline, .. } = errand;
        let place = Place { stage, tenant, weight };
        let task = Arc::new(Piece {
            place,
            deadline,
            pace,
            future: Mutex::new(Some(Box::pin(future))),
            is_abandoned: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
        });
        let wish = Wish(Arc::clone(&task));
        self.shared.state().turns.add(place, task);
        self.shared.has_work.notify_one();
        let result = receiver.await;
        result.map_err(|_| match wish.0.is_late.load(Ordering::Acquire) {
            true => PoolError::DeadlinePassed,
            false => PoolError::Panicked,
        })
    }

    /// Pieces of work that wait or run.
    pub fn waiting(&self) -> usize {
        self.shared.state().waiting
    }

    /// How long all threads are predicted to need to prepare so many bytes of text, by what it took of late.
    pub fn preparing(&self, bytes: u64) -> Duration {
        self.shared.preparing(&self.shared.state(), bytes)
    }

    fn take_share(&self, errand: Errand) -> Result<Share, PoolError> {
        let Errand { tenant, bytes, .. } = errand;
        let config = &self.shared.config;
        let mut state = self.shared.state();
        let of_tenant = state.tenants.get(&tenant).copied().unwrap_or(0);
        // One text alone is always taken: how long it may be is not for the pool to say.
        let is_full = state.waiting >= config.waiting_max
            || (bytes > 0
                && state.waiting_bytes > 0
                && state.waiting_bytes + bytes > config.waiting_bytes_max)
            || (bytes > 0 && of_tenant > 0 && of_tenant + bytes > config.tenant_bytes_max);
        if is_full {
            let drain = self.shared.preparing(&state, state.waiting_bytes);
            return Err(PoolError::Full { drain });
        }
        state.waiting += 1;
        state.waiting_bytes += bytes;
        if bytes > 0 {
            *state.tenants.entry(tenant).or_default() += bytes;
        }
        Ok(Share { shared: Arc::clone(&self.shared), tenant, bytes })
    }
}

impl PoolCore {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held left counts that are whole: nothing in between can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn preparing(&self, state: &State, bytes: u64) -> Duration {
        let nanos = state.nanos_per_byte.unwrap_or(0.0) * bytes as f64;
        Duration::from_nanos((nanos / self.config.threads.max(1) as f64) as u64)
    }

    /// Does work on the thread that asks for it.
    fn at_once<T, F>(&self, errand: Errand, work: impl FnOnce(Pace) -> F) -> Result<T, PoolError>
    where
        F: Future<Output = T>,
    {
        let began = self.clock.now();
        if began >= errand.deadline {
            return Err(PoolError::DeadlinePassed);
        }
        let pace = Pace::at_once();
        // As on a thread of the pool: a panic is the caller's alone.
        let result = catch_unwind(AssertUnwindSafe(|| complete(work(pace.clone()))));
        let took = self.clock.now().saturating_duration_since(began);
        self.state().measure(errand.stage, pace.spent(), took);
        result.map_err(|_| PoolError::Panicked)
    }

    /// What a thread does.
    fn work(&self) {
        let mut state = self.state();
        while !state.is_closed {
            let Some(task) = state.turns.next() else {
                state = self.has_work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let (began, before) = (self.clock.now(), task.pace.spent());
            let is_over = task.turn(began);
            let bytes = task.pace.spent() - before;
            let took = self.clock.now().saturating_duration_since(began);
            state = self.state();
            let place = task.place;
            state.measure(place.stage, bytes, took);
            state.turns.ended(place, bytes, (!is_over).then_some(task));
        }
    }
}

impl State {
    /// So much of a stage took so long.
    fn measure(&mut self, stage: Stage, bytes: u64, took: Duration) {
        if stage == Stage::Prepare && bytes > 0 {
            let sample = took.as_nanos() as f64 / bytes as f64;
            let mean = self.nanos_per_byte.get_or_insert(sample);
            *mean += (sample - *mean) * (bytes as f64 / 65_536.0).min(0.25);
        }
    }
}

impl Piece {
    /// Works on it for one turn; whether it is over.
    fn turn(&self, now: Timestamp) -> bool {
        let Some(mut future) = self.take() else { return true };
        if now >= self.deadline {
            self.is_late.store(true, Ordering::Release);
            return true;
        }
        self.pace.begin();
        // Without this a panic would end the thread. The future is gone afterwards, so nothing can see what
        // it left half done.
        let poll =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        if !matches!(poll, Ok(Poll::Pending)) {
            return true;
        }
        let mut place = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_abandoned.load(Ordering::Acquire) {
            return true;
        }
        *place = Some(future);
        false
    }

    fn take(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.future.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.0.is_abandoned.store(true, Ordering::Release);
        // What waits holds its texts no longer; its turn, when it comes, finds nothing.
        drop(self.0.take());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.waiting -= 1;
        state.waiting_bytes -= self.bytes;
        if let Some(bytes) = state.tenants.get_mut(&self.tenant) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.has_work.notify_all();
    }
}

#[cfg(test)]
mod tests;
