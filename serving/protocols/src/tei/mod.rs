//! The API of text-embeddings-inference 1.9: REST at the root for the default models and under
//! `/models/{name}/…` for each, and the gRPC services `tei.v1`.
//!
//! Its clients send fields of other servers, which are ignored. A call may have as many inputs as
//! `protocols.inputs_max` says: the scheduler cuts it into batches.

pub(crate) mod answers;
mod errors;
mod facts;
pub mod grpc;
pub(crate) mod requests;
pub mod rest;

use api::Operation;

pub use errors::Tei;
pub(crate) use errors::{Fault, Refused};
pub(crate) use requests::Direction;
pub(crate) use rest::describe;

/// Whether a path is the dialect's.
pub(crate) fn is_path(path: &str) -> bool {
    let last = path.strip_prefix("/models/").and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
    let route = last.unwrap_or(path);
    operation_of(route).is_some() || matches!(route, "/" | "/info") || (last.is_none() && route == "/health")
}

/// What a route asks for.
pub(crate) fn operation_of(route: &str) -> Option<Operation> {
    if let Some(operation) = grpc::operation_of(route) {
        return Some(operation);
    }
    match route.strip_prefix("/models/{name}").unwrap_or(route) {
        "/embed" | "/embed_all" | "/embed_sparse" => Some(Operation::Embed),
        "/predict" => Some(Operation::Classify),
        "/rerank" => Some(Operation::Rerank),
        "/similarity" => Some(Operation::Similarity),
        "/tokenize" => Some(Operation::Tokenize),
        "/decode" => Some(Operation::Detokenize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, expected: bool| assert_eq!(is_path(path), expected, "{path}");
        for of_it in ["/", "/info", "/health", "/embed", "/models/ner-v2/predict", "/models/x/info"] {
            check(of_it, true);
        }
        for of_others in
            ["/v1/ml/embed", "/models", "/models/ner-v2", "/models/x/pipeline/embed", "/embedding", ""]
        {
            check(of_others, false);
        }
    }

    #[test]
    fn operations() {
        let check = |route: &str, expected| assert_eq!(operation_of(route), expected, "{route}");
        check("/embed", Some(Operation::Embed));
        check("/models/{name}/predict", Some(Operation::Classify));
        check("/tei.v1.Rerank/RerankStream", Some(Operation::Rerank));
        check("/tei.v1.Embed/EmbedStream", None);
        check("/", None);
    }
}
