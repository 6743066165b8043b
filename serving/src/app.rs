//! The composition root: builds every part once and passes them down. Nothing here is global.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use batching::{DeadlinePolicy, Engine, EngineConfig, PreferredSize, TokenBudget};
use models::{
    CardOverride, Catalog, CatalogConfig, ModelState, OnnxConfig, PoolConfig, PoolError, Progress, Provider,
    Sequence, SequenceOutput, Wanted, WorkPool,
};
use protocols::ServerFacts;
use protocols::containers::ContainerOptions;
use router::scaling::LoadBoard;
use router::{Places, PlacesConfig};
use tokio_util::sync::CancellationToken;
use units::{Clock, MonotonicClock, Tokens};

use crate::build::Build;
use crate::config::{self, Config};
use crate::current_catalog::CurrentCatalog;
use crate::devices::{BatchBounds, Devices, threads};
use crate::lifecycle::{self, Lifecycle, model_config};
use crate::load::{InFlightMax, Load};
use crate::readiness::{HasParts, Readiness};
use crate::reading::ReadingThreads;
use crate::scaling::Scaling;
use crate::secrets::SecretError;
use crate::telemetry::{GpuMonitor, Telemetry};
use crate::tenancy::{Tenancy, TenancyError};
use crate::tls::{Certificates, TlsError};

/// Every part of the running server; shared by all requests.
pub struct App {
    /// What the server was told.
    pub config: Config,
    /// Who may ask, how much and at what price.
    pub tenancy: Arc<Tenancy>,
    /// The models that there are.
    pub catalog: Arc<CurrentCatalog>,
    /// What loads and unloads them.
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// The scheduler and its device threads.
    pub engine: Engine<Sequence, SequenceOutput>,
    /// Threads that tokenise and decode.
    pub pool: WorkPool,
    /// Threads that read long bodies.
    pub(crate) reading: ReadingThreads,
    /// What the calls in flight are predicted to take.
    pub load: Arc<Load>,
    /// Windows of one call that the scheduler has at a time.
    pub call_in_flight_max: InFlightMax,
    pub telemetry: Arc<Telemetry>,
    /// How many servers there should be.
    pub scaling: Arc<Scaling>,
    /// One for each call that may be worked on.
    pub places: Arc<Places>,
    /// One for each gRPC stream of messages that may be open; their messages take places of their own.
    pub stream_places: Arc<Places>,
    /// Cancelled when the server starts to shut down.
    pub stopping: CancellationToken,
    /// Whether requests should be sent here.
    pub readiness: Arc<Readiness>,
    /// What dialects tell of the server.
    pub facts: ServerFacts,
    /// What the contracts with containers are kept with.
    pub containers: ContainerOptions,
}

