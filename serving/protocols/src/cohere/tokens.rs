//! `POST /v1/tokenize` and `/v1/detokenize`.

use api::tasks::{DetokenizeParameters, Input, Output, Parameters, TokenizeParameters};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiVersion, Cohere, Meta, Units};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openai::in_body;
use crate::openapi::Api;
use crate::outputs::outputs;

/// A request for the tokens of a text, without those that the model reads around it, as Cohere has it.
pub(super) struct Tokenize(pub(super) Target);

/// A request for the text of tokens.
pub(super) struct Detokenize(pub(super) Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct Text {
    text: String,
    model: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Tokens {
    tokens: Vec<u32>,
    model: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Tokenized {
    tokens: Vec<u32>,
    token_strings: Vec<String>,
    meta: Meta,
}

#[derive(Serialize, JsonSchema)]
struct Detokenized {
    text: String,
    meta: Meta,
}

/// Nothing is charged for tokens.
fn meta() -> Meta {
    Meta { api_version: ApiVersion { version: "1" }, billed_units: Units::default() }
}

/// What is said of the only input of a request.
fn of_field(inputs: &'static str) -> Option<Words> {
    Some(Words { is_one: true, ..Words::of_array(inputs, "send it in parts") })
}

impl Shape for Tokenize {
    type Dialect = Cohere;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Tokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Text { text, model } = body::parse(body)?;
        let parameters = TokenizeParameters { add_special_tokens: false, ..TokenizeParameters::default() };
        let target = in_body(self.0, model);
        Ok((target.request(vec![Input::Text(text)], Parameters::Tokenize(parameters)), ()))
    }

    fn words((): &()) -> Option<Words> {
        of_field("text")
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let found = outputs(response, |output| match output {
            Output::Tokens(tokens) => Some(tokens),
            _ => None,
        })?;
        let found = found.into_iter().next().unwrap_or_default().into_iter();
        let (tokens, token_strings) = found.map(|token| (token.id, token.text)).unzip();
        Answer::json(StatusCode::OK, &Tokenized { tokens, token_strings, meta: meta() })
    }
}

impl Shape for Detokenize {
    type Dialect = Cohere;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Detokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Tokens { tokens, model } = body::parse(body)?;
        let parameters = Parameters::Detokenize(DetokenizeParameters::default());
        Ok((in_body(self.0, model).request(vec![Input::Tokens(tokens)], parameters), ()))
    }

    fn words((): &()) -> Option<Words> {
        of_field("tokens")
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let texts = outputs(response, |output| match output {
            Output::Text(text) => Some(text),
            _ => None,
        })?;
        let text = texts.into_iter().next().unwrap_or_default();
        Answer::json(StatusCode::OK, &Detokenized { text, meta: meta() })
    }
}

/// What is read and written for the tokens of a text, for the document.
pub(super) fn tokenizing(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Text>(), api.written_whole::<Tokenized>())
}

/// The same for the text of tokens.
pub(super) fn detokenizing(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Tokens>(), api.written_whole::<Detokenized>())
}
