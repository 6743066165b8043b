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
pub mod containers;
pub mod documents;
pub mod grpc;
pub mod head;
pub mod http;
pub mod huggingface;
pub mod idempotency;
pub mod oip;
mod ollama;
mod openai;
pub mod openapi;
mod outputs;
mod shared;
pub mod tei;
pub mod v1;

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Inference, ModelDirectory, ModelRepository, Operation, request_id};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::dialect::{Dialect, refuse as refuse_as};
use tokio_util::sync::CancellationToken;

use containers::ContainerOptions;

/// What protocols are given.
#[derive(Clone)]
pub struct Services {
    /// What answers calls.
    pub inference: Arc<dyn Inference>,
    /// What is served.
    pub models: Arc<dyn ModelDirectory>,
    /// What loads and unloads it.
    pub repository: Arc<dyn ModelRepository>,
    /// How much they read.
    pub bounds: Bounds,
    /// What dialects tell of it.
    pub server: ServerFacts,
    /// Which dialects of other servers are spoken.
    pub dialects: Dialects,
    /// What holds for the contracts with containers.
    pub containers: ContainerOptions,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
}

/// Bounds of what is read of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest body, in bytes, as it comes and as it is decoded to.
    pub body_bytes_max: usize,
    /// Time for the body to arrive.
    pub body_timeout: Duration,
    /// Inputs of a call in the dialects of other servers, whatever the model's card says of our own API.
    pub dialect_inputs_max: usize,
    /// Tokens of a call that have vectors of their own, where a dialect asks for those.
    pub token_vectors_max: usize,
}

/// What the server is, as dialects tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: &'static str,
    /// The commit that it was built of.
    pub commit: &'static str,
    /// Calls that are worked on at once.
    pub calls_in_flight_max: usize,
    /// Tokens of a batch.
    pub batch_tokens_max: usize,
    /// Sequences of a batch.
    pub batch_sequences_max: usize,
    /// Threads that tokenise.
    pub tokenizer_threads: usize,
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
        .merge(oip::routes(services, health))
        .merge(grpc::routes(services, health))
        .merge(tei::rest::routes(services, health))
        .merge(tei::grpc::routes(services))
        .merge(huggingface::routes(services))
        .merge(containers::routes(services, health))
        .merge(openai::routes(services.clone(), health))
        .merge(cohere::routes(services.clone()))
        .merge(ollama::routes(services.clone()))
        .merge(shared::routes(services.clone()))
}

/// The probes of dialects, while the server starts.
pub fn starting(dialects: Dialects) -> Router {
    let oip = if dialects.oip { oip::starting() } else { Router::new() };
    if dialects.openai { oip.merge(openai::starting()) } else { oip }
}

/// Names of the gRPC services that are spoken.
pub fn grpc_services(dialects: Dialects) -> Vec<&'static str> {
    let tei = if dialects.tei { &tei::grpc::SERVICES[..] } else { &[] };
    let oip = if dialects.oip { &[oip::SERVICE][..] } else { &[] };
    [&[v1::grpc::SERVICE, v1::grpc::ADMINISTRATION], oip, tei].concat()
}

/// Protocols over HTTP, each with a form of its own. A dialect has its line here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Oip,
    Tei,
    HuggingFace,
    Containers,
    OpenAi,
    Cohere,
    Ollama,
    Own,
}

impl Family {
    /// Whose a path is. Of a path of two dialects it is the first that is spoken: which of them a request is
    /// of, its body tells, and here none is read.
    fn of(path: &str, dialects: Dialects) -> Self {
        match path {
            _ if shared::is_second(path, dialects) => Self::OpenAi,
            _ if oip::is_path(path) => Self::Oip,
            _ if tei::is_path(path) => Self::Tei,
            _ if containers::is_path(path) => Self::Containers,
            _ if huggingface::is_path(path) => Self::HuggingFace,
            _ if openai::is_path(path) => Self::OpenAi,
            _ if cohere::is_path(path) => Self::Cohere,
            _ if ollama::is_path(path) => Self::Ollama,
            _ => Self::Own,
        }
    }
}

