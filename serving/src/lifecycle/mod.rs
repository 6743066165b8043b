//! Models come and go while the server answers.
//!
//! # Design
//! - **What is there** is a [`Catalog`](models::Catalog), which never changes: a change makes another one
//!   ([`CurrentCatalog`]). A call takes the catalog of its moment and keeps to it, so it ends on the version
//!   that it began with.
//! - **One change at a time**, in the order in which they came. Whoever asks for what is there already is
//!   answered at once, so many who ask for the same model have it loaded once.
//! - **Loading** is done by a thread of low priority: files are verified, weights read. Then every device
//!   takes the model in and measures what its batches cost, in the pauses between batches of other models,
//!   which also warms it up, and one sequence goes all the way. Only then is there a catalog with it;
//!   whatever fails before leaves everything as it was.
//! - **A version that goes** is first in no catalog any more; when the last call that has it is over the
//!   scheduler removes it, the devices forget it, and its memory is free.
//! - **How models are to be** is kept beside tenants and keys, with a line in the audit log, and is stored
//!   before a change is seen: all servers that share the store follow, and so does this one when it starts
//!   again.

mod error;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use batching::{Engine, ModelChangeError};
use models::{Arrivals, CatalogConfig, Device, ModelEntry, ModelState, Sequence, SequenceOutput};
use router::accounts::ModelRecord;
use router::{ModelChange, WallTime};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use units::ModelId;

use crate::config;
use crate::current_catalog::CurrentCatalog;
use crate::devices::BatchBounds;
use crate::error::{ApiError, OrRefused};
use crate::load::Load;
use crate::telemetry::Telemetry;
use crate::tenancy::Tenancy;

pub use error::NotLoaded;
pub(crate) use load::model_config;

/// Beyond the longest deadline of a call: time to tell that it has passed.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// How long a change waits before it asks a scheduler again that is busy, and how often.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const BUSY_TRIES: usize = 100;

/// What is to become of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To be there.
    Load {
        /// Where it is, if it has no card: as the option `--model` has it.
        checkpoint: Option<String>,
    },
    /// To be loaded anew, as its card and files are now.
    Reload,
    /// To be gone.
    Unload,
}

/// What changes of models need of the server.
pub(crate) struct Parts {
    pub(crate) catalog: Arc<CurrentCatalog>,
    pub(crate) config: CatalogConfig,
    pub(crate) batching: config::Batching,
    pub(crate) bounds: BatchBounds,
    pub(crate) engine: Engine<Sequence, SequenceOutput>,
    pub(crate) devices: Vec<(Arc<Device>, Arrivals)>,
    pub(crate) load: Arc<Load>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) tenancy: Arc<Tenancy>,
    /// The longest that a call takes.
    pub(crate) call_timeout: Duration,
}

/// Loads and unloads models.
pub(crate) struct Lifecycle {
    parts: Parts,
    /// Taken for a change. What was done last for the record of each model.
    followed: tokio::sync::Mutex<BTreeMap<String, ModelRecord>>,
}

impl Lifecycle {
    /// Of a server that was started with models as these records say.
    pub(crate) fn new(parts: Parts, followed: &BTreeMap<String, ModelRecord>) -> Arc<Self> {
        Arc::new(Self { parts, followed: tokio::sync::Mutex::new(followed.clone()) })
    }

    /// Makes a model what it is to be, on this server and all others, and tells what it is then. Resolves
    /// when what was there before is gone. Goes on if nobody waits for it.
    ///
    /// # Errors
    /// There is no such model, it cannot be loaded, or the store does not answer: nothing is changed.
    pub(crate) async fn change(
        self: &Arc<Self>,
        actor: &str,
        name: &str,
        wish: Wish,
    ) -> Result<Value, ApiError> {
        let (lifecycle, actor, name) = (Arc::clone(self), actor.to_owned(), name.to_owned());
        let changed = tokio::spawn(async move { lifecycle.make(&actor, &name, wish).await });
        changed.await.map_err(ApiError::internal)?
    }

