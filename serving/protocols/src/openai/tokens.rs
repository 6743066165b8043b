//! vLLM's `POST /tokenize` and `POST /detokenize`.

use std::sync::Arc;

use api::tasks::{DetokenizeParameters, Input, Output, Parameters, TokenizeParameters};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OpenAi;
use super::asked::{Asked, other_output, results};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::openapi::Api;

/// A request for the tokens of a prompt.
pub(crate) struct Tokenize(pub(crate) Asked);

/// A request for the text of tokens.
pub(crate) struct Detokenize(pub(crate) Asked);

#[derive(Debug, Deserialize, JsonSchema)]
struct Prompt {
    model: Option<String>,
    prompt: String,
    add_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Ids {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// How tokens are written.
pub(crate) struct Rendering {
    asked: Asked,
    has_texts: bool,
}

#[derive(Serialize, JsonSchema)]
struct Tokens {
    count: usize,
    max_model_len: usize,
    tokens: Vec<u32>,
    token_strs: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
struct Text {
    prompt: String,
}

impl Shape for Tokenize {
    type Dialect = OpenAi;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Tokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self(asked) = self;
        let Prompt { model, prompt, add_special_tokens, return_token_strs } = body::parse(body)?;
        let add_special_tokens = add_special_tokens.unwrap_or(true);
        let parameters = TokenizeParameters { add_special_tokens, ..TokenizeParameters::default() };
        let model = asked.name(model);
        let request = asked.request(model, vec![Input::Text(prompt)], Parameters::Tokenize(parameters));
        Ok((request, Rendering { asked, has_texts: return_token_strs.unwrap_or(false) }))
    }

    fn write(response: InferResponse, Rendering { asked, has_texts }: Rendering) -> Result<Answer, ApiError> {
        let model = Arc::clone(&response.model);
        let max_model_len = asked.model(Some(&model)).map_or(0, |model| model.limits.tokens_max);
        match results(response)?.pop().map(|result| result.output) {
            Some(Output::Tokens(found)) => {
                let tokens: Vec<u32> = found.iter().map(|token| token.id).collect();
                let count = tokens.len();
                let token_strs = has_texts.then(|| found.into_iter().map(|token| token.text).collect());
                Answer::json(StatusCode::OK, &Tokens { count, max_model_len, tokens, token_strs })
            }
            _ => Err(other_output()),
        }
    }
}

impl Shape for Detokenize {
    type Dialect = OpenAi;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Detokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Self(asked) = self;
        let Ids { model, tokens } = body::parse(body)?;
        // vLLM leaves special tokens in.
        let parameters = DetokenizeParameters { skip_special_tokens: false };
        let model = asked.name(model);
        Ok((asked.request(model, vec![Input::Tokens(tokens)], Parameters::Detokenize(parameters)), ()))
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        match results(response)?.pop().map(|result| result.output) {
            Some(Output::Text(prompt)) => Answer::json(StatusCode::OK, &Text { prompt }),
            _ => Err(other_output()),
        }
    }
}

/// What is read and written, for the document.
pub(super) fn tokenizing(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Prompt>(), api.written_whole::<Tokens>())
}

/// What is read and written, for the document.
pub(super) fn detokenizing(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Ids>(), api.written_whole::<Text>())
}
