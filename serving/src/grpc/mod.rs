//! The gRPC API: `ml.inference.v1.InferenceService`, health and reflection.

pub mod codec;
mod convert;
mod exchange;
mod health;
mod service;
mod stream;

/// Messages and service stubs generated from `proto/ml/inference/v1/inference.proto`.
pub mod proto {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("ml.inference.v1");

    /// The service's definition, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

use std::sync::Arc;

use axum::Router;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::app::App;
use proto::inference_service_server::InferenceServiceServer;
use service::Inference;

pub use health::Health;

/// The routes of all gRPC services, to be merged with the REST routes: one port serves both.
pub fn router(app: &Arc<App>, health: &Health) -> Router {
    let bytes_max = app.config.limits.body_bytes_max;
    let inference = InferenceServiceServer::new(Inference::new(Arc::clone(app)))
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX);
    let mut router = route(Router::new(), inference);
    router = route(router, health.service());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => router = route(route(router, v1), v1alpha),
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "no reflection: bad descriptors"),
    }
    router
}

/// Adds one gRPC service to a router.
pub(crate) fn route<S>(router: Router, service: S) -> Router
where
    S: Service<
            http::Request<axum::body::Body>,
            Response = http::Response<Body>,
            Error = std::convert::Infallible,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    router.route_service(&format!("/{}/{{*method}}", S::NAME), service)
}
