//! Metrics of what there is to scale on.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use router::scaling::Signals;

use super::FloatGauge;

/// The signals as gauges; of all servers together.
#[derive(Debug, Default)]
pub(crate) struct ScalingMetrics {
    desired: Gauge,
    ready: Gauge,
    offered_short: FloatGauge,
    offered_long: FloatGauge,
    offered_expected: FloatGauge,
    queued_time: FloatGauge,
    queued_sequences: Gauge,
    queued_tokens: Gauge,
    drain: FloatGauge,
    shed_ratio: FloatGauge,
    shed: FloatGauge,
    busy: FloatGauge,
    attainment: FloatGauge,
}

impl ScalingMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let r = registry.sub_registry_with_prefix("scaling");
        r.register(
            "desired_replicas",
            "Servers that the autoscaler wants, of all that share a Redis; set replicas to this",
            metrics.desired.clone(),
        );
        r.register("ready_replicas", "Servers that share a Redis and are ready", metrics.ready.clone());
        let offered = [
            (
                "offered_6s",
                "Demand over the last 6 s: device-seconds requested per second, refused work included; 1 keeps one device busy",
                &metrics.offered_short,
            ),
            (
                "offered_60s",
                "Demand over the last 60 s: device-seconds requested per second, refused work included",
                &metrics.offered_long,
            ),
            (
                "offered_expected",
                "Demand forecast for the moment when a server started now would be ready, in device-seconds per second",
                &metrics.offered_expected,
            ),
            (
                "shed_per_second",
                "Sequences per second refused or dropped for want of capacity; above 0, more servers are needed",
                &metrics.shed,
            ),
        ];
        for (name, help, gauge) in offered {
            r.register(name, help, gauge.clone());
        }
        r.register_with_unit(
            "queued_device_time",
            "Predicted device time of the sequences that wait in all servers",
            Unit::Seconds,
            metrics.queued_time.clone(),
        );
        r.register(
            "queued_sequences",
            "Sequences that wait in the queues of all servers",
            metrics.queued_sequences.clone(),
        );
        r.register(
            "queued_tokens",
            "Tokens of the sequences that wait in all servers",
            metrics.queued_tokens.clone(),
        );
        r.register_with_unit(
            "drain",
            "Predicted time until the ready servers have computed what waits",
            Unit::Seconds,
            metrics.drain.clone(),
        );
        let ratios = [
            (
                "shed",
                "Share of the last 6 s' sequences that were refused or dropped for want of capacity",
                &metrics.shed_ratio,
            ),
            (
                "busy",
                "Share of the last 6 s that the devices of ready servers spent computing",
                &metrics.busy,
            ),
            (
                "attainment",
                "Share of the last 10 s' calls answered within their model's p99 target; 1 if there were few",
                &metrics.attainment,
            ),
        ];
        for (name, help, gauge) in ratios {
            r.register_with_unit(name, help, Unit::Ratios, gauge.clone());
        }
        metrics
    }

    /// Shows the newest signals.
    pub(crate) fn set(&self, signals: &Signals) {
        self.desired.set(i64::from(signals.desired_replicas));
        self.ready.set(i64::from(signals.ready_replicas));
        self.offered_short.set(signals.offered_6s);
        self.offered_long.set(signals.offered_60s);
        self.offered_expected.set(signals.offered_expected);
        self.queued_time.set(signals.queued_seconds);
        self.queued_sequences.set(signals.queued_requests as i64);
        self.queued_tokens.set(signals.queued_tokens as i64);
        self.drain.set(signals.drain_seconds);
        self.shed_ratio.set(signals.shed_ratio);
        self.shed.set(signals.shed_per_second);
        self.busy.set(signals.busy_ratio);
        self.attainment.set(signals.attainment.unwrap_or(1.0));
    }
}
