//! The API of our own: REST under `/v1/ml`, and the gRPC service `ml.inference.v1.InferenceService`.

pub mod grpc;
pub mod rest;

use api::Operation;

/// What a route or a method asks for.
pub(crate) fn operation_of(route: &str) -> Option<Operation> {
    let (parent, name) = route.rsplit_once('/')?;
    match (parent.trim_start_matches('/'), name) {
        ("v1/ml", "classify") | (grpc::SERVICE, "Classify") => Some(Operation::Classify),
        ("v1/ml", "sentiment") | (grpc::SERVICE, "AnalyzeSentiment") => Some(Operation::Sentiment),
        ("v1/ml", "entities") | (grpc::SERVICE, "ExtractEntities") => Some(Operation::Entities),
        ("v1/ml", "summarize") | (grpc::SERVICE, "Summarize") => Some(Operation::Summarize),
        ("v1/ml", "embeddings") | (grpc::SERVICE, "Embed") => Some(Operation::Embed),
        ("v1/ml", "rerank") | (grpc::SERVICE, "Rerank") => Some(Operation::Rerank),
        ("v1/ml", "similarity") | (grpc::SERVICE, "Similarity") => Some(Operation::Similarity),
        ("v1/ml", "tokenize") | (grpc::SERVICE, "Tokenize") => Some(Operation::Tokenize),
        ("v1/ml", "detokenize") | (grpc::SERVICE, "Detokenize") => Some(Operation::Detokenize),
        _ => None,
    }
}
