//! Translation between the protobuf messages and the pipeline's terms.

use api::tasks::{
    Aggregation, Input, InputError, OffsetUnit, OnError, Output, Parameters, SummaryMethod, TaskResult,
    Truncation,
};
use api::{ApiError, InferRequest, InferResponse, ModelInfo, ModelStatus, Priority, with_parameters};
use proto::v1;

/// A message that asks for inference.
pub(super) trait IntoInferRequest {
    /// Translates the message; an enum value nobody defined is an error, not a default.
    fn into_infer_request(self) -> Result<InferRequest, ApiError>;
}

/// A message that answers.
pub(super) trait FromResponse {
    /// Translates the answer.
    fn from_response(response: InferResponse) -> Self;
}

/// A parameter as a message has it, `P`, in place of its default.
trait Parameter<P>: Sized {
    /// The value, or its default where the message has none.
    fn of(wire: P, default: Self, field: &'static str) -> Result<Self, ApiError>;
}

macro_rules! parameter {
    ($type:ty, $wire:ty, |$value:ident, $default:ident| $read:expr) => {
        impl Parameter<$wire> for $type {
            fn of($value: $wire, $default: Self, _: &'static str) -> Result<Self, ApiError> {
                Ok($read)
            }
        }
    };
    // Enums by name, of which the first means the default.
    ($type:ident { $($name:ident),* }) => {
        impl Parameter<i32> for $type {
            fn of(wire: i32, default: Self, field: &'static str) -> Result<Self, ApiError> {
                Ok(match known::<v1::$type>(wire, field)? {
                    v1::$type::Unspecified => default,
                    $(v1::$type::$name => Self::$name,)*
                })
            }
        }
    };
}

parameter!(bool, bool, |wire, _default| wire);
parameter!(bool, Option<bool>, |wire, default| wire.unwrap_or(default));
parameter!(usize, Option<u32>, |wire, default| wire.map_or(default, |n| n as usize));
parameter!(String, String, |wire, _default| wire);
parameter!(Option<bool>, Option<bool>, |wire, default| wire.or(default));
parameter!(Option<String>, Option<String>, |wire, default| wire.or(default));
parameter!(Option<usize>, Option<u32>, |wire, default| wire.map(|n| n as usize).or(default));
parameter!(Option<Vec<String>>, Vec<String>, |wire, default| if wire.is_empty() {
    default
} else {
    Some(wire)
});
parameter!(Truncation { Stride, Error, End, Start });
parameter!(Aggregation { None, Simple, First, Average, Max });
parameter!(OffsetUnit { Codepoint, Byte, Utf16 });
parameter!(SummaryMethod { Auto, Extractive, Abstractive });

/// Reads all parameters of a task from the message that asks for it: the fields have the same names.
macro_rules! from_message {
    (
        [$task:ident $message:ident] $(#[$doc:meta])* struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        impl IntoInferRequest for v1::$message {
            fn into_infer_request(self) -> Result<InferRequest, ApiError> {
                let parameters = Parameters::$task(api::tasks::$name {
                    $($field: <$type as Parameter<_>>::of(self.$field, $default, stringify!($field))?,)*
                });
                request(self.inputs, self.model, parameters, self.priority, self.on_error)
            }
        }
    };
}

with_parameters!(Classify, from_message Classify ClassifyRequest);
with_parameters!(Sentiment, from_message Sentiment AnalyzeSentimentRequest);
with_parameters!(Entities, from_message Entities ExtractEntitiesRequest);
with_parameters!(Summarize, from_message Summarize SummarizeRequest);
with_parameters!(Embed, from_message Embed EmbedRequest);
with_parameters!(Rerank, from_message Rerank RerankRequest);
with_parameters!(Similarity, from_message Similarity SimilarityRequest);
with_parameters!(Tokenize, from_message Tokenize TokenizeRequest);
with_parameters!(Detokenize, from_message Detokenize DetokenizeRequest);

/// One input as a message has it.
trait IntoInput {
    fn into_input(self) -> Input;
}

impl IntoInput for String {
    fn into_input(self) -> Input {
        Input::Text(self)
    }
}

impl IntoInput for v1::TokenIds {
    fn into_input(self) -> Input {
        Input::Tokens(self.ids)
    }
}

fn request(
    inputs: Vec<impl IntoInput>,
    model: String,
    parameters: Parameters,
    priority: i32,
    on_error: i32,
) -> Result<InferRequest, ApiError> {
    use proto::v1::{OnError as E, Priority as P};
    let priority = match known(priority, "priority")? {
        P::Unspecified | P::Normal => Priority::Normal,
        P::Critical => Priority::Critical,
        P::High => Priority::High,
        P::Low => Priority::Low,
    };
    let on_error = match known(on_error, "on_error")? {
        E::Unspecified | E::Fail => OnError::Fail,
        E::Partial => OnError::Partial,
    };
    let model = (!model.is_empty()).then_some(model);
    let inputs = inputs.into_iter().map(IntoInput::into_input).collect();
    Ok(InferRequest { model, inputs, inputs_max: None, parameters, on_error, priority, timeout: None })
}

/// proto3 enums are open: any number may arrive.
fn known<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E, ApiError> {
    E::try_from(value).map_err(|_| ApiError::InvalidRequest {
        field: field.to_owned(),
        problem: format!("{value} is not a value of this enum"),
    })
}

/// Implements [`FromResponse`] for a response message, given how one output becomes one result; an error
/// becomes one too. An output of another task cannot come, and would be left out.
macro_rules! from_response {
    ($message:ident, $result_message:ident, $output:pat => $result:expr) => {
        impl FromResponse for v1::$message {
            fn from_response(response: InferResponse) -> Self {
                let InferResponse { model, version, answer, inputs, tokens, .. } = response;
                let result = |result: Result<TaskResult, InputError>| {
                    let result = match result {
                        Ok(result) => result,
                        Err(error) => {
                            let error = Some(input_error(error));
                            return Some(v1::$result_message { error, ..Default::default() });
                        }
                    };
                    let report = Some(report(&result));
                    match result.output {
                        $output => Some($result(report)),
                        _ => None,
                    }
                };
                Self {
                    model: model.to_string(),
                    version: version.to_string(),
                    results: answer.results.into_iter().filter_map(result).collect(),
                    usage: Some(v1::Usage { inputs: inputs as u64, tokens: tokens as u64 }),
                }
            }
        }
    };
}

from_response!(ClassifyResponse, ClassifyResult, Output::Labels(labels) => |report| {
    let score = |l: api::tasks::LabelScore| v1::LabelScore { label: l.label.to_string(), score: l.score };
    v1::ClassifyResult { labels: labels.into_iter().map(score).collect(), report, error: None }
});

from_response!(AnalyzeSentimentResponse, AnalyzeSentimentResult, Output::Sentiment(s) => |report| {
    let scores = s.scores.into_iter().map(|l| (l.label.to_string(), l.score)).collect();
    v1::AnalyzeSentimentResult { label: s.label.to_string(), score: s.score, scores, report, error: None }
});

from_response!(ExtractEntitiesResponse, ExtractEntitiesResult, Output::Entities(entities) => |report| {
    let entity = |e: api::tasks::Entity| v1::Entity {
        text: e.text,
        label: e.label.to_string(),
        start: e.start as u64,
        end: e.end as u64,
        score: e.score,
    };
    v1::ExtractEntitiesResult { entities: entities.into_iter().map(entity).collect(), report, error: None }
});

from_response!(SummarizeResponse, SummarizeResult, Output::Summary(summary) => |report| {
    let sentence = |s: api::tasks::SummarySentence| v1::SummarySentence {
        text: s.text,
        start: s.start as u64,
        end: s.end as u64,
    };
    let method = match summary.method {
        SummaryMethod::Auto => v1::SummaryMethod::Auto,
        SummaryMethod::Extractive => v1::SummaryMethod::Extractive,
        SummaryMethod::Abstractive => v1::SummaryMethod::Abstractive,
    };
    v1::SummarizeResult {
        summary: summary.summary,
        method: method.into(),
        sentences: summary.sentences.into_iter().map(sentence).collect(),
        report,
        error: None,
    }
});

from_response!(EmbedResponse, EmbedResult, Output::Embedding(embedding) => |report| {
    v1::EmbedResult { embedding, report, error: None }
});

from_response!(RerankResponse, RerankResult, Output::Similarity(score) => |report| {
    v1::RerankResult { score, report, error: None }
});

from_response!(SimilarityResponse, SimilarityResult, Output::Similarity(score) => |report| {
    v1::SimilarityResult { score, report, error: None }
});

from_response!(TokenizeResponse, TokenizeResult, Output::Tokens(tokens) => |report| {
    let token = |token: api::tasks::Token| {
        let (start, end) = token.span.unzip();
        let (start, end) = (start.map(|n| n as u64), end.map(|n| n as u64));
        v1::Token { id: token.id, text: token.text, special: token.is_special, start, end }
    };
    v1::TokenizeResult { tokens: tokens.into_iter().map(token).collect(), report, error: None }
});

from_response!(DetokenizeResponse, DetokenizeResult, Output::Text(text) => |report| {
    v1::DetokenizeResult { text, report, error: None }
});

fn input_error(error: InputError) -> v1::InputError {
    let field = error.field();
    let error = ApiError::Input(error);
    let row = error.row();
    v1::InputError { status: row.grpc as i32, code: row.code.to_owned(), message: error.to_string(), field }
}

fn report(result: &TaskResult) -> v1::InputReport {
    v1::InputReport {
        tokens: result.tokens as u64,
        truncated: result.truncated,
        windows: result.windows as u64,
        unknown_tokens: result.unknown_tokens as u64,
        nothing_recognized: result.nothing_recognized,
    }
}

/// A model as the API shows it.
pub(super) fn model(model: ModelInfo) -> v1::Model {
    let (repository, revision) = model.repository.unwrap_or_default();
    let (loaded, unavailable_reason) = match model.status {
        ModelStatus::Loaded => (true, String::new()),
        ModelStatus::Unavailable { reason } => (false, reason),
    };
    v1::Model {
        name: model.name,
        version: model.version,
        task: model.task.as_str().to_owned(),
        labels: model.labels,
        limits: Some(v1::ModelLimits {
            tokens_max: model.limits.tokens_max as u64,
            document_tokens_max: model.limits.document_tokens_max as u64,
            document_words_max: model.limits.document_words_max.map(|n| n as u64),
            inputs_max: model.limits.inputs_max as u64,
        }),
        p99_target_ms: model.p99_target.as_millis() as u64,
        price_per_1000_requests_micro_usd: model.price_per_1000_requests.0,
        source: Some(v1::ModelSource { repository, revision, sha256: model.sha256 }),
        license: model.license,
        loaded,
        unavailable_reason,
        normalize_text: model.normalize_text,
        verification: model.verification.as_str().to_owned(),
    }
}
