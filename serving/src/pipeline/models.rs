//! What is served, for whoever may look at it.

use api::{Computed, ModelDirectory, ModelInfo, Reads, Task, Visit};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use models::{ModelEntry, ModelState};
use router::Role;

use super::{Caller, Pipeline, PlaceCharge, authorise};
use crate::error::{ApiError, OrRefused};

impl ModelDirectory for Pipeline {
    fn visit<'a>(&'a self, caller: &'a api::Caller, reads: Reads) -> BoxFuture<'a, Result<Visit, ApiError>> {
        async move {
            let (app, caller) = (&self.0, Caller::from(caller.clone()));
            let principal = authorise(&app.tenancy.gatekeeper, &caller, Role::Viewer).await?;
            if reads == Reads::Head {
                return Ok(Visit(None));
            }
            let place = app.places.take(&principal).or_refused()?;
            caller.body.admit(PlaceCharge(place.meter()), app.config.connections.body_timeout());
            Ok(Visit(Some(Box::new(place))))
        }
        .boxed()
    }

    fn models(&self) -> Vec<ModelInfo> {
        self.0.catalog.models().iter().map(info).collect()
    }

    fn model(&self, name: &str) -> Option<ModelInfo> {
        self.0.catalog.find(name).map(info)
    }

    fn is_wrapped(&self, model: &str, ids: &[u32]) -> Option<bool> {
        let catalog = &self.0.catalog;
        catalog.tokenizer(catalog.find(model)?.id).map(|tokenizer| tokenizer.is_wrapped(ids))
    }

    fn busy_fraction(&self) -> f64 {
        let (calls, _) = self.0.places.in_use();
        calls as f64 / self.0.config.limits.calls_in_flight_max.max(1) as f64
    }

    fn default_model(&self, task: Task) -> Option<ModelInfo> {
        self.0.catalog.default_for(task).ok().map(info)
    }
}

fn info(entry: &ModelEntry) -> ModelInfo {
    let computed = match &entry.state {
        &ModelState::Loaded { columns, gives_tokens, .. } => Ok(Computed { columns, gives_tokens }),
        ModelState::Unavailable { reason } => Err(reason.as_str()),
    };
    ModelInfo { verification: entry.verification, ..ModelInfo::new(&entry.card, computed) }
}
