//! Metrics of where usage records are on their way.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FollowerLabels {
    follower: String,
}

/// The journal and those who follow it: the sums (`shipped`) and the sinks (`sink-…`).
#[derive(Debug, Default)]
pub(crate) struct SinkMetrics {
    written: Gauge,
    behind: Family<FollowerLabels, Gauge>,
    failures: Family<FollowerLabels, Counter>,
}

impl SinkMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("usage");
        r.register("journal_records", "Records written to the journal", self.written.clone());
        r.register(
            "journal_records_behind",
            "Records that are in the journal and not yet in the sums or with a sink",
            self.behind.clone(),
        );
        r.register("delivery_failures", "Deliveries that a sink did not take", self.failures.clone());
    }

    /// Shows how far everybody is.
    pub(crate) fn set(&self, written: u64, positions: &BTreeMap<String, u64>) {
        self.written.set(written as i64);
        for (follower, next) in positions {
            let labels = FollowerLabels { follower: follower.clone() };
            self.behind.get_or_create(&labels).set(written.saturating_sub(*next) as i64);
        }
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, sink: &str) {
        self.failures.get_or_create(&FollowerLabels { follower: format!("sink-{sink}") }).inc();
    }
}
