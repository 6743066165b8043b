#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::task::Wake;
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

/// Polls once, which hands the work in.
fn begin<F: Future + Unpin>(future: &mut F) {
    assert!(pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// A clock that stands still until it is set.
#[derive(Default)]
struct Set(AtomicU64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Acquire))
    }
}

fn pool(threads: usize, waiting_max: usize) -> (WorkPool, Arc<Set>) {
    let clock = Arc::new(Set::default());
    let config =
        PoolConfig { threads, waiting_max, waiting_bytes_max: 1000, tenant_bytes_max: 600, slice_bytes: 10 };
    (WorkPool::new(config, clock.clone()).unwrap(), clock)
}

fn errand(tenant: u32, bytes: u64) -> Errand {
    let deadline = Timestamp::from_nanos(1000);
    Errand { stage: Stage::Prepare, tenant: TenantId(tenant), weight: 1, bytes, is_short: false, deadline }
}

/// Work that has been handed in.
type Running<'a> = Pin<Box<dyn Future<Output = Result<bool, PoolError>> + 'a>>;

/// Work that runs until it is released, so that what comes meanwhile waits.
fn gate(pool: &WorkPool) -> (mpsc::Sender<()>, Running<'_>) {
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel::<()>();
    let mut work = Box::pin(pool.run(errand(99, 0), move |_| async move {
        let _ = begun.send(());
        released.recv().is_ok()
    }));
    begin(&mut work);
    has_begun.recv().unwrap();
    (release, work)
}

#[test]
fn results_come_back() {
    let (pool, _) = pool(2, 8);
    assert_eq!(block_on(pool.run(errand(1, 5), |_| async { 6 * 7 })), Ok(42));
    assert_eq!(pool.waiting(), 0);
}

#[test]
fn a_panic_is_an_error_and_the_pool_lives_on() {
    let (pool, _) = pool(1, 1);
    let panics = pool.run(errand(1, 5), |_| async {
        if true {
            panic!("on purpose")
        }
    });
    assert_eq!(block_on(panics), Err(PoolError::Panicked));
    assert_eq!(block_on(pool.run(errand(1, 5), |_| async { 1 })), Ok(1));
}

#[test]
fn work_is_bounded_in_pieces_and_bytes_and_what_is_abandoned_is_dropped_at_once() {
    let (pool, _) = pool(1, 4);
    let (release, gate) = gate(&pool);
    let text = Arc::new(());
    let waits = |tenant: u32, bytes: u64| {
        let text = Arc::clone(&text);
        let mut work = Box::pin(pool.run(errand(tenant, bytes), move |_| async move { drop(text) }));
        let result = pin!(&mut work).poll(&mut Context::from_waker(Waker::noop()));
        (result, work)
    };
    let full = Poll::Ready(Err(PoolError::Full { drain: Duration::ZERO }));
    let (first, first_work) = waits(1, 500);
    assert_eq!(first, Poll::Pending);
    assert_eq!(waits(1, 101).0, full, "more than a tenant may");
    let (second, _second_work) = waits(2, 400);
    assert_eq!(second, Poll::Pending);
    assert_eq!(waits(3, 101).0, full, "more than all may");
    let (third, _third_work) = waits(3, 100);
    assert_eq!(third, Poll::Pending);
    assert_eq!(waits(4, 0).0, full, "more pieces than may");
    assert_eq!((pool.waiting(), Arc::strong_count(&text)), (4, 4));
    drop(first_work);
    assert_eq!((pool.waiting(), Arc::strong_count(&text)), (3, 3));
    release.send(()).unwrap();
    assert_eq!(block_on(gate), Ok(true));
}

#[test]
fn a_long_text_holds_up_another_tenant_for_a_slice() {
    let (pool, _) = pool(1, 8);
    let (release, gate) = gate(&pool);
    let order = Arc::new(Mutex::new(Vec::new()));
    let work = |name: &'static str, steps: usize| {
        let order = Arc::clone(&order);
        move |pace: Pace| async move {
            for _ in 0..steps {
                order.lock().unwrap().push(name);
                pace.spend(10).await;
            }
            order.lock().unwrap().push(name);
        }
    };
    let mut long = Box::pin(pool.run(errand(1, 500), work("long", 50)));
    let mut short = Box::pin(pool.run(errand(2, 10), work("short", 1)));
    let decode = Errand { stage: Stage::Decode, ..errand(1, 0) };
    let mut answer = Box::pin(pool.run(decode, work("answer", 0)));
    begin(&mut long);
    begin(&mut short);
    begin(&mut answer);
    release.send(()).unwrap();
    assert_eq!(block_on(gate), Ok(true));
    assert_eq!((block_on(answer), block_on(short), block_on(long)), (Ok(()), Ok(()), Ok(())));
    let order = order.lock().unwrap();
    assert_eq!(order[..5], ["answer", "long", "short", "long", "short"]);
    assert_eq!(order.len(), 1 + 2 + 51);
}

#[test]
fn work_ends_with_its_caller_and_its_deadline() {
    let (pool, clock) = pool(1, 8);
    let steps = Arc::new(AtomicU64::new(0));
    let endless = |pace: Pace| {
        let steps = Arc::clone(&steps);
        async move {
            loop {
                steps.fetch_add(1, Ordering::AcqRel);
                pace.spend(10).await;
            }
        }
    };
    let mut left = Box::pin(pool.run::<(), _>(errand(1, 500), endless));
    begin(&mut left);
    while steps.load(Ordering::Acquire) < 3 {
        thread::yield_now();
    }
    drop(left);
    // The thread is free again: it would not be if the work went on without turns.
    assert_eq!(block_on(pool.run(errand(2, 1), |_| async { 1 })), Ok(1));
    while pool.waiting() > 0 {
        thread::yield_now();
    }
    let mut late = Box::pin(pool.run::<(), _>(errand(1, 500), endless));
    begin(&mut late);
    clock.0.store(1000, Ordering::Release);
    assert_eq!(block_on(late), Err(PoolError::DeadlinePassed));
    let after = steps.load(Ordering::Acquire);
    assert_eq!(block_on(pool.run::<(), _>(errand(1, 5), endless)), Err(PoolError::DeadlinePassed));
    assert_eq!(steps.load(Ordering::Acquire), after, "what is late is not begun");
}

#[test]
fn short_work_is_done_by_who_asks_while_all_threads_are_busy() {
    let (pool, clock) = pool(1, 1);
    let (release, gate) = gate(&pool);
    let short = |bytes| Errand { is_short: true, ..errand(1, bytes) };
    let asked_by = thread::current().id();
    let mut work = Box::pin(pool.run(short(25), |pace| async move {
        pace.spend(25).await;
        thread::current().id()
    }));
    // More than a slice, and done when it is asked for the first time.
    let done = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(done, Poll::Ready(Ok(asked_by)));
    let panics = block_on(pool.run::<(), _>(short(1), |_| async { panic!("on purpose") }));
    assert_eq!(panics, Err(PoolError::Panicked));
    clock.0.store(1000, Ordering::Release);
    assert_eq!(block_on(pool.run(short(1), |_| async {})), Err(PoolError::DeadlinePassed));
    release.send(()).unwrap();
    assert_eq!(block_on(gate), Ok(true));
}
