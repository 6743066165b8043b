//! Models, as labels know them.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use units::ModelId;

/// Names of the models, indexed by [`ModelId`].
#[derive(Debug, Clone)]
pub(super) struct ModelNames(Arc<[String]>);

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) model: String,
}

impl ModelNames {
    /// Registers which of the models answer: `true` for those.
    pub(super) fn register(registry: &mut Registry, models: &[(String, bool)]) -> Self {
        let loaded = Family::<ModelLabels, Gauge>::default();
        let help = "1: the model answers; 0: it does not, and /admin/v1/models says why";
        registry.register("model_loaded", help, loaded.clone());
        for (model, is_loaded) in models {
            let labels = ModelLabels { model: model.clone() };
            loaded.get_or_create(&labels).set(i64::from(*is_loaded));
        }
        Self(models.iter().map(|(name, _)| name.clone()).collect())
    }

    pub(super) fn labels(&self, model: ModelId) -> ModelLabels {
        ModelLabels { model: self.0.get(model.index()).cloned().unwrap_or_default() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = ModelLabels> {
        self.0.iter().map(|model| ModelLabels { model: model.clone() })
    }
}
