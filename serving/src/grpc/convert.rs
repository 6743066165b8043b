//! Translation between the protobuf messages and the pipeline's terms.

use models::card::{Origin, WEIGHTS_FILE};
use models::tasks::{
    Aggregation, ClassifyParameters, EmbedParameters, EntitiesParameters, InputError, OffsetUnit, OnError,
    Output, Parameters, SentimentParameters, SummarizeParameters, SummaryMethod, TaskResult, Truncation,
};
use models::{ModelEntry, ModelState};
use units::Priority;

use crate::error::ApiError;
use crate::pipeline::{InferRequest, InferResponse};
use crate::rest::public_reason;
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

impl IntoInferRequest for v1::ClassifyRequest {
    fn into_infer_request(self) -> Result<InferRequest, ApiError> {
        let default = ClassifyParameters::default();
        let parameters = Parameters::Classify(ClassifyParameters {
            top_k: self.top_k.map(|k| k as usize),
            labels: (!self.labels.is_empty()).then_some(self.labels),
            multi_label: self.multi_label,
            truncation: truncation(self.truncation)?.unwrap_or(default.truncation),
        });
        request(self.inputs, self.model, parameters, self.priority, self.on_error)
    }
}

impl IntoInferRequest for v1::AnalyzeSentimentRequest {
    fn into_infer_request(self) -> Result<InferRequest, ApiError> {
        let default = SentimentParameters::default();
        let parameters = Parameters::Sentiment(SentimentParameters {
            truncation: truncation(self.truncation)?.unwrap_or(default.truncation),
        });
        request(self.inputs, self.model, parameters, self.priority, self.on_error)
    }
}

impl IntoInferRequest for v1::ExtractEntitiesRequest {
    fn into_infer_request(self) -> Result<InferRequest, ApiError> {
        use proto::v1::Aggregation as A;
        let default = EntitiesParameters::default();
        let aggregation = match known(self.aggregation, "aggregation")? {
            A::Unspecified => default.aggregation,
            A::None => Aggregation::None,
            A::Simple => Aggregation::Simple,
            A::First => Aggregation::First,
            A::Average => Aggregation::Average,
            A::Max => Aggregation::Max,
        };
        let offset_unit = offset_unit(self.offset_unit)?.unwrap_or(default.offset_unit);
        let truncation = truncation(self.truncation)?.unwrap_or(default.truncation);
        let parameters = Parameters::Entities(EntitiesParameters { aggregation, offset_unit, truncation });
        request(self.inputs, self.model, parameters, self.priority, self.on_error)
    }
}

impl IntoInferRequest for v1::SummarizeRequest {
    fn into_infer_request(self) -> Result<InferRequest, ApiError> {
        use proto::v1::SummaryMethod as M;
        let default = SummarizeParameters::default();
        let method = match known(self.method, "method")? {
            M::Unspecified => default.method,
            M::Auto => SummaryMethod::Auto,
            M::Extractive => SummaryMethod::Extractive,
            M::Abstractive => SummaryMethod::Abstractive,
        };
        let parameters = Parameters::Summarize(SummarizeParameters {
            max_sentences: self.max_sentences.map_or(default.max_sentences, |n| n as usize),
            max_tokens: self.max_tokens.map(|n| n as usize).or(default.max_tokens),
            method,
            offset_unit: offset_unit(self.offset_unit)?.unwrap_or(default.offset_unit),
        });
        request(self.inputs, self.model, parameters, self.priority, self.on_error)
    }
}

impl IntoInferRequest for v1::EmbedRequest {
    fn into_infer_request(self) -> Result<InferRequest, ApiError> {
        let default = EmbedParameters::default();
        let parameters = Parameters::Embed(EmbedParameters {
            dimensions: self.dimensions.map(|n| n as usize),
            normalize: self.normalize.unwrap_or(default.normalize),
            normalize_text: self.normalize_text,
            truncation: truncation(self.truncation)?.unwrap_or(default.truncation),
        });
        request(self.inputs, self.model, parameters, self.priority, self.on_error)
    }
}

