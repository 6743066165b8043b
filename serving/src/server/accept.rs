//! A port: accepts connections within its bounds and serves each on a task of its own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::connection::{self, Protocol};
use super::drain::Drain;
use crate::telemetry::ConnectionCounts;
use crate::tls::TlsAcceptor;

/// How long nothing is accepted after that failed for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// What a port answers with: little until the server has started, then all.
pub(super) struct Routes {
    starting: Router,
    all: OnceLock<Router>,
}

impl Routes {
    pub(super) fn new(starting: Router) -> Self {
        Self { starting, all: OnceLock::new() }
    }

    /// From here on everything is answered.
    pub(super) fn open(&self, all: Router) {
        // The server starts once.
        let _ = self.all.set(all);
    }

    pub(super) fn current(&self) -> Router {
        self.all.get().unwrap_or(&self.starting).clone()
    }
}

/// A port that is listened on.
pub(super) struct Port {
    /// `api` or `operations`.
    pub(super) name: &'static str,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) protocol: Protocol,
    pub(super) routes: Routes,
    pub(super) drain: Drain,
    /// Bytes of answers that wait, on all its connections.
    pub(super) unread: Arc<AtomicUsize>,
    pub(super) counts: Arc<ConnectionCounts>,
    pub(super) seats: Seats,
    pub(super) tasks: TaskTracker,
    /// Whether anybody but this machine has connected.
    pub(super) has_remote: AtomicBool,
}

/// Which connections there may be.
#[derive(Debug)]
pub(super) struct Seats {
    open_max: usize,
    open_per_address_max: Option<usize>,
    open: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Seats {
    pub(super) fn new(open_max: usize, open_per_address_max: Option<usize>) -> Self {
        Self { open_max, open_per_address_max, open: Mutex::default() }
    }

    /// Takes a seat, or says what there is too much of.
    fn take(&self, address: IpAddr) -> Result<(), &'static str> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.0 >= self.open_max {
            return Err("open_max");
        }
        if let Some(max) = self.open_per_address_max {
            let own = open.1.entry(address).or_default();
            if *own >= max {
                return Err("open_per_address_max");
            }
            *own += 1;
        }
        open.0 += 1;
        Ok(())
    }

    fn give_back(&self, address: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 = open.0.saturating_sub(1);
        if let Some(own) = open.1.get_mut(&address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.1.remove(&address);
            }
        }
    }
}

/// A connection's seat; given back when dropped, however the connection ends.
struct Seat {
    port: Arc<Port>,
    address: IpAddr,
    reason: &'static str,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.port.seats.give_back(self.address);
        self.port.counts.closed(self.port.name, self.reason);
    }
}

impl Port {
    /// Accepts connections until told to stop, and then those that have come already.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.drain.stopping.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    is_failing = false;
                    self.admit(stream, address);
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.counts.accept_failed(self.name);
                    if !is_failing {
                        is_failing = true;
                        tracing::error!(port = self.name, %error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        while let Some(Ok((stream, address))) = listener.accept().now_or_never() {
            self.admit(stream, address);
        }
        self.tasks.close();
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let ip = address.ip().to_canonical();
        if !ip.is_loopback() {
            self.has_remote.store(true, Ordering::Relaxed);
        }
        if let Err(reason) = self.seats.take(ip) {
            if self.counts.refused(self.name, reason) == 1 {
                tracing::warn!(port = self.name, reason, "connections are closed: there are too many");
            }
            return;
        }
        self.counts.opened(self.name);
        let seat = Seat { port: Arc::clone(self), address: ip, reason: "panicked" };
        self.tasks.spawn(async move {
            // All of it, not just the field that is set.
            let mut seat = seat;
            seat.reason = connection::serve(Arc::clone(&seat.port), stream, address).await;
        });
    }
}

/// Whether a connection was at fault that has gone already, and not the process or the machine.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset | K::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats() {
        let seats = Seats::new(3, Some(2));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(seats.take(one), Ok(()));
        assert_eq!(seats.take(one), Ok(()));
        assert_eq!(seats.take(one), Err("open_per_address_max"));
        assert_eq!(seats.take(other), Ok(()));
        assert_eq!(seats.take(other), Err("open_max"));
        seats.give_back(one);
        assert_eq!(seats.take(one), Ok(()));
        for address in [one, one, other] {
            seats.give_back(address);
        }
        let open = seats.open.lock().map(|open| (open.0, open.1.len()));
        assert_eq!(open.ok(), Some((0, 0)));
    }
}
