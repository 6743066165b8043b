//! `POST /classify` of vLLM and of infinity. Which of the two is asked is told by the path, or by infinity's
//! field `raw_scores`.

use std::sync::Arc;

use api::tasks::{
    ClassifyParameters, Input, LabelScore, Output, Parameters, SentimentParameters, Truncation,
};
use api::{ApiError, InferRequest, InferResponse, Operation, Task, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::OpenAi;
use super::asked::{Asked, Usage, created, invalid, other_output, request_body, results};
use super::rerank::Style;
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::InputsOrObjects;
use crate::openapi::Api;

/// A request for classes.
pub(super) struct Classify {
    pub(super) asked: Asked,
    pub(super) style: Style,
}

request_body! {
    struct Body {
        input: InputsOrObjects,
        /// infinity.
        raw_scores: Option<bool>,
        /// vLLM.
        use_activation: Option<bool>,
    }
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    style: Style,
    asked: Asked,
}

#[derive(Serialize, JsonSchema)]
struct Classes<'a, T> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<T>,
    usage: Usage,
}

#[derive(Serialize, JsonSchema)]
struct Class {
    index: usize,
    label: Arc<str>,
    probs: Vec<f32>,
    num_classes: usize,
}

impl Shape for Classify {
    type Dialect = OpenAi;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Classify)
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self { asked, style } = self;
        let body: Body = body::parse(body)?;
        for (field, is_raw) in [
            ("raw_scores", body.raw_scores == Some(true)),
            ("use_activation", body.use_activation == Some(false)),
        ] {
            if is_raw {
                return Err(invalid(field, "scores are probabilities here"));
            }
        }
        let style = if body.raw_scores.is_some() { Style::Infinity } else { style };
        let model = asked.name(body.model.clone());
        let truncation = body.cut().of(&asked, model.as_deref(), Truncation::Stride)?;
        let request = request(&asked, model, body.input.0.list, truncation);
        Ok((request, Rendering { id: request_id(&head.extensions), style, asked }))
    }

    fn write(response: InferResponse, Rendering { id, style, asked }: Rendering) -> Result<Answer, ApiError> {
        let (model, created, usage) = (Arc::clone(&response.model), created(&response), Usage::of(&response));
        let id = &*id;
        if style == Style::Infinity {
            let data = labels(response)?;
            let classes = Classes { id, object: "classify", created, model: &model, data, usage };
            return Answer::json(StatusCode::OK, &classes);
        }
        let order = asked.model(Some(&model)).map(|model| model.labels).unwrap_or_default();
        let class = |(index, labels): (usize, Vec<LabelScore>)| {
            let label = labels.first().map(|best| Arc::clone(&best.label)).unwrap_or_default();
            Class { index, label, num_classes: labels.len(), probs: in_order(&order, &labels) }
        };
        let data = labels(response)?.into_iter().enumerate().map(class).collect();
        Answer::json(StatusCode::OK, &Classes { id, object: "list", created, model: &model, data, usage })
    }
}

/// A request for the classes of a model, of documents or of moods.
pub(super) fn request(
    asked: &Asked,
    model: Option<String>,
    inputs: Vec<Input>,
    truncation: Truncation,
) -> InferRequest {
    let is_sentiment = asked.model(model.as_deref()).is_some_and(|model| model.task == Task::Sentiment);
    let parameters = match is_sentiment {
        true => Parameters::Sentiment(SentimentParameters { truncation }),
        false => Parameters::Classify(ClassifyParameters { truncation, ..ClassifyParameters::default() }),
    };
    asked.request(model, inputs, parameters)
}

/// Labels of each input, best first.
pub(crate) fn labels(response: InferResponse) -> Result<Vec<Vec<LabelScore>>, ApiError> {
    let labels = |result: api::tasks::TaskResult| match result.output {
        Output::Labels(labels) => Ok(labels),
        Output::Sentiment(sentiment) => {
            let mut scores = sentiment.scores;
            scores.sort_by(|left, right| right.score.total_cmp(&left.score));
            Ok(scores)
        }
        _ => Err(other_output()),
    };
    results(response)?.into_iter().map(labels).collect()
}

/// Scores in the order of a model's labels.
pub(super) fn in_order(order: &[String], labels: &[LabelScore]) -> Vec<f32> {
    let score = |name: &String| labels.iter().find(|label| *label.label == **name).map(|label| label.score);
    order.iter().filter_map(score).collect()
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Classes<'_, Class>>())
}
