//! Metrics of limits, of the store, of keys, and of where usage records are on their way.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use router::ledger::{Journal, ShipperState};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FollowerLabels {
    follower: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// Limits, the store, keys, and the journal with those who follow it: the sums (`shipped`) and the sinks
/// (`sink-…`).
#[derive(Debug, Default)]
pub(crate) struct TenancyMetrics {
    refusals: Family<LimitLabels, Counter>,
    degraded: Counter,
    unreachable: Gauge,
    restorations: Counter,
    unkept: Counter,
    rotations_due: Gauge,
    written: Gauge,
    behind: Family<FollowerLabels, Gauge>,
    failures: Family<FollowerLabels, Counter>,
    is_writable: Gauge,
    damaged: Gauge,
    went_back: Counter,
    incomplete: Gauge,
    lost: Counter,
    missing: Gauge,
    unsound: Gauge,
    faulty_files: Gauge,
}

impl TenancyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("limits");
        r.register("refusals", "Requests refused by their tenants' limits, by limit", self.refusals.clone());
        r.register(
            "degraded",
            "Takes from a limit that this server decided alone, since the store did not answer",
            self.degraded.clone(),
        );
        registry.register(
            "store_unreachable",
            "Whether Redis does not answer and is left alone until it does",
            self.unreachable.clone(),
        );
        registry.register(
            "store_restorations",
            "Times this server gave changes of tenants and keys back to a store that had lost them",
            self.restorations.clone(),
        );
        registry.register(
            "idempotent_answers_unkept",
            "Answers charged that could not be kept under their Idempotency-Key, since the store did not answer",
            self.unkept.clone(),
        );
        registry.register(
            "files_faulty",
            "Files read while the server runs (token, certificates, keys) that cannot be used or do not answer: what was known stays",
            self.faulty_files.clone(),
        );
        registry.register(
            "keys_rotation_due",
            "Keys that are older than keys should become",
            self.rotations_due.clone(),
        );
        let r = registry.sub_registry_with_prefix("usage");
        r.register(
            "journal_records",
            "Records that this process has written to the journal",
            self.written.clone(),
        );
        r.register(
            "journal_writable",
            "Whether records can be written to the journal; without, the server is not ready",
            self.is_writable.clone(),
        );
        r.register(
            "journal_damaged_segments",
            "Damaged segments of the journal that were set aside in the state folder; remove them after having looked at them",
            self.damaged.clone(),
        );
        r.register(
            "sums_went_back",
            "Times that the store turned out to be behind what it had, and records were summed again",
            self.went_back.clone(),
        );
        r.register(
            "sums_incomplete_tenants",
            "Tenants whose sums may lack records that the store lost and the journal no longer has",
            self.incomplete.clone(),
        );
        r.register(
            "sums_lost_records",
            "Records that could not be summed again since the journal is damaged there",
            self.lost.clone(),
        );
        r.register(
            "journal_missing_records",
            "Records of earlier starts that are missing from the journal: segments of it, or ends of them, are gone",
            self.missing.clone(),
        );
        r.register(
            "sums_changed",
            "Days of tenants whose sums somebody else changed, and which this server's journal alone cannot mend",
            self.unsound.clone(),
        );
        r.register(
            "journal_records_behind",
            "Records that are in the journal and not yet in the sums or with a sink",
            self.behind.clone(),
        );
        r.register("delivery_failures", "Deliveries that a sink did not take", self.failures.clone());
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, limit: &'static str) {
        self.refusals.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Shows how the store does.
    pub(crate) fn set_store(&self, is_unreachable: bool, decided_alone: u64) {
        self.unreachable.set(i64::from(is_unreachable));
        self.degraded.inc_by(decided_alone.saturating_sub(self.degraded.get()));
    }

    /// Shows what the store lost or did not take, as counted since the start.
    pub(crate) fn set_losses(&self, restorations: u64, unkept: u64) {
        self.restorations.inc_by(restorations.saturating_sub(self.restorations.get()));
        self.unkept.inc_by(unkept.saturating_sub(self.unkept.get()));
    }

    /// Shows how many files cannot be used.
    pub(crate) fn set_faulty_files(&self, files: usize) {
        self.faulty_files.set(files as i64);
    }

    /// Shows how many keys are due to be rotated.
    pub(crate) fn set_rotations_due(&self, keys: usize) {
        self.rotations_due.set(keys as i64);
    }

    /// Shows how the journal does, and how far everybody is who follows it.
    pub(crate) fn set_journal(&self, journal: &Journal, positions: &BTreeMap<String, u64>) {
        self.written.set(journal.records() as i64);
        self.is_writable.set(i64::from(journal.health().is_ok()));
        self.damaged.set(journal.damaged_segments() as i64);
        self.missing.set(journal.missing() as i64);
        for (follower, next) in positions {
            let labels = FollowerLabels { follower: follower.clone() };
            self.behind.get_or_create(&labels).set(journal.records_from(*next) as i64);
        }
    }

    /// Shows whether the sums are what they were.
    pub(crate) fn set_shipping(&self, state: &ShipperState) {
        self.went_back.inc_by(state.went_back().saturating_sub(self.went_back.get()));
        self.incomplete.set(state.incomplete() as i64);
        self.unsound.set(state.unsound() as i64);
        self.lost.inc_by(state.lost().saturating_sub(self.lost.get()));
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, sink: &str) {
        self.failures.get_or_create(&FollowerLabels { follower: format!("sink-{sink}") }).inc();
    }
}
