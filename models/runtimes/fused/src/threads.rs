//! The threads of one device: they work through one batch together, in phases, and sleep between batches.
//!
//! The thread that calls [`Pool::run`] works too. A phase is a list of pieces that threads claim one by one,
//! so that a thread that is held up does not hold up the others; a phase ends when all pieces are done.
//! Waiting for the others begins with a short spin, because phases are short, and goes on asleep, so that a
//! thread never burns a core that has something else to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Checks of a condition before a thread goes to sleep: some 20 µs.
const SPINS: usize = 1 << 10;

/// Threads that run one job at a time.
pub struct Pool {
    shared: Arc<PoolState>,
    helpers: Vec<JoinHandle<()>>,
    /// One caller at a time.
    turn: Mutex<()>,
}

/// A piece of work panicked; the batch is lost, the threads go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a compute thread panicked")]
pub struct JobPanicked;

/// One thread's part in a job.
pub(super) struct Worker<'a> {
    /// From 0 to the number of threads; each has its own.
    pub(super) index: usize,
    shared: &'a PoolState,
}

struct PoolState {
    threads: usize,
    /// The job, while there is one.
    job: Mutex<Job>,
    job_changed: Condvar,
    /// Counts jobs, for a look without the lock.
    epoch: AtomicUsize,
    /// Pieces of the present phase that were claimed.
    claimed: AtomicUsize,
    /// Threads that have reached the end of the present phase.
    arrived: AtomicUsize,
    phase: AtomicUsize,
    phase_lock: Mutex<()>,
    phase_ended: Condvar,
    has_panicked: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    work: Option<Work>,
    is_closed: bool,
}

