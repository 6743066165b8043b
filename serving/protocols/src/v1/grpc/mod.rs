//! The gRPC API: `ml.inference.v1.InferenceService`. What tenants manage themselves is a service beside it,
//! of whoever knows tenants.

mod convert;
mod exchange;
mod service;
mod stream;

use api::ApiError;
use axum::Router;
use axum::middleware::from_fn_with_state;
use proto::v1::inference_service_server::InferenceServiceServer;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;

use crate::Services;
use crate::grpc::{Form, route, set_aside};
use service::InferenceApi;

/// The service's name.
pub const SERVICE: &str = <InferenceServiceServer<InferenceApi> as NamedService>::NAME;

/// Name of the service for what tenants manage themselves.
pub const ADMINISTRATION: &str = proto::v1::administration_service_server::SERVICE_NAME;

/// As metrics and logs name it.
pub const PROTOCOL: &str = "grpc";

/// The method that takes many messages, which its service reads itself.
const BULK: &str = "InferStream";

/// The routes of the service.
pub fn routes(services: Services) -> Router {
    let bytes_max = services.bounds.body_bytes_max;
    let service = InferenceServiceServer::new(InferenceApi::new(services))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX);
    let form = Form { bytes_max, no_method: ApiError::RouteNotFound, streams: &[BULK] };
    route(Router::new(), service, form).layer(from_fn_with_state(BULK, set_aside))
}
