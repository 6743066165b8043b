//! Signals to scale on: reads this server's load every two seconds, adds up that of all servers, and tells
//! what is desired, on `/metrics`, as JSON on `/scaling`, and to KEDA.

mod keda;

use std::sync::Arc;
use std::time::Duration;

use batching::Engine;
use models::{Sequence, SequenceOutput};
use router::scaling::{Autoscaler, Load, LoadBoard, Meter, ScalingConfig, Signals};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::current_catalog::CurrentCatalog;
use crate::readiness::Readiness;
use crate::telemetry::Telemetry;

pub(crate) use keda::{ExternalScaler, REQUEST_BYTES_MAX};

/// How often the load is read.
const EVERY: Duration = Duration::from_secs(2);
/// A server whose load was not put up for so long is gone.
const AGE_MAX: Duration = Duration::from_secs(10);

/// The signals, and what they are made from.
pub struct Scaling {
    config: ScalingConfig,
    /// Where servers show each other their load; none if this is the only one.
    board: Option<Arc<dyn LoadBoard>>,
    /// This server's name on the board.
    server: String,
    signals: watch::Sender<Option<Signals>>,
}

/// What the signals are read from.
pub(crate) struct LoadSource {
    pub(crate) engine: Engine<Sequence, SequenceOutput>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) readiness: Arc<Readiness>,
    /// Whose targets count.
    pub(crate) catalog: Arc<CurrentCatalog>,
}

/// Targets of the models, in the order of their numbers.
fn targets(catalog: &CurrentCatalog) -> Vec<Duration> {
    let catalog = catalog.load();
    let mut targets = Vec::new();
    for entry in catalog.models() {
        // Of those that have gone nothing comes.
        targets.resize(entry.id.index(), Duration::from_secs(1));
        targets.push(entry.card.p99_target);
    }
    targets
}

impl Scaling {
    /// Signals of servers with so many devices each.
    pub fn new(
        config: &config::Scaling,
        devices: u32,
        board: Option<Arc<dyn LoadBoard>>,
        server: String,
    ) -> Self {
        let config = ScalingConfig {
            replicas_min: config.replicas_min,
            replicas_max: config.replicas_max,
            devices_per_replica: devices,
            utilization_target: config.utilization_target,
            drain_target: Duration::from_secs(config.drain_target_seconds),
            cold_start: Duration::from_secs(config.cold_start_seconds),
            stabilization: Duration::from_secs(config.stabilization_seconds),
            ..ScalingConfig::default()
        };
        Self { config, board, server, signals: watch::Sender::new(None) }
    }

    /// The newest signals; none in the first seconds.
    pub fn signals(&self) -> Option<Signals> {
        *self.signals.borrow()
    }

    /// Keeps the signals up to date until told to stop.
    pub(crate) async fn run(&self, source: LoadSource, stop: &CancellationToken) {
        let LoadSource { engine, telemetry, readiness, catalog } = source;
        let (mut meter, mut autoscaler) =
            (Meter::new(targets(&catalog)), Autoscaler::new(self.config.clone()));
        let mut others = Vec::new();
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! { () = stop.cancelled() => return, _ = ticks.tick() => {} }
            let (now, ends) = (engine.now(), telemetry.calls.ends());
            meter.set_targets(targets(&catalog));
            let Some(mut load) = meter.read(now, &engine.snapshot(), ends, readiness.is_ready()) else {
                continue;
            };
            if let Some(board) = &self.board {
                self.exchange(board.as_ref(), &load, &mut others).await;
            }
            for other in &others {
                load += other;
            }
            let signals = autoscaler.observe(now, &load);
            telemetry.scaling.set(&signals);
            if self.signals().map(|before| before.desired_replicas) != Some(signals.desired_replicas) {
                tracing::info!(
                    desired = signals.desired_replicas,
                    ready = signals.ready_replicas,
                    reason = ?signals.reason,
                    offered = signals.offered_6s,
                    "servers desired"
                );
            }
            self.signals.send_replace(Some(signals));
        }
    }

    /// Reads what the other servers put up. While the store does not answer, what they put up last counts.
    async fn exchange(&self, board: &dyn LoadBoard, load: &Load, others: &mut Vec<Load>) {
        match board.exchange(&self.server, load, AGE_MAX).await {
            Ok(loads) => *others = loads,
            Err(error) => tracing::debug!(%error, "the other servers' load cannot be read"),
        }
    }

    /// Whether there is reason for more servers than the least.
    fn is_active(&self, signals: &Signals) -> bool {
        signals.desired_replicas > self.config.replicas_min || signals.offered_60s > 0.0
    }
}
