//! Listening, readiness and the orderly end.

mod accept;
mod account;
mod activity;
mod answer;
mod connection;
mod descriptors;
mod drain;
mod head;
mod holder;
mod io;
mod metered_body;
mod port;
mod protocol;
mod request_body;
mod seats;
mod starting;
mod unparsed;
mod unread;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use api::{ApiError, Inference, ModelRepository};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use protocols::grpc::{Health, Serving};
use protocols::v1::rest;
use protocols::{Bounds, Services};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::administration::OwnAdministration;
use crate::app::{App, Listeners, ServerError};
use crate::config::Config;
use crate::ops::Operations;
use crate::pipeline::Pipeline;
use crate::scaling::LoadSource;
use crate::telemetry::ConnectionCounts;
use crate::telemetry::access::{self, AccessLog};
use crate::tls::{self, Certificates};
use crate::{administration, caller, docs, error, ops};

pub use account::Account;
pub(crate) use account::WaitingBytes;
pub use drain::{Shutdown, Signals};

use head::{HeadLimits, Refuse};
use port::{Drain, Port, Routes};
use protocol::Protocol;
use seats::{SeatBounds, Seats};
use unread::{UnreadAnswers, UnreadBounds};

/// How often gRPC health follows what the parts of the server say of themselves.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// Whom a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortKind {
    /// Callers, in the protocol of each.
    Api,
    /// Operators, in the one of our own.
    Operations,
}

/// Both ports, from before the models are loaded to the end.
pub struct Server {
    api: Arc<Port>,
    operations: Arc<Port>,
    certificates: Option<Certificates>,
    counts: Arc<ConnectionCounts>,
}

/// Serves until `shutdown` resolves. See [`Server::run`].
///
/// # Errors
/// A listener cannot be used, or a device was lost: the process should exit and be replaced.
pub async fn run(
    app: Arc<App>,
    listeners: Listeners,
    on_ready: impl FnOnce(),
    shutdown: impl Future<Output = Shutdown>,
) -> Result<(), ServerError> {
    Server::open(listeners, &app.config)?.run(app, on_ready, shutdown).await
}

