//! Metrics and logs, in one place: everything else emits events and knows no counter.
//!
//! Names follow the Prometheus conventions: base units, `_total` for counters (appended by the
//! encoder). Labels have few values: model, protocol, code. What tells of a tenant is in `tenants`, for the operator alone.

pub(crate) mod access;
mod connections;
mod exposition;
mod foreign;
mod gpus;
mod log_queue;
mod logs;
mod process;
mod repeats;
mod scaling;
mod tenancy;
mod tenants;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use batching::{Event, Observer, Snapshot};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use router::scaling::Ends;
use router::{UsageObserver, UsageRecord};
use units::ModelId;

pub use access::Access;
pub(crate) use connections::ConnectionCounts;
use connections::ConnectionMetrics;
pub(crate) use exposition::{Format, answer};
use gpus::GpuMetrics;
pub(crate) use gpus::GpuMonitor;
pub use log_queue::{flush_logs, tell};
pub use logs::init_logs;
pub(crate) use logs::without_panics_logged;
use scaling::ScalingMetrics;
pub(crate) use tenancy::TenancyMetrics;
use tenants::TenantMetrics;

/// Every metric of the process. Reads events of the engine and of the router; the pipeline tells it
/// how requests ended.
pub struct Telemetry {
    registry: Registry,
    /// What every process has, under names without ours.
    process: Registry,
    /// Names of the models, indexed by [`ModelId`].
    models: Vec<String>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<TaskLabels, Histogram, Buckets>,
    requests_in_flight: Gauge,
    targets: Family<TargetLabels, Counter>,
    /// The same, of all models.
    ends: Mutex<Ends>,
    /// What there is to scale on.
    pub(crate) scaling: ScalingMetrics,
    /// Limits, keys, and where usage records are.
    pub(crate) tenancy: TenancyMetrics,
    /// Connections, and what calls hold.
    pub(crate) connections: ConnectionMetrics,
    /// What the GPUs do.
    pub(crate) gpus: Arc<GpuMetrics>,
    tokenization: Family<ModelLabels, Histogram, Buckets>,
    decoding: Family<ModelLabels, Histogram, Buckets>,
    queue_delay: Family<ModelLabels, Histogram, Buckets>,
    queue_requests: Family<ModelLabels, Gauge>,
    queue_tokens: Family<ModelLabels, Gauge>,
    queue_ended: Family<EndLabels, Counter>,
    queue_oldest_wait: Family<ModelLabels, FloatGauge>,
    queue_time: Family<ModelLabels, FloatGauge>,
    drain: FloatGauge,
    device_busy: Family<DeviceLabels, FloatGauge>,
    device_lost: Family<DeviceLabels, Gauge>,
    prediction_error: Family<BatchLabels, FloatGauge>,
    batch_sequences: Family<ModelLabels, Histogram, Buckets>,
    batch_tokens: Family<ModelLabels, Histogram, Buckets>,
    batch_duration: Family<ModelLabels, Histogram, Buckets>,
    batch_failures: Family<ModelLabels, Counter>,
    model_loaded: Family<ModelLabels, Gauge>,
    inputs_refused: Family<InputErrorLabels, Counter>,
    usage_inputs: Family<UsageLabels, Counter>,
    usage_tokens: Family<UsageLabels, Counter>,
    /// What each tenant uses, for the operator alone.
    pub(crate) tenants: TenantMetrics,
}

/// How one request ended, as the pipeline saw it.
#[derive(Debug, Clone, Copy)]
pub struct RequestEnd<'a> {
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// The task asked for.
    pub task: &'static str,
    /// The model, once it was found.
    pub model: &'a str,
    /// `ok`, or the error code.
    pub code: &'a str,
    /// Whether it met its model's target.
    pub timeliness: Timeliness,
    /// From the first byte read to the answer made.
    pub duration: Duration,
}

