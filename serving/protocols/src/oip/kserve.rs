//! KServe's v1: `POST /v1/models/{name}:predict`. What models there are, `GET /v1/models` tells in a form
//! that is OpenAI's as well, and so it is of that dialect. A request may be a CloudEvent, and so is its
//! answer then.

use std::collections::HashMap;
use std::sync::Arc;

use api::tasks::{Entity, Input, LabelScore, Output, Sentiment};
use api::{ApiError, Identity, InferRequest, InferResponse, ModelInfo, Operation, request_id};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::post;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cloud_event::{Attributes, Envelope, Form};
use super::error::{Oip, invalid};
use super::parameters::of_task;
use super::rest::{Place, WireParameters, unsupported, values};
use super::statistics::Mark;
use super::{Oip as Served, call, model};
use crate::http::body::{self, Object};
use crate::http::dialect::{Answer, Shape, answer, refuse};
use crate::openapi::Api;

/// The route. Other methods of its path are another dialect's, which says what they are.
pub(super) fn routes(oip: Served) -> Router {
    Router::new().route("/v1/models/{name}", post(ask)).with_state(oip)
}

async fn ask(State(oip): State<Served>, place: Place, request: Request) -> Response {
    let not_found = |error| refuse::<Oip>(&error, &request_id(request.extensions()));
    if !oip.services.dialects.oip {
        return not_found(ApiError::RouteNotFound);
    }
    let name = match place {
        Ok(Path(parts)) => parts.get("name").cloned().unwrap_or_default(),
        Err(_) => return not_found(invalid("path", "not valid UTF-8 once it is decoded")),
    };
    match name.rsplit_once(':') {
        Some((name, "predict")) => predict(oip, name.to_owned(), request).await,
        Some((_, "explain")) => unsupported().await,
        _ => not_found(ApiError::RouteNotFound),
    }
}

async fn predict(oip: Served, name: String, mut request: Request) -> Response {
    let tally = oip.statistics.begin(Identity::to_be_known(request.extensions_mut()));
    let (services, mark) = (oip.services.clone(), tally.mark());
    let response = answer(&services, Predict { oip, name, mark }, request).await;
    tally.end(response.status().is_success());
    response
}

/// A request for predictions.
struct Predict {
    oip: Served,
    name: String,
    mark: Mark,
}

/// How predictions are answered.
struct Rendering {
    mark: Mark,
    /// The form of the event that the request came as, and the id of its answer.
    event: Option<(Form, Arc<str>)>,
}

/// A request, or a structured CloudEvent around one.
#[derive(Debug, Deserialize, JsonSchema)]
struct WireRequest {
    instances: Option<Vec<Instance>>,
    /// As some of KServe's runtimes call them.
    inputs: Option<Vec<Instance>>,
    parameters: Option<Object<WireParameters>>,
    /// Of an event.
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    r#type: Option<String>,
    data: Option<Object<EventData>>,
}

/// The data of an event.
#[derive(Debug, Deserialize, JsonSchema)]
struct EventData {
    instances: Option<Vec<Instance>>,
    inputs: Option<Vec<Instance>>,
    parameters: Option<Object<WireParameters>>,
}

