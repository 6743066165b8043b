//! Metrics and logs, in one place: everything else emits events and knows no counter.
//!
//! Names follow the Prometheus conventions: base units, `_total` for counters (appended by the encoder).
//! Labels have few values: model, protocol, code. What tells of a tenant is in `tenants`, for the operator
//! alone.

pub(crate) mod access;
mod calls;
mod connections;
mod engine;
mod exposition;
mod foreign;
mod gpus;
mod log_queue;
mod logs;
mod models;
mod process;
mod repeats;
mod scaling;
mod synonyms;
mod tenancy;
mod tenants;
mod usage;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use access::Access;
pub use calls::{CallEnd, EndCode, Timeliness};
pub(crate) use calls::{CallMetrics, InFlight};
pub(crate) use connections::ConnectionCounts;
use connections::ConnectionMetrics;
pub(crate) use engine::EngineMetrics;
pub(crate) use exposition::{Format, answer};
use gpus::GpuMetrics;
pub(crate) use gpus::GpuMonitor;
pub use log_queue::{flush_logs, tell};
pub use logs::init_logs;
pub(crate) use logs::without_panics_logged;
use models::ModelNames;
use scaling::ScalingMetrics;
pub use synonyms::Synonyms;
pub(crate) use tenancy::TenancyMetrics;
pub(crate) use usage::UsageMetrics;

/// Every metric of the process, by component: each registers its own, and is told what it counts.
pub struct Telemetry {
    registry: Registry,
    /// What every process has, under names without ours.
    process: Registry,
    /// Which models there are, and which answer.
    pub(crate) models: ModelNames,
    /// How calls end; told by the pipeline.
    pub(crate) calls: CallMetrics,
    /// Queues, batches and devices; told by the engine.
    pub(crate) engine: Arc<EngineMetrics>,
    /// What was used; told by the router.
    pub(crate) usage: Arc<UsageMetrics>,
    /// What there is to scale on.
    pub(crate) scaling: ScalingMetrics,
    /// Limits, keys, and where usage records are.
    pub(crate) tenancy: TenancyMetrics,
    /// Connections, and what calls hold.
    pub(crate) connections: ConnectionMetrics,
    /// What the GPUs do.
    pub(crate) gpus: Arc<GpuMetrics>,
}

/// A gauge of seconds or of a ratio.
type FloatGauge = Gauge<f64, AtomicU64>;

/// Upper bounds of a histogram's buckets.
#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Half a millisecond to half a minute; dense around the p99 targets of 20, 30, 50, 80 and 500 ms.
const SECONDS: Buckets = Buckets(&[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0,
    5.0, 10.0, 30.0,
]);

impl Telemetry {
    /// Metrics of a server without models yet.
    pub fn new(commit: &'static str) -> Self {
        let (mut registry, mut process) =
            (Registry::with_prefix("ml_inference"), Registry::with_prefix("process"));
        process.register_collector(Box::new(process::ProcessCollector));
        let r = &mut registry;
        register_build(commit, r);
        let models = ModelNames::register(r);
        let calls = CallMetrics::register(r, models.clone());
        let engine = Arc::new(EngineMetrics::register(r, models.clone()));
        let usage = Arc::new(UsageMetrics::register(r));
        let scaling = ScalingMetrics::register(r);
        let tenancy = TenancyMetrics::register(r);
        let connections = ConnectionMetrics::register(r);
        let gpus = Arc::new(GpuMetrics::register(r));
        Self { registry, process, models, calls, engine, usage, scaling, tenancy, connections, gpus }
    }

    /// All metrics as text, also under the names of other servers.
    ///
    /// # Errors
    /// Only if writing to a string fails.
    pub(crate) fn encode(&self, synonyms: Synonyms, format: Format) -> Result<String, std::fmt::Error> {
        exposition::encode(&[&self.registry, &self.process], |text| synonyms.write(text), format)
    }
}

fn register_build(commit: &'static str, registry: &mut Registry) {
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("commit", commit)]);
    registry.register("build", "The running build", build);
    registry.register(
        "log_lines_dropped",
        "Log lines lost because standard error could not take them in time",
        log_queue::dropped(),
    );
    registry.register(
        "log_lines_left_out",
        "Warnings and errors that were counted instead of logged, since they repeated",
        logs::LEFT_OUT.clone(),
    );
}
