//! A port: accepts connections within its bounds and serves each on a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::connection;
use super::port::Port;
use super::seats::Seat;

/// How long nothing is accepted after that failed for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that is open; counted as closed when dropped, however it ends.
struct Open {
    port: Arc<Port>,
    seat: Seat,
    reason: &'static str,
}

impl Drop for Open {
    fn drop(&mut self) {
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
                accepted = async {
                    self.seats.cleared().await;
                    listener.accept().await
                } => accepted,
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
        let seat = self.seats.take(ip, Instant::now());
        let lack = match &seat {
            Ok(seat) if seat.is_anothers => Some("gave_way"),
            Ok(_) => None,
            Err(reason) => {
                self.counts.refused(self.name, reason);
                Some(*reason)
            }
        };
        if let Some(reason) = lack
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(port = self.name, reason, "connections are closed: there are too many");
        }
        let Ok(seat) = seat else { return };
        self.counts.opened(self.name);
        let open = Open { port: Arc::clone(self), seat, reason: "panicked" };
        self.tasks.spawn(async move {
            // All of it, not just the field that is set.
            let mut open = open;
            let standing = Arc::clone(&open.seat.standing);
            let served = connection::serve(Arc::clone(&open.port), Arc::clone(&standing), stream, address);
            open.reason = tokio::select! {
                biased;
                reason = served => reason,
                () = standing.told_to_leave() => standing.reason(),
            };
        });
    }
}

/// Whether a connection was at fault that has gone already, and not the process or the machine.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset | K::Interrupted)
}
