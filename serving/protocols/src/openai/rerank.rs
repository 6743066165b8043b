//! Reranking for all who have a route `/rerank`: Jina, Voyage, vLLM, infinity, and Cohere in both its
//! versions.
//!
//! The answer has `results` (Jina, vLLM, infinity, Cohere) and `data` (Voyage), with the usage of each.
//! Documents come back in `results` unless `return_documents` is false: vLLM's and Jina's clients expect
//! them. Who speaks Voyage's words, `top_k` or `truncation`, gets them only for `return_documents: true`, as
//! there.

use std::sync::Arc;

use api::tasks::{Input, Parameters, RerankParameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::asked::{Usage, request_body, whole_window};
use super::{CUT, OpenAi};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::TextOrObject;
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openapi::Api;
use crate::outputs::ranks;

/// Documents that Cohere's and infinity's `search_units` count as one.
const DOCUMENTS_PER_UNIT: usize = 100;

/// A request to rerank `documents` by a `query`.
pub(crate) struct Rerank {
    /// For which model.
    pub(crate) target: Target,
    /// Whose answer.
    pub(crate) style: Style,
}

/// Where answers differ on paths of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// One superset.
    Superset,
    /// A document is a text and not an object, and comes back only if it is asked for.
    Infinity,
}

request_body! {
    struct Body {
        query: TextOrObject,
        documents: Vec<TextOrObject>,
        top_n: Option<usize>,
        /// Voyage.
        top_k: Option<usize>,
        return_documents: Option<bool>,
        /// infinity: a reranker's own numbers instead of what its card makes of them.
        raw_scores: Option<bool>,
        /// Cohere and vLLM.
        max_tokens_per_doc: Option<usize>,
    }
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    style: Style,
    /// Results that are given; all if `None`.
    top_n: Option<usize>,
    /// The documents, if they come back.
    documents: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
struct Ranking<'a> {
    id: &'a str,
    object: &'static str,
    model: &'a str,
    results: Vec<Ranked<'a>>,
    data: Vec<Ranked<'a>>,
    usage: Usage,
    meta: Meta,
}

#[derive(Serialize, JsonSchema)]
struct Ranked<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(untagged)]
enum Document<'a> {
    Object { text: &'a str },
    Text(&'a str),
}

/// Cohere's.
#[derive(Serialize, JsonSchema)]
struct Meta {
    api_version: Version,
    billed_units: Units,
}

#[derive(Serialize, JsonSchema)]
struct Version {
    version: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct Units {
    search_units: usize,
}

impl Shape for Rerank {
    type Dialect = OpenAi;
    type Rendering = Rendering;
    // LiteLLM declares Voyage's bodies as nothing.
    const IS_JSON: bool = false;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Rerank)
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self { target, style } = self;
        let body: Body = body::parse(body)?;
        let target = body.target(target);
        whole_window("max_tokens_per_doc", body.max_tokens_per_doc, &target)?;
        // Documents are read whole unless that is not wanted: Voyage's switch allows what is done anyway.
        let mut cut = body.cut();
        cut.truncation = cut.truncation.filter(|is_on| !is_on);
        let truncation = cut.of(&target, Truncation::Stride)?;
        let is_voyage = body.top_k.is_some() || body.truncation.is_some();
        let by_default = style == Style::Superset && !is_voyage;
        let texts: Vec<String> = body.documents.into_iter().map(|TextOrObject(text)| text).collect();
        let documents = body.return_documents.unwrap_or(by_default).then(|| texts.clone());
        // vLLM's 0 is all.
        let top_n = body.top_n.or(body.top_k).filter(|top_n| *top_n > 0);
        let TextOrObject(query) = body.query;
        let parameters =
            Parameters::Rerank(RerankParameters { query, raw_scores: body.raw_scores, truncation });
        let inputs = texts.into_iter().map(Input::Text).collect();
        let rendering = Rendering { id: request_id(&head.extensions), style, top_n, documents };
        Ok((target.request(inputs, parameters), rendering))
    }

    fn words(_: &Rendering) -> Option<Words> {
        Some(Words::of_array("documents", CUT))
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        let Rendering { id, style, top_n, documents } = rendering;
        let (model, usage) = (Arc::clone(&response.model), Usage::of(&response));
        let scores = ranks(response)?;
        let search_units = scores.len().div_ceil(DOCUMENTS_PER_UNIT);
        let scores = &scores[..top_n.unwrap_or(usize::MAX).min(scores.len())];
        let document = |index: usize, style| {
            let text = documents.as_ref()?.get(index)?.as_str();
            Some(if style == Style::Superset { Document::Object { text } } else { Document::Text(text) })
        };
        let ranked = |style| {
            let one = |&(index, relevance_score): &(usize, f32)| Ranked {
                index,
                relevance_score,
                document: document(index, style),
            };
            scores.iter().map(one).collect()
        };
        let ranking = Ranking {
            id: &id,
            object: if style == Style::Infinity { "rerank" } else { "list" },
            model: &model,
            results: ranked(style),
            // In Voyage's form a document is a text.
            data: if style == Style::Infinity { Vec::new() } else { ranked(Style::Infinity) },
            usage,
            meta: Meta { api_version: Version { version: "2" }, billed_units: Units { search_units } },
        };
        Answer::json(StatusCode::OK, &ranking)
    }
}

/// What is read and written, for the document.
pub(crate) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Ranking<'_>>())
}
