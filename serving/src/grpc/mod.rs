//! The gRPC API: `ml.inference.v1.InferenceService`, health and reflection.

mod convert;
mod exchange;
mod form;
mod health;
mod messages;
mod reflection;
mod service;
mod stream;
mod until_stop;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use proto::v1::inference_service_server::InferenceServiceServer;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tower::Service;

use crate::app::App;
use crate::error::ApiError;
use reflection::{Definitions, v1, v1alpha};
use service::Inference;

pub(crate) use form::Form;
pub use health::Health;

/// The routes of all gRPC services, to be merged with the REST routes: one port serves both.
pub fn router(app: &Arc<App>, health: &Health) -> Router {
    let bytes_max = app.config.limits.body_bytes_max;
    let inference = InferenceServiceServer::new(Inference::new(Arc::clone(app)))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX);
    let form = |bytes_max, streams| Form { bytes_max, no_method: ApiError::RouteNotFound, streams };
    let router = route(Router::new(), inference, form(bytes_max, &[messages::BULK]))
        .layer(from_fn(messages::set_aside));
    let health = health.service(app.stopping.clone());
    let router = route(router, health, form(health::REQUEST_BYTES_MAX, &[]));
    router.merge(reflection().layer(from_fn_with_state(app.stopping.clone(), until_stop::until_stop)))
}

/// What services there are, for tools. Theirs are streams that last as long as the tool.
fn reflection() -> Router {
    use tonic_reflection::pb;
    let sets = [proto::v1::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let read = |own| Definitions::read(&[sets[0], sets[1], own]);
    match (read(pb::v1::FILE_DESCRIPTOR_SET), read(pb::v1alpha::FILE_DESCRIPTOR_SET)) {
        (Ok(new), Ok(old)) => {
            let form = || Form {
                bytes_max: reflection::REQUEST_BYTES_MAX,
                no_method: ApiError::RouteNotFound,
                streams: &["ServerReflectionInfo"],
            };
            let new = v1::ServerReflectionServer::new(v1::Reflection(new))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Deflate)
                .max_decoding_message_size(reflection::REQUEST_BYTES_MAX);
            let old = v1alpha::ServerReflectionServer::new(v1alpha::Reflection(old))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Deflate)
                .max_decoding_message_size(reflection::REQUEST_BYTES_MAX);
            route(route(Router::new(), new, form()), old, form())
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no reflection: bad descriptors");
            Router::new()
        }
    }
}

/// Adds one gRPC service to a router, and holds its calls to their form.
pub(crate) fn route<S>(router: Router, service: S, form: Form) -> Router
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
    let calls = Router::new().route_service(&format!("/{}/{{*method}}", S::NAME), service);
    router.merge(calls.layer(from_fn_with_state(Arc::new(form), form::hold)))
}
