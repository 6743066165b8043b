//! The JSON shapes of the REST API, each with its translation to and from the pipeline's terms.

use std::time::Duration;

use api::tasks::{
    Aggregation, Entity, InputError, LabelScore, OffsetUnit, OnError, Output, Parameters, Summary,
    SummaryMethod, TaskResult, Token, Truncation,
};
use api::{ApiError, InferRequest, InferResponse, Operation, Priority, with_parameters};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::errors::EnvelopeError;
use crate::http::body::{self, Name, Object};
use crate::http::inputs::Inputs;
use crate::http::vectors::{Precision, Vector, little_endian};

/// What makes bytes of an embedding.
pub(super) type ToBytes<R> = fn(Vec<f32>, &R) -> Vec<u8>;

/// One inference route: its task, its parameters, and how its answers are written.
pub(super) trait WireTask: 'static {
    /// What the route asks for.
    const OPERATION: Operation;
    /// Shape of `parameters`.
    type Parameters: DeserializeOwned + Default + JsonSchema;
    /// What of the parameters decides how the answer is written.
    type Rendering: Send;

    /// Translates the parameters.
    fn parameters(wire: Self::Parameters) -> (Parameters, Common, Self::Rendering);

    /// Writes an embedding; only the embeddings route has one to write.
    fn embedding(values: Vec<f32>, _: &Self::Rendering) -> Vector {
        Vector::Float(values)
    }

    /// How an embedding is written as bytes, where a route can answer with them.
    const BYTES: Option<ToBytes<Self::Rendering>> = None;
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
    let Body { inputs, model, parameters } = body::parse::<Body<W::Parameters>>(body)?;
    let (parameters, common, rendering) = W::parameters(parameters.map(|Object(p)| p).unwrap_or_default());
    if common.timeout_ms == Some(0) {
        let (field, problem) = ("parameters.timeout_ms".to_owned(), "expected at least 1".to_owned());
        return Err(ApiError::InvalidRequest { field, problem });
    }
    let request = InferRequest {
        model,
        inputs: inputs.list,
        inputs_max: None,
        parameters,
        on_error: common.on_error,
        priority: common.priority.unwrap_or(Priority::Normal),
        timeout: common.timeout_ms.map(Duration::from_millis),
    };
    Ok((request, rendering))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Body<P> {
    /// Texts, or ids of the model's own tokens in the place of a text.
    inputs: Inputs,
    /// The model; the default of the task if it is left out.
    model: Option<String>,
    /// How it is done.
    parameters: Option<Object<P>>,
}

/// The platform's message priorities, by name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Priority")]
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

/// A parameter as JSON has it.
trait Parameter: Sized {
    /// What is read where it is not null.
    type Json: DeserializeOwned + JsonSchema + std::fmt::Debug;

    /// The value, or its default where there is none.
    fn of(json: Option<Self::Json>, default: Self) -> Self;
}

macro_rules! parameter {
    ($($type:ty: $json:ty, |$value:ident, $default:ident| $read:expr;)+) => {$(
        impl Parameter for $type {
            type Json = $json;

            fn of($value: Option<$json>, $default: Self) -> Self {
                $read
            }
        }
    )+};
}

parameter! {
    bool: bool, |json, default| json.unwrap_or(default);
    usize: usize, |json, default| json.unwrap_or(default);
    String: String, |json, default| json.unwrap_or(default);
    Option<bool>: bool, |json, default| json.or(default);
    Option<usize>: usize, |json, default| json.or(default);
    Option<String>: String, |json, default| json.or(default);
    Option<Vec<String>>: Vec<String>, |json, default| json.or(default);
    Truncation: Name<Self>, |json, default| json.map_or(default, Name::get);
    Aggregation: Name<Self>, |json, default| json.map_or(default, Name::get);
    OffsetUnit: Name<Self>, |json, default| json.map_or(default, Name::get);
    SummaryMethod: Name<Self>, |json, default| json.map_or(default, Name::get);
}

/// The default of a parameter as documents tell it.
fn told_default<T: Serialize>(default: T) -> serde_json::Value {
    serde_json::to_value(default).unwrap_or_default()
}

