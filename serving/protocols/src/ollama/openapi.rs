//! Its routes in its document.

use super::{Tags, Version, embedding, embedding_one};
use crate::openapi::Api;

const TAG: &str = "Ollama";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(TAG, "Embeddings and models; `:latest` behind a model's name is ignored.");
    let (many, one) = (embedding(api), embedding_one(api));
    api.call("/api/embed", TAG, "Turns texts into vectors", &many);
    api.call("/api/embeddings", TAG, "Turns one text into a vector", &one);
    let (tags, version) = (api.written_whole::<Tags<'_>>(), api.written_whole::<Version>());
    api.look("/api/tags", TAG, "Lists embedding models", &tags);
    api.look("/api/version", TAG, "The server's version", &version);
}