fn request(
    inputs: Vec<String>,
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
    Ok(InferRequest { model, inputs, parameters, on_error, priority, timeout: None })
}

fn offset_unit(value: i32) -> Result<Option<OffsetUnit>, ApiError> {
    use proto::v1::OffsetUnit as U;
    Ok(match known(value, "offset_unit")? {
        U::Unspecified => None,
        U::Codepoint => Some(OffsetUnit::Codepoint),
        U::Byte => Some(OffsetUnit::Byte),
        U::Utf16 => Some(OffsetUnit::Utf16),
    })
}

fn truncation(value: i32) -> Result<Option<Truncation>, ApiError> {
    use proto::v1::Truncation as T;
    Ok(match known(value, "truncation")? {
        T::Unspecified => None,
        T::Stride => Some(Truncation::Stride),
        T::Error => Some(Truncation::Error),
        T::End => Some(Truncation::End),
        T::Start => Some(Truncation::Start),
    })
}

/// proto3 enums are open: any number may arrive.
fn known<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E, ApiError> {
    E::try_from(value).map_err(|_| ApiError::InvalidRequest {
        field: field.to_owned(),
        problem: format!("{value} is not a value of this enum"),
    })
}

/// Implements [`FromResponse`] for a response message, given how one output becomes one result; an error becomes one too. An
/// output of another task cannot come, and would be left out.
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
    let score = |l: models::tasks::LabelScore| v1::LabelScore { label: l.label.to_string(), score: l.score };
    v1::ClassifyResult { labels: labels.into_iter().map(score).collect(), report, error: None }
});

from_response!(AnalyzeSentimentResponse, AnalyzeSentimentResult, Output::Sentiment(s) => |report| {
    let scores = s.scores.into_iter().map(|l| (l.label.to_string(), l.score)).collect();
    v1::AnalyzeSentimentResult { label: s.label.to_string(), score: s.score, scores, report, error: None }
});

from_response!(ExtractEntitiesResponse, ExtractEntitiesResult, Output::Entities(entities) => |report| {
    let entity = |e: models::tasks::Entity| v1::Entity {
        text: e.text,
        label: e.label.to_string(),
        start: e.start as u64,
        end: e.end as u64,
        score: e.score,
    };
    v1::ExtractEntitiesResult { entities: entities.into_iter().map(entity).collect(), report, error: None }
});

from_response!(SummarizeResponse, SummarizeResult, Output::Summary(summary) => |report| {
    let sentence = |s: models::tasks::SummarySentence| v1::SummarySentence {
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
pub(super) fn model(entry: &ModelEntry) -> v1::Model {
    let card = &*entry.card;
    let (repository, revision) = match &card.source.origin {
        Origin::Folder(_) => (String::new(), String::new()),
        Origin::Repository { repository, revision, .. } => (repository.clone(), revision.clone()),
    };
    let (loaded, unavailable_reason) = match &entry.state {
        ModelState::Loaded { .. } => (true, String::new()),
        ModelState::Unavailable { reason } => (false, public_reason(reason)),
    };
    let limits = &card.limits;
    v1::Model {
        name: card.name.clone(),
        version: card.version.clone(),
        task: card.task.as_str().to_owned(),
        labels: card.labels.clone(),
        limits: Some(v1::ModelLimits {
            tokens_max: limits.tokens_max as u64,
            document_tokens_max: limits.document_tokens_max as u64,
            document_words_max: limits.document_words_max.map(|n| n as u64),
            inputs_max: limits.inputs_max as u64,
        }),
        p99_target_ms: card.p99_target.as_millis() as u64,
        price_per_1000_requests_micro_usd: card.price_per_1000_requests.0,
        source: Some(v1::ModelSource {
            repository,
            revision,
            sha256: card.source.files.get(WEIGHTS_FILE).map(ToString::to_string).unwrap_or_default(),
        }),
        license: card.license.clone(),
        loaded,
        unavailable_reason,
        normalize_text: card.normalize_text,
    }
}
