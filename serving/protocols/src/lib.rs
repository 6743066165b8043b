//! What callers speak, and the translation of it: a folder a protocol, each with its types, its translation
//! and its errors.
//!
//! A protocol reads a call into an [`api::InferRequest`] and makes a reply of an [`api::InferResponse`].
//! Everything between (credentials, limits, batching, metering) is behind [`api::Inference`]. What the
//! protocols over HTTP and over gRPC share is in [`http`] and [`grpc`].
//!
//! # Invariants
//! Each names what holds it.
//!
//! - No protocol knows what is behind the `api`: no tenant, no limit, no store, no scheduler.
//!   (`serving/tests/architecture.rs`)
//! - Bodies are read within bounds of size and time, whatever they decode to. (`test_forms.py`,
//!   `test_places.py`)
//! - A caller's text is in no error message. (`test_forms.py`)

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

mod cohere;
pub mod grpc;
pub mod head;
pub mod http;
pub mod idempotency;
mod ollama;
mod openai;
pub mod v1;

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Inference, ModelDirectory, Operation, request_id};
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use http::dialect::refuse as refuse_as;

/// What protocols are given.
#[derive(Clone)]
pub struct Services {
    /// What answers calls.
    pub inference: Arc<dyn Inference>,
    /// What is served.
    pub models: Arc<dyn ModelDirectory>,
    /// How much they read.
    pub bounds: Bounds,
    /// Which dialects of other servers are spoken.
    pub dialects: Dialects,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
}

/// Bounds of what is read of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest body, in bytes, as it comes and as it is decoded to.
    pub body_bytes_max: usize,
    /// In which it has to be there.
    pub body_timeout: Duration,
    /// Inputs of a call in the dialects of other servers, whatever the model's card says of our own API.
    pub dialect_inputs_max: usize,
}

/// Dialects of other servers, and whether they are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialects {
    /// Open Inference Protocol v2, with Triton's additions, over REST and gRPC; KServe v1.
    pub oip: bool,
    /// text-embeddings-inference, over REST and gRPC.
    pub tei: bool,
    /// OpenAI, and what others made of its routes: Jina, Voyage, vLLM, NIM, infinity.
    pub openai: bool,
    /// Cohere.
    pub cohere: bool,
    /// Ollama.
    pub ollama: bool,
    /// Hugging Face's tasks.
    pub huggingface: bool,
    /// The container contracts of SageMaker and Vertex.
    pub containers: bool,
}

/// The routes of all protocols.
pub fn routes(services: &Services, health: &grpc::Health) -> Router {
    v1::rest::routes(services.clone())
        .merge(v1::grpc::routes(services.clone()))
        .merge(grpc::routes(services, health))
        .merge(openai::routes(services.clone()))
        .merge(cohere::routes(services.clone()))
        .merge(ollama::routes(services.clone()))
}

/// Refuses a request in the form of the protocol that it is of, as its head and its path tell: for what is
/// refused before a route is found.
pub fn refuse(error: &ApiError, request: &Request) -> Response {
    let (id, path) = (request_id(request.extensions()), request.uri().path());
    if head::is_grpc(request.headers()) {
        return grpc::status(error, &id).into_http::<axum::body::Body>();
    }
    match path {
        _ if openai::is_path(path) => refuse_as::<openai::OpenAi>(error, &id),
        _ if cohere::is_path(path) => refuse_as::<cohere::Cohere>(error, &id),
        _ if ollama::is_path(path) => refuse_as::<ollama::Ollama>(error, &id),
        _ => v1::rest::refuse(error, &id),
    }
}

/// What a route or a gRPC method of some protocol asks for.
pub fn operation_of(route: &str) -> Option<Operation> {
    v1::operation_of(route)
        .or_else(|| openai::operation_of(route))
        .or_else(|| cohere::operation_of(route))
        .or_else(|| ollama::operation_of(route))
}
