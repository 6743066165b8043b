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
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let r = registry.sub_registry_with_prefix("limits");
        r.register(
            "refusals",
            "Calls refused because a limit of the tenant's plan is reached, by limit",
            metrics.refusals.clone(),
        );
        r.register(
            "degraded",
            "Decisions on limits made without the store, which did not answer; tenancy.outage says how",
            metrics.degraded.clone(),
        );
        registry.register(
            "store_unreachable",
            "1: Redis does not answer; calls do without it and a probe waits for its return",
            metrics.unreachable.clone(),
        );
        registry.register(
            "store_restorations",
            "Times that the store had lost tenants or keys and this server wrote them back; check the store's persistence",
            metrics.restorations.clone(),
        );
        registry.register(
            "idempotent_answers_unkept",
            "Charged answers not stored under their Idempotency-Key because the store did not answer; a repeat is charged again",
            metrics.unkept.clone(),
        );
        registry.register(
            "files_faulty",
            "Files read while the server runs (token, certificates, keys) that cannot be used or do not answer: what was known stays",
            metrics.faulty_files.clone(),
        );
        registry.register(
            "keys_rotation_due",
            "API keys older than tenancy.key_rotation_days",
            metrics.rotations_due.clone(),
        );
        metrics.register_usage(registry.sub_registry_with_prefix("usage"));
        metrics
    }

    /// The journal, the sums, and those who follow.
    fn register_usage(&self, r: &mut Registry) {
        r.register(
            "journal_records",
            "Usage records that this process has written to the journal on its disk",
            self.written.clone(),
        );
        r.register(
            "journal_writable",
            "0: the journal cannot be written, as on a full disk, and the server is not ready",
            self.is_writable.clone(),
        );
        r.register(
            "journal_damaged_segments",
            "Damaged segments of the journal that were set aside in the state folder; remove them after having looked at them",
            self.damaged.clone(),
        );
        r.register(
            "sums_went_back",
            "Times that the store was found set back to an earlier state, and usage was summed again from the journal",
            self.went_back.clone(),
        );
        r.register(
            "sums_incomplete_tenants",
            "Tenants whose bills may be too low: the store lost records that the journal no longer has",
            self.incomplete.clone(),
        );
        r.register(
            "sums_lost_records",
            "Usage records missing from the bills because the journal is damaged where they were",
            self.lost.clone(),
        );
        r.register(
            "journal_missing_records",
            "Usage records of earlier starts that are gone from the journal: a segment or the end of one was removed",
            self.missing.clone(),
        );
        r.register(
            "sums_changed",
            "Tenants' days whose sums were changed by somebody else; `ml-inference usage verify` names them",
            self.unsound.clone(),
        );
        r.register(
            "journal_records_behind",
            "Usage records not yet in the sums (follower shipped) or not yet delivered to a sink; growing means it is down",
            self.behind.clone(),
        );
        r.register(
            "delivery_failures",
            "Deliveries that a sink or the store refused; each is tried again",
            self.failures.clone(),
        );
    }

    pub(crate) fn refused(&self, limit: &'static str) {
        self.refusals.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Shows how the store does.
    pub(crate) fn set_store(&self, is_unreachable: bool, limits_degraded: u64) {
        self.unreachable.set(i64::from(is_unreachable));
        self.degraded.inc_by(limits_degraded.saturating_sub(self.degraded.get()));
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

    pub(crate) fn failed(&self, sink: &str) {
        self.failures.get_or_create(&FollowerLabels { follower: format!("sink-{sink}") }).inc();
    }
}
