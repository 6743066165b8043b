//! `POST /rerank` and `POST /similarity`: texts beside another one.

use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::errors::{COMPARED, RANKED, Tei};
use super::super::requests::{self, Direction, no_prompt, truncation};
use super::Targeted;
use super::embed::characters;
use crate::http::body::{self, Name, Object};
use crate::http::dialect::{Answer, Shape};
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openapi::Api;
use crate::outputs;
use crate::tei::facts::Facts;

/// `POST /rerank` with `texts`. A score is a reranker's logit with `raw_scores`, and its sigmoid without;
/// where an embedding model answers it is a cosine in either case.
pub struct Rerank(pub Target);

/// `POST /similarity`.
pub struct Similarity(pub Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct RerankBody {
    query: String,
    texts: Vec<String>,
    truncate: Option<bool>,
    truncation_direction: Option<Name<Direction>>,
    raw_scores: Option<bool>,
    return_text: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SimilarityBody {
    inputs: Object<Sentences>,
    parameters: Option<Object<SimilarityOptions>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Sentences {
    source_sentence: String,
    sentences: Vec<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct SimilarityOptions {
    truncate: Option<bool>,
    truncation_direction: Option<Name<Direction>>,
    prompt_name: Option<String>,
}

/// How ranks are written.
pub struct Ranks {
    /// The texts, where they are to be given back.
    texts: Option<Vec<String>>,
    characters: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Rank {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

impl Targeted for Rerank {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Targeted for Similarity {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Shape for Rerank {
    type Dialect = Tei;
    type Rendering = Ranks;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Rerank)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Ranks), ApiError> {
        let RerankBody { query, texts, truncate, truncation_direction, raw_scores, return_text } =
            body::parse(body)?;
        let kept = return_text.unwrap_or(false).then(|| texts.clone());
        let query_characters = query.chars().count();
        let truncation = truncation(truncate, truncation_direction.map(Name::get));
        let request = requests::ranks(self.0, query, texts, raw_scores.unwrap_or(false), truncation)?;
        let characters = query_characters + characters(&request.inputs);
        Ok((request, Ranks { texts: kept, characters }))
    }

    fn words(_: &Ranks) -> Option<Words> {
        Some(RANKED)
    }

    fn write(response: InferResponse, rendering: Ranks) -> Result<Answer, ApiError> {
        let Ranks { mut texts, characters } = rendering;
        let facts = Facts::of(&response, characters);
        let mut rank = |(index, score)| {
            let text = texts.as_mut().and_then(|texts| texts.get_mut(index)).map(std::mem::take);
            Rank { index, text, score }
        };
        facts.answer(&outputs::ranks(response)?.into_iter().map(&mut rank).collect::<Vec<_>>())
    }
}

impl Shape for Similarity {
    type Dialect = Tei;
    type Rendering = usize;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Similarity)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, usize), ApiError> {
        let SimilarityBody { inputs: Object(Sentences { source_sentence, sentences }), parameters } =
            body::parse(body)?;
        let SimilarityOptions { truncate, truncation_direction, prompt_name } =
            parameters.map(|Object(parameters)| parameters).unwrap_or_default();
        no_prompt(prompt_name.as_deref())?;
        let source_characters = source_sentence.chars().count();
        let truncation = truncation(truncate, truncation_direction.map(Name::get));
        let request = requests::similarities(self.0, source_sentence, sentences, truncation)?;
        let characters = source_characters + characters(&request.inputs);
        Ok((request, characters))
    }

    fn words(_: &usize) -> Option<Words> {
        Some(COMPARED)
    }

    fn write(response: InferResponse, characters: usize) -> Result<Answer, ApiError> {
        let facts = Facts::of(&response, characters);
        facts.answer(&outputs::scores(response)?)
    }
}

/// What is read and written, for the document.
pub(super) fn ranking(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<RerankBody>(), api.written_whole::<Vec<Rank>>())
}

/// What is read and written, for the document.
pub(super) fn comparing(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<SimilarityBody>(), api.written_whole::<Vec<f32>>())
}
