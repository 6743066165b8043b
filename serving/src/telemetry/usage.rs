//! Metrics of what is used, model by model; tenant by tenant in [`super::tenants`].

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use router::{UsageObserver, UsageRecord};

use super::tenants::TenantMetrics;

/// What admitted calls used.
pub(crate) struct UsageMetrics {
    inputs: Family<UsageLabels, Counter>,
    tokens: Family<UsageLabels, Counter>,
    /// What each tenant uses, for the operator alone.
    pub(crate) tenants: TenantMetrics,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UsageLabels {
    model: String,
    outcome: &'static str,
}

impl UsageMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { inputs: Family::default(), tokens: Family::default(), tenants: TenantMetrics::new() };
        registry.register("usage_inputs", "Inputs of admitted calls, by outcome", metrics.inputs.clone());
        registry.register("usage_tokens", "Tokens of admitted calls, by outcome", metrics.tokens.clone());
        metrics
    }
}

impl UsageObserver for UsageMetrics {
    fn on_usage(&self, record: &UsageRecord) {
        let labels = UsageLabels { model: record.model.to_string(), outcome: record.outcome.name() };
        self.tenants.used(record);
        self.inputs.get_or_create(&labels).inc_by(record.inputs);
        self.tokens.get_or_create(&labels).inc_by(record.tokens);
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
