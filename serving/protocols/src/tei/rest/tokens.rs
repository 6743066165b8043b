//! `POST /tokenize` and `POST /decode`.

use api::tasks::{Input, Output, Token};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::answers;
use super::super::errors::{DECODED, Tei};
use super::super::requests::{self, no_prompt};
use super::Targeted;
use super::embed::characters;
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::Inputs;
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openapi::Api;
use crate::outputs::outputs;
use crate::tei::facts::Facts;

/// `POST /tokenize` with `inputs`.
pub struct Tokenize(pub Target);

/// `POST /decode`.
pub struct Decode(pub Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct TokenizeBody {
    inputs: Inputs,
    add_special_tokens: Option<bool>,
    prompt_name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct DecodeBody {
    ids: Inputs,
    skip_special_tokens: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SimpleToken {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

impl From<Token> for SimpleToken {
    fn from(Token { id, text, is_special, span }: Token) -> Self {
        let (start, stop) = span.unzip();
        Self { id, text, special: is_special, start, stop }
    }
}

impl Targeted for Tokenize {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Targeted for Decode {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Shape for Tokenize {
    type Dialect = Tei;
    /// The texts, of which the tokens show slices.
    type Rendering = Vec<Input>;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Tokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Vec<Input>), ApiError> {
        let TokenizeBody { inputs, add_special_tokens, prompt_name } = body::parse(body)?;
        no_prompt(prompt_name.as_deref())?;
        let texts = inputs.list.clone();
        Ok((requests::tokens(self.0, inputs.list, add_special_tokens), texts))
    }

    fn write(response: InferResponse, texts: Vec<Input>) -> Result<Answer, ApiError> {
        let facts = Facts::of(&response, characters(&texts));
        let tokens = answers::tokens(response, &texts)?.into_iter();
        let tokens = tokens.map(|tokens| tokens.into_iter().map(SimpleToken::from).collect::<Vec<_>>());
        facts.answer(&tokens.collect::<Vec<_>>())
    }
}

impl Shape for Decode {
    type Dialect = Tei;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Detokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let DecodeBody { ids, skip_special_tokens } = body::parse(body)?;
        Ok((requests::texts(self.0, ids.list, skip_special_tokens), ()))
    }

    fn words((): &()) -> Option<Words> {
        Some(DECODED)
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let facts = Facts::of(&response, 0);
        let texts = outputs(response, |output| match output {
            Output::Text(text) => Some(text),
            _ => None,
        })?;
        facts.answer(&texts)
    }
}

/// What is read and written, for the document.
pub(super) fn tokenizing(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<TokenizeBody>(), api.written_whole::<Vec<Vec<SimpleToken>>>())
}

/// What is read and written, for the document.
pub(super) fn decoding(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<DecodeBody>(), api.written_whole::<Vec<String>>())
}
