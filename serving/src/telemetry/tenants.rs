//! Metrics of each tenant: what it uses, what that costs, and which limits refuse it. They have a registry of
//! their own, since they are the operator's business and not that of everybody who may look at `/metrics`.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use router::UsageRecord;

use super::exposition::{self, Format};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UsageLabels {
    tenant: String,
    model: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    tenant: String,
    limit: &'static str,
}

pub(crate) struct TenantMetrics {
    registry: Registry,
    inputs: Family<UsageLabels, Counter>,
    tokens: Family<UsageLabels, Counter>,
    cost: Family<UsageLabels, Counter<f64, AtomicU64>>,
    refusals: Family<LimitLabels, Counter>,
}

impl TenantMetrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("ml_inference_tenant");
        let (inputs, tokens, cost) = (Family::default(), Family::default(), Family::default());
        let refusals = Family::default();
        registry.register(
            "usage_inputs",
            "Inputs of a tenant's admitted calls, by outcome",
            Family::clone(&inputs),
        );
        registry.register(
            "usage_tokens",
            "Tokens of a tenant's admitted calls, by outcome",
            Family::clone(&tokens),
        );
        registry.register(
            "usage_cost_usd",
            "What a tenant's completed calls cost, in US dollars",
            Family::clone(&cost),
        );
        registry.register(
            "limits_refusals",
            "Calls refused because a limit of the tenant's plan is reached, by limit",
            Family::clone(&refusals),
        );
        Self { registry, inputs, tokens, cost, refusals }
    }

    pub(super) fn used(&self, record: &UsageRecord) {
        let labels = UsageLabels {
            tenant: record.tenant.to_string(),
            model: record.model.to_string(),
            outcome: record.outcome.name(),
        };
        self.inputs.get_or_create(&labels).inc_by(record.inputs);
        self.tokens.get_or_create(&labels).inc_by(record.tokens);
        // Exact sums live in the records; the metric is a display of them, so a float will do.
        self.cost.get_or_create(&labels).inc_by(record.price.0 as f64 / 1e6);
    }

    pub(crate) fn refused(&self, tenant: &str, limit: &'static str) {
        self.refusals.get_or_create(&LimitLabels { tenant: tenant.to_owned(), limit }).inc();
    }

    /// All of them as text.
    ///
    /// # Errors
    /// Only if writing to a string fails.
    pub(crate) fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        exposition::encode(&[&self.registry], |_| Ok(()), format)
    }
}