impl Server {
    /// Begins to accept. Until [`run`](Self::run) the API says that the server is starting, and operations
    /// that it is alive.
    ///
    /// # Errors
    /// A listener cannot be used.
    pub fn open(listeners: Listeners, config: &Config) -> Result<Self, ServerError> {
        let Listeners { api, ops, certificates } = listeners;
        if let Ok(address) = api.local_addr() {
            error::set_docs_url(config.docs_url(address));
        }
        let bounds = &config.connections;
        let open_max =
            descriptors::for_api(descriptors::raise(), bounds.open_max, bounds.operations_open_max);
        let counts = Arc::new(ConnectionCounts::default());
        let tenant_share_max = config.limits.tenant_share_max;
        let port = |name, tls, starting, (open_max, open_per_address_max)| {
            let unread = UnreadAnswers::new(UnreadBounds {
                tenants_max: bounds.unread_answer_bytes_total_max,
                tenant_share_max,
                anonymous_max: bounds.unread_answer_bytes_anonymous_max,
            });
            counts.watch_unread(name, unread.total());
            Arc::new(Port {
                name,
                tls,
                protocol: Protocol::new(bounds),
                routes: Routes::new(starting),
                drain: Drain::default(),
                unread,
                counts: Arc::clone(&counts),
                seats: Seats::new(SeatBounds { open_max, open_per_address_max, tenant_share_max }),
                tasks: TaskTracker::new(),
                has_remote: AtomicBool::new(false),
                has_warned: AtomicBool::new(false),
            })
        };
        let (tls, dialects) =
            (certificates.as_ref().map(Certificates::acceptor), config.protocols.dialects());
        let server = Self {
            api: port("api", tls, starting::api(dialects), (open_max, bounds.open_per_address_max)),
            operations: port(
                "operations",
                None,
                starting::operations(dialects),
                (bounds.operations_open_max, None),
            ),
            certificates,
            counts: Arc::clone(&counts),
        };
        for (port, listener, address) in
            [(&server.api, api, config.listen), (&server.operations, ops, config.ops_listen)]
        {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| ServerError::Listen { address, source })?;
            tokio::spawn(Arc::clone(port).accept(listener));
        }
        Ok(server)
    }

    /// Serves until `shutdown` resolves, then drains: not ready -> wait -> stop accepting -> finish what is
    /// in flight -> ship what was used -> stop the engine. `on_ready` is called once, when the first request
    /// would be answered.
    ///
    /// # Errors
    /// A device was lost: the process should exit and be replaced.
    pub async fn run(
        mut self,
        app: Arc<App>,
        on_ready: impl FnOnce(),
        shutdown: impl Future<Output = Shutdown>,
    ) -> Result<(), ServerError> {
        app.telemetry.watch_connections(&self.counts);
        let health = Health::new(&serving(&app));
        self.api.routes.open(self.api_routes(&app, &health));
        self.operations.routes.open(every_request(&app, ops::router(operations(&app)), PortKind::Operations));
        if let Some(certificates) = self.certificates.take() {
            let faults = app.tenancy.file_faults.clone();
            tokio::spawn(certificates.follow(faults, app.stopping.clone()));
        }
        app.readiness.set_listening(true);
        health.update(&serving(&app));
        on_ready();
        let (mut background, ship_until) = background(&app, &health);
        let why = tokio::select! {
            shutdown = shutdown => shutdown,
            () = engine_failure(&app) => {
                tracing::error!("a device failed for good; shutting down");
                Shutdown::Orchestrated
            }
        };
        self.drain(&app, &health, why).await;
        // Every request was answered: what they used is shipped, and nothing more comes.
        ship_until.cancel();
        let patience = Duration::from_millis(app.config.shutdown.ship_timeout_ms);
        let shipped = async {
            while let Some(ended) = background.join_next().await {
                if ended.is_err() {
                    tracing::error!("shipping of usage records ended badly");
                }
            }
        };
        if tokio::time::timeout(patience, shipped).await.is_err() {
            tracing::warn!(
                "usage records or events were not all delivered; they will be after the next start"
            );
            background.abort_all();
        }
        let engine = app.engine.clone();
        // Joins threads, so not on a runtime thread.
        if tokio::task::spawn_blocking(move || engine.shutdown()).await.is_err() {
            tracing::error!("the engine's shutdown panicked");
        }
        tracing::info!("stopped");
        if app.engine.is_healthy() { Ok(()) } else { Err(ServerError::DeviceLost) }
    }

    fn api_routes(&self, app: &Arc<App>, health: &Health) -> Router {
        let pipeline = Arc::new(Pipeline::new(Arc::clone(app)));
        let services = Services {
            inference: Arc::clone(&pipeline) as Arc<dyn Inference>,
            repository: Arc::clone(&pipeline) as Arc<dyn ModelRepository>,
            models: pipeline,
            bounds: bounds(&app.config),
            server: app.facts,
            dialects: app.config.protocols.dialects(),
            containers: app.containers.clone(),
            stopping: app.stopping.clone(),
        };
        let routes = protocols::routes(&services, health)
            .merge(administration::routes(own_administration(app)))
            .merge(docs::router(services.dialects));
        let api = every_request(app, rest::refusing(services.dialects, routes), PortKind::Api);
        let api = protocols::containers::at_their_paths(api, &app.containers);
        if self.certificates.is_some() { api.layer(map_response(tls::insist)) } else { api }
    }
}

/// How much is read of a call.
fn bounds(config: &Config) -> Bounds {
    Bounds {
        body_bytes_max: config.limits.body_bytes_max,
        body_timeout: config.request_timeout(),
        dialect_inputs_max: config.protocols.inputs_max,
        token_vectors_max: config.protocols.token_vectors_max,
    }
}

/// What tenants manage themselves is given of the server.
fn own_administration(app: &App) -> OwnAdministration {
    OwnAdministration {
        tenancy: Arc::clone(&app.tenancy),
        places: Arc::clone(&app.places),
        bounds: bounds(&app.config),
        body_timeout: app.config.connections.body_timeout(),
    }
}

