//! `POST /v1/classify`. With `examples` a text has the class of the examples that are nearest to it: a class
//! counts as its [`NEAREST`] nearest examples do in the mean of their cosines, and the confidences of all
//! classes are `softmax(20 · mean)`, as zero-shot classes are scored. Without examples the classes are the
//! model's own.

use std::collections::HashMap;
use std::sync::Arc;

use api::tasks::{EmbedParameters, Input, InputError, LabelScore, Parameters, Truncation};
use api::{ApiError, InferRequest, InferResponse, Operation, request_id};
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{ApiVersion, Cohere, Meta, Units};
use crate::http::body;
use crate::http::dialect::{Answer, Shape};
use crate::http::target::Target;
use crate::http::words::Words;
use crate::openai::{CUT, Cut, Truncate, dot, in_body, invalid};
use crate::openapi::Api;
use crate::outputs::{classes, vectors};

/// Examples of a class that count.
const NEAREST: usize = 3;
/// What confidences are scaled by.
const SCALE: f32 = 20.0;
/// Most examples of a call, and least of a class, which are Cohere's.
const EXAMPLES_MAX: usize = 2500;
/// Most inputs of a call with examples, which are Cohere's: each is compared with every example.
const COMPARED_INPUTS_MAX: usize = 96;
const EXAMPLES_OF_CLASS_MIN: usize = 2;

/// A request for classes.
pub(crate) struct Classify(pub(crate) Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct Body {
    inputs: Vec<String>,
    examples: Option<Vec<Example>>,
    model: Option<String>,
    truncate: Option<Truncate>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Example {
    text: String,
    label: String,
}

/// How the answer is written.
pub(crate) struct Rendering {
    id: Arc<str>,
    inputs: Vec<String>,
    examples: Option<Classes>,
}

/// The classes of examples.
#[derive(Debug, PartialEq)]
struct Classes {
    /// In the order in which they come first.
    names: Vec<Arc<str>>,
    /// The class of each example.
    of: Vec<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Classified<'a> {
    id: &'a str,
    classifications: Vec<Classification>,
    meta: Meta,
}

#[derive(Serialize, JsonSchema)]
struct Classification {
    id: String,
    input: String,
    prediction: Arc<str>,
    predictions: [Arc<str>; 1],
    confidence: f32,
    confidences: [f32; 1],
    #[schemars(with = "std::collections::BTreeMap<String, Confidence>")]
    labels: Confidences,
    classification_type: &'static str,
}

/// Confidences by label, best first.
struct Confidences(Scores);

/// Labels and their confidences.
type Scores = Vec<(Arc<str>, f32)>;

#[derive(Serialize, JsonSchema)]
struct Confidence {
    confidence: f32,
}

impl Serialize for Confidences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (label, score) in &self.0 {
            map.serialize_entry(label, &Confidence { confidence: *score })?;
        }
        map.end()
    }
}

impl Classes {
    fn of(examples: &[Example]) -> Result<Self, ApiError> {
        if examples.len() > EXAMPLES_MAX {
            return Err(invalid("examples", &format!("at most {EXAMPLES_MAX} are taken")));
        }
        let (mut places, mut classes) = (HashMap::new(), Self { names: Vec::new(), of: Vec::new() });
        let mut counts = Vec::new();
        for example in examples {
            let place = *places.entry(example.label.as_str()).or_insert_with(|| {
                classes.names.push(Arc::from(example.label.as_str()));
                counts.push(0);
                counts.len() - 1
            });
            counts[place] += 1;
            classes.of.push(place);
        }
        if counts.len() < 2 || counts.iter().any(|count| *count < EXAMPLES_OF_CLASS_MIN) {
            return Err(invalid("examples", "expected two labels or more, each with two examples or more"));
        }
        Ok(classes)
    }

    /// The confidence of each class in a text, best first, by the vectors of the text and of the examples.
    fn confidences(&self, text: &[f32], examples: &[Vec<f32>]) -> Scores {
        let mut cosines = vec![Vec::new(); self.names.len()];
        for (class, example) in self.of.iter().zip(examples) {
            cosines[*class].push(dot(text, example));
        }
        let mean = |mut cosines: Vec<f32>| {
            cosines.sort_by(|left, right| right.total_cmp(left));
            cosines.truncate(NEAREST);
            cosines.iter().sum::<f32>() / cosines.len().max(1) as f32
        };
        let logits: Vec<f32> = cosines.into_iter().map(|cosines| SCALE * mean(cosines)).collect();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f32 = powers.iter().sum();
        let score = |(label, power): (&Arc<str>, f32)| (Arc::clone(label), power / sum);
        let mut scores: Vec<_> = self.names.iter().zip(powers).map(score).collect();
        scores.sort_by(|(_, left), (_, right)| right.total_cmp(left));
        scores
    }
}

