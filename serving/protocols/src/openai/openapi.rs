//! This family's routes in its document.

use serde_json::Value;

use super::{classify, embeddings, jina, models, nim, pooling, ranking, rerank, score, tokens};
use crate::openapi::Api;

const OPENAI: &str = "OpenAI, Jina, Voyage";
const VLLM: &str = "vLLM, NIM";
const INFINITY: &str = "infinity";

/// Adds the routes.
pub(crate) fn describe(api: &mut Api) {
    api.tag(OPENAI, "One superset of their requests, under `/v1` and, as vLLM and Azure have it, `/openai`.");
    api.tag(VLLM, "Classes, scores, ranks, tokens.");
    api.tag(INFINITY, "Its own paths, at the root and under `/infinity`.");
    let embed = embeddings::schemas(api);
    for path in ["/v1/embeddings", "/openai/v1/embeddings", "/openai/deployments/{name}/embeddings"] {
        api.call(path, OPENAI, "Turns texts into vectors", &embed);
    }
    for path in ["/embeddings", "/infinity/embeddings"] {
        api.call(path, INFINITY, "Turns texts into vectors", &embed);
    }
    let rank = rerank::schemas(api);
    for path in ["/rerank", "/v1/rerank", "/v2/rerank", "/openai/v1/rerank"] {
        api.call(path, OPENAI, "Orders documents by how well they answer a query", &rank);
    }
    api.call("/infinity/rerank", INFINITY, "Orders documents by how well they answer a query", &rank);
    let [list, model, version] = models::schemas(api);
    for (prefix, tag) in [("/v1", OPENAI), ("/openai/v1", OPENAI), ("/openai", OPENAI), ("", INFINITY)] {
        api.look(&format!("{prefix}/models"), tag, "Lists models", &list);
        if tag == OPENAI {
            api.look(&format!("{prefix}/models/{{name}}"), tag, "Shows a model", &model);
        }
    }
    api.look("/version", VLLM, "The server's version", &version);
    let [infinity_list, healthy] = models::infinity_schemas(api);
    api.look("/infinity/models", INFINITY, "Lists models", &infinity_list);
    api.told_probe("/infinity/health", INFINITY, "Whether the server is ready", &healthy);
    let [probe, metadata, nim_version] = nim::schemas(api);
    api.told_probe("/v1/health/live", VLLM, "Whether the server is alive", &probe);
    api.told_probe("/v1/health/ready", VLLM, "Whether the server is ready", &probe);
    api.look("/v1/metadata", VLLM, "What is served", &metadata);
    api.look("/v1/version", VLLM, "The server's version", &nim_version);
    let scores = score::schemas(api);
    for path in ["/score", "/v1/score", "/openai/v1/score"] {
        api.call(path, VLLM, "Compares texts with each other", &scores);
    }
    let classes = classify::schemas(api);
    api.call("/classify", VLLM, "Sorts texts into the model's classes", &classes);
    api.call("/infinity/classify", INFINITY, "Sorts texts into the model's classes", &classes);
    let sorted = jina::schemas(api);
    api.call("/v1/classify", OPENAI, "Sorts texts into your labels, or into the model's classes", &sorted);
    let others: [(&str, &str, (Value, Value)); 5] = [
        ("/pooling", "Gives vectors, or a classifier's scores", pooling::schemas(api)),
        ("/v1/ranking", "Orders passages by how well they answer a query", ranking::schemas(api)),
        (
            "/v1/retrieval/{name}/reranking",
            "Orders passages by how well they answer a query",
            ranking::schemas(api),
        ),
        ("/tokenize", "Shows the model's tokens of a text", tokens::tokenizing(api)),
        ("/detokenize", "Makes text of tokens", tokens::detokenizing(api)),
    ];
    for (path, summary, schemas) in &others {
        api.call(path, VLLM, summary, schemas);
    }
}
