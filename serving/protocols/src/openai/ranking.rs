//! NIM's `POST /v1/ranking`. A `logit` is a reranker's, or the cosine of query and passage where an embedding
//! model answers.

use api::tasks::{Input, Parameters, RerankParameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::asked::{Usage, request_body};
use super::{CUT, OpenAi};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::TextOrObject;
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openapi::Api;
use crate::outputs::ranks;

/// A request to rank passages.
pub(super) struct Ranking(pub(super) Target);

request_body! {
    struct Body {
        query: TextOrObject,
        passages: Vec<TextOrObject>,
    }
}

#[derive(Serialize, JsonSchema)]
struct Rankings {
    rankings: Vec<Ranked>,
    usage: Usage,
}

#[derive(Serialize, JsonSchema)]
struct Ranked {
    index: usize,
    logit: f32,
}

impl Shape for Ranking {
    type Dialect = OpenAi;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Rerank)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Self(target) = self;
        let body: Body = body::parse(body)?;
        let target = body.target(target);
        let truncation = body.cut().of(&target, Truncation::Stride)?;
        let TextOrObject(query) = body.query;
        let inputs = body.passages.into_iter().map(|TextOrObject(text)| Input::Text(text)).collect();
        let parameters = Parameters::Rerank(RerankParameters { query, raw_scores: Some(true), truncation });
        Ok((target.request(inputs, parameters), ()))
    }

    fn words((): &()) -> Option<Words> {
        Some(Words::of_array("passages", CUT))
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let usage = Usage::of(&response);
        let rankings = ranks(response)?.into_iter().map(|(index, logit)| Ranked { index, logit }).collect();
        Answer::json(StatusCode::OK, &Rankings { rankings, usage })
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Rankings>())
}
