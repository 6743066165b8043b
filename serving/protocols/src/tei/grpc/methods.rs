//! What each method asks, and what it answers.

use api::tasks::{EmbedTokensParameters, Input, Output};
use api::{ApiError, InferRequest, InferResponse, Operation};
use prost::Message;
use proto::tei as wire;
use tonic::Status;

use crate::http::target::Target;
use crate::http::words::Words;
use crate::outputs::{self, outputs};
use crate::tei::answers;
use crate::tei::errors::{RANKED, status};
use crate::tei::facts::Facts;
use crate::tei::requests::{
    self, Direction, Embeddings, PAIR, SPARSE_VECTORS, no_prompt, not_given, truncation,
};

/// A method, or what is done with each message of a stream.
pub(super) trait Method: Send + Sync + 'static {
    /// What asks.
    type Question: Message + Default + 'static;
    /// What answers.
    type Answer: Message + Default + 'static;
    /// What of the question decides how the answer is written.
    type Rendering: Send + 'static;
    const OPERATION: Operation;
    /// By what repeated calls are told apart.
    const NAME: &'static str;
    /// What it calls its inputs, if not so.
    const WORDS: Option<Words> = None;

    /// Translates a question; the characters that it has are counted.
    fn read(question: Self::Question, target: Target) -> Result<Asked<Self::Rendering>, ApiError>;

    /// Translates an answer.
    fn write(
        response: InferResponse,
        rendering: Self::Rendering,
        facts: &Facts,
    ) -> Result<Self::Answer, ApiError>;
}

/// An error in the words of a method, as a status.
pub(super) fn refusal<M: Method>(error: ApiError, request_id: &str) -> Status {
    match (error, M::WORDS) {
        (ApiError::Input(error), Some(words)) => status(&words.of(error), request_id),
        (error, _) => status(&error, request_id),
    }
}

/// A question in the api's terms.
pub(super) struct Asked<R> {
    pub(super) request: InferRequest,
    pub(super) characters: usize,
    pub(super) rendering: R,
}

/// The end at which texts are cut off. proto3 enums are open: any number may arrive.
fn direction(value: i32) -> Result<Option<Direction>, ApiError> {
    match wire::TruncationDirection::try_from(value) {
        Ok(wire::TruncationDirection::Right) => Ok(Some(Direction::Right)),
        Ok(wire::TruncationDirection::Left) => Ok(Some(Direction::Left)),
        Err(_) => Err(ApiError::InvalidRequest {
            field: "truncation_direction".to_owned(),
            problem: format!("{value} is not a value of this enum"),
        }),
    }
}

/// The only one of the results, as each call has one input.
fn only<T>(results: Vec<T>) -> Result<T, ApiError> {
    results.into_iter().next().ok_or_else(|| ApiError::internal("no result for the only input"))
}

pub(super) struct Embed;

impl Method for Embed {
    type Question = wire::EmbedRequest;
    type Answer = wire::EmbedResponse;
    type Rendering = ();
    const OPERATION: Operation = Operation::Embed;
    const NAME: &'static str = "Embed";

    fn read(question: wire::EmbedRequest, target: Target) -> Result<Asked<()>, ApiError> {
        let characters = question.inputs.chars().count();
        let embeddings = Embeddings {
            truncation: truncation(Some(question.truncate), direction(question.truncation_direction)?),
            inputs: vec![question.inputs.into()],
            normalize: question.normalize,
            dimensions: question.dimensions.map(|dimensions| dimensions as usize),
            prompt_name: question.prompt_name,
        };
        Ok(Asked { request: embeddings.of(target), characters, rendering: () })
    }

    fn write(response: InferResponse, (): (), facts: &Facts) -> Result<wire::EmbedResponse, ApiError> {
        let embeddings = only(outputs::vectors(response)?)?;
        Ok(wire::EmbedResponse { embeddings, metadata: Some(facts.metadata()) })
    }
}

pub(super) struct EmbedAll;

impl Method for EmbedAll {
    type Question = wire::EmbedAllRequest;
    type Answer = wire::EmbedAllResponse;
    type Rendering = ();
    const OPERATION: Operation = Operation::Embed;
    const NAME: &'static str = "EmbedAll";