/// What operations are given of the server.
fn operations(app: &App) -> Operations {
    Operations {
        telemetry: Arc::clone(&app.telemetry),
        synonyms: app.config.protocols.metric_synonyms(),
        engine: app.engine.clone(),
        catalog: Arc::clone(&app.catalog),
        lifecycle: Arc::clone(&app.lifecycle),
        tenancy: Arc::clone(&app.tenancy),
        scaling: Arc::clone(&app.scaling),
        readiness: Arc::clone(&app.readiness),
        places: Arc::clone(&app.places),
        stream_places: Arc::clone(&app.stream_places),
        bounds: bounds(&app.config),
        dialects: app.config.protocols.dialects(),
        stopping: app.stopping.clone(),
    }
}

/// What the autoscaler reads.
fn load_source(app: &App) -> LoadSource {
    LoadSource {
        engine: app.engine.clone(),
        telemetry: Arc::clone(&app.telemetry),
        readiness: Arc::clone(&app.readiness),
        catalog: Arc::clone(&app.catalog),
    }
}

/// What serves, as health clients are told.
fn serving(app: &App) -> Serving {
    let is_serving = app.readiness.is_serving();
    let catalog = app.catalog.load();
    let models =
        catalog.models().iter().map(|model| (model.card.name.clone(), is_serving && model.is_loaded()));
    let services = protocols::grpc_services(app.config.protocols.dialects());
    Serving { is_ready: app.readiness.is_ready(), services, models: models.collect() }
}

/// What holds for every request of a port: it has an id, a line in the access log, and a head that is looked
/// at first.
fn every_request(app: &App, routes: Router, port: PortKind) -> Router {
    let dialects = app.config.protocols.dialects();
    let access = AccessLog::new(Arc::clone(&app.telemetry), port == PortKind::Api, dialects);
    let refuse: Refuse = match port {
        PortKind::Api => {
            Arc::new(move |error: &ApiError, request: &Request| protocols::refuse(dialects, error, request))
        }
        PortKind::Operations => Arc::new(rest::refuse_request),
    };
    routes
        .layer(from_fn_with_state((HeadLimits::of(&app.config), refuse), head::check))
        .layer(from_fn_with_state(access, access::record))
        .layer(from_fn(caller::identify))
}

/// Starts what runs beside requests, and returns it with what tells it that no more records come.
fn background(app: &Arc<App>, health: &Health) -> (tokio::task::JoinSet<()>, CancellationToken) {
    let ship_until = CancellationToken::new();
    let patience = Duration::from_millis(app.config.shutdown.ship_timeout_ms);
    let mut background = tokio::task::JoinSet::new();
    let (tenancy, telemetry, stop) =
        (Arc::clone(&app.tenancy), Arc::clone(&app.telemetry), ship_until.clone());
    background.spawn(async move { tenancy.run(&telemetry.tenancy, stop, patience).await });
    for sink in app.tenancy.take_sinks() {
        let (gatekeeper, telemetry) = (app.tenancy.gatekeeper.clone(), Arc::clone(&app.telemetry));
        let stop = ship_until.clone();
        background.spawn(async move { sink.run(&gatekeeper, &telemetry.tenancy, &stop, patience).await });
    }
    let (stop_scaling, scaling, source) = (app.stopping.clone(), Arc::clone(&app.scaling), load_source(app));
    tokio::spawn(async move { scaling.run(source, &stop_scaling).await });
    tokio::spawn(Arc::clone(&app.lifecycle).follow(app.stopping.clone()));
    tokio::spawn(follow_health(Arc::clone(app), health.clone()));
    (background, ship_until)
}

/// Tells health clients what has become of the parts.
async fn follow_health(app: Arc<App>, health: Health) {
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    while !app.stopping.is_cancelled() {
        ticks.tick().await;
        health.update(&serving(&app));
    }
}

/// Resolves when the engine can no longer run batches.
async fn engine_failure(app: &App) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while app.engine.is_healthy() {
        ticks.tick().await;
    }
}
