//! Jina's `POST /v1/classify`: texts are sorted into labels that the request brings (zero-shot), or into the
//! model's own if it brings none.

use api::tasks::{ClassifyParameters, LabelScore, Parameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::OpenAi;
use super::asked::{Usage, invalid, request_body};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::InputsOrObjects;
use crate::http::target::Target;
use crate::openapi::Api;
use crate::outputs::classes;

/// A request to sort texts.
pub(crate) struct Classification(pub(crate) Target);

request_body! {
    struct Body {
        input: InputsOrObjects,
        labels: Option<Vec<String>>,
        /// Refused.
        #[schemars(skip)]
        classifier_id: Option<IgnoredAny>,
    }
}

#[derive(Serialize, JsonSchema)]
struct Sorted {
    usage: Usage,
    data: Vec<Text>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SortedText")]
struct Text {
    object: &'static str,
    index: usize,
    prediction: String,
    score: f32,
    /// All labels, best first.
    predictions: Vec<Prediction>,
}

#[derive(Serialize, JsonSchema)]
struct Prediction {
    label: String,
    score: f32,
}

impl Shape for Classification {
    type Dialect = OpenAi;
    type Rendering = ();

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Classify)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, ()), ApiError> {
        let Self(target) = self;
        let body: Body = body::parse(body)?;
        if body.classifier_id.is_some() {
            return Err(invalid("classifier_id", "no classifiers are trained here: send labels"));
        }
        let target = body.target(target);
        let truncation = body.cut().of(&target, Truncation::Stride)?;
        let inputs = body.input.0.list;
        let request = match body.labels {
            None => target.classes(inputs, truncation),
            labels => {
                let parameters = ClassifyParameters { labels, truncation, ..ClassifyParameters::default() };
                target.request(inputs, Parameters::Classify(parameters))
            }
        };
        Ok((request, ()))
    }

    fn write(response: InferResponse, (): ()) -> Result<Answer, ApiError> {
        let usage = Usage::of(&response);
        let text = |(index, labels): (usize, Vec<LabelScore>)| {
            let prediction =
                |LabelScore { label, score, .. }| Prediction { label: String::from(&*label), score };
            let predictions: Vec<_> = labels.into_iter().map(prediction).collect();
            let (prediction, score) =
                predictions.first().map(|best| (best.label.clone(), best.score)).unwrap_or_default();
            Text { object: "classification", index, prediction, score, predictions }
        };
        let data = classes(response, false)?.into_iter().enumerate().map(text).collect();
        Answer::json(StatusCode::OK, &Sorted { usage, data })
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Sorted>())
}
