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
    pub(super) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("scaling");
        r.register("desired_replicas", "Servers that there should be", self.desired.clone());
        r.register("ready_replicas", "Servers that are ready", self.ready.clone());
        let offered = [
            (
                "offered_6s",
                "Device seconds asked for by the second, refused ones included, in 6 s",
                &self.offered_short,
            ),
            ("offered_60s", "The same in 60 s", &self.offered_long),
            (
                "offered_expected",
                "The same as expected when a server asked for now is ready",
                &self.offered_expected,
            ),
            (
                "shed_per_second",
                "Sequences refused or dropped for want of capacity, by the second",
                &self.shed,
            ),
        ];
        for (name, help, gauge) in offered {
            r.register(name, help, gauge.clone());
        }
        r.register_with_unit(
            "queued_device_time",
            "Device time that waits",
            Unit::Seconds,
            self.queued_time.clone(),
        );
        r.register("queued_sequences", "Sequences that wait", self.queued_sequences.clone());
        r.register("queued_tokens", "Tokens that wait", self.queued_tokens.clone());
        r.register_with_unit(
            "drain",
            "How long the ready servers need for what waits",
            Unit::Seconds,
            self.drain.clone(),
        );
        let ratios = [
            ("shed", "Share of the sequences of 6 s that were refused or dropped", &self.shed_ratio),
            ("busy", "Share of the ready devices' time of 6 s that was computed", &self.busy),
            (
                "attainment",
                "Share of the requests of 10 s that were in time; 1 if there were few",
                &self.attainment,
            ),
        ];
        for (name, help, gauge) in ratios {
            r.register_with_unit(name, help, Unit::Ratios, gauge.clone());
        }
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