/// Reads the parameters of a route: those of its task, its own, and those of every route. (serde cannot
/// refuse unknown fields in a flattened struct, so all stand in each.)
macro_rules! wire_parameters {
    (
        [$wire:ident $task:ident { $($own:ident: $own_type:ty)? }] $(#[$doc:meta])* struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        #[schemars(inline)]
        pub(super) struct $wire {
            $(
                $(#[$field_doc])*
                #[schemars(extend("default" = told_default::<$type>($default)))]
                $field: Option<<$type as Parameter>::Json>,
            )*
            $($own: Option<$own_type>,)?
            /// The order among the calls of one tenant.
            #[schemars(extend("default" = "normal"))]
            priority: Option<Name<WirePriority>>,
            /// The caller's deadline, in milliseconds; `X-Request-Timeout` says the same.
            #[schemars(range(min = 1))]
            timeout_ms: Option<u64>,
            /// What a fault of one input does to the others.
            #[schemars(extend("default" = "fail"))]
            on_error: Option<Name<OnError>>,
        }

        impl $wire {
            fn read(self) -> (Parameters, Common) {
                let common = Common {
                    priority: self.priority.map(|Name(priority)| priority.into()),
                    timeout_ms: self.timeout_ms,
                    on_error: self.on_error.map(Name::get).unwrap_or_default(),
                };
                let parameters = Parameters::$task(api::tasks::$name {
                    $($field: Parameter::of(self.$field, $default),)*
                });
                (parameters, common)
            }
        }
    };
}

with_parameters!(Classify, wire_parameters ClassifyWire Classify {});
with_parameters!(Sentiment, wire_parameters SentimentWire Sentiment {});
with_parameters!(Entities, wire_parameters EntitiesWire Entities {});
with_parameters!(Summarize, wire_parameters SummarizeWire Summarize {});
with_parameters!(Embed, wire_parameters EmbeddingsWire Embed { encoding_format: Name<EncodingFormat> });
with_parameters!(Rerank, wire_parameters RerankWire Rerank {});
with_parameters!(Similarity, wire_parameters SimilarityWire Similarity {});
with_parameters!(Tokenize, wire_parameters TokenizeWire Tokenize {});
with_parameters!(Detokenize, wire_parameters DetokenizeWire Detokenize {});

macro_rules! routes {
    ($($(#[$doc:meta])* $route:ident: $task:ident, $wire:ident;)+) => {$(
        $(#[$doc])*
        pub(super) struct $route;

        impl WireTask for $route {
            const OPERATION: Operation = Operation::$task;
            type Parameters = $wire;
            type Rendering = ();

            fn parameters(wire: $wire) -> (Parameters, Common, ()) {
                let (parameters, common) = wire.read();
                (parameters, common, ())
            }
        }
    )+};
}

routes! {
    /// `POST /v1/ml/classify`
    Classify: Classify, ClassifyWire;
    /// `POST /v1/ml/sentiment`
    Sentiment: Sentiment, SentimentWire;
    /// `POST /v1/ml/entities`
    Entities: Entities, EntitiesWire;
    /// `POST /v1/ml/summarize`
    Summarize: Summarize, SummarizeWire;
    /// `POST /v1/ml/rerank`
    Rerank: Rerank, RerankWire;
    /// `POST /v1/ml/similarity`
    Similarity: Similarity, SimilarityWire;
    /// `POST /v1/ml/tokenize`
    Tokenize: Tokenize, TokenizeWire;
    /// `POST /v1/ml/detokenize`
    Detokenize: Detokenize, DetokenizeWire;
}

/// `POST /v1/ml/embeddings`
pub(super) struct Embeddings;

impl WireTask for Embeddings {
    const OPERATION: Operation = Operation::Embed;
    type Parameters = EmbeddingsWire;
    type Rendering = EncodingFormat;

    fn parameters(wire: EmbeddingsWire) -> (Parameters, Common, EncodingFormat) {
        let format = wire.encoding_format.map(Name::get).unwrap_or_default();
        let (parameters, common) = wire.read();
        (parameters, common, format)
    }

    fn embedding(values: Vec<f32>, format: &EncodingFormat) -> Vector {
        let vector = format.precision().of(values);
        if *format == EncodingFormat::Base64 { vector.base64(little_endian) } else { vector }
    }

    const BYTES: Option<ToBytes<EncodingFormat>> =
        Some(|values, format| format.precision().of(values).bytes());
}

/// How an embedding is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EncodingFormat {
    /// A JSON array of numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in standard base64.
    Base64,
    /// Signed bytes; how these and the others are made of floats is said in [`crate::http::vectors`].
    Int8,
    /// Unsigned bytes.
    Uint8,
    /// A bit a dimension, in signed bytes.
    Binary,
    /// A bit a dimension, in unsigned bytes.
    Ubinary,
}

impl EncodingFormat {
    fn precision(self) -> Precision {
        match self {
            Self::Float | Self::Base64 => Precision::Float,
            Self::Int8 => Precision::Int8,
            Self::Uint8 => Precision::Uint8,
            Self::Binary => Precision::Binary,
            Self::Ubinary => Precision::Ubinary,
        }
    }
}

/// The embeddings of a call as bytes, one after the other.
pub(super) fn bytes<R>(
    response: InferResponse,
    rendering: &R,
    bytes: ToBytes<R>,
) -> Result<Vec<u8>, ApiError> {
    let mut all = Vec::new();
    for result in response.answer.results {
        match result?.output {
            Output::Embedding(values) => all.extend(bytes(values, rendering)),
            _ => return Err(ApiError::internal("an output of another task")),
        }
    }
    Ok(all)
}

/// Answer of an inference route.
#[derive(Debug, Serialize)]
pub(super) struct Response {
    model: String,
    version: String,
    results: Vec<Item>,
    usage: Usage,
}

/// What is charged.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Usage {
    /// Inputs that were computed.
    inputs: usize,
    /// Their tokens.
    tokens: usize,
}

/// What there is to an input.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Item {
    Result(ResultItem),
    Error { error: EnvelopeError<'static> },
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct ResultItem {
    #[serde(flatten)]
    #[schemars(skip)]
    output: WireOutput,
    /// Tokens of the input, special tokens included, each once however many windows overlap.
    tokens: usize,
    /// Whether something was cut off, as `truncation` asked.
    truncated: bool,
    /// Windows that were read.
    windows: usize,
    /// Tokens that the model does not know.
    unknown_tokens: usize,
    /// Whether the model knows nothing of what it read, so that the result says nothing of the text.
    nothing_recognized: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum WireOutput {
    Labels {
        labels: Vec<LabelScore>,
    },
    Sentiment {
        label: String,
        score: f32,
        #[schemars(with = "std::collections::BTreeMap<String, f32>")]
        scores: Scores,
    },
    Entities {
        entities: Vec<Entity>,
    },
    Summary(Summary),
    Embedding {
        embedding: Vector,
    },
    TokenEmbeddings {
        embeddings: Vec<Vec<f32>>,
    },
    Score {
        score: f32,
    },
    Tokens {
        tokenization: Vec<WireToken>,
    },
    Text {
        text: String,
    },
}

/// A token of a text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(super) struct WireToken {
    id: u32,
    text: String,
    special: bool,
    /// None of special tokens.
    start: Option<usize>,
    end: Option<usize>,
}

impl From<Token> for WireToken {
    fn from(Token { id, text, is_special, span }: Token) -> Self {
        let (start, end) = span.unzip();
        Self { id, text, special: is_special, start, end }
    }
}

/// Scores as an object, in the order of the model's labels.
#[derive(Debug)]
pub(super) struct Scores(Vec<LabelScore>);

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for LabelScore { label, score, .. } in &self.0 {
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
                Output::TokenEmbeddings(embeddings) => WireOutput::TokenEmbeddings { embeddings },
                Output::Similarity(score) => WireOutput::Score { score },
                Output::Tokens(tokens) => {
                    WireOutput::Tokens { tokenization: tokens.into_iter().map(WireToken::from).collect() }
                }
                Output::Text(text) => WireOutput::Text { text },
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
        let error = |error: InputError| Item::Error { error: EnvelopeError::of_input(error) };
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
            Err(
                "invalid request: inputs: expected a string or an array of strings or of token ids, got integer",
            ),
        );
        check(
            r#"{"inputs":["a",null]}"#,
            Err("invalid request: inputs[1]: expected a string or an array of token ids, got null"),
        );
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
}
