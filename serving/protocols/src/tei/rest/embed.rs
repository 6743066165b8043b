//! `POST /embed` and its relatives.

use api::tasks::{EmbedTokensParameters, Input};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::errors::Tei;
use super::super::requests::{Direction, Embeddings, SPARSE_VECTORS, not_given, truncation};
use super::Targeted;
use crate::http::body::{self, Name};
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::Inputs;
use crate::http::target::Target;
use crate::openapi::Api;
use crate::outputs;
use crate::tei::facts::Facts;

/// `POST /embed`: a vector for each input, in an array even if there is one.
pub struct Embed(pub Target);

/// `POST /embed_all`: the vectors of each input's tokens, not pooled and not scaled.
pub(super) struct EmbedAll(Target);

/// `POST /embed_sparse`: weights of the words of the vocabulary, which no model here gives.
pub(super) struct EmbedSparse(Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct Body {
    inputs: Inputs,
    truncate: Option<bool>,
    truncation_direction: Option<Name<Direction>>,
    prompt_name: Option<String>,
    normalize: Option<bool>,
    dimensions: Option<usize>,
}

/// How many characters there are in texts.
pub(super) fn characters(inputs: &[Input]) -> usize {
    let of = |input: &Input| match input {
        Input::Text(text) => text.chars().count(),
        Input::Tokens(_) => 0,
    };
    inputs.iter().map(of).sum()
}

impl Targeted for Embed {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Shape for Embed {
    type Dialect = Tei;
    type Rendering = usize;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, usize), ApiError> {
        let Body { inputs, truncate, truncation_direction, prompt_name, normalize, dimensions } =
            body::parse(body)?;
        let truncation = truncation(truncate, truncation_direction.map(Name::get));
        let inputs = inputs.list;
        let characters = characters(&inputs);
        Ok((Embeddings { inputs, truncation, normalize, dimensions, prompt_name }.of(self.0), characters))
    }

    fn write(response: InferResponse, characters: usize) -> Result<Answer, ApiError> {
        let facts = Facts::of(&response, characters);
        facts.answer(&outputs::vectors(response)?)
    }
}

impl Targeted for EmbedAll {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Shape for EmbedAll {
    type Dialect = Tei;
    type Rendering = usize;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Embed)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, usize), ApiError> {
        let Body { inputs, truncate, truncation_direction, prompt_name, .. } = body::parse(body)?;
        let truncation = truncation(truncate, truncation_direction.map(Name::get));
        let characters = characters(&inputs.list);
        let parameters =
            EmbedTokensParameters { truncation, prompt_name, ..EmbedTokensParameters::default() };
        Ok((self.0.token_vectors(inputs.list, parameters)?, characters))
    }

    fn write(response: InferResponse, characters: usize) -> Result<Answer, ApiError> {
        let facts = Facts::of(&response, characters);
        facts.answer(&outputs::token_vectors(response)?)
    }
}

/// Routes of which every request is refused once it is known whose it is, as the dialect does it for models
/// that give something else.
macro_rules! not_given {
    ($($shape:ident: $asked:ident;)+) => {$(
        impl Targeted for $shape {
            fn of(target: Target) -> Self {
                Self(target)
            }
        }

        impl Shape for $shape {
            type Dialect = Tei;
            type Rendering = ();

            fn operation(&self) -> Option<Operation> {
                Some(Operation::Embed)
            }

            fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
                body::parse::<Body>(body)?;
                Err(not_given(&self.0, $asked))
            }

            fn write(_: InferResponse, (): ()) -> Result<Answer, ApiError> {
                Err(ApiError::internal("nothing was asked for"))
            }
        }
    )+};
}

not_given! {
    EmbedSparse: SPARSE_VECTORS;
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Vec<Vec<f32>>>())
}

/// The same where each token has a vector.
pub(super) fn schemas_of_tokens(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Vec<Vec<Vec<f32>>>>())
}