/// Addresses the server listens on, bound already, so that a caller knows the ports.
pub struct Listeners {
    pub api: TcpListener,
    pub ops: TcpListener,
    /// What the API shows, if it speaks TLS.
    pub certificates: Option<Certificates>,
}

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The models could not be loaded.
    #[error(transparent)]
    Load(#[from] models::LoadError),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] batching::StartError),
    /// A device failed for good while serving. What could be answered was; the process should be replaced.
    #[error("a device was lost; the log says how")]
    DeviceLost,
    /// Not one model is there to serve.
    #[error("no model could be loaded; the log says why for each")]
    NoModels,
    /// The device refused a model.
    #[error(transparent)]
    Device(#[from] models::RuntimeError),
    /// The tenants cannot be served.
    #[error(transparent)]
    Tenancy(#[from] TenancyError),
    /// The key of container platforms cannot be read.
    #[error("protocols.containers_key_file: {0}")]
    ContainersKey(#[from] SecretError),
    /// A thread pool could not be started.
    #[error(transparent)]
    Pool(#[from] models::PoolError),
}

impl Listeners {
    /// Binds both addresses and reads the certificates.
    ///
    /// # Errors
    /// An address is taken or not this machine's; a certificate or key cannot be used.
    pub fn bind(config: &Config) -> Result<Self, ServerError> {
        let bind = |address| {
            let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
            listener.map_err(|source| ServerError::Listen { address, source })
        };
        let certificates = config.tls.as_ref().map(Certificates::load).transpose()?;
        Ok(Self { api: bind(config.listen)?, ops: bind(config.ops_listen)?, certificates })
    }
}

impl App {
    /// Loads the models, starts the engine and opens the tenants' store, whose connections live on `runtime`.
    /// Blocks, so not to be called on it; takes about as long as reading the weights.
    ///
    /// # Errors
    /// See [`ServerError`]. One model that cannot be loaded is not an error: it is listed with the
    /// reason, and the others serve.
    pub fn build(
        config: Config,
        build: &Build,
        progress: &dyn Progress,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Arc<Self>, ServerError> {
        let devices = Devices::open(&config, build.gpu_runtime)?;
        let telemetry = Arc::new(Telemetry::new(build.commit));
        let tenancy = Tenancy::open(&config, build.kafka, telemetry.usage.clone());
        let tenancy = Arc::new(runtime.block_on(tenancy)?);
        let records = Arc::clone(&tenancy.administration.models().borrow());
        let loading = CatalogConfig {
            gpu_runtime: build.gpu_runtime,
            ..catalog_config(&config, devices.card_override())
        };
        let mut catalog = Catalog::load(&as_recorded(&loading, &records), progress)?;
        // Devices are all alike.
        if let Some(device) = devices.first() {
            catalog.verify(device, &config.data_dir, progress);
        }
        log_unready(&catalog);
        if !catalog.models().iter().any(|model| model.is_loaded() || model.state == ModelState::Unloaded) {
            return Err(ServerError::NoModels);
        }
        for model in catalog.models() {
            telemetry.models.add(model.id, &model.card.name);
            telemetry.models.set_loaded(&model.card.name, model.is_loaded());
        }
        let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
        let executors = devices.executors(&catalog)?;
        let engine = engine_config(&config, &catalog, &devices);
        let call_in_flight_max = call_in_flight_max(&config, &devices);
        let engine = Engine::start(engine, executors.all, Arc::clone(&clock), telemetry.engine.clone())?;
        let catalog = CurrentCatalog::new(catalog);
        let redis = tenancy.redis.clone();
        let stopping = CancellationToken::new();
        if let Some(monitor) = GpuMonitor::new(devices.uuids()) {
            runtime.spawn(monitor.run(Arc::clone(&telemetry.gpus), stopping.clone()));
        }
        let scaling = Arc::new(Scaling::new(
            &config.scaling,
            devices.count() as u32,
            redis.map(|store| store as Arc<dyn LoadBoard>),
            tenancy.server.clone(),
        ));
        let others = Arc::clone(&tenancy) as Arc<dyn HasParts>;
        let readiness = Readiness::new(engine.clone(), Arc::clone(&catalog), others, stopping.clone());
        let token_seconds = engine.snapshot().models.into_iter().map(|model| model.token_seconds);
        let load = Load::new(token_seconds, devices.count() as u32, &config.limits);
        let parts = lifecycle::Parts {
            catalog: Arc::clone(&catalog),
            config: loading,
            batching: config.batching.clone(),
            bounds: devices.batch_limits(&config.batching),
            engine: engine.clone(),
            devices: executors.arrivals,
            load: Arc::clone(&load),
            telemetry: Arc::clone(&telemetry),
            tenancy: Arc::clone(&tenancy),
            call_timeout: config.request_timeout(),
        };
        Ok(Arc::new(Self {
            tenancy,
            scaling,
            catalog,
            lifecycle: Lifecycle::new(parts, &records),
            engine,
            pool: WorkPool::new(pool_config(&config), clock)?,
            reading: ReadingThreads::start(threads(0))
                .map_err(|error| PoolError::Start(error.to_string()))?,
            load,
            call_in_flight_max,
            telemetry,
            places: Places::new(places_config(&config)),
            stream_places: Places::new(places_config(&config)),
            containers: config.protocols.container_options()?,
            facts: facts(&config, &devices, build.commit),
            stopping,
            readiness,
            config,
        }))
    }
}

/// Says of each model that does not answer why.
fn log_unready(catalog: &Catalog) {
    for model in catalog.models() {
        if let ModelState::Unavailable { reason } = &model.state {
            tracing::error!(model = %model.card.name, reason, "model unavailable");
        }
    }
    for card in catalog.rejected() {
        tracing::error!(folder = card.name, reason = card.reason, "model card unreadable");
    }
    for model in catalog.unready() {
        tracing::error!(
            model = model.name,
            reason = model.reason,
            "not ready: this model is required (models.<name>.required = false where it is not)"
        );
    }
}

/// The same with models as they were changed while servers ran.
fn as_recorded(config: &CatalogConfig, records: &router::Models) -> CatalogConfig {
    let mut changed = config.clone();
    for record in records.values() {
        if !record.is_wanted {
            changed.unloaded.insert(record.name.clone());
        }
        let Some(Ok(wanted)) = record.checkpoint.as_ref().map(|text| text.parse::<Wanted>()) else {
            continue;
        };
        changed.wanted.retain(|other| other.name() != record.name);
        changed.wanted.push(Wanted { name: Some(record.name.clone()), ..wanted });
    }
    changed
}

fn facts(config: &Config, devices: &Devices, commit: &'static str) -> ServerFacts {
    let BatchBounds { tokens_max, sequences_max } = devices.batch_limits(&config.batching);
    ServerFacts {
        version: env!("CARGO_PKG_VERSION"),
        commit,
        calls_in_flight_max: config.limits.calls_in_flight_max,
        batch_tokens_max: tokens_max as usize,
        batch_sequences_max: sequences_max,
        tokenizer_threads: threads(config.threads.tokenizer),
    }
}

fn places_config(config: &Config) -> PlacesConfig {
    PlacesConfig {
        calls_max: config.limits.calls_in_flight_max,
        bytes_max: config.limits.body_bytes_in_flight_max,
        tenant_share_max: config.limits.tenant_share_max,
    }
}

/// What the catalog needs of the configuration; and what differs from every card, unless the configuration
/// says otherwise.
pub fn catalog_config(config: &Config, all: CardOverride) -> CatalogConfig {
    CatalogConfig {
        cards_dir: config.cards_dir.clone(),
        skips_cards: !config.serve_cards,
        only: None,
        wanted: config.models.iter().filter_map(|(name, model)| model.wanted(name)).collect(),
        data_dir: config.data_dir.clone(),
        offline: config.offline,
        onnx: onnx_config(config),
        gpu_runtime: None,
        unloaded: BTreeSet::new(),
        all,
        defaults: config.defaults.clone(),
        overrides: config.models.iter().map(|(name, model)| (name.clone(), card_override(model))).collect(),
    }
}

fn pool_config(config: &Config) -> PoolConfig {
    let limits = &config.limits;
    PoolConfig {
        threads: threads(config.threads.tokenizer),
        // A request waits for the pool at most twice, and only while it holds a slot.
        waiting_max: limits.calls_in_flight_max,
        waiting_bytes_max: limits.text_bytes_in_flight_max as u64,
        tenant_bytes_max: limits.tenant_text_bytes_in_flight_max as u64,
        slice_bytes: limits.text_slice_bytes as u64,
    }
}

/// Enough windows to fill batches while others are computed; and little enough of the queue for others to
/// find places.
fn call_in_flight_max(config: &Config, devices: &Devices) -> InFlightMax {
    let bounds = &config.batching;
    let batch_sequences_max = devices.batch_limits(bounds).sequences_max;
    let batches = bounds.batches_in_flight_max * devices.count() + 2;
    let default = batch_sequences_max.saturating_mul(batches);
    InFlightMax {
        sequences: bounds
            .call_sequences_in_flight_max
            .unwrap_or(default)
            .min(bounds.queue_sequences_max / 4)
            .max(1),
        tokens: u64::from(bounds.queue_tokens_max) / 4,
    }
}

fn onnx_config(config: &Config) -> OnnxConfig {
    let provider = config.onnx.cuda_device.map_or(Provider::Cpu, |device| Provider::Cuda { device });
    OnnxConfig { library: config.onnx.library.clone(), provider, threads: config.threads.compute }
}

fn card_override(model: &config::Model) -> CardOverride {
    CardOverride {
        runtime: model.runtime,
        dtype: model.dtype,
        p99_target_is_deadline: model.p99_target_is_deadline,
        is_required: model.required,
    }
}

fn policy(bounds: &config::Batching) -> batching::Policy {
    match bounds.policy {
        config::Policy::Deadline => batching::Policy::Deadline(DeadlinePolicy {
            late_wait_max: Duration::from_millis(bounds.late_wait_max_ms),
            ..DeadlinePolicy::default()
        }),
        config::Policy::PreferredSize { sequences, queue_delay_max_ms } => {
            let queue_delay_max = Duration::from_millis(queue_delay_max_ms);
            batching::Policy::PreferredSize(PreferredSize { sequences, queue_delay_max })
        }
        config::Policy::TokenBudget { tokens } => {
            batching::Policy::TokenBudget(TokenBudget { tokens: Tokens(tokens) })
        }
    }
}

fn engine_config(config: &Config, catalog: &Catalog, devices: &Devices) -> EngineConfig {
    let bounds = &config.batching;
    let limits = devices.batch_limits(bounds);
    let models = catalog.models().iter().map(|entry| model_config(bounds, limits, entry)).collect();
    EngineConfig {
        scheduler: batching::Config {
            models,
            devices: devices.count() as u16,
            batches_in_flight_max: bounds.batches_in_flight_max,
            policy: policy(bounds),
        },
        commands_max: bounds.commands_max,
    }
}
