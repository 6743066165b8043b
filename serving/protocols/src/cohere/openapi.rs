//! Its routes in its document.

use super::{classify, embed, tokens};
use crate::openai;
use crate::openapi::Api;

const TAG: &str = "Cohere";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(TAG, "Versions 1 and 2 of its API.");
    let vectors = embed::schemas(api);
    api.call("/v1/embed", TAG, "Turns texts into vectors", &vectors);
    api.call("/v2/embed", TAG, "Turns texts into vectors, by their types", &vectors);
    let classes = classify::schemas(api);
    api.call("/v1/classify", TAG, "Sorts texts into the classes of examples, or of the model", &classes);
    let (tokenizing, detokenizing) = (tokens::tokenizing(api), tokens::detokenizing(api));
    api.call("/v1/tokenize", TAG, "Shows the model's tokens of a text", &tokenizing);
    api.call("/v1/detokenize", TAG, "Makes text of tokens", &detokenizing);
    let ranks = openai::ranks(api);
    for path in ["/v1/rerank", "/v2/rerank"] {
        api.call(path, TAG, "Orders documents by how well they answer a query", &ranks);
    }
}
