//! The end: what is told to whom, in which order, and how long each part may take.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use protocols::grpc::Health;
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Server;
use super::port::Port;
use crate::app::App;

/// How long to go on accepting if the configuration does not say, and others than this machine have
/// connected.
const NOT_READY_WAIT: Duration = Duration::from_secs(5);
/// How long operations stay up after the API: long enough for what reads a last time.
const OPERATIONS_LAST: Duration = Duration::from_secs(1);

/// Who asks a server to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// An orchestrator, which tells its balancers at the same time: SIGTERM and what else asks for an end.
    Orchestrated,
    /// A person: SIGINT.
    Interactive,
}

/// What asks the server to stop: SIGQUIT as images of nginx have it for a stop signal, SIGPWR as container
/// managers send it, SIGXCPU before the limit of processor time ends the process.
const ENDS: [(Number, Shutdown); 5] = [
    (Number::TERM, Shutdown::Orchestrated),
    (Number::INT, Shutdown::Interactive),
    (Number::QUIT, Shutdown::Orchestrated),
    (Number::POWER, Shutdown::Orchestrated),
    (Number::XCPU, Shutdown::Orchestrated),
];
/// What would end the process if it were not handled, and asks for nothing that the server has to do: other
/// servers open their logs or read their configuration again.
const IGNORED: [(Number, &str); 8] = [
    (Number::HUP, "SIGHUP"),
    (Number::USR1, "SIGUSR1"),
    (Number::USR2, "SIGUSR2"),
    (Number::ALARM, "SIGALRM"),
    (Number::VTALARM, "SIGVTALRM"),
    (Number::PROF, "SIGPROF"),
    (Number::IO, "SIGIO"),
    (Number::STKFLT, "SIGSTKFLT"),
];
/// Real-time signals that the C library leaves to programs (signal(7)); ignored too.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The signals that the process handles: all that would end it and can be handled, but for those of faults of
/// its own (SIGABRT, SIGSEGV and their like), which are to leave a core.
pub struct Signals {
    ends: Vec<(Signal, Shutdown)>,
    ignored: Vec<(Signal, &'static str)>,
    /// Not waited for: that it is handled makes a write beyond the limit of a file's size an error like any
    /// other.
    _file_size: Signal,
}

impl Signals {
    /// Takes them over from here on. To be done first of all: a process with number 1 ignores what it does
    /// not handle.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> std::io::Result<Self> {
        let listen = |number: i32| signal(SignalKind::from_raw(number));
        let ends = ENDS.iter().map(|(number, shutdown)| Ok((listen(number.as_raw())?, *shutdown)));
        let named = IGNORED.iter().map(|(number, name)| Ok((listen(number.as_raw())?, *name)));
        let unnamed = REAL_TIME.map(|number| Ok((listen(number)?, "a real-time signal")));
        Ok(Self {
            ends: ends.collect::<std::io::Result<_>>()?,
            ignored: named.chain(unnamed).collect::<std::io::Result<_>>()?,
            _file_size: listen(Number::XFSZ.as_raw())?,
        })
    }

    /// Resolves when the process is asked to end. Changed certificates and tokens are found without a signal,
    /// and the rest of the configuration takes a restart.
    pub async fn next(&mut self) -> Shutdown {
        std::future::poll_fn(|context| {
            for (signal, name) in &mut self.ignored {
                while let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    tracing::warn!("{name} does nothing: changed certificates are in use already, other changes need a restart");
                }
            }
            for (signal, shutdown) in &mut self.ends {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*shutdown);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Server {
    /// Not ready -> still accepting, answers say goodbye -> not accepting -> what is in flight is answered ->
    /// closed.
    pub(super) async fn drain(&self, app: &App, health: &Health, shutdown: Shutdown) {
        tracing::info!("shutting down");
        app.readiness.set_listening(false);
        health.update(&super::serving(app));
        let bounds = &app.config.shutdown;
        let ports = [&self.api, &self.operations];
        let is_balanced = shutdown == Shutdown::Orchestrated
            && ports.iter().any(|port| port.has_remote.load(Ordering::Relaxed));
        let default = if is_balanced { NOT_READY_WAIT } else { Duration::ZERO };
        for port in ports {
            port.drain.leaving.cancel();
        }
        tokio::time::sleep(bounds.not_ready_wait_ms.map_or(default, Duration::from_millis)).await;
        app.stopping.cancel();
        self.api.drain.stopping.cancel();
        // Operations stay up while requests drain, so that the drain can be watched.
        self.end(&self.api, Duration::from_millis(bounds.drain_timeout_ms)).await;
        self.operations.drain.stopping.cancel();
        self.end(&self.operations, OPERATIONS_LAST).await;
    }

    /// Waits for the connections of a port, and ends those that take longer.
    async fn end(&self, port: &Port, patience: Duration) {
        if tokio::time::timeout(patience, port.tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(port = port.name, connections = port.tasks.len(), "connections are closed unfinished");
        port.drain.kill.cancel();
        port.tasks.wait().await;
    }
}
