//! Listening, readiness and the orderly end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum_server::Handle;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Listeners, ServerError};
use crate::telemetry::access::{self, AccessLog};
use crate::tls::{Certificates, TlsAcceptor};
use crate::{caller, grpc, ops, rest, tls};

/// Serves until `shutdown` resolves, then drains: not ready -> wait -> stop accepting -> finish what is in flight ->
/// stop the engine. `on_ready` is called once, when the first request would be answered.
///
/// # Errors
/// A listener cannot be used, or a device was lost: the process should exit and be replaced.
pub async fn run(
    app: Arc<App>,
    listeners: Listeners,
    on_ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let health = grpc::Health::new(&app).await;
    let api = rest::router(Arc::clone(&app)).merge(grpc::router(&app, &health));
    let access = AccessLog::new(Arc::clone(&app.telemetry), true);
    let api = api.layer(from_fn_with_state(access, access::record));
    let api = api.layer(from_fn(caller::identify));
    let (api_handle, ops_handle) = (Handle::new(), Handle::new());
    let Listeners { api: api_listener, ops: ops_listener, certificates } = listeners;
    let acceptor = certificates.as_ref().map(Certificates::acceptor);
    let api = if acceptor.is_some() { api.layer(map_response(tls::insist)) } else { api };
    let api_server = serve(api_listener, api, api_handle.clone(), app.config.listen, acceptor)?;
    let ops = ops::router(Arc::clone(&app));
    let ops_server = serve(ops_listener, ops, ops_handle.clone(), app.config.ops_listen, None)?;
    if let Some(certificates) = certificates {
        tokio::spawn(certificates.follow(app.stopping.clone()));
    }
    let servers = tokio::spawn(async move { tokio::join!(api_server, ops_server) });

    app.set_ready(true);
    health.update(&app).await;
    on_ready();
    let (ship_until, tenancy) = (CancellationToken::new(), Arc::clone(&app));
    let patience = Duration::from_millis(app.config.shutdown.drain_timeout_ms);
    let stop_tenancy = ship_until.clone();
    let mut background = tokio::task::JoinSet::new();
    background
        .spawn(async move { tenancy.tenancy.run(&tenancy.telemetry.tenancy, stop_tenancy, patience).await });
    for sink in app.tenancy.take_sinks() {
        let (app, stop) = (Arc::clone(&app), ship_until.clone());
        background.spawn(async move { sink.run(&app, &stop, patience).await });
    }
    let (stop_scaling, scaling) = (app.stopping.clone(), Arc::clone(&app));
    tokio::spawn(async move { scaling.scaling.run(&scaling, &stop_scaling).await });
    tokio::select! {
        () = shutdown => {}
        () = engine_failure(&app) => tracing::error!("a device failed for good; shutting down"),
    }
    stop(&app, &health, &api_handle, &ops_handle).await;
    match servers.await {
        Ok((api, ops)) => {
            for (address, result) in [(app.config.listen, api), (app.config.ops_listen, ops)] {
                result.map_err(|source| ServerError::Listen { address, source })?;
            }
        }
        Err(error) => tracing::error!(%error, "a server task ended badly"),
    }
    // Every request was answered: what they used is shipped, and nothing more comes.
    ship_until.cancel();
    while let Some(ended) = background.join_next().await {
        if ended.is_err() {
            tracing::error!("shipping of usage records ended badly");
        }
    }
    let engine = app.engine.clone();
    // Joins threads, so not on a runtime thread.
    if tokio::task::spawn_blocking(move || engine.shutdown()).await.is_err() {
        tracing::error!("the engine's shutdown panicked");
    }
    tracing::info!("stopped");
    if app.engine.is_healthy() { Ok(()) } else { Err(ServerError::DeviceLost) }
}

/// Resolves when a listener is no longer served.
type Serving = Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

fn serve(
    listener: std::net::TcpListener,
    router: axum::Router,
    handle: Handle<SocketAddr>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
) -> Result<Serving, ServerError> {
    let mut server = axum_server::from_tcp(listener)
        .map_err(|source| ServerError::Listen { address, source })?
        .handle(handle);
    let http = server.http_builder();
    // A client that sends its headers a byte at a time does not get to hold a connection.
    http.http1().timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    http.http2()
        .timer(hyper_util::rt::TokioTimer::new())
        .max_concurrent_streams(1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(match tls {
        Some(acceptor) => Box::pin(server.acceptor(acceptor).serve(service)),
        None => Box::pin(server.serve(service)),
    })
}

async fn stop(app: &App, health: &grpc::Health, api: &Handle<SocketAddr>, ops: &Handle<SocketAddr>) {
    tracing::info!("shutting down");
    app.set_ready(false);
    health.update(app).await;
    let bounds = &app.config.shutdown;
    tokio::time::sleep(Duration::from_millis(bounds.not_ready_wait_ms)).await;
    app.stopping.cancel();
    let drain = Duration::from_millis(bounds.drain_timeout_ms);
    api.graceful_shutdown(Some(drain));
    // Operations stay up while requests drain, so that the drain can be watched.
    while api.connection_count() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ops.graceful_shutdown(Some(Duration::from_secs(1)));
}

/// Resolves when the engine can no longer run batches.
async fn engine_failure(app: &App) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while app.engine.is_healthy() {
        ticks.tick().await;
    }
}