/// A job's closure, without its lifetime.
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn(&Worker<'_>) + Sync));

// SAFETY: the closure is `Sync`, and `Pool::run` outlives every use of the pointer.
unsafe impl Send for Work {}

impl Pool {
    /// Starts the threads: this many with the caller's. With `pin`, each of them but the caller's stays on
    /// one core.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize, pin: bool) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let shared = Arc::new(PoolState::new(threads));
        let cores = if pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        let mut pool = Self { shared, helpers: Vec::with_capacity(threads - 1), turn: Mutex::new(()) };
        for index in 1..threads {
            let (shared, core) = (Arc::clone(&pool.shared), cores.get(index).copied());
            let helper = std::thread::Builder::new().name(format!("compute-{index}")).spawn(move || {
                if let Some(core) = core {
                    // Where the system does not allow it, the thread works all the same.
                    core_affinity::set_for_current(core);
                }
                shared.help(index);
            })?;
            pool.helpers.push(helper);
        }
        Ok(pool)
    }

    /// Threads that work on a job, with the caller's.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `work` once on each thread and returns when all are done. All must go through the same phases.
    pub(super) fn run(&self, work: &(dyn Fn(&Worker<'_>) + Sync)) -> Result<(), JobPanicked> {
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        shared.has_panicked.store(false, Ordering::Relaxed);
        if shared.threads > 1 {
            // SAFETY: only the lifetime is changed, and the last phase below ends after every thread's last
            // use.
            let work: *const (dyn Fn(&Worker<'_>) + Sync) = unsafe { std::mem::transmute(work) };
            shared.announce(|job| job.work = Some(Work(work)));
        }
        shared.work(0, work);
        if shared.has_panicked.load(Ordering::Relaxed) { Err(JobPanicked) } else { Ok(()) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.announce(|job| job.is_closed = true);
        for helper in self.helpers.drain(..) {
            // Panics of work are caught; there is nothing else to learn.
            let _ = helper.join();
        }
    }
}

impl Worker<'_> {
    /// One phase: calls `f` for every piece below `pieces`, each on one thread, and waits until all are done.
    ///
    /// After a panic no piece is begun any more, so that a broken batch ends soon.
    pub(super) fn for_each(&self, pieces: usize, mut f: impl FnMut(usize)) {
        let shared = self.shared;
        loop {
            let piece = shared.claimed.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces || shared.has_panicked.load(Ordering::Relaxed) {
                break;
            }
            shared.catch(|| f(piece));
        }
        shared.end_phase();
    }
}

impl PoolState {
    fn new(threads: usize) -> Self {
        Self {
            threads,
            job: Mutex::new(Job { work: None, is_closed: false }),
            job_changed: Condvar::new(),
            epoch: AtomicUsize::new(0),
            claimed: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            phase: AtomicUsize::new(0),
            phase_lock: Mutex::new(()),
            phase_ended: Condvar::new(),
            has_panicked: AtomicBool::new(false),
        }
    }

    /// Wakes the helpers for something new. The lock is held, so that none falls asleep between looking and
    /// waiting.
    fn announce(&self, change: impl FnOnce(&mut Job)) {
        let mut job = lock(&self.job);
        change(&mut job);
        self.epoch.fetch_add(1, Ordering::Release);
        self.job_changed.notify_all();
    }

    /// The life of a helper thread.
    fn help(&self, index: usize) {
        let mut seen = 0;
        loop {
            let job = self.next_job(&mut seen);
            if job.is_closed {
                return;
            }
            if let Some(Work(work)) = job.work {
                // SAFETY: `Pool::run` does not return before the phase that ends `work` below, which this
                // thread ends last.
                self.work(index, unsafe { &*work });
            }
        }
    }

    fn next_job(&self, seen: &mut usize) -> Job {
        spin_until(|| self.epoch.load(Ordering::Acquire) != *seen);
        let mut job = lock(&self.job);
        while self.epoch.load(Ordering::Acquire) == *seen {
            job = self.job_changed.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        *seen = self.epoch.load(Ordering::Acquire);
        *job
    }

    fn work(&self, index: usize, work: &(dyn Fn(&Worker<'_>) + Sync)) {
        self.catch(|| work(&Worker { index, shared: self }));
        // Nobody may use `work` behind this.
        self.end_phase();
    }

    fn catch(&self, f: impl FnOnce()) {
        // What a panic leaves half done are numbers in buffers, which the next batch overwrites.
        if catch_unwind(AssertUnwindSafe(f)).is_err() {
            self.has_panicked.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until all threads are here.
    fn end_phase(&self) {
        if self.threads == 1 {
            self.claimed.store(0, Ordering::Relaxed);
            return;
        }
        let phase = self.phase.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.claimed.store(0, Ordering::Relaxed);
            // With the lock held, so that nobody falls asleep between looking and waiting.
            let _held = lock(&self.phase_lock);
            self.phase.store(phase + 1, Ordering::Release);
            self.phase_ended.notify_all();
            return;
        }
        if !spin_until(|| self.phase.load(Ordering::Acquire) != phase) {
            let mut held = lock(&self.phase_lock);
            while self.phase.load(Ordering::Acquire) == phase {
                held = self.phase_ended.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Whether the condition came true within a short time.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    for _ in 0..SPINS {
        if condition() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// No data is behind these locks that a panic could leave broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_piece_of_every_phase_is_done_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads, false).expect("threads");
            for pieces in [0, 1, 3, 100] {
                let counts: Vec<Vec<AtomicUsize>> =
                    (0..4).map(|_| (0..pieces).map(|_| AtomicUsize::new(0)).collect()).collect();
                let result = pool.run(&|worker: &Worker<'_>| {
                    for (phase, count) in counts.iter().enumerate() {
                        worker.for_each(pieces, |piece| {
                            let before = phase.checked_sub(1).map(|before| &counts[before]);
                            // The phase before has ended for everybody.
                            assert!(
                                before.is_none_or(|all| all.iter().all(|n| n.load(Ordering::Relaxed) == 1))
                            );
                            count[piece].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
                assert_eq!(result, Ok(()));
                assert!(counts.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_ends_the_job_and_the_threads_go_on() {
        let pool = Pool::new(3, false).expect("threads");
        for _ in 0..10 {
            let failed = pool.run(&|worker: &Worker<'_>| {
                worker.for_each(20, |piece| assert!(piece != 7, "on purpose"));
                worker.for_each(20, |_| panic!("must not be begun"));
            });
            assert_eq!(failed, Err(JobPanicked));
            let count = AtomicUsize::new(0);
            let fine = pool.run(&|worker: &Worker<'_>| {
                worker.for_each(20, |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert_eq!((fine, count.into_inner()), (Ok(()), 20));
        }
    }

    #[test]
    fn threads_take_different_indices() {
        let pool = Pool::new(4, true).expect("threads");
        let seen: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        let result = pool.run(&|worker: &Worker<'_>| {
            seen[worker.index].fetch_add(1, Ordering::Relaxed);
            worker.for_each(0, |_| ());
        });
        assert_eq!(result, Ok(()));
        assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}
