//! The end: what is told to whom, in which order, and how long each part may take.

use std::sync::atomic::Ordering;
use std::time::Duration;

use protocols::grpc::Health;
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
    /// An orchestrator, which tells its balancers at the same time: SIGTERM.
    Orchestrated,
    /// A person: SIGINT.
    Interactive,
}

/// The signals that end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
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
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Resolves when the process is asked to end. SIGHUP does nothing: changed certificates are found without
    /// it, and the rest of the configuration takes a restart.
    pub async fn next(&mut self) -> Shutdown {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Shutdown::Orchestrated,
                _ = self.interrupt.recv() => return Shutdown::Interactive,
                _ = self.hangup.recv() => tracing::info!(
                    "SIGHUP does nothing: changed certificates are in use already, other changes need a restart"
                ),
            }
        }
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