impl WireRequest {
    /// What is asked, and the form of the event that it came as, if it is one.
    fn unwrap_event(self, head: &Parts) -> Result<(EventData, Option<Form>), ApiError> {
        let Self { instances, inputs, parameters, specversion, id, source, r#type, data } = self;
        if let Some(attributes) = Attributes::of_headers(&head.headers) {
            attributes.check("ce-")?;
            return Ok((EventData { instances, inputs, parameters }, Some(Form::Binary)));
        }
        if specversion.is_none() {
            return Ok((EventData { instances, inputs, parameters }, None));
        }
        let (specversion, id) = (specversion.as_deref(), id.as_deref());
        let (source, r#type) = (source.as_deref(), r#type.as_deref());
        Attributes { specversion, id, source, r#type }.check("")?;
        let Some(Object(data)) = data else {
            return Err(invalid("data", "expected an object with `instances`, in JSON and not in base64"));
        };
        Ok((data, Some(Form::Structured)))
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string, an array of token ids, or an object with a string `text`")]
enum Instance {
    Text(String),
    Tokens(Vec<u32>),
    Row { text: String },
}

impl From<Instance> for Input {
    fn from(instance: Instance) -> Self {
        match instance {
            Instance::Text(text) | Instance::Row { text } => Self::Text(text),
            Instance::Tokens(ids) => Self::Tokens(ids),
        }
    }
}

impl Predict {
    fn model(&self) -> Result<ModelInfo, ApiError> {
        model::find(&*self.oip.services.models, &self.name, None)
    }
}

impl Shape for Predict {
    type Dialect = Oip;
    type Rendering = Rendering;
    const IS_JSON: bool = false;

    fn operation(&self) -> Option<Operation> {
        self.model().ok().map(|model| model.task.into())
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let model = self.model()?;
        self.mark.is_of(&model);
        let (data, form) = body::parse::<WireRequest>(body)?.unwrap_event(head)?;
        let EventData { instances, inputs, parameters } = data;
        let instances = match (instances, inputs) {
            (Some(instances), None) | (None, Some(instances)) => instances,
            _ => return Err(invalid("instances", "expected either `instances` or `inputs`")),
        };
        let values = values(parameters);
        let parameters = of_task(model.task, &values)?;
        let inputs = instances.into_iter().map(Input::from).collect();
        let request = call::request(&model, inputs, self.oip.services.bounds.dialect_inputs_max, parameters);
        let (priority, timeout) = (values.priority()?, values.timeout()?);
        let event = form.map(|form| (form, request_id(&head.extensions)));
        Ok((InferRequest { priority, timeout, ..request }, Rendering { mark: self.mark, event }))
    }

    fn write(response: InferResponse, Rendering { mark, event }: Rendering) -> Result<Answer, ApiError> {
        mark.succeed(&response);
        let envelope = event.map(|(form, id)| Envelope::new(form, id, &response));
        let results = response.answer.results.into_iter();
        let predictions = results.map(|result| prediction(result?.output));
        let predictions = predictions.collect::<Result<Vec<_>, ApiError>>()?;
        let answer = HashMap::from([("predictions", predictions)]);
        match envelope {
            Some(envelope) => envelope.answer(&answer),
            None => Answer::json(StatusCode::OK, &answer),
        }
    }
}

/// What is predicted of an input, its numbers as short as our own API writes them.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Prediction {
    Vector(Vec<f32>),
    Class { label: Arc<str>, score: f32, scores: Vec<LabelScore> },
    Entities(Vec<Entity>),
    Text(String),
}

fn prediction(output: Output) -> Result<Prediction, ApiError> {
    match output {
        Output::Embedding(vector) => Ok(Prediction::Vector(vector)),
        Output::Labels(scores) => {
            let best = scores.first().map(|best| (Arc::clone(&best.label), best.score));
            let (label, score) = best.ok_or_else(|| ApiError::internal("a classifier without classes"))?;
            Ok(Prediction::Class { label, score, scores })
        }
        Output::Sentiment(Sentiment { label, score, scores }) => {
            Ok(Prediction::Class { label, score, scores })
        }
        Output::Entities(entities) => Ok(Prediction::Entities(entities)),
        Output::Summary(summary) => Ok(Prediction::Text(summary.summary)),
        Output::TokenEmbeddings(_) | Output::Similarity(_) | Output::Tokens(_) | Output::Text(_) => {
            Err(ApiError::internal("an output of no task"))
        }
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    let prediction = api.written_whole::<Prediction>();
    let answer = json!({"type": "object", "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": prediction}}});
    (api.read_whole::<WireRequest>(), answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn instances() {
        let check = |json: &str, expected: Option<&[Input]>| {
            let read = body::parse::<WireRequest>(json.as_bytes());
            let read = read.map(|request| request.instances.unwrap_or_default());
            let inputs: Option<Vec<Input>> =
                read.ok().map(|instances| instances.into_iter().map(Input::from).collect());
            assert_eq!(inputs.as_deref(), expected, "{json}");
        };
        let texts = [Input::from("a"), Input::from("b"), Input::Tokens(vec![101, 102])];
        check(r#"{"instances":["a",{"text":"b","id":7},[101,102]],"extra":1}"#, Some(&texts));
        check(r#"{"instances":[]}"#, Some(&[]));
        for wrong in ["5", "null", "[-1]", "[1.5]", r#"{"words":"a"}"#, r#"{"text":1}"#] {
            check(&format!(r#"{{"instances":[{wrong}]}}"#), None);
        }
        let error = body::parse::<WireRequest>(br#"{"instances":[{"secret":1}]}"#).unwrap_err().to_string();
        assert!(error.contains("instances[0]: expected a string") && !error.contains("secret"), "{error}");
    }
}