impl Shape for Classify {
    type Dialect = Cohere;
    type Rendering = Rendering;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Classify)
    }

    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Rendering), ApiError> {
        let Self(target) = self;
        let body: Body = body::parse(body)?;
        let target = in_body(target, body.model);
        let cut = Cut { truncate: body.truncate, ..Cut::default() };
        let truncation = cut.of(&target, Truncation::End)?;
        let examples = body.examples.unwrap_or_default();
        let classes = (!examples.is_empty()).then(|| Classes::of(&examples)).transpose()?;
        match body.inputs.len() {
            0 => return Err(InputError::None.into()),
            inputs if classes.is_some() && inputs > COMPARED_INPUTS_MAX => {
                return Err(InputError::TooMany { inputs, limit: COMPARED_INPUTS_MAX }.into());
            }
            _ => {}
        }
        let inputs = body.inputs.iter().map(|text| Input::Text(text.clone()));
        let inputs: Vec<Input> =
            inputs.chain(examples.into_iter().map(|example| Input::Text(example.text))).collect();
        let mut request = match &classes {
            Some(_) => {
                let parameters = EmbedParameters { truncation, ..EmbedParameters::default() };
                target.request(inputs, Parameters::Embed(parameters))
            }
            None => target.classes(inputs, truncation),
        };
        // Examples are no inputs, and bounded by themselves.
        let count = classes.as_ref().map_or(0, |classes| classes.of.len());
        request.inputs_max = request.inputs_max.map(|most| most + count);
        Ok((request, Rendering { id: request_id(&head.extensions), inputs: body.inputs, examples: classes }))
    }

    fn words(rendering: &Rendering) -> Option<Words> {
        Some(Words { others: Some((rendering.inputs.len(), "examples")), ..Words::of_array("inputs", CUT) })
    }

    fn write(response: InferResponse, rendering: Rendering) -> Result<Answer, ApiError> {
        let Rendering { id, inputs, examples } = rendering;
        let pairs = |labels: Vec<LabelScore>| labels.into_iter().map(|one| (one.label, one.score)).collect();
        let found: Vec<Scores> = match examples {
            None => classes(response, false)?.into_iter().map(pairs).collect(),
            Some(classes) => {
                let vectors = vectors(response)?;
                let (texts, examples) = vectors.split_at_checked(inputs.len()).unwrap_or_default();
                texts.iter().map(|text| classes.confidences(text, examples)).collect()
            }
        };
        let classify = |(index, (input, labels)): (usize, (String, Scores))| {
            let (label, score) = labels.first().cloned().unwrap_or_default();
            Classification {
                id: format!("{id}-{index}"),
                input,
                prediction: Arc::clone(&label),
                predictions: [label],
                confidence: score,
                confidences: [score],
                labels: Confidences(labels),
                classification_type: "single-label",
            }
        };
        let classifications: Vec<_> = inputs.into_iter().zip(found).enumerate().map(classify).collect();
        let billed_units = Units { classifications: Some(classifications.len()), ..Units::default() };
        let meta = Meta { api_version: ApiVersion { version: "1" }, billed_units };
        Answer::json(StatusCode::OK, &Classified { id: &id, classifications, meta })
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<Body>(), api.written_whole::<Classified<'_>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn examples(labels: &[&str]) -> Vec<Example> {
        let example = |label: &&str| Example { text: "a".into(), label: (*label).into() };
        labels.iter().map(example).collect()
    }

    #[test]
    fn classes_of_examples() {
        let check = |labels: &[&str], expected: Option<(&[&str], &[usize])>| {
            let found = Classes::of(&examples(labels)).ok();
            let names = |classes: &Classes| classes.names.iter().map(ToString::to_string).collect::<Vec<_>>();
            let found = found.map(|classes| (names(&classes), classes.of));
            let expected =
                expected.map(|(names, of)| (names.iter().map(ToString::to_string).collect(), of.to_vec()));
            assert_eq!(found, expected, "{labels:?}");
        };
        check(&["b", "a", "a", "b"], Some((&["b", "a"], &[0, 1, 1, 0])));
        check(&["a", "a"], None);
        check(&["a", "a", "b"], None);
        check(&["a"; EXAMPLES_MAX + 1], None);
    }

    /// Cosines worked out by hand: of class 0 these are 1 and 0, of class 1 twice 0.6.
    #[test]
    fn the_nearest_examples_count() {
        let classes = Classes::of(&examples(&["a", "a", "b", "b"])).unwrap();
        let vectors = [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8], vec![0.6, -0.8]];
        let found = classes.confidences(&[1.0, 0.0], &vectors);
        // Means of 0.5 and 0.6: softmax of 10 and 12.
        let best = 1.0 / (1.0 + (-2f32).exp());
        assert_eq!(&*found[0].0, "b");
        assert!((found[0].1 - best).abs() < 1e-5 && (found[1].1 - (1.0 - best)).abs() < 1e-5);
        // A fourth example of a class that is further away than three others does not count.
        let classes = Classes::of(&examples(&["a", "a", "a", "a", "b", "b"])).unwrap();
        let [x, y] = [vec![1.0, 0.0], vec![-1.0, 0.0]];
        let vectors = [x.clone(), x.clone(), x.clone(), y.clone(), y.clone(), y];
        assert!(classes.confidences(&x, &vectors)[0].1 > 0.999);
    }
}
