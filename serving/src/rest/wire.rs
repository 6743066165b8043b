//! The JSON shapes of the REST API, each with its translation to and from the pipeline's terms.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use models::Task;
use models::tasks::{
    Aggregation, ClassifyParameters, EmbedParameters, EntitiesParameters, InputError, LabelScore, OffsetUnit,
    OnError, Output, Parameters, SentimentParameters, SummarizeParameters, SummaryMethod, TaskResult,
    Truncation,
};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use units::Priority;

use super::body::{Name, Object};
use crate::error::{ApiError, EnvelopeError};
use crate::pipeline::{InferRequest, InferResponse};

/// One inference route: its task, its parameters, and how its answers are written.
pub(super) trait WireTask: 'static {
    /// The task of the route.
    const TASK: Task;
    /// Shape of `parameters`.
    type Parameters: DeserializeOwned + Default;
    /// What of the parameters decides how the answer is written.
    type Rendering: Default + Send;

    /// Translates the parameters.
    fn parameters(wire: Self::Parameters) -> (Parameters, Common, Self::Rendering);

    /// Writes an embedding; only the embeddings route has one to write.
    fn embedding(values: Vec<f32>, _: &Self::Rendering) -> Embedding {
        Embedding::Float(values)
    }
}

/// Parameters of every route.
#[derive(Debug, Default)]
pub(super) struct Common {
    priority: Option<Priority>,
    timeout_ms: Option<u64>,
    on_error: OnError,
}

/// Parses a request body for `W`.
pub(super) fn parse<W: WireTask>(body: &[u8]) -> Result<(InferRequest, W::Rendering), ApiError> {
    let Body { inputs, model, parameters } = super::body::parse::<Body<W::Parameters>>(body)?;
    let (parameters, common, rendering) = W::parameters(parameters.map(|Object(p)| p).unwrap_or_default());
    if common.timeout_ms == Some(0) {
        let (field, problem) = ("parameters.timeout_ms".to_owned(), "expected at least 1".to_owned());
        return Err(ApiError::InvalidRequest { field, problem });
    }
    let request = InferRequest {
        model,
        inputs: inputs.0,
        parameters,
        on_error: common.on_error,
        priority: common.priority.unwrap_or(Priority::Normal),
        timeout: common.timeout_ms.map(Duration::from_millis),
    };
    Ok((request, rendering))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<P> {
    inputs: Inputs,
    model: Option<String>,
    parameters: Option<Object<P>>,
}

/// One text, or several.
#[derive(Debug)]
struct Inputs(Vec<String>);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor;
        impl<'de> Visitor<'de> for InputsVisitor {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs(vec![text.to_owned()]))
            }

            fn visit_string<E>(self, text: String) -> Result<Inputs, E> {
                Ok(Inputs(vec![text]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Inputs, A::Error> {
                let mut inputs = Vec::new();
                while let Some(text) = texts.next_element()? {
                    inputs.push(text);
                }
                Ok(Inputs(inputs))
            }
        }
        deserializer.deserialize_any(InputsVisitor)
    }
}

/// The platform's message priorities, by name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WirePriority {
    Critical,
    High,
    Normal,
    Low,
}

impl From<WirePriority> for Priority {
    fn from(priority: WirePriority) -> Self {
        match priority {
            WirePriority::Critical => Self::Critical,
            WirePriority::High => Self::High,
            WirePriority::Normal => Self::Normal,
            WirePriority::Low => Self::Low,
        }
    }
}

/// Declares the parameters of a route: its own fields and those of every route. (serde cannot refuse unknown fields
/// in a flattened struct, so the common fields stand in each.)
macro_rules! wire_parameters {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $($field: Option<$type>,)*
            priority: Option<Name<WirePriority>>,
            timeout_ms: Option<u64>,
            on_error: Option<Name<OnError>>,
        }

        impl $name {
            fn common(&self) -> Common {
                Common {
                    priority: self.priority.map(|Name(priority)| priority.into()),
                    timeout_ms: self.timeout_ms,
                    on_error: self.on_error.map(Name::get).unwrap_or_default(),
                }
            }
        }
    };
}

