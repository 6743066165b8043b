//! The API of our own: REST under `/v1/ml`, and the gRPC service `ml.inference.v1.InferenceService`.

pub mod grpc;
pub mod rest;

use api::Task;

/// The task that a route or a method is for.
pub(crate) fn task_of(route: &str) -> Option<Task> {
    let (parent, name) = route.rsplit_once('/')?;
    match (parent.trim_start_matches('/'), name) {
        ("v1/ml", "classify") | (grpc::SERVICE, "Classify") => Some(Task::Classify),
        ("v1/ml", "sentiment") | (grpc::SERVICE, "AnalyzeSentiment") => Some(Task::Sentiment),
        ("v1/ml", "entities") | (grpc::SERVICE, "ExtractEntities") => Some(Task::Entities),
        ("v1/ml", "summarize") | (grpc::SERVICE, "Summarize") => Some(Task::Summarize),
        ("v1/ml", "embeddings") | (grpc::SERVICE, "Embed") => Some(Task::Embed),
        _ => None,
    }
}
