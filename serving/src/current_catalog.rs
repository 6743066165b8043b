//! The models of the moment: a change puts another catalog in the place of the one before.

use std::sync::Arc;

use arc_swap::ArcSwap;
use models::Catalog;

/// The models of this moment.
pub struct CurrentCatalog(ArcSwap<Catalog>);

impl CurrentCatalog {
    pub(crate) fn new(catalog: Catalog) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(catalog)))
    }

    /// Puts another in its place.
    pub(crate) fn store(&self, changed: Catalog) {
        self.0.store(Arc::new(changed));
    }

    /// What is there now. Whoever has it keeps all of its models.
    pub fn load(&self) -> Arc<Catalog> {
        self.0.load_full()
    }
}
