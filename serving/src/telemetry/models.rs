//! Models, as labels know them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use units::ModelId;

/// Names of the models, by their numbers. Versions of a model have one name.
#[derive(Debug, Clone)]
pub(crate) struct ModelNames {
    /// Indexed by [`ModelId`].
    names: Arc<ArcSwap<Vec<Arc<str>>>>,
    loaded: Family<ModelLabels, Gauge>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ModelLabels {
    pub(super) model: String,
}

impl ModelNames {
    /// Registers which of the models answer.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let loaded = Family::<ModelLabels, Gauge>::default();
        let help = "1: the model answers; 0: it does not, and /admin/v1/models says why";
        registry.register("model_loaded", help, loaded.clone());
        Self { names: Arc::default(), loaded }
    }

    /// One more model, or one more version of one.
    pub(crate) fn add(&self, model: ModelId, name: &str) {
        self.names.rcu(|names| {
            let mut names = Vec::clone(names);
            names.resize(names.len().max(model.index() + 1), Arc::from(""));
            names[model.index()] = Arc::from(name);
            names
        });
    }

    /// Whether a model answers from now on.
    pub(crate) fn set_loaded(&self, name: &str, is_loaded: bool) {
        let labels = ModelLabels { model: name.to_owned() };
        self.loaded.get_or_create(&labels).set(i64::from(is_loaded));
    }

    pub(super) fn labels(&self, model: ModelId) -> ModelLabels {
        ModelLabels {
            model: self.names.load().get(model.index()).map_or_else(String::new, ToString::to_string),
        }
    }
}
