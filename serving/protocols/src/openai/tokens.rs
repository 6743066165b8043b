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

use super::asked::in_body;
use super::asked::parse;
use super::{CUT, OpenAi};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openapi::Api;
use crate::outputs::outputs;

/// A request for the tokens of a prompt.
pub(crate) struct Tokenize(pub(crate) Target);

/// A request for the text of tokens.
pub(crate) struct Detokenize(pub(crate) Target);

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
    target: Target,
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
        let Self(target) = self;
        let Prompt { model, prompt, add_special_tokens, return_token_strs } = parse(body)?;
        let add_special_tokens = add_special_tokens.unwrap_or(true);
        let parameters = TokenizeParameters { add_special_tokens, ..TokenizeParameters::default() };
        let target = in_body(target, model);
        let request = target.clone().request(vec![Input::Text(prompt)], Parameters::Tokenize(parameters));
        Ok((request, Rendering { target, has_texts: return_token_strs.unwrap_or(false) }))
    }

    fn words(_: &Rendering) -> Option<Words> {
        Some(Words { is_one: true, ..Words::of_array("prompt", CUT) })
    }

    fn write(
        response: InferResponse,
        Rendering { target, has_texts }: Rendering,
    ) -> Result<Answer, ApiError> {
        let model = Arc::clone(&response.model);
        let max_model_len = target.find(&model).map_or(0, |model| model.limits.tokens_max);
        let found = outputs(response, |output| match output {
            Output::Tokens(tokens) => Some(tokens),
            _ => None,
        })?;
        let found = found.into_iter().next().unwrap_or_default();
        let tokens: Vec<u32> = found.iter().map(|token| token.id).collect();
        let count = tokens.len();
        let token_strs = has_texts.then(|| found.into_iter().map(|token| token.text).collect());
        Answer::json(StatusCode::OK, &Tokens { count, max_model_len, tokens, token_strs })
    }
}

impl Shape for Detokenize {
    type Dialect = OpenAi;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Detokenize)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Self(target) = self;
        let Ids { model, tokens } = body::parse(body)?;
        // vLLM leaves special tokens in.
        let parameters = DetokenizeParameters { skip_special_tokens: false };
        let target = in_body(target, model);
        Ok((target.request(vec![Input::Tokens(tokens)], Parameters::Detokenize(parameters)), ()))
    }

    fn words((): &()) -> Option<Words> {
        Some(Words { is_one: true, ..Words::of_array("tokens", CUT) })
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let texts = outputs(response, |output| match output {
            Output::Text(text) => Some(text),
            _ => None,
        })?;
        let prompt = texts.into_iter().next().unwrap_or_default();
        Answer::json(StatusCode::OK, &Text { prompt })
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
