//! How long work says what it does and makes room for others.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// Told by work what it has done, in bytes of text; at the end of a slice it gives the thread to whoever's
/// turn it is. Whether the work is still wanted is asked between slices, so work that is not simply does not
/// go on.
#[derive(Clone, Debug)]
pub struct Pace {
    counts: Arc<Counts>,
    slice: u64,
}

#[derive(Debug, Default)]
struct Counts {
    total: AtomicU64,
    turn: AtomicU64,
}

impl Pace {
    /// A pace that gives the thread back whenever so many bytes were worked on.
    pub fn slices_of(bytes: u64) -> Self {
        Self { counts: Arc::default(), slice: bytes.max(1) }
    }

    /// A pace that never gives the thread back, for work that nobody waits behind.
    pub fn at_once() -> Self {
        Self::slices_of(u64::MAX)
    }

    /// So many bytes of text were worked on.
    pub async fn spend(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.counts.total.fetch_add(bytes, Ordering::Relaxed);
        if self.counts.turn.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= self.slice {
            Yield { is_over: false }.await;
        }
    }

    /// Bytes worked on so far.
    pub fn spent(&self) -> u64 {
        self.counts.total.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.counts.turn.store(0, Ordering::Relaxed);
    }
}

/// Runs a future that waits for nothing but its turn to its end.
pub(crate) fn complete<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

/// Pending once.
struct Yield {
    is_over: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.is_over, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
