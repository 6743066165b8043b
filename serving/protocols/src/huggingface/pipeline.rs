//! One request, of whatever task.

use api::tasks::{
    Aggregation, ClassifyParameters, EntitiesParameters, LabelScore, Output, Parameters, SummarizeParameters,
    Truncation,
};
use api::{ApiError, InferRequest, InferResponse, Operation, Task};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;

use super::HuggingFace;
use super::entities::Recognized;
use super::parameters::{
    Body, Classification, FeaturesBody, Function, Recognition, Sentences, SimilarityBody, Summarization,
    ZeroShot,
};
use crate::http::body::{self, Name, Object};
use crate::http::dialect::{Answer, Shape};
use crate::http::outline::Outline;
use crate::http::target::Target;
use crate::outputs::{self, outputs};
use crate::tei::requests::{self, Embeddings, truncation};

/// A request to a model, of a task that its path may name.
pub struct Pipeline {
    pub(crate) target: Target,
    pub(crate) task: Option<PipelineTask>,
}

/// A task of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineTask {
    /// A vector for each text.
    FeatureExtraction,
    /// How near sentences are to another one.
    SentenceSimilarity,
    /// Classes of texts.
    TextClassification,
    /// Classes that the caller names.
    ZeroShotClassification,
    /// Names in texts.
    TokenClassification,
    /// Texts made shorter.
    Summarization,
}

/// How an answer is written.
pub enum Rendering {
    /// Vectors.
    Vectors,
    /// Numbers.
    Similarities,
    /// Classes: what is made of the outputs, and how many are given.
    Classes { function: Option<Function>, top_k: Option<usize> },
    /// The caller's classes.
    ZeroShot { is_list: bool },
    /// Names.
    Entities { recognized: Recognized, is_list: bool },
    /// Summaries.
    Summaries,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SummaryText {
    summary_text: String,
}

impl PipelineTask {
    /// The task of a name as paths have it.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Some(match name.replace('_', "-").as_str() {
            "feature-extraction" => Self::FeatureExtraction,
            "sentence-similarity" => Self::SentenceSimilarity,
            "text-classification" => Self::TextClassification,
            "zero-shot-classification" => Self::ZeroShotClassification,
            "token-classification" => Self::TokenClassification,
            "summarization" => Self::Summarization,
            _ => return None,
        })
    }

    /// What a body asks of a model of a task.
    fn of_body(task: Task, outline: &Outline) -> Self {
        match task {
            // Of a model that cannot do it, it is refused by who answers.
            _ if outline.has_labels() => Self::ZeroShotClassification,
            Task::Embed if outline.is_comparison() => Self::SentenceSimilarity,
            Task::Embed => Self::FeatureExtraction,
            Task::Classify | Task::Sentiment => Self::TextClassification,
            Task::Entities => Self::TokenClassification,
            Task::Summarize => Self::Summarization,
            // There is no pipeline for it: that of two texts is refused by who answers.
            Task::Rerank => Self::SentenceSimilarity,
        }
    }
}

