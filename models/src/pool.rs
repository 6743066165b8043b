//! A pool of threads for work that would hold up the threads that serve requests: tokenising and decoding.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_channel::oneshot;

/// Threads that run closures for async callers. Cheap to clone.
#[derive(Clone)]
pub struct WorkPool {
    pool: Arc<rayon::ThreadPool>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

/// Why a closure gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The threads could not be started.
    #[error("worker threads could not be started: {0}")]
    Start(String),
    /// As much work waits already as may.
    #[error("{waiting_max} pieces of work are waiting for a worker thread already")]
    Full {
        /// How much may wait.
        waiting_max: usize,
    },
    /// The closure panicked.
    #[error("a worker thread panicked")]
    Panicked,
}

/// Counts one piece of work as waiting or running until it is dropped, whatever happens to it.
struct Place(Arc<AtomicUsize>);

impl WorkPool {
    /// Starts this many threads. At most `waiting_max` closures may wait or run at a time.
    ///
    /// # Errors
    /// When the system refuses the threads.
    pub fn new(threads: usize, waiting_max: usize) -> Result<Self, PoolError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("text-{index}"))
            .build()
            .map_err(|error| PoolError::Start(error.to_string()))?;
        Ok(Self { pool: Arc::new(pool), waiting: Arc::default(), waiting_max })
    }

    /// Runs a closure on one of the threads. Dropping the future drops the closure if it has not begun.
    ///
    /// # Errors
    /// When too much work waits already, or the closure panics.
    pub async fn run<T, F>(&self, work: F) -> Result<T, PoolError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.take_place()?;
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn(move || {
            if sender.is_canceled() {
                return;
            }
            // Without this a panic would end the whole process. The closure is gone afterwards, so nothing can see what
            // it left half done.
            let result = catch_unwind(AssertUnwindSafe(work));
            // Before the answer, so that a caller who has it finds the place free.
            drop(place);
            if let Ok(result) = result {
                let _ = sender.send(result);
            }
        });
        receiver.await.map_err(|_| PoolError::Panicked)
    }

    /// Closures that wait or run.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn take_place(&self) -> Result<Place, PoolError> {
        let taken = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.waiting));
        if taken < self.waiting_max {
            Ok(place)
        } else {
            Err(PoolError::Full { waiting_max: self.waiting_max })
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};

    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// Polls once, which begins the work.
    fn begin<F: Future + Unpin>(future: &mut F) {
        assert!(pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    #[test]
    fn results_come_back() {
        let pool = WorkPool::new(2, 8).unwrap();
        assert_eq!(block_on(pool.run(|| 6 * 7)), Ok(42));
    }

    #[test]
    fn a_panic_is_an_error_and_the_pool_lives_on() {
        let pool = WorkPool::new(1, 1).unwrap();
        let panics = pool.run(|| {
            if true {
                panic!("on purpose")
            }
        });
        assert_eq!(block_on(panics), Err(PoolError::Panicked));
        assert_eq!(block_on(pool.run(|| 1)), Ok(1));
    }

    #[test]
    fn work_is_bounded_and_abandoned_work_is_not_begun() {
        let pool = WorkPool::new(1, 2).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (begun, was_begun) = mpsc::channel::<&str>();
        let mut first = Box::pin(pool.run(move || released.recv().is_ok()));
        begin(&mut first);
        let mut second = Box::pin(pool.run(move || begun.send("second")));
        begin(&mut second);
        assert_eq!(block_on(pool.run(|| ())), Err(PoolError::Full { waiting_max: 2 }));
        assert_eq!(pool.waiting(), 2);
        drop(second);
        release.send(()).unwrap();
        assert_eq!(block_on(first), Ok(true));
        assert!(was_begun.recv().is_err(), "an abandoned closure ran");
    }
}