wire_parameters!(ClassifyWire { top_k: usize, labels: Vec<String>, multi_label: bool, truncation: Name<Truncation> });
wire_parameters!(SentimentWire { truncation: Name<Truncation> });
wire_parameters!(EntitiesWire { aggregation: Name<Aggregation>, offset_unit: Name<OffsetUnit>, truncation: Name<Truncation> });
wire_parameters!(SummarizeWire {
    max_sentences: usize,
    max_tokens: usize,
    method: Name<SummaryMethod>,
    offset_unit: Name<OffsetUnit>,
});
wire_parameters!(EmbeddingsWire {
    dimensions: usize,
    normalize: bool,
    normalize_text: bool,
    encoding_format: Name<EncodingFormat>,
    truncation: Name<Truncation>,
});

/// `POST /v1/ml/classify`
pub(super) struct Classify;
/// `POST /v1/ml/sentiment`
pub(super) struct Sentiment;
/// `POST /v1/ml/entities`
pub(super) struct Entities;
/// `POST /v1/ml/summarize`
pub(super) struct Summarize;
/// `POST /v1/ml/embeddings`
pub(super) struct Embeddings;

impl WireTask for Classify {
    const TASK: Task = Task::Classify;
    type Parameters = ClassifyWire;
    type Rendering = ();

    fn parameters(wire: ClassifyWire) -> (Parameters, Common, ()) {
        let default = ClassifyParameters::default();
        let common = wire.common();
        let parameters = ClassifyParameters {
            top_k: wire.top_k,
            labels: wire.labels,
            multi_label: wire.multi_label.unwrap_or(default.multi_label),
            truncation: wire.truncation.map_or(default.truncation, Name::get),
        };
        (Parameters::Classify(parameters), common, ())
    }
}

impl WireTask for Sentiment {
    const TASK: Task = Task::Sentiment;
    type Parameters = SentimentWire;
    type Rendering = ();

    fn parameters(wire: SentimentWire) -> (Parameters, Common, ()) {
        let default = SentimentParameters::default();
        let common = wire.common();
        let parameters =
            SentimentParameters { truncation: wire.truncation.map_or(default.truncation, Name::get) };
        (Parameters::Sentiment(parameters), common, ())
    }
}

impl WireTask for Entities {
    const TASK: Task = Task::Entities;
    type Parameters = EntitiesWire;
    type Rendering = ();

    fn parameters(wire: EntitiesWire) -> (Parameters, Common, ()) {
        let default = EntitiesParameters::default();
        let common = wire.common();
        let parameters = EntitiesParameters {
            aggregation: wire.aggregation.map_or(default.aggregation, Name::get),
            offset_unit: wire.offset_unit.map_or(default.offset_unit, Name::get),
            truncation: wire.truncation.map_or(default.truncation, Name::get),
        };
        (Parameters::Entities(parameters), common, ())
    }
}

impl WireTask for Summarize {
    const TASK: Task = Task::Summarize;
    type Parameters = SummarizeWire;
    type Rendering = ();

    fn parameters(wire: SummarizeWire) -> (Parameters, Common, ()) {
        let default = SummarizeParameters::default();
        let common = wire.common();
        let parameters = SummarizeParameters {
            max_sentences: wire.max_sentences.unwrap_or(default.max_sentences),
            max_tokens: wire.max_tokens.or(default.max_tokens),
            method: wire.method.map_or(default.method, Name::get),
            offset_unit: wire.offset_unit.map_or(default.offset_unit, Name::get),
        };
        (Parameters::Summarize(parameters), common, ())
    }
}

impl WireTask for Embeddings {
    const TASK: Task = Task::Embed;
    type Parameters = EmbeddingsWire;
    type Rendering = EncodingFormat;

    fn parameters(wire: EmbeddingsWire) -> (Parameters, Common, EncodingFormat) {
        let default = EmbedParameters::default();
        let common = wire.common();
        let parameters = EmbedParameters {
            dimensions: wire.dimensions,
            normalize: wire.normalize.unwrap_or(default.normalize),
            normalize_text: wire.normalize_text,
            truncation: wire.truncation.map_or(default.truncation, Name::get),
        };
        (Parameters::Embed(parameters), common, wire.encoding_format.map(Name::get).unwrap_or_default())
    }