    fn read(question: wire::EmbedAllRequest, target: Target) -> Result<Asked<()>, ApiError> {
        let characters = question.inputs.chars().count();
        let truncation = truncation(Some(question.truncate), direction(question.truncation_direction)?);
        let prompt_name = question.prompt_name;
        let parameters =
            EmbedTokensParameters { truncation, prompt_name, ..EmbedTokensParameters::default() };
        let request = target.token_vectors(vec![question.inputs.into()], parameters)?;
        Ok(Asked { request, characters, rendering: () })
    }

    fn write(response: InferResponse, (): (), facts: &Facts) -> Result<wire::EmbedAllResponse, ApiError> {
        let vectors = only(outputs::token_vectors(response)?)?.into_iter();
        let token_embeddings = vectors.map(|embeddings| wire::TokenEmbedding { embeddings }).collect();
        Ok(wire::EmbedAllResponse { token_embeddings, metadata: Some(facts.metadata()) })
    }
}

/// Methods whose every call is refused: no model gives what they ask.
macro_rules! not_given {
    ($($method:ident: $question:ident -> $answer:ident, $asked:ident;)+) => {$(
        pub(super) struct $method;

        impl Method for $method {
            type Question = wire::$question;
            type Answer = wire::$answer;
            type Rendering = ();
            const OPERATION: Operation = Operation::Embed;
            const NAME: &'static str = stringify!($method);

            fn read(_: wire::$question, target: Target) -> Result<Asked<()>, ApiError> {
                Err(not_given(&target, $asked))
            }

            fn write(_: InferResponse, (): (), _: &Facts) -> Result<wire::$answer, ApiError> {
                Err(ApiError::internal("nothing was asked for"))
            }
        }
    )+};
}

not_given! {
    EmbedSparse: EmbedSparseRequest -> EmbedSparseResponse, SPARSE_VECTORS;
}

pub(super) struct Predict;

pub(super) struct PredictPair;

impl Method for Predict {
    type Question = wire::PredictRequest;
    type Answer = wire::PredictResponse;
    /// Whether scores are logits.
    type Rendering = bool;
    const OPERATION: Operation = Operation::Classify;
    const NAME: &'static str = "Predict";

    fn read(question: wire::PredictRequest, target: Target) -> Result<Asked<bool>, ApiError> {
        let wire::PredictRequest { inputs, truncate, raw_scores, truncation_direction } = question;
        let characters = inputs.chars().count();
        let truncation = truncation(Some(truncate), direction(truncation_direction)?);
        let request = target.classes(vec![inputs.into()], truncation);
        Ok(Asked { request, characters, rendering: raw_scores })
    }

    fn write(
        response: InferResponse,
        is_raw: bool,
        facts: &Facts,
    ) -> Result<wire::PredictResponse, ApiError> {
        let classes = only(outputs::classes(response, is_raw)?)?.into_iter();
        let predictions =
            classes.map(|class| wire::Prediction { score: class.score, label: class.label.to_string() });
        Ok(wire::PredictResponse { predictions: predictions.collect(), metadata: Some(facts.metadata()) })
    }
}

impl Method for PredictPair {
    type Question = wire::PredictPairRequest;
    type Answer = wire::PredictResponse;
    type Rendering = bool;
    const OPERATION: Operation = Operation::Classify;
    const NAME: &'static str = "PredictPair";

    fn read(question: wire::PredictPairRequest, target: Target) -> Result<Asked<bool>, ApiError> {
        let wire::PredictPairRequest { mut inputs, truncate, raw_scores, truncation_direction } = question;
        let (Some(inputs), true) = (inputs.pop(), inputs.is_empty()) else {
            return Err(ApiError::InvalidRequest { field: "inputs".to_owned(), problem: PAIR.to_owned() });
        };
        Predict::read(wire::PredictRequest { inputs, truncate, raw_scores, truncation_direction }, target)
    }