impl Shape for Pipeline {
    type Dialect = HuggingFace;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        None
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self { target, task } = self;
        let task = match task {
            Some(task) => task,
            None => PipelineTask::of_body(target.model(&[Task::Embed])?.task, &Outline::of(body)?),
        };
        match task {
            PipelineTask::FeatureExtraction => features(target, body),
            PipelineTask::SentenceSimilarity => {
                let SimilarityBody { inputs: Object(Sentences { source_sentence, sentences }) } =
                    body::parse(body)?;
                let request = requests::similarities(target, source_sentence, sentences, Truncation::End)?;
                Ok((request, Rendering::Similarities))
            }
            PipelineTask::TextClassification => {
                let (inputs, Classification { function_to_apply, top_k }) = read(body)?;
                if top_k == Some(0) {
                    let problem = "expected at least 1".to_owned();
                    return Err(ApiError::InvalidRequest { field: "parameters.top_k".to_owned(), problem });
                }
                let request = target.classes(inputs.list, Truncation::Stride);
                Ok((request, Rendering::Classes { function: function_to_apply.map(Name::get), top_k }))
            }
            PipelineTask::ZeroShotClassification => {
                let (inputs, ZeroShot { candidate_labels, multi_label }) = read(body)?;
                // One label has no others that it could be scored against.
                let is_alone = candidate_labels.len() == 1;
                let parameters = ClassifyParameters {
                    labels: Some(candidate_labels),
                    multi_label: is_alone || multi_label.unwrap_or(false),
                    ..ClassifyParameters::default()
                };
                let is_list = inputs.is_list;
                let request = target.request(inputs.list, Parameters::Classify(parameters));
                Ok((request, Rendering::ZeroShot { is_list }))
            }
            PipelineTask::TokenClassification => {
                let (inputs, Recognition { aggregation_strategy, ignore_labels }) = read(body)?;
                let aggregation = aggregation_strategy.map_or(Aggregation::Simple, Name::get);
                let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
                let recognized = Recognized { aggregation, ignore_labels: ignore_labels.unwrap_or_default() };
                let is_list = inputs.is_list;
                let request = target.request(inputs.list, Parameters::Entities(parameters));
                Ok((request, Rendering::Entities { recognized, is_list }))
            }
            PipelineTask::Summarization => {
                let (inputs, summarization) = read::<Summarization>(body)?;
                let max_tokens = summarization.tokens_max();
                let parameters = SummarizeParameters { max_tokens, ..SummarizeParameters::default() };
                Ok((target.request(inputs.list, Parameters::Summarize(parameters)), Rendering::Summaries))
            }
        }
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        match rendering {
            Rendering::Vectors => json(&outputs::vectors(response)?),
            Rendering::Similarities => json(&outputs::scores(response)?),
            Rendering::Classes { function, top_k } => {
                let mut texts = outputs::classes(response, false)?;
                texts.iter_mut().for_each(|classes| applied(classes, function, top_k));
                json(&texts)
            }
            Rendering::ZeroShot { is_list } => listed(outputs::classes(response, false)?, is_list),
            Rendering::Entities { recognized, is_list } => {
                let texts = outputs(response, |output| match output {
                    Output::Entities(entities) => Some(recognized.write(entities)),
                    _ => None,
                })?;
                listed(texts, is_list)
            }
            Rendering::Summaries => {
                let texts = outputs(response, |output| match output {
                    Output::Summary(summary) => Some(SummaryText { summary_text: summary.summary }),
                    _ => None,
                })?;
                json(&texts)
            }
        }
    }
}

fn read<P: serde::de::DeserializeOwned + Default>(
    body: &Bytes,
) -> Result<(crate::http::inputs::Inputs, P), ApiError> {
    let Body { inputs, parameters } = body::parse::<Body<P>>(body)?;
    Ok((inputs, parameters.map(|Object(parameters)| parameters).unwrap_or_default()))
}

fn features(target: Target, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
    let (inputs, features) = body::parse::<FeaturesBody>(body)?.read();
    let truncation = truncation(features.truncate, features.truncation_direction.map(Name::get));
    let (normalize, dimensions) = (features.normalize, features.dimensions);
    let embeddings = Embeddings {
        inputs: inputs.list,
        truncation,
        normalize,
        dimensions,
        prompt_name: features.prompt_name,
    };
    Ok((embeddings.of(target), Rendering::Vectors))
}

/// Makes of the outputs of classes what the caller wants; without a wish it is what the model has.
fn applied(classes: &mut Vec<LabelScore>, function: Option<Function>, top_k: Option<usize>) {
    match function {
        Some(Function::None) => classes.iter_mut().for_each(|class| class.score = class.logit),
        Some(Function::Sigmoid) => {
            classes.iter_mut().for_each(|class| class.score = 1.0 / (1.0 + (-class.logit).exp()));
        }
        Some(Function::Softmax) | None => {}
    }
    classes.truncate(top_k.unwrap_or(usize::MAX));
}

fn json(value: &impl Serialize) -> Result<Answer, ApiError> {
    Answer::json(StatusCode::OK, value)
}

/// The result of one text by itself, or those of several in an array, as the texts came.
fn listed<T: Serialize>(mut results: Vec<T>, is_list: bool) -> Result<Answer, ApiError> {
    match results.pop() {
        Some(only) if !is_list && results.is_empty() => json(&only),
        last => {
            results.extend(last);
            json(&results)
        }
    }
}
