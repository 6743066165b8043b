//! vLLM's `POST /score`: how near texts are, one to many or pair by pair. With an embedding model vLLM
//! answers the cosine, and with a reranker its score, and so does this; a reranker takes one text to many.

use std::sync::Arc;

use api::tasks::{EmbedParameters, Input, InputError, Parameters, RerankParameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, Task, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asked::{Usage, created, invalid, request_body};
use super::{CUT, OpenAi};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::InputsOrObjects;
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openapi::Api;
use crate::outputs::{scores, vectors};

/// A request for scores.
pub(super) struct Score(pub(super) Target);

request_body! {
    /// Two sides, each under one of several names.
    struct Body {
        #[serde(alias = "queries", alias = "text_1")]
        #[schemars(with = "InputsOrObjects")]
        data_1: Texts,
        #[serde(alias = "documents", alias = "items", alias = "text_2")]
        #[schemars(with = "InputsOrObjects")]
        data_2: Texts,
    }
}

/// A text or several.
#[derive(Debug)]
struct Texts(Vec<Input>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        InputsOrObjects::deserialize(deserializer).map(|inputs| Self(inputs.0.list))
    }
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    /// Texts of the first side, which come first; none where a reranker scores those of the second.
    first: usize,
}

#[derive(Serialize, JsonSchema)]
struct Scores<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Scored>,
    usage: Usage,
}

#[derive(Serialize, JsonSchema)]
struct Scored {
    index: usize,
    object: &'static str,
    score: f32,
}

impl Shape for Score {
    type Dialect = OpenAi;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self(target) = self;
        let body: Body = body::parse(body)?;
        let target = body.target(target);
        let truncation = body.cut().of(&target, Truncation::Stride)?;
        let (Texts(mut inputs), Texts(second)) = (body.data_1, body.data_2);
        let first = inputs.len();
        for (side, texts) in [("data_1", first), ("data_2", second.len())] {
            if texts == 0 {
                return Err(Words::of_array(side, CUT).of(InputError::None));
            }
        }
        if first != 1 && first != second.len() {
            let problem = format!("{first} texts on one side and {} on the other are no pairs", second.len());
            return Err(invalid("data_1", &problem));
        }
        let model = target.model(&[Task::Rerank, Task::Embed]);
        if model.is_ok_and(|model| model.task == Task::Rerank) {
            let (Some(Input::Text(query)), true) = (inputs.pop(), first == 1) else {
                return Err(invalid("data_1", "a reranker takes one text, and several on the other side"));
            };
            let parameters = Parameters::Rerank(RerankParameters { query, raw_scores: None, truncation });
            let rendering = Rendering { id: request_id(&head.extensions), first: 0 };
            return Ok((target.request(second, parameters), rendering));
        }
        inputs.extend(second);
        let parameters = Parameters::Embed(EmbedParameters { truncation, ..EmbedParameters::default() });
        let mut request = target.request(inputs, parameters);
        // Each side has as many as a call may have.
        request.inputs_max = request.inputs_max.map(|most| most + first.min(most));
        Ok((request, Rendering { id: request_id(&head.extensions), first }))
    }

    fn words(rendering: &Rendering) -> Option<Words> {
        if rendering.first == 0 {
            return Some(Words::of_array("data_2", CUT));
        }
        let others = Some((rendering.first, "data_2"));
        Some(Words { others, ..Words::of_array("data_1", CUT) })
    }

    fn write(response: InferResponse, Rendering { id, first }: Rendering) -> Result<Answer, ApiError> {
        let (model, created, usage) = (Arc::clone(&response.model), created(&response), Usage::of(&response));
        if first == 0 {
            let scored = |(index, score)| Scored { index, object: "score", score };
            let data = scores(response)?.into_iter().enumerate().map(scored).collect();
            let answer = Scores { id: &id, object: "list", created, model: &model, data, usage };
            return Answer::json(StatusCode::OK, &answer);
        }
        let vectors = vectors(response)?;
        let (ones, others) = vectors.split_at_checked(first).unwrap_or_default();
        let score = |(index, (one, other)): (usize, (&Vec<f32>, &Vec<f32>))| Scored {
            index,
            object: "score",
            score: dot(one, other),
        };
        let data = ones.iter().cycle().zip(others).enumerate().map(score).collect();
        Answer::json(StatusCode::OK, &Scores { id: &id, object: "list", created, model: &model, data, usage })
    }
}

/// The cosine of vectors of length one: rounding may leave it a little above.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(x, y)| x * y).sum::<f32>().clamp(-1.0, 1.0)
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Scores<'_>>())
}
