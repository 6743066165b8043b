//! `POST /v1/embeddings`: OpenAI's, and what Jina, Voyage, vLLM, NIM and infinity made of it. Each names how
//! the numbers are written by a field of its own, so that all can be taken at once.

use std::fmt;
use std::sync::Arc;

use api::tasks::{EmbedParameters, Parameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, Task, request_id};
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::OpenAi;
use super::asked::{Usage, created, invalid, only_text, parse, request_body};
use super::binary::{self, About, Coding, Dtype, Endianness, Numbers};
use crate::http::body::Name;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::{InputsOrObjects, OneOrMany};
use crate::http::target::Target;
use crate::http::vectors::{Precision, Vector};
use crate::openapi::Api;
use crate::outputs::vectors;

const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// What is said of token ids that may be of any tokenizer.
const BARE_IDS: &str = "token ids without the special tokens that the model's own tokenizer puts around a text \
     may be those of another one: send them with these, or the text itself (with LangChain's OpenAIEmbeddings, \
     check_embedding_ctx_length=False)";

/// A request for embeddings.
pub(crate) struct Embeddings(pub(crate) Target);

request_body! {
    struct Body {
        input: InputsOrObjects,
        /// OpenAI, vLLM, infinity, Voyage.
        encoding_format: Option<Name<Format>>,
        /// Jina.
        #[schemars(with = "Option<OneOrMany<JinaType>>")]
        embedding_type: Option<EmbeddingType>,
        /// Voyage.
        output_dtype: Option<Name<Precision>>,
        dimensions: Option<usize>,
        /// Voyage.
        output_dimension: Option<usize>,
        /// Voyage, NIM: whether texts are queries or documents, for models with prompts for them.
        input_type: Option<String>,
        /// Jina: what the embeddings are for.
        task: Option<String>,
        /// Jina.
        normalized: Option<bool>,
        late_chunking: Option<bool>,
        /// infinity: what inputs are, or are the addresses of.
        modality: Option<String>,
        /// vLLM.
        use_activation: Option<bool>,
        embed_dtype: Option<Name<Dtype>>,
        endianness: Option<Name<Endianness>>,
    }
}

/// What stands for the numbers of a vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// An array.
    #[default]
    Float,
    /// Their bytes, as text.
    Base64,
    /// A body of bytes, and a header that tells what is where in it.
    Bytes,
    /// A body of bytes alone.
    BytesOnly,
}

/// Jina's `embedding_type`: a name, or a list of one.
#[derive(Debug, Clone, Copy)]
struct EmbeddingType(JinaType);

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum JinaType {
    Float,
    Base64,
    Binary,
    Ubinary,
    Int8,
    Uint8,
}

impl<'de> Deserialize<'de> for EmbeddingType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TypeVisitor;
        impl<'de> Visitor<'de> for TypeVisitor {
            type Value = EmbeddingType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of one")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<EmbeddingType, E> {
                JinaType::deserialize(name.into_deserializer()).map(EmbeddingType)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<EmbeddingType, A::Error> {
                let first = names.next_element::<Name<JinaType>>()?;
                match (first, names.next_element::<Name<JinaType>>()?) {
                    (Some(Name(only)), None) => Ok(EmbeddingType(only)),
                    _ => Err(A::Error::custom("expected one type for all embeddings of a call")),
                }
            }
        }
        deserializer.deserialize_any(TypeVisitor)
    }
}

/// How embeddings are written.
pub(crate) struct Rendering {
    id: Arc<str>,
    format: Format,
    precision: Precision,
    coding: Coding,
}

#[derive(Serialize, JsonSchema)]
struct List<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: Usage,
    id: &'a str,
    created: u64,
}

#[derive(Serialize, JsonSchema)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

impl Body {
    /// What stands for the numbers, and the numbers.
    fn format(&self) -> (Format, Precision) {
        let mut format = self.encoding_format.map(Name::get).unwrap_or_default();
        let mut precision = self.output_dtype.map(Name::get).unwrap_or_default();
        match self.embedding_type {
            None | Some(EmbeddingType(JinaType::Float)) => {}
            Some(EmbeddingType(JinaType::Base64)) => format = Format::Base64,
            Some(EmbeddingType(JinaType::Binary)) => precision = Precision::Binary,
            Some(EmbeddingType(JinaType::Ubinary)) => precision = Precision::Ubinary,
            Some(EmbeddingType(JinaType::Int8)) => precision = Precision::Int8,
            Some(EmbeddingType(JinaType::Uint8)) => precision = Precision::Uint8,
        }
        (format, precision)
    }
}

impl Shape for Embeddings {
    type Dialect = OpenAi;
    type Rendering = Rendering;
    // LiteLLM declares Voyage's bodies as nothing.
    const IS_JSON: bool = false;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self(target) = self;
        let body: Body = parse(body)?;
        if body.late_chunking == Some(true) {
            return Err(invalid("late_chunking", "each text is read by itself here"));
        }
        only_text(body.modality.as_deref())?;
        let target = body.target(target);
        let parameters = EmbedParameters {
            // infinity's 0, which its client sends unasked, is all.
            dimensions: body.dimensions.or(body.output_dimension).filter(|dimensions| *dimensions > 0),
            normalize: body.normalized.or(body.use_activation).unwrap_or(true),
            truncation: body.cut().of(&target, Truncation::Error)?,
            prompt_name: target.prompt(body.input_type.as_deref().or(body.task.as_deref())),
            ..EmbedParameters::default()
        };
        // Ids of another tokenizer, which LangChain sends unasked, may all be in ours: a short text of them
        // would be embedded as another text.
        if let Some(index) = target.bare_ids(Task::Embed, &body.input.0.list) {
            let field = if body.input.0.is_list { format!("input[{index}]") } else { "input".to_owned() };
            return Err(invalid(&field, BARE_IDS));
        }
        let (format, precision) = body.format();
        if format == Format::Bytes {
            binary::check_told(body.input.0.list.len())?;
        }
        let coding = Coding {
            dtype: body.embed_dtype.map(Name::get).unwrap_or_default(),
            endianness: body.endianness.map(Name::get).unwrap_or_default(),
        };
        let rendering = Rendering { id: request_id(&head.extensions), format, precision, coding };
        Ok((target.request(body.input.0.list, Parameters::Embed(parameters)), rendering))
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        let Rendering { id, format, precision, coding } = rendering;
        let (model, created, usage) = (Arc::clone(&response.model), created(&response), Usage::of(&response));
        let took = response.timings.total.as_millis() as u64;
        let vectors = vectors(response)?;
        let about = About { id: &id, created, model: &model, usage };
        let numbers = |vectors: Vec<Vec<f32>>| vectors.into_iter().map(Numbers::from).collect();
        let mut answer = match format {
            Format::Bytes => binary::answer(numbers(vectors), coding, Some(about))?,
            Format::BytesOnly => binary::answer(numbers(vectors), coding, None)?,
            Format::Float | Format::Base64 => {
                let item = |(index, vector)| {
                    let numbers = precision.of(vector);
                    let embedding = match format {
                        Format::Base64 => numbers.base64(|floats| coding.bytes(floats)),
                        _ => numbers,
                    };
                    Item { object: "embedding", index, embedding }
                };
                let data = vectors.into_iter().enumerate().map(item).collect();
                let About { usage, .. } = about;
                let list = List { object: "list", data, model: &model, usage, id: &id, created };
                Answer::json(StatusCode::OK, &list)?
            }
        };
        answer.headers.insert(PROCESSING_MS, HeaderValue::from(took));
        Ok(answer)
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<List<'_>>())
}
