//! Metrics of limits, of the store, of keys, and of where usage records are on their way.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use router::limit::LimitError;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FollowerLabels {
    follower: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// Limits, the store, keys, and the journal with those who follow it: the sums (`shipped`) and the sinks (`sink-…`).
#[derive(Debug, Default)]
pub(crate) struct TenancyMetrics {
    refusals: Family<LimitLabels, Counter>,
    decided_alone: Counter,
    is_left_alone: Gauge,
    rotations_due: Gauge,
    written: Gauge,
    behind: Family<FollowerLabels, Gauge>,
    failures: Family<FollowerLabels, Counter>,
}

impl TenancyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("limits");
        r.register("refusals", "Requests refused by their tenants' limits, by limit", self.refusals.clone());
        r.register(
            "decided_alone",
            "Takes from a limit that this server decided alone, since the store did not answer",
            self.decided_alone.clone(),
        );
        registry.register(
            "store_left_alone",
            "Whether Redis did not answer repeatedly and is left alone for a while",
            self.is_left_alone.clone(),
        );
        registry.register(
            "keys_rotation_due",
            "Keys that are older than keys should become",
            self.rotations_due.clone(),
        );
        let r = registry.sub_registry_with_prefix("usage");
        r.register("journal_records", "Records written to the journal", self.written.clone());
        r.register(
            "journal_records_behind",
            "Records that are in the journal and not yet in the sums or with a sink",
            self.behind.clone(),
        );
        r.register("delivery_failures", "Deliveries that a sink did not take", self.failures.clone());
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, error: &LimitError) {
        self.refusals.get_or_create(&LimitLabels { limit: error.limit() }).inc();
    }

    /// Shows how the store does.
    pub(crate) fn set_store(&self, is_left_alone: bool, decided_alone: u64) {
        self.is_left_alone.set(i64::from(is_left_alone));
        self.decided_alone.inc_by(decided_alone.saturating_sub(self.decided_alone.get()));
    }

    /// Shows how many keys are due to be rotated.
    pub(crate) fn set_rotations_due(&self, keys: usize) {
        self.rotations_due.set(keys as i64);
    }

    /// Shows how far everybody is who follows the journal.
    pub(crate) fn set_journal(&self, written: u64, positions: &BTreeMap<String, u64>) {
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
