//! Loading a model beside others that are used, and warming it up.

use std::sync::Arc;

use batching::{Failure, ModelConfig};
use models::{
    Arrivals, Candidate, Catalog, CatalogConfig, Device, ModelEntry, Newcomer, NoProgress, Sequence, Wanted,
};
use units::{ModelId, Priority, TenantId, Timestamp, Tokens};

use super::{BUSY_PAUSE, BUSY_TRIES, Lifecycle, NotLoaded, Parts};
use crate::config::Batching;
use crate::devices::BatchBounds;
use crate::error::{ApiError, TableError};

/// Niceness of the thread that loads: a core that computes answers is not taken from them.
const NICENESS: i32 = 10;
/// Whose the first sequence of a model is, beside all tenants.
const NOBODY: TenantId = TenantId(u32::MAX);

/// A model that is warm, and in no catalog yet.
pub(super) struct Ready(Newcomer);

impl Ready {
    pub(super) fn entry(&self) -> &Arc<ModelEntry> {
        self.0.entry()
    }
}

impl Lifecycle {
    /// Loads a model and warms it up. Nobody sees it yet.
    pub(super) async fn prepare(&self, name: &str, checkpoint: Option<&str>) -> Result<Ready, ApiError> {
        let Parts { catalog, config, devices, .. } = &self.parts;
        let wanted = checkpoint.map(|text| wanted(name, text)).transpose()?;
        let (catalog, config, name) = (catalog.load(), config.clone(), name.to_owned());
        let on: Vec<Arc<Device>> = devices.iter().map(|(device, _)| Arc::clone(device)).collect();
        let newcomer = on_own_thread(move || read(&catalog, &config, &name, wanted, &on)).await?;
        let newcomer = newcomer.map_err(TableError::refused)?;
        self.warm_up(newcomer.entry()).await?;
        Ok(Ready(newcomer))
    }

    /// Puts a model on all devices, has them measure it, and has one sequence computed.
    async fn warm_up(&self, entry: &Arc<ModelEntry>) -> Result<(), ApiError> {
        let Parts { devices, engine, telemetry, load, batching, bounds, .. } = &self.parts;
        let id = entry.id;
        telemetry.models.add(id, &entry.card.name);
        for (_, arrivals) in devices {
            arrivals.add(Arc::clone(entry));
        }
        let config = model_config(batching, *bounds, entry);
        let added = self.until_not_busy(|engine| engine.add_model(id, config.clone())).await;
        let refusal = devices.iter().find_map(|(_, arrivals): &(_, Arrivals)| arrivals.refusal(id));
        let warm = match (added, refusal) {
            (Err(error), _) => Err(NotLoaded::Engine(error)),
            (Ok(()), Some(refusal)) => Err(NotLoaded::Device(refusal)),
            (Ok(()), None) => self.compute_one(id).await,
        };
        if let Err(error) = warm {
            self.discard(id).await;
            return Err(error.refused());
        }
        let measured = engine.snapshot().models.get(id.index()).map_or(0.0, |model| model.token_seconds);
        load.add_model(id, measured);
        Ok(())
    }

    /// Has a model compute something, however busy the devices are.
    async fn compute_one(&self, model: ModelId) -> Result<(), NotLoaded> {
        let engine = &self.parts.engine;
        for _ in 0..BUSY_TRIES {
            let first = batching::Sequence {
                model,
                tenant: NOBODY,
                weight: 1,
                priority: Priority::Critical,
                tokens: Tokens(1),
                deadline: Timestamp::MAX,
                payload: Sequence::new(vec![0]),
            };
            let done = match engine.submit(first) {
                Ok(ticket) => ticket.await,
                Err(rejection) => Err(Failure::Rejected(rejection)),
            };
            match done {
                Ok(_) => return Ok(()),
                Err(Failure::Rejected(_)) => tokio::time::sleep(BUSY_PAUSE).await,
                Err(failure) => return Err(NotLoaded::Compute(failure.to_string())),
            }
        }
        Err(NotLoaded::Compute("the devices were busy all the time".to_owned()))
    }

    /// Lets calls have a model from now on, and waits until the one in whose place it is has gone.
    pub(super) async fn publish(&self, Ready(newcomer): Ready) -> Result<(), ApiError> {
        let Parts { catalog, config, telemetry, .. } = &self.parts;
        let (now, id) = (catalog.load(), newcomer.entry().id);
        let (name, version) = (newcomer.entry().card.name.clone(), newcomer.entry().card.version.clone());
        // Only this changes it, so what was checked before holds.
        let changed = match now.with(config, &newcomer) {
            Ok(changed) => changed,
            Err(error) => {
                self.discard(id).await;
                return Err(NotLoaded::from(error).refused());
            }
        };
        let before = now.find(&name).cloned();
        catalog.store(changed);
        telemetry.models.set_loaded(&name, true);
        tracing::info!(model = name, version, "model loaded");
        drop((now, newcomer));
        if let Some(before) = before {
            self.retire(before).await;
        }
        Ok(())
    }
}

/// A checkpoint as the option `--model` has it, under this name.
fn wanted(name: &str, checkpoint: &str) -> Result<Wanted, ApiError> {
    let invalid = |problem| ApiError::InvalidRequest { field: "checkpoint".to_owned(), problem };
    let wanted: Wanted =
        checkpoint.parse().map_err(|error: models::WantedError| invalid(error.to_string()))?;
    match wanted.name {
        Some(other) if other != name => {
            Err(invalid(format!("its name is {other:?}, and that of the model {name:?}")))
        }
        _ => Ok(Wanted { name: Some(name.to_owned()), ..wanted }),
    }
}

/// Reads a model, and checks that devices have room for it.
fn read(
    catalog: &Catalog,
    config: &CatalogConfig,
    name: &str,
    wanted: Option<Wanted>,
    devices: &[Arc<Device>],
) -> Result<Newcomer, NotLoaded> {
    let candidate: Candidate = catalog.candidate(config, name, wanted)?;
    let newcomer = catalog.load_one(config, candidate, &NoProgress)?;
    for device in devices {
        newcomer.entry().plan(device).map_err(|error| NotLoaded::Room(error.to_string()))?;
    }
    // Devices are all alike.
    match devices.first() {
        Some(device) => Ok(catalog.verify_newcomer(config, newcomer, device)?),
        None => Ok(newcomer),
    }
}

/// Does what takes time on a thread of low priority.
async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let run = move || {
        // Of this thread alone, as Linux has it; where it is refused the load is only less polite.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("model-load".to_owned()).spawn(run).map_err(ApiError::internal)?;
    outcome.await.map_err(ApiError::internal)
}

/// What the scheduler is told of a model.
pub(crate) fn model_config(batching: &Batching, bounds: BatchBounds, entry: &ModelEntry) -> ModelConfig {
    ModelConfig {
        batch_tokens_max: Tokens(bounds.tokens_max.max(entry.card.limits.tokens_max as u32)),
        batch_sequences_max: bounds.sequences_max,
        queue_sequences_max: batching.queue_sequences_max,
        queue_tokens_max: Tokens(batching.queue_tokens_max),
        latency_target: entry.card.p99_target,
        is_target_hard: entry.card.p99_target_is_deadline,
        attention: entry.hidden_size().map_or(0.0, |hidden| 1.0 / (6.0 * hidden as f64)),
    }
}
