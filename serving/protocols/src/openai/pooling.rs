//! vLLM's `POST /pooling`: a vector for each text, which is its embedding or the probabilities of its
//! classes.

use std::sync::Arc;

use api::tasks::{EmbedParameters, Parameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, Task, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::OpenAi;
use super::asked::{Usage, created, invalid, parse, request_body};
use super::binary::{self, About, Coding, Dtype, Endianness};
use super::classify::in_order;
use super::embeddings::Format;
use crate::http::body::Name;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::InputsOrObjects;
use crate::http::target::Target;
use crate::http::vectors::Vector;
use crate::outputs::{classes, vectors};

/// A request for vectors.
pub(super) struct Pooling(pub(super) Target);

request_body! {
    struct Body {
        input: InputsOrObjects,
        task: Option<Name<Pooled>>,
        encoding_format: Option<Name<Format>>,
        embed_dtype: Option<Name<Dtype>>,
        endianness: Option<Name<Endianness>>,
        dimensions: Option<usize>,
        use_activation: Option<bool>,
    }
}

/// What a vector is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pooled {
    Embed,
    Classify,
    TokenEmbed,
    TokenClassify,
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    target: Target,
    is_classes: bool,
    format: Format,
    coding: Coding,
}

#[derive(Serialize)]
struct Pools<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Pool>,
    usage: Usage,
}

#[derive(Serialize)]
struct Pool {
    index: usize,
    object: &'static str,
    data: Vector,
}

impl Shape for Pooling {
    type Dialect = OpenAi;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        None
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self(target) = self;
        let body: Body = parse(body)?;
        let target = body.target(target);
        let is_classifier =
            target.named_model().is_some_and(|model| matches!(model.task, Task::Classify | Task::Sentiment));
        let is_classes = match body.task.map(Name::get) {
            Some(Pooled::Classify) => true,
            Some(Pooled::Embed) => false,
            None => is_classifier,
            Some(Pooled::TokenEmbed | Pooled::TokenClassify) => {
                return Err(invalid(
                    "task",
                    "vectors are of texts here and not of tokens: embed or classify",
                ));
            }
        };
        let truncation = body.cut();
        let coding = Coding {
            dtype: body.embed_dtype.map(Name::get).unwrap_or_default(),
            endianness: body.endianness.map(Name::get).unwrap_or_default(),
        };
        let format = body.encoding_format.map(Name::get).unwrap_or_default();
        let inputs = body.input.0.list;
        if format == Format::Bytes {
            binary::check_told(inputs.len())?;
        }
        let request = if is_classes {
            if body.use_activation == Some(false) {
                return Err(invalid("use_activation", "scores are probabilities here"));
            }
            let truncation = truncation.of(&target, Truncation::Stride)?;
            target.classes(inputs, truncation)
        } else {
            let truncation = truncation.of(&target, Truncation::Error)?;
            let parameters = EmbedParameters {
                dimensions: body.dimensions,
                normalize: body.use_activation.unwrap_or(true),
                truncation,
                ..EmbedParameters::default()
            };
            target.request(inputs, Parameters::Embed(parameters))
        };
        let id = request_id(&head.extensions);
        Ok((request, Rendering { id, target, is_classes, format, coding }))
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        let Rendering { id, target, is_classes, format, coding } = rendering;
        let (model, created, usage) = (Arc::clone(&response.model), created(&response), Usage::of(&response));
        let rows = if is_classes {
            let order = target.find(&model).map(|model| model.labels).unwrap_or_default();
            classes(response, false)?.iter().map(|labels| in_order(&order, labels)).collect()
        } else {
            vectors(response)?
        };
        let about = About { id: &id, created, model: &model, usage };
        match format {
            Format::Bytes => binary::answer(&rows, coding, Some(about)),
            Format::BytesOnly => binary::answer(&rows, coding, None),
            Format::Float | Format::Base64 => {
                let pool = |(index, row)| {
                    let data = Vector::Float(row);
                    let data = match format {
                        Format::Base64 => data.base64(|floats| coding.bytes(floats)),
                        _ => data,
                    };
                    Pool { index, object: "pooling", data }
                };
                let data = rows.into_iter().enumerate().map(pool).collect();
                let About { usage, .. } = about;
                let pools = Pools { id: &id, object: "list", created, model: &model, data, usage };
                Answer::json(StatusCode::OK, &pools)
            }
        }
    }
}
