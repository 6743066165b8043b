//! Predictions for instances: `{"instances": […], "parameters": {…}}` to `{"predictions": […]}`, one for
//! each.
//!
//! An instance is a text, or an object with `inputs` (or `content`, or `text`) and the options of `/embed`
//! and `/predict`, which have to be the same for all, since they are one call; or one with `query` and
//! `texts`, alone.

use std::fmt;

use api::tasks::{Input, LabelScore};
use api::{ApiError, InferRequest, InferResponse, Operation, Task};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::Containers;
use crate::http::body::{self, Name, Object};
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::Inputs;
use crate::http::target::Target;
use crate::openapi::Api;
use crate::outputs;
use crate::tei::requests::{self, Direction, Embeddings, truncation};

/// `POST /vertex`.
pub(super) struct Instances(pub(super) Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct Body {
    instances: Vec<Instance>,
    parameters: Option<Object<Parameters>>,
}

/// What holds for all instances.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Parameters {
    /// The model; the default of its task if there is none.
    model: Option<String>,
    #[serde(flatten)]
    options: Options,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
enum Instance {
    Text(String),
    Object(Box<Fields>),
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Fields {
    #[serde(alias = "content", alias = "text")]
    inputs: Option<Inputs>,
    query: Option<String>,
    texts: Option<Vec<String>>,
    prompt_name: Option<String>,
    #[serde(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
struct Options {
    truncate: Option<bool>,
    #[serde(default, deserialize_with = "direction")]
    truncation_direction: Option<Direction>,
    normalize: Option<bool>,
    dimensions: Option<usize>,
    raw_scores: Option<bool>,
    return_text: Option<bool>,
}

fn direction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Direction>, D::Error> {
    Option::<Name<Direction>>::deserialize(deserializer).map(|name| name.map(Name::get))
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InstanceVisitor;
        impl<'de> Visitor<'de> for InstanceVisitor {
            type Value = Instance;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object")
            }

            fn visit_str<E>(self, text: &str) -> Result<Instance, E> {
                Ok(Instance::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Instance, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(fields))
                    .map(|fields| Instance::Object(Box::new(fields)))
            }
        }
        deserializer.deserialize_any(InstanceVisitor)
    }
}

/// How the answer is written.
pub(super) enum Rendering {
    /// Vectors: how many each instance has.
    Vectors(Vec<usize>),
    /// Classes: how many texts each instance has, and whether these stand in an array.
    Classes { counts: Vec<(usize, bool)>, is_raw: bool },
    /// Ranks of the only instance; with the texts where they are to be given back.
    Ranks(Option<Vec<String>>),
}

#[derive(Debug, Serialize, JsonSchema)]
struct Predictions<T> {
    predictions: Vec<T>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Class {
    score: f32,
    label: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Rank {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

/// The classes of an instance: of its text, or of each of its texts.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Classes {
    One(Vec<Class>),
    Many(Vec<Vec<Class>>),
}

fn invalid(field: String, problem: &str) -> ApiError {
    ApiError::InvalidRequest { field, problem: problem.to_owned() }
}

/// The instances as one call: their inputs, how many each has, and their options.
struct Gathered {
    inputs: Vec<Input>,
    counts: Vec<(usize, bool)>,
    options: Options,
    prompt_name: Option<String>,
}

fn gather(instances: Vec<Instance>, common: &Options) -> Result<Gathered, ApiError> {
    let mut gathered: Option<Gathered> = None;
    for (index, instance) in instances.into_iter().enumerate() {
        let (list, is_list, options, prompt_name) = match instance {
            Instance::Text(text) => (vec![text.into()], false, common.clone(), None),
            Instance::Object(fields) => {
                let missing = || {
                    invalid(
                        format!("instances[{index}]"),
                        "expected a string, `inputs`, or alone `query` and `texts`",
                    )
                };
                let inputs = fields.inputs.ok_or_else(missing)?;
                (inputs.list, inputs.is_list, fields.options.or(common), fields.prompt_name)
            }
        };
        let first = || Gathered {
            inputs: Vec::new(),
            counts: Vec::new(),
            options: options.clone(),
            prompt_name: prompt_name.clone(),
        };
        let all = gathered.get_or_insert_with(first);
        if all.options != options || all.prompt_name != prompt_name {
            let problem =
                "its options differ from those of the instances before; send it in a call of its own";
            return Err(invalid(format!("instances[{index}]"), problem));
        }
        all.counts.push((list.len(), is_list));
        all.inputs.extend(list);
    }
    gathered.ok_or_else(|| api::tasks::InputError::None.into())
}

impl Options {
    /// What is said here, or else there.
    fn or(self, other: &Self) -> Self {
        Self {
            truncate: self.truncate.or(other.truncate),
            truncation_direction: self.truncation_direction.or(other.truncation_direction),
            normalize: self.normalize.or(other.normalize),
            dimensions: self.dimensions.or(other.dimensions),
            raw_scores: self.raw_scores.or(other.raw_scores),
            return_text: self.return_text.or(other.return_text),
        }
    }
}

impl Shape for Instances {
    type Dialect = Containers;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        None
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Body { mut instances, parameters } = body::parse(body)?;
        let Parameters { model, options: common } = parameters.map(|Object(p)| p).unwrap_or_default();
        let target = self.0.named(model);
        let is_ranking =
            |instance: &Instance| matches!(instance, Instance::Object(fields) if fields.texts.is_some());
        if instances.len() == 1
            && instances.iter().all(is_ranking)
            && let Some(Instance::Object(fields)) = instances.pop()
        {
            return rank(target, *fields, &common);
        }
        if let Some(index) = instances.iter().position(is_ranking) {
            return Err(invalid(format!("instances[{index}]"), "a query with texts is a call of its own"));
        }
        let Gathered { inputs, counts, options, prompt_name } = gather(instances, &common)?;
        let truncation = truncation(options.truncate, options.truncation_direction);
        match target.model(&[Task::Embed, Task::Classify, Task::Sentiment])?.task {
            Task::Embed => {
                let Options { normalize, dimensions, .. } = options;
                let embeddings = Embeddings { inputs, truncation, normalize, dimensions, prompt_name };
                let request = embeddings.of(target);
                Ok((request, Rendering::Vectors(counts.into_iter().map(|(count, _)| count).collect())))
            }
            Task::Classify | Task::Sentiment | Task::Entities | Task::Summarize | Task::Rerank => {
                let is_raw = options.raw_scores.unwrap_or(false);
                Ok((target.classes(inputs, truncation), Rendering::Classes { counts, is_raw }))
            }
        }
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        match rendering {
            Rendering::Vectors(counts) => {
                let mut vectors = outputs::vectors(response)?.into_iter();
                predictions(counts.into_iter().map(|count| vectors.by_ref().take(count).collect::<Vec<_>>()))
            }
            Rendering::Classes { counts, is_raw } => {
                let class =
                    |LabelScore { label, score, .. }: LabelScore| Class { score, label: label.to_string() };
                let texts = outputs::classes(response, is_raw)?.into_iter();
                let mut texts = texts.map(|classes| classes.into_iter().map(class).collect::<Vec<_>>());
                predictions(counts.into_iter().map(|(count, is_list)| match is_list {
                    true => Classes::Many(texts.by_ref().take(count).collect()),
                    false => Classes::One(texts.next().unwrap_or_default()),
                }))
            }
            Rendering::Ranks(mut kept) => {
                let mut rank = |(index, score): (usize, f32)| {
                    let text = kept.as_mut().and_then(|texts| texts.get_mut(index)).map(std::mem::take);
                    Rank { index, text, score }
                };
                let ranks: Vec<Rank> = outputs::ranks(response)?.into_iter().map(&mut rank).collect();
                predictions(std::iter::once(ranks))
            }
        }
    }
}

fn rank(target: Target, fields: Fields, common: &Options) -> Result<(InferRequest, Rendering), ApiError> {
    let Fields { query, texts, options, .. } = fields;
    let query = query.ok_or_else(|| invalid("instances[0].query".to_owned(), "missing beside `texts`"))?;
    let options = options.or(common);
    let texts = texts.unwrap_or_default();
    let kept = options.return_text.unwrap_or(false).then(|| texts.clone());
    let truncation = truncation(options.truncate, options.truncation_direction);
    let is_raw = options.raw_scores.unwrap_or(false);
    Ok((requests::ranks(target, query, texts, is_raw, truncation)?, Rendering::Ranks(kept)))
}

fn predictions<T: Serialize>(predictions: impl Iterator<Item = T>) -> Result<Answer, ApiError> {
    Answer::json(StatusCode::OK, &Predictions { predictions: predictions.collect() })
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    let prediction =
        [api.written_whole::<Vec<f32>>(), api.written_whole::<Classes>(), api.written_whole::<Vec<Rank>>()];
    let mut answer = api.written_whole::<Predictions<Value>>();
    answer["properties"]["predictions"]["items"] = json!({"anyOf": prediction});
    (api.read_whole::<Body>(), answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn instances_are_one_call() {
        /// Inputs, and of each instance how many it has and whether they are a list.
        type Counts<'a> = (usize, &'a [(usize, bool)]);
        let check = |json: &str, expected: Result<Counts<'_>, &str>| {
            let Body { instances, .. } = body::parse(json.as_bytes()).unwrap();
            let gathered = gather(instances, &Options::default());
            let found = gathered.map(|gathered| (gathered.inputs.len(), gathered.counts));
            let expected = expected.map(|(inputs, counts)| (inputs, counts.to_vec())).map_err(str::to_owned);
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{json}");
        };
        check(r#"{"instances":["a","b"]}"#, Ok((2, &[(1, false), (1, false)])));
        check(
            r#"{"instances":[{"inputs":["a","b"]},{"content":"c"},{"text":"d","more":1}]}"#,
            Ok((4, &[(2, true), (1, false), (1, false)])),
        );
        check(
            r#"{"instances":[{"inputs":"a","normalize":true},{"inputs":"b"}]}"#,
            Err(
                "invalid request: instances[1]: its options differ from those of the instances before; send it in a call of its own",
            ),
        );
        check(r#"{"instances":[]}"#, Err("inputs is empty: send at least one text"));
        check(
            r#"{"instances":[{}]}"#,
            Err("invalid request: instances[0]: expected a string, `inputs`, or alone `query` and `texts`"),
        );
    }
}
