//! Its routes in its document.

use serde_json::{Value, json};

use super::{embed, info, predict, rerank, tokens};
use crate::openapi::Api;

const ROOT: &str = "The default model";
const MODEL: &str = "A model by name";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(ROOT, "As the server that has one model: the default of each task.");
    api.tag(MODEL, "The same routes for every model.");
    let (embed, predict) = (embed::schemas(api), predict::schemas(api));
    let embed_all = embed::schemas_of_tokens(api);
    let (rank, compare) = (rerank::ranking(api), rerank::comparing(api));
    let (tokenize, decode) = (tokens::tokenizing(api), tokens::decoding(api));
    let told = info::schema(api);
    for (prefix, tag) in [("", ROOT), ("/models/{name}", MODEL)] {
        let calls: [(&str, &str, &(Value, Value)); 7] = [
            ("/embed", "Turns texts into vectors", &embed),
            ("/embed_all", "Turns the tokens of texts into vectors", &embed_all),
            ("/predict", "Sorts texts into the model's classes", &predict),
            ("/rerank", "Orders texts by how well they answer a query", &rank),
            ("/similarity", "Compares sentences with another one", &compare),
            ("/tokenize", "Shows the model's tokens of texts", &tokenize),
            ("/decode", "Makes text of tokens", &decode),
        ];
        for (path, summary, schemas) in calls {
            api.call(&format!("{prefix}{path}"), tag, summary, schemas);
        }
        let path = format!("{prefix}/embed_sparse");
        api.refused_call(&path, tag, "Refused: no model here gives such vectors", &embed.0);
        api.look(&format!("{prefix}/info"), tag, "What is served", &told);
    }
    let read = json!({"anyOf": [embed.0, predict.0, rank.0, compare.0]});
    let written = json!({"anyOf": [embed.1, predict.1, rank.1, compare.1]});
    api.call("/", ROOT, "What the model is for, by the form of the body", &(read, written));
    let alive = super::alive_schema(api);
    api.told_probe("/", ROOT, "Whether the server is ready", &alive);
    api.probe("get", "/health", ROOT, "Whether the server is ready");
}
