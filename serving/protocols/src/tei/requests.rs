//! What its requests ask for, over REST and gRPC alike.

use api::tasks::{
    DetokenizeParameters, EmbedParameters, Input, InputError, OffsetUnit, Parameters, RerankParameters,
    SimilarityParameters, TokenizeParameters, Truncation,
};
use api::{ApiError, InferRequest, Task};
use schemars::JsonSchema;
use serde::Deserialize;

use super::errors::{COMPARED, RANKED};
use crate::http::target::Target;
use crate::http::words::Words;

/// The end of a text at which it is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Direction {
    /// Its end is cut off.
    #[serde(alias = "right")]
    Right,
    /// Its start is.
    #[serde(alias = "left")]
    Left,
}

/// What happens to a text that is longer than the model reads: cut off, unless the caller wants it refused.
pub(crate) fn truncation(truncate: Option<bool>, direction: Option<Direction>) -> Truncation {
    match (truncate, direction) {
        (Some(false), _) => Truncation::Error,
        (_, Some(Direction::Left)) => Truncation::Start,
        (_, Some(Direction::Right) | None) => Truncation::End,
    }
}

/// Refuses the name of a prompt where none is put before texts.
///
/// # Errors
/// There is one.
pub(crate) fn no_prompt(name: Option<&str>) -> Result<(), ApiError> {
    let problem = "no prompts are put before texts here".to_owned();
    match name {
        Some(_) => Err(ApiError::InvalidRequest { field: "prompt_name".to_owned(), problem }),
        None => Ok(()),
    }
}

/// A vector for each input.
#[derive(Debug)]
pub(crate) struct Embeddings {
    /// The texts.
    pub(crate) inputs: Vec<Input>,
    /// What happens to long ones.
    pub(crate) truncation: Truncation,
    /// Whether vectors are of length one; they are if `None`.
    pub(crate) normalize: Option<bool>,
    /// Leading dimensions that are kept; all if `None`.
    pub(crate) dimensions: Option<usize>,
    /// The prompt that is put before texts.
    pub(crate) prompt_name: Option<String>,
}

impl Embeddings {
    /// As it is asked of a target.
    pub(crate) fn of(self, target: Target) -> InferRequest {
        let Self { inputs, truncation, normalize, dimensions, prompt_name } = self;
        let normalize = normalize.unwrap_or(true);
        let parameters =
            EmbedParameters { dimensions, normalize, prompt_name, truncation, ..EmbedParameters::default() };
        target.request(inputs, Parameters::Embed(parameters))
    }
}

/// How well texts answer a query. `raw_scores`: as a reranker's logits, or their sigmoid.
///
/// # Errors
/// There are no texts.
pub(crate) fn ranks(
    target: Target,
    query: String,
    texts: Vec<String>,
    raw_scores: bool,
    truncation: Truncation,
) -> Result<InferRequest, ApiError> {
    let inputs = some(texts, &RANKED)?;
    let raw_scores = Some(raw_scores);
    Ok(target.request(inputs, Parameters::Rerank(RerankParameters { query, raw_scores, truncation })))
}

/// How near sentences are to another one.
///
/// # Errors
/// There are no sentences.
pub(crate) fn similarities(
    target: Target,
    reference: String,
    sentences: Vec<String>,
    truncation: Truncation,
) -> Result<InferRequest, ApiError> {
    let inputs = some(sentences, &COMPARED)?;
    Ok(target.request(inputs, Parameters::Similarity(SimilarityParameters { reference, truncation })))
}

/// Tokens of texts, with places in characters.
pub(crate) fn tokens(target: Target, inputs: Vec<Input>, add_special_tokens: Option<bool>) -> InferRequest {
    let add_special_tokens = add_special_tokens.unwrap_or(true);
    let parameters = TokenizeParameters { add_special_tokens, offset_unit: OffsetUnit::Codepoint };
    target.request(inputs, Parameters::Tokenize(parameters))
}

/// Texts of tokens.
pub(crate) fn texts(target: Target, inputs: Vec<Input>, skip_special_tokens: Option<bool>) -> InferRequest {
    let skip_special_tokens = skip_special_tokens.unwrap_or(true);
    target.request(inputs, Parameters::Detokenize(DetokenizeParameters { skip_special_tokens }))
}

/// Refuses what no model gives, as the dialect does it of a model that gives something else.
pub(crate) fn not_given(target: &Target, asked: &'static str) -> ApiError {
    match target.model(&[Task::Embed]) {
        Ok(model) => ApiError::WrongTask { model: model.name, offers: model.task.as_str(), asked },
        Err(error) => error,
    }
}

/// Of a model that gives them.
pub(crate) const SPARSE_VECTORS: &str = "sparse vectors (embed_sparse)";
/// What is said of pairs: the models read one text.
pub(crate) const PAIR: &str =
    "pairs are not read; put each text into an array of its own, [[\"…\"], [\"…\"]]";

/// The texts of a field, of which there has to be one.
fn some(texts: Vec<String>, words: &Words) -> Result<Vec<Input>, ApiError> {
    if texts.is_empty() {
        Err(words.of(InputError::None))
    } else {
        Ok(texts.into_iter().map(Input::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions() {
        use Truncation as T;
        let check = |truncate, direction: &str, expected| {
            let direction = serde_json::from_str::<Option<Direction>>(direction).ok();
            assert_eq!(direction.map(|direction| truncation(truncate, direction)), expected);
        };
        check(None, "null", Some(T::End));
        check(Some(true), "\"Right\"", Some(T::End));
        check(Some(true), "\"left\"", Some(T::Start));
        check(None, "\"Left\"", Some(T::Start));
        check(Some(false), "\"right\"", Some(T::Error));
        check(None, "\"up\"", None);
    }
}