    fn write(
        response: InferResponse,
        is_raw: bool,
        facts: &Facts,
    ) -> Result<wire::PredictResponse, ApiError> {
        Predict::write(response, is_raw, facts)
    }
}

pub(super) struct Rerank;

impl Method for Rerank {
    type Question = wire::RerankRequest;
    type Answer = wire::RerankResponse;
    /// The texts, where they are to be given back.
    type Rendering = Option<Vec<String>>;
    const OPERATION: Operation = Operation::Rerank;
    const NAME: &'static str = "Rerank";
    const WORDS: Option<Words> = Some(RANKED);

    fn read(question: wire::RerankRequest, target: Target) -> Result<Asked<Self::Rendering>, ApiError> {
        let wire::RerankRequest { query, texts, truncate, raw_scores, return_text, truncation_direction } =
            question;
        let all = texts.iter().chain([&query]);
        let characters = all.map(|text| text.chars().count()).sum();
        let rendering = return_text.then(|| texts.clone());
        let truncation = truncation(Some(truncate), direction(truncation_direction)?);
        let request = requests::ranks(target, query, texts, raw_scores, truncation)?;
        Ok(Asked { request, characters, rendering })
    }

    fn write(
        response: InferResponse,
        mut texts: Self::Rendering,
        facts: &Facts,
    ) -> Result<wire::RerankResponse, ApiError> {
        let mut rank = |(index, score): (usize, f32)| {
            let text = texts.as_mut().and_then(|texts| texts.get_mut(index)).map(std::mem::take);
            wire::Rank { index: index as u32, text, score }
        };
        let ranks = outputs::ranks(response)?.into_iter().map(&mut rank).collect();
        Ok(wire::RerankResponse { ranks, metadata: Some(facts.metadata()) })
    }
}

pub(super) struct Tokenize;

impl Method for Tokenize {
    type Question = wire::EncodeRequest;
    type Answer = wire::EncodeResponse;
    /// The text, of which tokens show slices.
    type Rendering = Vec<Input>;
    const OPERATION: Operation = Operation::Tokenize;
    const NAME: &'static str = "Tokenize";

    fn read(question: wire::EncodeRequest, target: Target) -> Result<Asked<Vec<Input>>, ApiError> {
        let wire::EncodeRequest { inputs, add_special_tokens, prompt_name } = question;
        no_prompt(prompt_name.as_deref())?;
        let characters = inputs.chars().count();
        let texts = vec![Input::Text(inputs)];
        let request = requests::tokens(target, texts.clone(), Some(add_special_tokens));
        Ok(Asked { request, characters, rendering: texts })
    }

    fn write(
        response: InferResponse,
        texts: Vec<Input>,
        _: &Facts,
    ) -> Result<wire::EncodeResponse, ApiError> {
        let tokens = only(answers::tokens(response, &texts)?)?.into_iter().map(|token| {
            let (start, stop) = token.span.unzip();
            let place = |place: Option<usize>| place.map(|place| place as u32);
            let (start, stop) = (place(start), place(stop));
            wire::SimpleToken { id: token.id, text: token.text, special: token.is_special, start, stop }
        });
        Ok(wire::EncodeResponse { tokens: tokens.collect() })
    }
}

pub(super) struct Decode;

impl Method for Decode {
    type Question = wire::DecodeRequest;
    type Answer = wire::DecodeResponse;
    type Rendering = ();
    const OPERATION: Operation = Operation::Detokenize;
    const NAME: &'static str = "Decode";

    fn read(question: wire::DecodeRequest, target: Target) -> Result<Asked<()>, ApiError> {
        let wire::DecodeRequest { ids, skip_special_tokens } = question;
        let request = requests::texts(target, vec![Input::Tokens(ids)], Some(skip_special_tokens));
        Ok(Asked { request, characters: 0, rendering: () })
    }

    fn write(response: InferResponse, (): (), _: &Facts) -> Result<wire::DecodeResponse, ApiError> {
        let texts = outputs(response, |output| match output {
            Output::Text(text) => Some(text),
            _ => None,
        })?;
        Ok(wire::DecodeResponse { text: only(texts)? })
    }
}
