//! `POST /v2/embed` and `/v1/embed`: embeddings in several types of numbers at once.

use std::sync::Arc;

use api::tasks::{EmbedParameters, Input, Parameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiVersion, Cohere, Meta, Units};
use crate::http::body::{self, Name};
use crate::http::dialect::{Answer, Shape};
use crate::http::target::Target;
use crate::http::vectors::{Precision, Vector, little_endian};
use crate::http::words::Words;
use crate::openai::{CUT, Cut, Truncate, in_body, invalid, whole_window};
use crate::openapi::Api;
use crate::outputs::vectors;

/// A request for embeddings.
pub(super) struct Embed {
    pub(super) target: Target,
    pub(super) version: Version,
}

/// Of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Answers with bare floats where no types are asked for.
    One,
    Two,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Body {
    texts: Option<Vec<String>>,
    inputs: Option<Vec<Mixed>>,
    #[schemars(with = "Option<Value>")]
    images: Option<IgnoredAny>,
    model: Option<String>,
    /// Whether texts are queries or documents, for models with prompts for them.
    input_type: Option<String>,
    embedding_types: Option<Vec<Name<EmbeddingType>>>,
    output_dimension: Option<usize>,
    truncate: Option<Truncate>,
    max_tokens: Option<usize>,
}

/// An input of parts, of which texts are read here.
#[derive(Debug, Deserialize, JsonSchema)]
struct Mixed {
    content: Vec<Part>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Part {
    text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EmbeddingType {
    Float,
    Int8,
    Uint8,
    Binary,
    Ubinary,
    Base64,
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    version: Version,
    /// None: bare floats.
    types: Option<Vec<EmbeddingType>>,
    texts: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Embedded<'a> {
    id: &'a str,
    embeddings: Embeddings,
    texts: Vec<String>,
    meta: Meta,
    response_type: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Embeddings {
    Bare(Vec<Vec<f32>>),
    Typed(Box<Typed>),
}

#[derive(Default, Serialize, JsonSchema)]
struct Typed {
    #[serde(skip_serializing_if = "Option::is_none")]
    float: Option<Vec<Vector>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Vec<Vector>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uint8: Option<Vec<Vector>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Vec<Vector>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubinary: Option<Vec<Vector>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Vec<Vector>>,
}

impl Body {
    /// The texts, under whichever name.
    fn texts(self) -> Result<Vec<String>, ApiError> {
        if self.images.is_some() {
            return Err(invalid("images", "texts are embedded here and no images"));
        }
        let text = |(index, Mixed { content }): (usize, Mixed)| {
            let parts: Option<Vec<String>> = content.into_iter().map(|part| part.text).collect();
            let field = format!("inputs[{index}].content");
            parts.map(|parts| parts.join("\n")).ok_or_else(|| invalid(&field, "expected parts with a text"))
        };
        match (self.texts, self.inputs) {
            (Some(texts), None) => Ok(texts),
            (None, Some(inputs)) => inputs.into_iter().enumerate().map(text).collect(),
            _ => Err(invalid("texts", "expected one of texts and inputs")),
        }
    }
}

impl Shape for Embed {
    type Dialect = Cohere;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self { target, version } = self;
        let mut body: Body = body::parse(body)?;
        let target = in_body(target, body.model.take());
        whole_window("max_tokens", body.max_tokens, &target)?;
        // By default the end of a long text is cut off, as Cohere does.
        let cut = Cut { truncate: body.truncate, ..Cut::default() };
        let parameters = EmbedParameters {
            dimensions: body.output_dimension,
            truncation: cut.of(&target, Truncation::End)?,
            prompt_name: target.prompt(body.input_type.as_deref()),
            ..EmbedParameters::default()
        };
        let types = body.embedding_types.take().filter(|types| !types.is_empty());
        let types = types.map(|types| types.into_iter().map(Name::get).collect());
        let types = types.or_else(|| (version == Version::Two).then(|| vec![EmbeddingType::Float]));
        let texts = body.texts()?;
        let inputs = texts.iter().map(|text| Input::Text(text.clone())).collect();
        let rendering = Rendering { id: request_id(&head.extensions), version, types, texts };
        Ok((target.request(inputs, Parameters::Embed(parameters)), rendering))
    }

    fn words(_: &Rendering) -> Option<Words> {
        let parameters = &[("dimensions", "output_dimension")];
        Some(Words { parameters, ..Words::of_array("texts", CUT) })
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        let Rendering { id, version, types, texts } = rendering;
        let input_tokens = Some(response.tokens);
        let rows = vectors(response)?;
        let (embeddings, response_type) = match types {
            None => (Embeddings::Bare(rows), "embeddings_floats"),
            Some(types) => (Embeddings::Typed(Box::new(typed(&rows, &types))), "embeddings_by_type"),
        };
        let version = if version == Version::One { "1" } else { "2" };
        let billed_units = Units { input_tokens, ..Units::default() };
        let meta = Meta { api_version: ApiVersion { version }, billed_units };
        Answer::json(StatusCode::OK, &Embedded { id: &id, embeddings, texts, meta, response_type })
    }
}

/// Vectors in each of some types.
fn typed(rows: &[Vec<f32>], types: &[EmbeddingType]) -> Typed {
    let mut typed = Typed::default();
    let all = |precision: Precision| rows.iter().map(|row| precision.of(row.clone())).collect::<Vec<_>>();
    for of in types {
        match of {
            EmbeddingType::Float => typed.float = Some(all(Precision::Float)),
            EmbeddingType::Int8 => typed.int8 = Some(all(Precision::Int8)),
            EmbeddingType::Uint8 => typed.uint8 = Some(all(Precision::Uint8)),
            EmbeddingType::Binary => typed.binary = Some(all(Precision::Binary)),
            EmbeddingType::Ubinary => typed.ubinary = Some(all(Precision::Ubinary)),
            EmbeddingType::Base64 => {
                let floats = all(Precision::Float);
                typed.base64 = Some(floats.iter().map(|vector| vector.base64(little_endian)).collect());
            }
        }
    }
    typed
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Embedded<'_>>())
}
