//! Open Inference Protocol v2 (<https://github.com/kserve/open-inference-protocol>) with Triton's additions,
//! over REST under `/v2` and over gRPC as `inference.GRPCInferenceService`; and KServe's v1,
//! `/v1/models/…:predict`.
//!
//! Both wires are translated to tensors in no wire's terms (`tensor`, `call`), and these to calls.

mod call;
mod cloud_event;
mod error;
mod event_headers;
mod grpc;
mod kserve;
mod model;
mod openapi;
mod parameters;
mod rest;
mod statistics;
mod tensor;

use std::sync::Arc;

use api::Operation;
use axum::Router;

use crate::Services;
use crate::grpc::Health;
use statistics::Statistics;

pub(crate) use error::Oip as Dialect;
pub use grpc::SERVICE;
pub(crate) use openapi::describe;
pub(crate) use rest::starting;

/// What is said of the calls of Triton's that there is nothing here for.
const UNSUPPORTED: &str = "this server does not support this call of the protocol";

/// What both wires are given.
#[derive(Clone)]
struct Oip {
    services: Services,
    health: Health,
    statistics: Arc<Statistics>,
}

/// The routes over both wires.
pub fn routes(services: &Services, health: &Health) -> Router {
    let (services, health) = (services.clone(), health.clone());
    let oip = Oip { services, health, statistics: Arc::default() };
    rest::routes(oip.clone()).merge(kserve::routes(oip.clone())).merge(grpc::routes(oip))
}

/// Whether a path is of the protocol, so that whatever is wrong with a request is said in its form. (Others
/// have routes under `/v2` too.)
pub(crate) fn is_path(path: &str) -> bool {
    let starts = ["health", "models", "repository", "trace", "systemsharedmemory", "cudasharedmemory"];
    let is_under = |rest: &str| {
        starts.iter().any(|start| rest.strip_prefix(start).is_some_and(|rest| rest.starts_with('/')))
    };
    let is_kserve = path.strip_prefix("/v1/models/").is_some_and(|name| name.contains(':'));
    let is_own = ["/v2", "/v2/", "/v2/logging", "/v2/{*path}"].contains(&path);
    is_own || is_kserve || path.strip_prefix("/v2/").is_some_and(is_under)
}

/// What a route or a method asks for: that is as the model says, which the route does not.
pub(crate) const fn operation_of(_: &str) -> Option<Operation> {
    None
}