/// Name of the protocol that a route belongs to, as in metrics and logs: of calls that end before a protocol
/// has read them.
pub fn protocol_of(route: &str, is_grpc: bool, dialects: Dialects) -> &'static str {
    match Family::of(route, dialects) {
        Family::Oip => oip::Dialect::PROTOCOL,
        Family::Tei => tei::Tei::PROTOCOL,
        Family::HuggingFace => huggingface::HuggingFace::PROTOCOL,
        Family::Containers => containers::Containers::PROTOCOL,
        Family::OpenAi => openai::OpenAi::PROTOCOL,
        Family::Cohere => cohere::Cohere::PROTOCOL,
        Family::Ollama => ollama::Ollama::PROTOCOL,
        Family::Own if is_grpc => v1::grpc::PROTOCOL,
        Family::Own => v1::rest::PROTOCOL,
    }
}

/// Refuses a request in the form of the protocol that it is of, as its head and its path tell: for what is
/// refused before any route sees it.
pub fn refuse(dialects: Dialects, error: &ApiError, request: &Request) -> Response {
    let (path, id) = (request.uri().path(), request_id(request.extensions()));
    if head::is_grpc(request.headers()) {
        return grpc::status(error, &id).into_http::<Body>();
    }
    match Family::of(path, dialects) {
        Family::Oip => refuse_as::<oip::Dialect>(error, &id),
        Family::Tei => refuse_as::<tei::Tei>(error, &id),
        Family::HuggingFace => refuse_as::<huggingface::HuggingFace>(error, &id),
        Family::Containers => refuse_as::<containers::Containers>(error, &id),
        Family::OpenAi => refuse_as::<openai::OpenAi>(error, &id),
        Family::Cohere => refuse_as::<cohere::Cohere>(error, &id),
        Family::Ollama => refuse_as::<ollama::Ollama>(error, &id),
        Family::Own => v1::rest::refuse(error, &id),
    }
}

/// What a route or a gRPC method of some protocol asks for.
pub fn operation_of(route: &str) -> Option<Operation> {
    v1::operation_of(route)
        .or_else(|| oip::operation_of(route))
        .or_else(|| tei::operation_of(route))
        .or_else(|| openai::operation_of(route))
        .or_else(|| cohere::operation_of(route))
        .or_else(|| ollama::operation_of(route))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_two_dialects() {
        let on = |tei: bool, openai: bool, cohere: bool| {
            let (oip, ollama, huggingface, containers) = (true, true, true, true);
            Dialects { oip, tei, openai, cohere, ollama, huggingface, containers }
        };
        let check = |path: &str, dialects: Dialects, expected: Family| {
            assert_eq!(Family::of(path, dialects), expected, "{path} {dialects:?}");
        };
        for path in ["/rerank", "/tokenize"] {
            check(path, on(true, true, true), Family::Tei);
            check(path, on(false, true, true), Family::OpenAi);
            check(path, on(false, false, false), Family::Tei);
        }
        check("/rerank", on(false, false, true), Family::OpenAi);
        check("/tokenize", on(false, false, true), Family::Tei);
        check("/v1/classify", on(true, true, true), Family::Cohere);
        check("/v1/classify", on(true, true, false), Family::OpenAi);
        check("/v1/classify", on(true, false, false), Family::Cohere);
        check("/models/m/invoke", on(true, true, true), Family::Containers);
        check("/models/m", on(true, true, true), Family::HuggingFace);
        check("/models/m/rerank", on(false, true, true), Family::Tei);
        check("/v2/rerank", on(true, true, true), Family::OpenAi);
        check("/v1/ml/rerank", on(true, true, true), Family::Own);
    }
}
