//! Listening, readiness and the orderly end.

mod accept;
mod account;
mod activity;
mod answer;
mod connection;
mod descriptors;
mod drain;
mod head;
mod io;
mod request_body;
mod seats;
mod starting;
mod unparsed;
mod unread;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Listeners, ServerError};
use crate::config::Config;
use crate::telemetry::ConnectionCounts;
use crate::telemetry::access::{self, AccessLog};
use crate::tls::{self, Certificates};
use crate::{caller, error, grpc, ops, rest};

pub use account::Account;
pub(crate) use account::WaitingBytes;
pub use drain::{Shutdown, Signals};

use accept::{Port, Routes};
use connection::Protocol;
use head::HeadLimits;
use seats::{SeatBounds, Seats};
use unread::{UnreadAnswers, UnreadBounds};

/// How often gRPC health follows what the parts of the server say of themselves.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

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
    /// Begins to accept. Until [`run`](Self::run) the API says that the server is starting, and operations that it is alive.
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
                drain: drain::Drain::default(),
                unread,
                counts: Arc::clone(&counts),
                seats: Seats::new(SeatBounds { open_max, open_per_address_max, tenant_share_max }),
                tasks: TaskTracker::new(),
                has_remote: AtomicBool::new(false),
                has_warned: AtomicBool::new(false),
            })
        };
        let tls = certificates.as_ref().map(Certificates::acceptor);
        let server = Self {
            api: port("api", tls, starting::api(), (open_max, bounds.open_per_address_max)),
            operations: port("operations", None, starting::operations(), (bounds.operations_open_max, None)),
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

    /// Serves until `shutdown` resolves, then drains: not ready -> wait -> stop accepting -> finish what is in flight -> ship what
    /// was used -> stop the engine. `on_ready` is called once, when the first request would be answered.
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
        let health = grpc::Health::new(&app);
        self.api.routes.open(self.api_routes(&app, &health));
        self.operations.routes.open(every_request(&app, ops::router(Arc::clone(&app)), false));
        if let Some(certificates) = self.certificates.take() {
            tokio::spawn(certificates.follow(app.stopping.clone()));
        }
        app.set_ready(true);
        health.update(&app);
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

    fn api_routes(&self, app: &Arc<App>, health: &grpc::Health) -> Router {
        let api = rest::router(Arc::clone(app)).merge(grpc::router(app, health));
        let api = every_request(app, api, true);
        if self.certificates.is_some() { api.layer(map_response(tls::insist)) } else { api }
    }
}

/// What holds for every request of a port: it has an id, a line in the access log, and a head that is looked at first.
fn every_request(app: &App, routes: Router, is_api: bool) -> Router {
    let access = AccessLog::new(Arc::clone(&app.telemetry), is_api);
    routes
        .layer(from_fn_with_state(HeadLimits::of(&app.config), head::check))
        .layer(from_fn_with_state(access, access::record))
        .layer(from_fn(caller::identify))
}

/// Starts what runs beside requests, and returns it with what tells it that no more records come.
fn background(app: &Arc<App>, health: &grpc::Health) -> (tokio::task::JoinSet<()>, CancellationToken) {
    let ship_until = CancellationToken::new();
    let patience = Duration::from_millis(app.config.shutdown.ship_timeout_ms);
    let mut background = tokio::task::JoinSet::new();
    let (tenancy, stop) = (Arc::clone(app), ship_until.clone());
    background.spawn(async move { tenancy.tenancy.run(&tenancy.telemetry.tenancy, stop, patience).await });
    for sink in app.tenancy.take_sinks() {
        let (app, stop) = (Arc::clone(app), ship_until.clone());
        background.spawn(async move { sink.run(&app, &stop, patience).await });
    }
    let (stop_scaling, scaling) = (app.stopping.clone(), Arc::clone(app));
    tokio::spawn(async move { scaling.scaling.run(&scaling, &stop_scaling).await });
    tokio::spawn(follow_health(Arc::clone(app), health.clone()));
    (background, ship_until)
}

/// Tells health clients what has become of the parts.
async fn follow_health(app: Arc<App>, health: grpc::Health) {
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    while !app.stopping.is_cancelled() {
        ticks.tick().await;
        health.update(&app);
    }
}

/// Resolves when the engine can no longer run batches.
async fn engine_failure(app: &App) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while app.engine.is_healthy() {
        ticks.tick().await;
    }
}
