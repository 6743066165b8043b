//! Metrics of queues, batches and devices: what the engine tells.

use std::collections::BTreeMap;

use batching::{Event, ModelSnapshot, Observer, Snapshot};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use units::ModelId;

use super::models::{ModelLabels, ModelNames};
use super::{Buckets, FloatGauge, SECONDS};

const SEQUENCES: Buckets = Buckets(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
const TOKENS: Buckets =
    Buckets(&[8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 65536.0]);

/// What waits, what runs, and how well batches are predicted.
#[derive(Debug)]
pub(crate) struct EngineMetrics {
    names: ModelNames,
    queue: QueueMetrics,
    batches: BatchMetrics,
    device_busy: Family<DeviceLabels, FloatGauge>,
    device_lost: Family<DeviceLabels, Gauge>,
    drain: FloatGauge,
}

#[derive(Debug)]
struct QueueMetrics {
    sequences: Family<ModelLabels, Gauge>,
    tokens: Family<ModelLabels, Gauge>,
    delay: Family<ModelLabels, Histogram, Buckets>,
    departures: Family<DepartureLabels, Counter>,
    oldest_wait: Family<ModelLabels, FloatGauge>,
    device_time: Family<ModelLabels, FloatGauge>,
}

#[derive(Debug)]
struct BatchMetrics {
    sequences: Family<ModelLabels, Histogram, Buckets>,
    tokens: Family<ModelLabels, Histogram, Buckets>,
    duration: Family<ModelLabels, Histogram, Buckets>,
    prediction_error: Family<BatchLabels, FloatGauge>,
    failures: Family<ModelLabels, Counter>,
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

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DepartureLabels {
    model: String,
    reason: &'static str,
}

impl QueueMetrics {
    fn register(r: &mut Registry) -> Self {
        let metrics = Self {
            sequences: Family::default(),
            tokens: Family::default(),
            delay: Family::new_with_constructor(SECONDS),
            departures: Family::default(),
            oldest_wait: Family::default(),
            device_time: Family::default(),
        };
        r.register("queue_sequences", "Sequences waiting for a device", metrics.sequences.clone());
        r.register("queue_tokens", "Tokens of the sequences waiting for a device", metrics.tokens.clone());
        r.register_with_unit(
            "queue_delay",
            "Time from a sequence's arrival at the scheduler to its batch",
            Unit::Seconds,
            metrics.delay.clone(),
        );
        r.register(
            "queue_departures",
            "Sequences that left the queue, or were refused a place in it, without being computed, by reason",
            metrics.departures.clone(),
        );
        r.register_with_unit(
            "queue_oldest_wait",
            "Age of the oldest waiting sequence",
            Unit::Seconds,
            metrics.oldest_wait.clone(),
        );
        r.register_with_unit(
            "queue_device_time",
            "Device time that the waiting sequences are predicted to take",
            Unit::Seconds,
            metrics.device_time.clone(),
        );
        metrics
    }
}

impl BatchMetrics {
    fn register(r: &mut Registry) -> Self {
        let metrics = Self {
            sequences: Family::new_with_constructor(SEQUENCES),
            tokens: Family::new_with_constructor(TOKENS),
            duration: Family::new_with_constructor(SECONDS),
            prediction_error: Family::default(),
            failures: Family::default(),
        };
        r.register("batch_sequences", "Sequences in a batch", metrics.sequences.clone());
        r.register("batch_tokens", "Tokens in a batch", metrics.tokens.clone());
        r.register_with_unit(
            "batch_duration",
            "Time that a device took to compute a batch",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        r.register_with_unit(
            "batch_prediction_error",
            "Recent mean relative error of predicted batch durations; above 0.5, calls are refused or accepted wrongly",
            Unit::Ratios,
            metrics.prediction_error.clone(),
        );
        r.register("batch_failures", "Batches that failed; the log says how", metrics.failures.clone());
        metrics
    }
}

impl EngineMetrics {
    pub(super) fn register(r: &mut Registry, names: ModelNames) -> Self {
        let metrics = Self {
            queue: QueueMetrics::register(r),
            batches: BatchMetrics::register(r),
            device_busy: Family::default(),
            device_lost: Family::default(),
            drain: FloatGauge::default(),
            names,
        };
        r.register_with_unit(
            "device_busy",
            "Predicted seconds until the device finishes its batches",
            Unit::Seconds,
            metrics.device_busy.clone(),
        );
        let help = "1: the device failed for good; the server finishes on the others and exits";
        r.register("device_lost", help, metrics.device_lost.clone());
        r.register_with_unit(
            "drain",
            "Predicted seconds until all queued and running work is computed",
            Unit::Seconds,
            metrics.drain.clone(),
        );
        metrics
    }

    /// Takes over what waits and runs at present.
    pub(crate) fn observe(&self, snapshot: &Snapshot) {
        // While one version takes over from another both may have a queue.
        let mut queues: BTreeMap<String, ModelSnapshot> = BTreeMap::new();
        for (index, version) in (0..).zip(&snapshot.models) {
            let queue = queues.entry(self.names.labels(ModelId(index)).model).or_default();
            queue.queued_sequences += version.queued_sequences;
            queue.queued_tokens += version.queued_tokens;
            queue.queued_time += version.queued_time;
            queue.oldest_wait = queue.oldest_wait.max(version.oldest_wait);
        }
        for (model, queue) in queues {
            let labels = ModelLabels { model };
            self.queue.sequences.get_or_create(&labels).set(queue.queued_sequences as i64);
            self.queue.tokens.get_or_create(&labels).set(i64::from(queue.queued_tokens.0));
            self.queue.oldest_wait.get_or_create(&labels).set(queue.oldest_wait.as_secs_f64());
            self.queue.device_time.get_or_create(&labels).set(queue.queued_time.as_secs_f64());
        }
        for (device, state) in (0..).zip(&snapshot.devices) {
            let labels = DeviceLabels { device };
            self.device_busy.get_or_create(&labels).set(state.busy_for.as_secs_f64());
            self.device_lost.get_or_create(&labels).set(i64::from(state.is_lost));
            for (index, error) in (0..).zip(&state.prediction_errors) {
                let ModelLabels { model } = self.names.labels(ModelId(index));
                self.batches.prediction_error.get_or_create(&BatchLabels { model, device }).set(*error);
            }
        }
        self.drain.set(snapshot.drain.as_secs_f64());
    }

    fn departed(&self, model: ModelId, reason: &'static str) {
        let ModelLabels { model } = self.names.labels(model);
        self.queue.departures.get_or_create(&DepartureLabels { model, reason }).inc();
    }
}

impl Observer for EngineMetrics {
    fn on_event(&self, event: &Event) {
        let labels = |model| self.names.labels(model);
        match *event {
            Event::Enqueued { .. } => {}
            Event::Rejected { model, reason } => self.departed(model, reason.name()),
            Event::Cancelled { model } => self.departed(model, "cancelled"),
            Event::Expired { model } => self.departed(model, "expired"),
            Event::Shed { model } => self.departed(model, "shed"),
            Event::Requeued { model } => {
                tracing::warn!(model = labels(model).model, "sequence of a lost device queued again");
            }
            Event::Dequeued { model, queue_delay } => {
                self.queue.delay.get_or_create(&labels(model)).observe(queue_delay.as_secs_f64());
            }
            Event::Dispatched { model, sequences, tokens, .. } => {
                let labels = labels(model);
                self.batches.sequences.get_or_create(&labels).observe(sequences as f64);
                self.batches.tokens.get_or_create(&labels).observe(f64::from(tokens.0));
            }
            Event::Completed { model, compute, .. } => {
                self.batches.duration.get_or_create(&labels(model)).observe(compute.as_secs_f64());
            }
            Event::Failed { model, device, is_fatal, ref reason } => {
                let labels = labels(model);
                tracing::error!(model = labels.model, device = device.0, is_fatal, reason, "batch failed");
                self.batches.failures.get_or_create(&labels).inc();
            }
        }
    }
}
