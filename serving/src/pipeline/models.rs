//! What is served, for whoever may look at it.

use api::{Computed, ModelDirectory, ModelInfo, ModelRepository, Reads, Refusal, Task, Visit};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use models::{ModelEntry, ModelState};
use router::Role;

use super::{Caller, Pipeline, PlaceCharge, authorise};
use crate::error::{ApiError, ErrorKind, OrRefused};
use crate::lifecycle::Wish;

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
        let mut models: Vec<_> = self.0.catalog.load().models().iter().map(|entry| info(entry)).collect();
        models.sort_by(|left, right| left.name.cmp(&right.name));
        models
    }

    fn model(&self, name: &str) -> Option<ModelInfo> {
        self.0.catalog.load().find(name).map(|entry| info(entry))
    }

    fn is_wrapped(&self, model: &str, ids: &[u32]) -> Option<bool> {
        let catalog = self.0.catalog.load();
        catalog.tokenizer(catalog.find(model)?.id).map(|tokenizer| tokenizer.is_wrapped(ids))
    }

    fn busy_fraction(&self) -> f64 {
        let (calls, _) = self.0.places.in_use();
        calls as f64 / self.0.config.limits.calls_in_flight_max.max(1) as f64
    }

    fn default_model(&self, task: Task) -> Option<ModelInfo> {
        self.0.catalog.load().default_for(task).ok().map(|entry| info(entry))
    }
}

impl ModelRepository for Pipeline {
    fn is_managed_by<'a>(&'a self, caller: &'a api::Caller) -> BoxFuture<'a, Result<bool, ApiError>> {
        async move { Ok(self.manager(caller).await?.is_some()) }.boxed()
    }

    fn load<'a>(&'a self, caller: &'a api::Caller, name: &'a str) -> BoxFuture<'a, Result<(), ApiError>> {
        // As Triton has it: what is loaded is loaded anew.
        self.change(caller, name, Wish::Reload).boxed()
    }

    fn unload<'a>(&'a self, caller: &'a api::Caller, name: &'a str) -> BoxFuture<'a, Result<(), ApiError>> {
        self.change(caller, name, Wish::Unload).boxed()
    }
}

impl Pipeline {
    /// How the audit log names the caller, if it may change models.
    async fn manager(&self, caller: &api::Caller) -> Result<Option<String>, ApiError> {
        let (app, caller) = (&self.0, Caller::from(caller.clone()));
        let principal = authorise(&app.tenancy.gatekeeper, &caller, Role::Viewer).await?;
        let tenant = &principal.tenant().name;
        let is_manager = app.config.protocols.model_managers.iter().any(|manager| **manager == **tenant);
        let may = is_manager && principal.has(Role::Admin);
        Ok(may.then(|| format!("{tenant}/{}", principal.key())))
    }

    async fn change(&self, caller: &api::Caller, name: &str, wish: Wish) -> Result<(), ApiError> {
        let manager = self.manager(caller).await?;
        let actor = manager.ok_or_else(|| Refusal {
            kind: ErrorKind::Forbidden,
            message: "models are loaded and unloaded by administrators of the tenants that the configuration names for it \
                      (protocols.model_managers)"
                .to_owned(),
            retry_after: None,
            limit: None,
        })?;
        self.0.lifecycle.change(&actor, name, wish).await.map(|_| ())
    }
}

/// Why a model does not answer that was unloaded, in the word that Open Inference's clients know.
pub(super) const UNLOADED: &str = "unloaded";

fn info(entry: &ModelEntry) -> ModelInfo {
    let computed = match &entry.state {
        &ModelState::Loaded { columns, gives_tokens, .. } => Ok(Computed { columns, gives_tokens }),
        ModelState::Unavailable { reason } => Err(reason.as_str()),
        ModelState::Unloaded => Err(UNLOADED),
    };
    ModelInfo { verification: entry.verification, ..ModelInfo::new(&entry.card, computed) }
}
