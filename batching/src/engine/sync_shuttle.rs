//! The engine's threads and channels under shuttle, which runs one thread at a time and chooses at every step
//! which. Only what the engine uses of crossbeam's interface.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use shuttle::rand::Rng;
pub(in crate::engine) use shuttle::sync::Mutex;
pub(in crate::engine) use shuttle::sync::atomic;
use shuttle::sync::{Arc, Condvar, MutexGuard};
pub(in crate::engine) use shuttle::thread;

use super::Arrival;

/// Waits here are for any change of any channel: who waits for two needs one place to be woken at.
struct Bell {
    lock: Mutex<()>,
    rung: Condvar,
}

shuttle::lazy_static! {
    static ref BELL: Bell = Bell { lock: Mutex::new(()), rung: Condvar::new() };
}

impl Bell {
    fn ring(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.rung.notify_all();
    }

    /// Blocks until this is something; it is asked again whenever a channel has changed.
    fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(value) = ready() {
                return value;
            }
            guard = self.rung.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Channel<T> {
    state: Mutex<State<T>>,
    capacity: usize,
}

struct State<T> {
    messages: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
}

impl<T> Channel<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(in crate::engine) struct Sender<T>(Arc<Channel<T>>);
pub(in crate::engine) struct Receiver<T>(Arc<Channel<T>>);

/// The other side is gone.
pub(in crate::engine) struct Disconnected;

pub(in crate::engine) enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

pub(in crate::engine) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { messages: VecDeque::new(), senders: 1, has_receiver: true };
    let channel = Arc::new(Channel { state: Mutex::new(state), capacity });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

/// A channel on which nothing ever comes, and which does not end.
pub(in crate::engine) fn never<T>() -> Receiver<T> {
    let (sender, receiver) = bounded(0);
    std::mem::forget(sender);
    receiver
}

impl<T> Sender<T> {
    pub(in crate::engine) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state();
        if !state.has_receiver {
            return Err(TrySendError::Disconnected(message));
        }
        if state.messages.len() >= self.0.capacity {
            return Err(TrySendError::Full(message));
        }
        state.messages.push_back(message);
        drop(state);
        BELL.ring();
        Ok(())
    }

    pub(in crate::engine) fn send(&self, message: T) -> Result<(), Disconnected> {
        let mut unsent = Some(message);
        BELL.until(|| {
            let mut state = self.0.state();
            if !state.has_receiver {
                return Some(Err(Disconnected));
            }
            if state.messages.len() >= self.0.capacity {
                return None;
            }
            state.messages.extend(unsent.take());
            Some(Ok(()))
        })
        .inspect(|()| BELL.ring())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().senders -= 1;
        BELL.ring();
    }
}

impl<T> Receiver<T> {
    /// A message, `Disconnected` if there will be none, or nothing yet.
    fn poll(&self) -> Option<Result<T, Disconnected>> {
        let mut state = self.0.state();
        match state.messages.pop_front() {
            Some(message) => Some(Ok(message)),
            None if state.senders == 0 => Some(Err(Disconnected)),
            None => None,
        }
    }

    pub(in crate::engine) fn try_recv(&self) -> Result<T, Disconnected> {
        let message = self.poll().ok_or(Disconnected)??;
        BELL.ring();
        Ok(message)
    }

    pub(in crate::engine) fn recv(&self) -> Result<T, Disconnected> {
        BELL.until(|| self.poll()).inspect(|_| BELL.ring())
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.0.state().messages.len()
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.has_receiver = false;
        // Messages nobody will read are dropped with it, as crossbeam does: what they hold may have somebody
        // waiting.
        let unread = std::mem::take(&mut state.messages);
        drop(state);
        drop(unread);
        BELL.ring();
    }
}

/// As the real one, but which of two ready channels is taken, and when a timer rings, are shuttle's choice.
pub(in crate::engine) fn receive_either<A, B>(
    first: &Receiver<A>,
    second: &Receiver<B>,
    wait: Option<Duration>,
) -> Arrival<A, B> {
    let from_first = || first.poll().map(|message| message.map_or(Arrival::FirstEnded, Arrival::First));
    let from_second = || second.poll().map(|message| message.map_or(Arrival::SecondEnded, Arrival::Second));
    let either = || {
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            from_first().or_else(from_second)
        } else {
            from_second().or_else(from_first)
        }
    };
    let arrival = match wait {
        None => BELL.until(either),
        Some(_) => {
            thread::yield_now();
            either().unwrap_or(Arrival::Nothing)
        }
    };
    BELL.ring();
    arrival
}
