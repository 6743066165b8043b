//! What the engine's threads are made of, in one place: the standard library and crossbeam, or with the
//! feature `shuttle` what shuttle puts in their place, so that a test can run the engine under every order of
//! events.

#[cfg(not(feature = "shuttle"))]
mod real {
    pub(in crate::engine) use std::sync::Mutex;
    pub(in crate::engine) use std::sync::atomic;
    pub(in crate::engine) use std::thread;
    use std::time::Duration;

    use crossbeam_channel::select;
    pub(in crate::engine) use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never};

    use super::Arrival;

    /// Blocks until something comes on one of two channels, or for so long. A channel without senders is
    /// ready.
    pub(in crate::engine) fn receive_either<A, B>(
        first: &Receiver<A>,
        second: &Receiver<B>,
        wait: Option<Duration>,
    ) -> Arrival<A, B> {
        let timer = wait.map_or_else(crossbeam_channel::never, crossbeam_channel::after);
        select! {
            recv(first) -> message => message.map_or(Arrival::FirstEnded, Arrival::First),
            recv(second) -> message => message.map_or(Arrival::SecondEnded, Arrival::Second),
            recv(timer) -> _ => Arrival::Nothing,
        }
    }
}

#[cfg(feature = "shuttle")]
#[path = "sync_shuttle.rs"]
mod real;

pub(super) use real::*;

/// What [`receive_either`] waited for.
pub(super) enum Arrival<A, B> {
    First(A),
    /// The first channel is empty and nobody can send to it any more.
    FirstEnded,
    Second(B),
    /// So is the second.
    SecondEnded,
    /// It was time.
    Nothing,
}