/// Whether a request met its model's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeliness {
    /// It was answered within it.
    InTime,
    /// It was answered later, or refused or ended for want of capacity.
    Late,
    /// It was refused for want of capacity before the scheduler saw it.
    TurnedAway,
    /// It says nothing of the service's capacity.
    Irrelevant,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetLabels {
    model: String,
    result: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    task: &'static str,
    model: String,
    code: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabels {
    protocol: &'static str,
    task: &'static str,
    model: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeviceLabels {
    device: u64,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BatchLabels {
    model: String,
    device: u64,
}

/// A gauge of seconds or of a ratio.
type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndLabels {
    model: String,
    reason: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InputErrorLabels {
    model: String,
    code: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UsageLabels {
    model: String,
    outcome: &'static str,
}

/// Upper bounds of a histogram's buckets.
#[derive(Clone, Copy)]
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
const SEQUENCES: Buckets = Buckets(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
const TOKENS: Buckets =
    Buckets(&[8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 65536.0]);

impl Telemetry {
    /// Metrics for these models, named in the order of their [`ModelId`]s; `true` for the loaded ones.
    pub fn new(models: &[(String, bool)]) -> Self {
        let mut telemetry = Self {
            registry: Registry::with_prefix("ml_inference"),
            process: Registry::with_prefix("process"),
            models: models.iter().map(|(name, _)| name.clone()).collect(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(SECONDS),
            requests_in_flight: Gauge::default(),
            targets: Family::default(),
            ends: Mutex::default(),
            scaling: ScalingMetrics::default(),
            tenancy: TenancyMetrics::default(),
            connections: ConnectionMetrics::default(),
            gpus: Arc::default(),
            tokenization: Family::new_with_constructor(SECONDS),
            decoding: Family::new_with_constructor(SECONDS),
            queue_delay: Family::new_with_constructor(SECONDS),
            queue_requests: Family::default(),
            queue_tokens: Family::default(),
            queue_ended: Family::default(),
            queue_oldest_wait: Family::default(),
            queue_time: Family::default(),
            drain: FloatGauge::default(),
            device_busy: Family::default(),
            device_lost: Family::default(),
            prediction_error: Family::default(),
            batch_sequences: Family::new_with_constructor(SEQUENCES),
            batch_tokens: Family::new_with_constructor(TOKENS),
            batch_duration: Family::new_with_constructor(SECONDS),
            batch_failures: Family::default(),
            model_loaded: Family::default(),
            inputs_refused: Family::default(),
            usage_inputs: Family::default(),
            usage_tokens: Family::default(),
            tenants: TenantMetrics::new(),
        };
        telemetry.register();
        for (model, is_loaded) in models {
            let labels = ModelLabels { model: model.clone() };
            telemetry.model_loaded.get_or_create(&labels).set(i64::from(*is_loaded));
            telemetry.queue_requests.get_or_create(&labels).set(0);
            telemetry.queue_tokens.get_or_create(&labels).set(0);
        }
        telemetry
    }

    /// Counts the end of a request.
    pub fn request_ended(&self, end: RequestEnd<'_>) {
        let RequestEnd { protocol, task, model, code, timeliness, duration } = end;
        self.ended_in_time(model, timeliness);
        let (model, code) = (model.to_owned(), code.to_owned());
        let labels = TaskLabels { protocol, task, model: model.clone() };
        self.requests.get_or_create(&RequestLabels { protocol, task, model, code }).inc();
        self.request_duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    fn ended_in_time(&self, model: &str, timeliness: Timeliness) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match timeliness {
            Timeliness::InTime => {
                ends.in_time += 1;
                "met"
            }
            Timeliness::Late => {
                ends.late += 1;
                "missed"
            }
            Timeliness::TurnedAway => {
                ends.late += 1;
                ends.turned_away += 1;
                "missed"
            }
            Timeliness::Irrelevant => return,
        };
        self.targets.get_or_create(&TargetLabels { model: model.to_owned(), result }).inc();
    }

    /// How requests ended so far, as far as that tells of the service's capacity.
    pub fn ends(&self) -> Ends {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn request_started(&self) -> InFlight {
        self.requests_in_flight.inc();
        InFlight(self.requests_in_flight.clone())
    }

    /// Records how long a request's texts took to become tokens.
    pub fn tokenized(&self, model: ModelId, duration: Duration) {
        self.tokenization.get_or_create(&self.model(model)).observe(duration.as_secs_f64());
    }

    /// Records how long a request's tensors took to become an answer.
    pub fn decoded(&self, model: ModelId, duration: Duration) {
        self.decoding.get_or_create(&self.model(model)).observe(duration.as_secs_f64());
    }

    /// Counts an input that has an error in the place of a result.
    pub(crate) fn input_refused(&self, model: ModelId, code: &'static str) {
        let ModelLabels { model } = self.model(model);
        self.inputs_refused.get_or_create(&InputErrorLabels { model, code }).inc();
    }

    /// Takes over what waits and runs at present.
    pub fn observe(&self, snapshot: &Snapshot) {
        for (index, queue) in snapshot.models.iter().enumerate() {
            let labels = self.model(ModelId(index as u16));
            self.queue_oldest_wait.get_or_create(&labels).set(queue.oldest_wait.as_secs_f64());
            self.queue_time.get_or_create(&labels).set(queue.queued_time.as_secs_f64());
        }
        for (device, state) in (0..).zip(&snapshot.devices) {
            let labels = DeviceLabels { device };
            self.device_busy.get_or_create(&labels).set(state.busy_for.as_secs_f64());
            self.device_lost.get_or_create(&labels).set(i64::from(state.is_lost));
            for (index, error) in state.prediction_errors.iter().enumerate() {
                let ModelLabels { model } = self.model(ModelId(index as u16));
                self.prediction_error.get_or_create(&BatchLabels { model, device }).set(*error);
            }
        }
        self.drain.set(snapshot.drain.as_secs_f64());
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// Only if writing to a string fails.
    pub(crate) fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        exposition::encode(&[&self.registry, &self.process], format)
    }

    fn model(&self, model: ModelId) -> ModelLabels {
        let name = self.models.get(usize::from(model.0));
        ModelLabels { model: name.cloned().unwrap_or_default() }
    }

    fn ended(&self, model: ModelId, reason: &'static str) {
        let ModelLabels { model } = self.model(model);
        self.queue_ended.get_or_create(&EndLabels { model, reason }).inc();
    }

    fn register(&mut self) {
        self.scaling.register(&mut self.registry);
        self.tenancy.register(&mut self.registry);
        self.connections.register(&mut self.registry);
        self.gpus.register(&mut self.registry);
        self.process.register_collector(Box::new(process::ProcessCollector));
        let r = &mut self.registry;
        let build =
            Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("commit", env!("ML_INFERENCE_COMMIT"))]);
        r.register("build", "The running build", build);
        r.register("log_lines_dropped", "Log lines that could not be written in time", log_queue::dropped());
        r.register(
            "log_lines_left_out",
            "Warnings and errors that were counted instead of logged, since they repeated",
            logs::LEFT_OUT.clone(),
        );
        r.register("requests", "Calls by how they ended", self.requests.clone());
        r.register_with_unit(
            "request_duration",
            "From the request's arrival to its answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        r.register("requests_in_flight", "Requests being worked on", self.requests_in_flight.clone());
        r.register(
            "request_targets",
            "Requests by whether they met their model's p99 target; refused for want of capacity is missed",
            self.targets.clone(),
        );
        r.register_with_unit(
            "tokenization_duration",
            "From texts to tokens, for each request",
            Unit::Seconds,
            self.tokenization.clone(),
        );
        r.register_with_unit(
            "decoding_duration",
            "From tensors to an answer, for each request",
            Unit::Seconds,
            self.decoding.clone(),
        );
        r.register_with_unit(
            "queue_delay",
            "From a sequence's arrival at the scheduler to its batch",
            Unit::Seconds,
            self.queue_delay.clone(),
        );
        r.register("queue_requests", "Sequences waiting", self.queue_requests.clone());
        r.register("queue_tokens", "Tokens waiting", self.queue_tokens.clone());
        r.register(
            "queue_departures",
            "Sequences that left without being computed, by reason",
            self.queue_ended.clone(),
        );
        r.register_with_unit(
            "queue_oldest_wait",
            "How long the oldest waiting sequence has waited",
            Unit::Seconds,
            self.queue_oldest_wait.clone(),
        );
        r.register_with_unit(
            "queue_device_time",
            "Device time that what waits is predicted to take",
            Unit::Seconds,
            self.queue_time.clone(),
        );
        r.register_with_unit(
            "drain",
            "How long all that waits and runs is predicted to take all devices",
            Unit::Seconds,
            self.drain.clone(),
        );
        r.register_with_unit(
            "device_busy",
            "How long what a device holds is predicted to take yet",
            Unit::Seconds,
            self.device_busy.clone(),
        );
        r.register("device_lost", "Whether a device is gone", self.device_lost.clone());
        r.register_with_unit(
            "batch_prediction_error",
            "Mean relative error of the predicted batch durations of late",
            Unit::Ratios,
            self.prediction_error.clone(),
        );
        r.register("batch_sequences", "Sequences in a batch", self.batch_sequences.clone());
        r.register("batch_tokens", "Tokens in a batch", self.batch_tokens.clone());
        r.register_with_unit(
            "batch_duration",
            "Time a device took for a batch",
            Unit::Seconds,
            self.batch_duration.clone(),
        );
        r.register("batch_failures", "Batches that failed", self.batch_failures.clone());
        r.register("model_loaded", "Whether a model answers", self.model_loaded.clone());
        r.register(
            "inputs_refused",
            "Inputs answered with an error of their own in calls with on_error = partial, by error code",
            self.inputs_refused.clone(),
        );
        r.register("usage_inputs", "Inputs of admitted requests, by outcome", self.usage_inputs.clone());
        r.register("usage_tokens", "Tokens of admitted requests, by outcome", self.usage_tokens.clone());
    }
}

/// A request in flight; ends when dropped.
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Observer for Telemetry {
    fn on_event(&self, event: &Event) {
        match *event {
            Event::Enqueued { .. } => {}
            Event::Rejected { model, reason } => self.ended(model, reason.name()),
            Event::Cancelled { model } => self.ended(model, "cancelled"),
            Event::Expired { model } => self.ended(model, "expired"),
            Event::Shed { model } => self.ended(model, "shed"),
            Event::Requeued { model } => {
                tracing::warn!(model = self.model(model).model, "sequence of a lost device queued again");
            }
            Event::Dequeued { model, queue_delay } => {
                self.queue_delay.get_or_create(&self.model(model)).observe(queue_delay.as_secs_f64());
            }
            Event::Dispatched { model, sequences, tokens, .. } => {
                let labels = self.model(model);
                self.batch_sequences.get_or_create(&labels).observe(sequences as f64);
                self.batch_tokens.get_or_create(&labels).observe(f64::from(tokens.0));
            }
            Event::Completed { model, compute, .. } => {
                self.batch_duration.get_or_create(&self.model(model)).observe(compute.as_secs_f64());
            }
            Event::Failed { model, device, is_fatal, ref reason } => {
                let labels = self.model(model);
                tracing::error!(model = labels.model, device = device.0, is_fatal, reason, "batch failed");
                self.batch_failures.get_or_create(&labels).inc();
            }
            Event::Queue { model, sequences, tokens } => {
                let labels = self.model(model);
                self.queue_requests.get_or_create(&labels).set(sequences as i64);
                self.queue_tokens.get_or_create(&labels).set(i64::from(tokens.0));
            }
        }
    }
}

impl UsageObserver for Telemetry {
    fn on_usage(&self, record: &UsageRecord) {
        let labels = UsageLabels { model: record.model.to_string(), outcome: record.outcome.name() };
        self.tenants.used(record);
        self.usage_inputs.get_or_create(&labels).inc_by(record.inputs);
        self.usage_tokens.get_or_create(&labels).inc_by(record.tokens);
        tracing::debug!(
            request_id = %record.request_id,
            tenant = %record.tenant,
            key = %record.key,
            model = %record.model,
            version = %record.version,
            inputs = record.inputs,
            tokens = record.tokens,
            outcome = record.outcome.name(),
            price_micro_usd = record.price.0,
            "usage"
        );
    }
}