    fn embedding(values: Vec<f32>, format: &EncodingFormat) -> Embedding {
        match format {
            EncodingFormat::Float => Embedding::Float(values),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Embedding::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

/// How an embedding is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum EncodingFormat {
    /// A JSON array of numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in standard base64.
    Base64,
}

/// Answer of an inference route.
#[derive(Debug, Serialize)]
pub(super) struct Response {
    model: String,
    version: String,
    results: Vec<Item>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Usage {
    inputs: usize,
    tokens: usize,
}

/// What there is to an input.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Item {
    Result(ResultItem),
    Error { error: EnvelopeError<'static> },
}

#[derive(Debug, Serialize)]
struct ResultItem {
    #[serde(flatten)]
    output: WireOutput,
    tokens: usize,
    truncated: bool,
    windows: usize,
    unknown_tokens: usize,
    nothing_recognized: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum WireOutput {
    Labels { labels: Vec<LabelScore> },
    Sentiment { label: String, score: f32, scores: Scores },
    Entities { entities: Vec<models::tasks::Entity> },
    Summary(models::tasks::Summary),
    Embedding { embedding: Embedding },
}

/// An embedding as it is written.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Embedding {
    /// An array of numbers.
    Float(Vec<f32>),
    /// Base64 text.
    Base64(String),
}

/// Scores as an object, in the order of the model's labels.
#[derive(Debug)]
struct Scores(Vec<LabelScore>);

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for LabelScore { label, score } in &self.0 {
            map.serialize_entry(label, score)?;
        }
        map.end()
    }
}

impl Response {
    /// Writes an answer of `W`.
    pub(super) fn new<W: WireTask>(response: InferResponse, rendering: &W::Rendering) -> Self {
        let InferResponse { model, version, answer, inputs, tokens, .. } = response;
        let result = |result: TaskResult| {
            let TaskResult { output, tokens, truncated, windows, unknown_tokens, nothing_recognized } =
                result;
            let output = match output {
                Output::Labels(labels) => WireOutput::Labels { labels },
                Output::Sentiment(s) => WireOutput::Sentiment {
                    label: s.label.to_string(),
                    score: s.score,
                    scores: Scores(s.scores),
                },
                Output::Entities(entities) => WireOutput::Entities { entities },
                Output::Summary(summary) => WireOutput::Summary(summary),
                Output::Embedding(values) => {
                    WireOutput::Embedding { embedding: W::embedding(values, rendering) }
                }
            };
            Item::Result(ResultItem {
                output,
                tokens,
                truncated,
                windows,
                unknown_tokens,
                nothing_recognized,
            })
        };
        let error = |error: InputError| Item::Error { error: ApiError::of_input(&error) };
        Self {
            model: model.to_string(),
            version: version.to_string(),
            results: answer.results.into_iter().map(|item| item.map_or_else(error, result)).collect(),
            usage: Usage { inputs, tokens },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn bodies() {
        let check = |body: &str, expected: Result<usize, &str>| {
            let parsed = parse::<Classify>(body.as_bytes());
            let found = parsed.map(|(request, ())| request.inputs.len()).map_err(|e| e.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{body}");
        };
        check(r#"{"inputs":"a"}"#, Ok(1));
        check(r#"{"inputs":["a","b"],"model":null,"parameters":null}"#, Ok(2));
        check(r#"{"inputs":[]}"#, Ok(0));
        check(r#"{"inputs":"a","parameters":{"top_k":2,"priority":"low","timeout_ms":5}}"#, Ok(1));
        check(r#"{}"#, Err("invalid request: body: missing field `inputs`"));
        check(
            r#"{"inputs":5}"#,
            Err("invalid request: inputs: expected a string or an array of strings, got integer"),
        );
        check(r#"{"inputs":["a",null]}"#, Err("invalid request: inputs[1]: expected a string, got null"));
        check(
            r#"{"inputs":"a","input":"b"}"#,
            Err(
                "invalid request: input: unknown field `input`, expected one of `inputs`, `model`, `parameters`",
            ),
        );
        check(
            r#"{"inputs":"a","parameters":{"timeout_ms":0}}"#,
            Err("invalid request: parameters.timeout_ms: expected at least 1"),
        );
        check(
            r#"{"inputs":"a","parameters":[1]}"#,
            Err("invalid request: parameters: expected an object, got array"),
        );
    }

    #[test]
    fn base64_is_little_endian_floats() {
        let Embedding::Base64(text) = Embeddings::embedding(vec![1.0, -2.5], &EncodingFormat::Base64) else {
            panic!("asked for base64");
        };
        let bytes = STANDARD.decode(text).expect("base64");
        assert_eq!(bytes, [1.0f32.to_le_bytes(), (-2.5f32).to_le_bytes()].concat());
    }
}