    async fn make(&self, actor: &str, name: &str, wish: Wish) -> Result<Value, ApiError> {
        let mut followed = self.followed.lock().await;
        let before = self.parts.catalog.load().find(name).cloned();
        let told_before = before.as_deref().map_or(Value::Null, view);
        let is_loaded = before.as_ref().is_some_and(|entry| entry.is_loaded());
        let (action, checkpoint) = match wish {
            Wish::Unload => {
                let entry = before.filter(|entry| entry.state != ModelState::Unloaded);
                let Some(entry) = entry else {
                    let is_known = !told_before.is_null();
                    return if is_known { Ok(told_before) } else { Err(ApiError::ModelNotFound) };
                };
                let mut after = told_before.clone();
                after["status"] = json!(ModelState::Unloaded.name());
                let change = ModelChange {
                    action: "model.unload",
                    name: name.to_owned(),
                    is_wanted: false,
                    checkpoint: None,
                    before: told_before,
                    after: after.clone(),
                };
                let record = self.record(actor, &change).await?;
                followed.insert(name.to_owned(), record);
                self.unload(entry).await;
                return Ok(after);
            }
            Wish::Load { checkpoint } => {
                let known = followed.get(name).and_then(|record| record.checkpoint.as_ref());
                if is_loaded && checkpoint.as_ref().is_none_or(|checkpoint| known == Some(checkpoint)) {
                    return Ok(told_before);
                }
                ("model.load", checkpoint)
            }
            Wish::Reload => ("model.reload", None),
        };
        let given = checkpoint.clone().or_else(|| followed.get(name)?.checkpoint.clone());
        drop(before);
        let ready = self.prepare(name, given.as_deref()).await?;
        let after = view(ready.entry());
        let (name, before) = (name.to_owned(), told_before);
        let change = ModelChange { action, name, is_wanted: true, checkpoint, before, after: after.clone() };
        match self.record(actor, &change).await {
            Ok(record) => _ = followed.insert(change.name, record),
            Err(error) => {
                self.discard(ready.entry().id).await;
                return Err(error);
            }
        }
        self.publish(ready).await?;
        Ok(after)
    }

    /// Says for all servers how a model is to be.
    async fn record(&self, actor: &str, change: &ModelChange) -> Result<ModelRecord, ApiError> {
        let administration = &self.parts.tenancy.administration;
        administration.change_model(WallTime::now(), actor, change).await.or_refused()
    }

    /// Follows what other servers change, until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut records = self.parts.tenancy.administration.models();
        // What was changed while this server started is there, too.
        records.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = records.changed() => if changed.is_err() { return },
            }
            let now = Arc::clone(&records.borrow_and_update());
            for record in now.values() {
                self.follow_one(record).await;
            }
        }
    }

    async fn follow_one(&self, record: &ModelRecord) {
        let mut followed = self.followed.lock().await;
        let name = &record.name;
        let done = followed.get(name);
        if done.is_some_and(|done| done.changed_at >= record.changed_at) {
            return;
        }
        let entry = self.parts.catalog.load().find(name).cloned();
        if record.is_wanted {
            drop(entry);
            let made = match self.prepare(name, record.checkpoint.as_deref()).await {
                Ok(ready) => self.publish(ready).await,
                Err(error) => Err(error),
            };
            if let Err(error) = made {
                tracing::error!(model = name, %error, "another server loaded this model, and here it cannot be loaded");
            }
        } else if let Some(entry) = entry {
            self.unload(entry).await;
        }
        // Also what failed: it is tried again when somebody asks for it.
        followed.insert(name.clone(), record.clone());
    }

    /// Takes a model out, and waits until it is gone.
    async fn unload(&self, entry: Arc<ModelEntry>) {
        let Parts { catalog, telemetry, .. } = &self.parts;
        let name = entry.card.name.clone();
        catalog.store(catalog.load().without(entry.id));
        telemetry.models.set_loaded(&name, false);
        self.retire(entry).await;
        tracing::info!(model = name, "model unloaded");
    }

    /// Waits until nobody has a model any more that is in no catalog, and has it forgotten.
    async fn retire(&self, entry: Arc<ModelEntry>) {
        let (id, departure) = (entry.id, entry.departure());
        drop(entry);
        let patience = self.parts.call_timeout + DRAIN_MARGIN;
        if tokio::time::timeout(patience, departure.wait()).await.is_err() {
            tracing::warn!(
                model = id.0,
                "a version is removed that is still referred to after the longest call"
            );
        }
        self.discard(id).await;
    }

    /// Has the scheduler and the devices forget a model.
    async fn discard(&self, model: ModelId) {
        let removed = self.until_not_busy(|engine| engine.remove_model(model)).await;
        if let Err(error) = removed {
            tracing::warn!(model = model.0, %error, "a version was not removed");
        }
    }

    /// Asks the scheduler for a change, again while its channel is full.
    async fn until_not_busy<F>(
        &self,
        ask: impl Fn(&Engine<Sequence, SequenceOutput>) -> F,
    ) -> Result<(), ModelChangeError>
    where
        F: Future<Output = Result<(), ModelChangeError>>,
    {
        for _ in 0..BUSY_TRIES {
            match ask(&self.parts.engine).await {
                Err(ModelChangeError::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                done => return done,
            }
        }
        Err(ModelChangeError::Busy)
    }
}

/// A model as the operator and the audit log are told of it.
pub(crate) fn view(entry: &ModelEntry) -> Value {
    let mut told = json!({
        "name": entry.card.name,
        "version": entry.card.version,
        "status": entry.state.name(),
        "verification": entry.verification.as_str(),
    });
    match &entry.state {
        ModelState::Loaded { digest, .. } => told["digest"] = json!(digest.to_string()),
        ModelState::Unavailable { reason } => told["reason"] = json!(reason),
        ModelState::Unloaded => {}
    }
    told
}
