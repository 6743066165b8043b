//! The protocol over gRPC, `inference.GRPCInferenceService`.

mod convert;
mod exchange;
mod service;
mod views;

use api::ApiError;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use http_body_util::Limited;
use proto::oip::grpc_inference_service_server::GrpcInferenceServiceServer;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;

use super::Oip;
use crate::grpc::{Form, route, set_aside};
use service::OipApi;

/// The service's name.
pub const SERVICE: &str = <GrpcInferenceServiceServer<OipApi> as NamedService>::NAME;

/// The method that takes many messages, which its service reads itself.
const STREAM: &str = "ModelStreamInfer";

/// The method that is answered without a key, and the longest request of it, in bytes: a name and a version.
const READY: &str = "ModelReady";
const READY_BYTES_MAX: usize = 4096;

/// Reads no more than names of callers who show no key.
async fn bound(request: Request, next: Next) -> Response {
    let is_open = request.uri().path().rsplit('/').next() == Some(READY);
    next.run(if is_open {
        request.map(|body| Body::new(Limited::new(body, READY_BYTES_MAX)))
    } else {
        request
    })
    .await
}

/// The routes of the service; none while the dialect is switched off, so that it is one that there is not.
pub(super) fn routes(oip: Oip) -> Router {
    if !oip.services.dialects.oip {
        return Router::new();
    }
    let bytes_max = oip.services.bounds.body_bytes_max;
    let service = GrpcInferenceServiceServer::new(OipApi::new(oip))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX);
    let form = Form { bytes_max, no_method: ApiError::RouteNotFound, streams: &[STREAM] };
    route(Router::new(), service, form).layer(from_fn_with_state(STREAM, set_aside)).layer(from_fn(bound))
}
