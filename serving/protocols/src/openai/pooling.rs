//! vLLM's `POST /pooling`: a vector for each text, which is its embedding or the probabilities of its
//! classes, or a matrix of the vectors of its tokens.

use std::sync::Arc;

use api::tasks::{EmbedParameters, EmbedTokensParameters, Parameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, Task, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OpenAi;
use super::asked::{Usage, created, invalid, parse, request_body};
use super::binary::{self, About, Coding, Dtype, Endianness, Numbers};
use super::classify::in_order;
use super::embeddings::Format;
use crate::http::body::Name;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::InputsOrObjects;
use crate::http::target::Target;
use crate::http::vectors::Vector;
use crate::openapi::Api;
use crate::outputs::{classes, token_vectors, vectors};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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
    pooled: Pooled,
    format: Format,
    coding: Coding,
}

#[derive(Serialize, JsonSchema)]
struct Pools<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Pool>,
    usage: Usage,
}

#[derive(Serialize, JsonSchema)]
struct Pool {
    index: usize,
    object: &'static str,
    data: Data,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Data {
    Vector(Vector),
    Matrix(Vec<Vec<f32>>),
}

impl Data {
    fn of(Numbers { values, shape }: Numbers, format: Format, coding: Coding) -> Self {
        match (format, &shape[..]) {
            (Format::Base64, _) => Self::Vector(Vector::Float(values).base64(|floats| coding.bytes(floats))),
            (_, [_, columns]) => {
                Self::Matrix(values.chunks((*columns).max(1)).map(<[f32]>::to_vec).collect())
            }
            _ => Self::Vector(Vector::Float(values)),
        }
    }
}

impl Body {
    fn request(self, target: &Target, pooled: Pooled) -> Result<InferRequest, ApiError> {
        let (cut, inputs) = (self.cut(), self.input.0.list);
        let (dimensions, normalize) = (self.dimensions, self.use_activation.unwrap_or(true));
        match pooled {
            Pooled::Classify if !normalize => Err(invalid("use_activation", "scores are probabilities here")),
            Pooled::Classify => Ok(target.classes(inputs, cut.of(target, Truncation::Stride)?)),
            Pooled::Embed => {
                let truncation = cut.of(target, Truncation::Error)?;
                let parameters =
                    EmbedParameters { dimensions, normalize, truncation, ..EmbedParameters::default() };
                Ok(target.clone().request(inputs, Parameters::Embed(parameters)))
            }
            Pooled::TokenEmbed => {
                let truncation = cut.of(target, Truncation::Error)?;
                let default = EmbedTokensParameters::default();
                let parameters = EmbedTokensParameters { dimensions, normalize, truncation, ..default };
                target.token_vectors(inputs, parameters)
            }
            Pooled::TokenClassify => {
                Err(invalid("task", "classes are of texts here: embed, token_embed or classify"))
            }
        }
    }
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
        let by_default = if is_classifier { Pooled::Classify } else { Pooled::Embed };
        let pooled = body.task.map_or(by_default, Name::get);
        let coding = Coding {
            dtype: body.embed_dtype.map(Name::get).unwrap_or_default(),
            endianness: body.endianness.map(Name::get).unwrap_or_default(),
        };
        let format = body.encoding_format.map(Name::get).unwrap_or_default();
        if format == Format::Bytes {
            binary::check_told(body.input.0.list.len())?;
        }
        let request = body.request(&target, pooled)?;
        let id = request_id(&head.extensions);
        Ok((request, Rendering { id, target, pooled, format, coding }))
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        let Rendering { id, target, pooled, format, coding } = rendering;
        let (model, created, usage) = (Arc::clone(&response.model), created(&response), Usage::of(&response));
        let inputs: Vec<Numbers> = match pooled {
            Pooled::Embed => vectors(response)?.into_iter().map(Numbers::from).collect(),
            Pooled::TokenEmbed => token_vectors(response)?.into_iter().map(Numbers::from).collect(),
            Pooled::Classify | Pooled::TokenClassify => {
                let order = target.find(&model).map(|model| model.labels).unwrap_or_default();
                classes(response, false)?.iter().map(|labels| in_order(&order, labels).into()).collect()
            }
        };
        let about = About { id: &id, created, model: &model, usage };
        match format {
            Format::Bytes => binary::answer(inputs, coding, Some(about)),
            Format::BytesOnly => binary::answer(inputs, coding, None),
            Format::Float | Format::Base64 => {
                let pool = |(index, numbers)| Pool {
                    index,
                    object: "pooling",
                    data: Data::of(numbers, format, coding),
                };
                let data = inputs.into_iter().enumerate().map(pool).collect();
                let About { usage, .. } = about;
                let pools = Pools { id: &id, object: "list", created, model: &model, data, usage };
                Answer::json(StatusCode::OK, &pools)
            }
        }
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Pools<'_>>())
}
