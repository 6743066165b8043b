//! The gRPC API: `ml.inference.v1.InferenceService`, health and reflection.

pub mod codec;
mod convert;
mod exchange;
mod health;
mod service;
mod stream;
mod until_stop;

/// Messages and service stubs generated from `proto/ml/inference/v1/inference.proto`.
pub mod proto {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("ml.inference.v1");

    /// The definition of the API's services, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tower::Service;

use crate::app::App;
use crate::caller;
use crate::error::ApiError;
use proto::inference_service_server::InferenceServiceServer;
use service::Inference;

pub use health::Health;

/// Compressions of messages that are understood, as `grpc-accept-encoding` has them.
const COMPRESSIONS: &str = "identity,gzip,deflate";
/// Longest request of the reflection service, in bytes: a name.
const REFLECTION_BYTES_MAX: usize = 64 << 10;

/// The routes of all gRPC services, to be merged with the REST routes: one port serves both.
pub fn router(app: &Arc<App>, health: &Health) -> Router {
    let bytes_max = app.config.limits.body_bytes_max;
    let inference = InferenceServiceServer::new(Inference::new(Arc::clone(app)))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX);
    let router = route(Router::new(), inference).layer(from_fn(understood));
    let router = route(router, health.service(app.stopping.clone()));
    router.merge(reflection().layer(from_fn_with_state(app.stopping.clone(), until_stop::until_stop)))
}

/// What services there are, for tools. Theirs are streams that last as long as the tool.
fn reflection() -> Router {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            let v1 = v1.max_decoding_message_size(REFLECTION_BYTES_MAX);
            let v1alpha = v1alpha.max_decoding_message_size(REFLECTION_BYTES_MAX);
            route(route(Router::new(), v1), v1alpha)
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no reflection: bad descriptors");
            Router::new()
        }
    }
}

/// Refuses messages that are compressed in another way, and says which ways there are.
async fn understood(request: Request, next: Next) -> Response {
    let encoding = request.headers().get(service::GRPC_ENCODING);
    if encoding.is_none_or(|encoding| COMPRESSIONS.split(',').any(|known| encoding == known)) {
        return next.run(request).await;
    }
    let status = ApiError::UnsupportedCompression.to_status(&caller::request_id(request.extensions()));
    let mut response = status.into_http::<axum::body::Body>();
    response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(COMPRESSIONS));
    response
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
