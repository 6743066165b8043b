//! `POST /classify` of vLLM and of infinity. Which of the two is asked is told by the path, or by infinity's
//! field `raw_scores`.

use std::sync::Arc;

use api::tasks::{LabelScore, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::OpenAi;
use super::asked::{Usage, created, invalid, only_text, parse, request_body};
use super::rerank::Style;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::InputsOrObjects;
use crate::http::target::Target;
use crate::openapi::Api;
use crate::outputs::classes;

/// A request for classes.
pub(super) struct Classify {
    pub(super) target: Target,
    pub(super) style: Style,
}

request_body! {
    struct Body {
        input: InputsOrObjects,
        /// infinity.
        raw_scores: Option<bool>,
        /// infinity: what inputs are, or are the addresses of.
        modality: Option<String>,
        /// vLLM.
        use_activation: Option<bool>,
    }
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    style: Style,
    target: Target,
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
        let Self { target, style } = self;
        let body: Body = parse(body)?;
        for (field, is_raw) in [
            ("raw_scores", body.raw_scores == Some(true)),
            ("use_activation", body.use_activation == Some(false)),
        ] {
            if is_raw {
                return Err(invalid(field, "scores are probabilities here"));
            }
        }
        only_text(body.modality.as_deref())?;
        let style = if body.raw_scores.is_some() { Style::Infinity } else { style };
        let target = body.target(target);
        let truncation = body.cut().of(&target, Truncation::Stride)?;
        let request = target.classes(body.input.0.list, truncation);
        Ok((request, Rendering { id: request_id(&head.extensions), style, target }))
    }

    fn write(
        response: InferResponse,
        Rendering { id, style, target }: Rendering,
    ) -> Result<Answer, ApiError> {
        let (model, created, usage) = (Arc::clone(&response.model), created(&response), Usage::of(&response));
        let id = &*id;
        if style == Style::Infinity {
            let data = classes(response, false)?;
            let classes = Classes { id, object: "classify", created, model: &model, data, usage };
            return Answer::json(StatusCode::OK, &classes);
        }
        let order = target.find(&model).map(|model| model.labels).unwrap_or_default();
        let class = |(index, labels): (usize, Vec<LabelScore>)| {
            let label = labels.first().map(|best| Arc::clone(&best.label)).unwrap_or_default();
            Class { index, label, num_classes: labels.len(), probs: in_order(&order, &labels) }
        };
        let data = classes(response, false)?.into_iter().enumerate().map(class).collect();
        Answer::json(StatusCode::OK, &Classes { id, object: "list", created, model: &model, data, usage })
    }
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
