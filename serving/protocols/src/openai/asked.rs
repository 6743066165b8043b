//! What the requests of this family share: the model that is meant, and what is done with long texts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use api::tasks::{Input, OnError, Parameters, TaskResult, Truncation};
use api::{ApiError, InferRequest, InferResponse, ModelDirectory, ModelInfo, Priority};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::Services;
use crate::http::body::Name;

/// For which model a request is: one that its path names, or its body, or none does.
#[derive(Clone)]
pub(crate) struct Asked {
    name: Option<String>,
    inputs_max: usize,
    models: Arc<dyn ModelDirectory>,
}

impl Asked {
    pub(crate) fn new(services: &Services, name: Option<String>) -> Self {
        let (inputs_max, models) = (services.bounds.dialect_inputs_max, Arc::clone(&services.models));
        Self { name, inputs_max, models }
    }

    /// The model's name. NIM's clients may write what a text is for behind it, which makes no difference
    /// here.
    pub(crate) fn name(&self, in_body: Option<String>) -> Option<String> {
        let name = self.name.clone().or(in_body)?;
        let stem = ["-query", "-passage"].iter().find_map(|suffix| name.strip_suffix(suffix));
        match stem {
            Some(stem) if self.models.model(&name).is_none() => Some(stem.to_owned()),
            _ => Some(name),
        }
    }

    /// The model of a name. To be asked only by who knows the caller.
    pub(crate) fn model(&self, name: Option<&str>) -> Option<ModelInfo> {
        name.and_then(|name| self.models.model(name))
    }

    /// A request for it.
    pub(crate) fn request(
        &self,
        model: Option<String>,
        inputs: Vec<Input>,
        parameters: Parameters,
    ) -> InferRequest {
        InferRequest {
            model,
            inputs,
            inputs_max: Some(self.inputs_max),
            parameters,
            on_error: OnError::Fail,
            priority: Priority::Normal,
            timeout: None,
        }
    }

    /// The longest text, in tokens, that the model reads at once; of the models the largest where none is
    /// named.
    fn window(&self, name: Option<&str>) -> usize {
        let window = |model: &ModelInfo| model.limits.tokens_max;
        match self.model(name) {
            Some(model) => window(&model),
            None => self.models.models().iter().map(window).max().unwrap_or(usize::MAX),
        }
    }
}

/// Which end of a text is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Left,
    Right,
}

/// `truncate`: a switch, or as Cohere and NIM have it `NONE`, `START` or `END`, in letters of either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncate(pub(crate) Truncation);

impl JsonSchema for Truncate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Truncate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "boolean"}, {"enum": ["NONE", "START", "END"]}]})
    }
}

impl<'de> Deserialize<'de> for Truncate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TruncateVisitor;
        impl Visitor<'_> for TruncateVisitor {
            type Value = Truncate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean, or one of NONE, START and END")
            }

            fn visit_bool<E>(self, is_on: bool) -> Result<Truncate, E> {
                Ok(Truncate(if is_on { Truncation::End } else { Truncation::Error }))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Truncate, E> {
                let names =
                    [("NONE", Truncation::Error), ("START", Truncation::Start), ("END", Truncation::End)];
                let found = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                let unknown = || E::custom("unknown value, expected one of NONE, START and END");
                found.map(|(_, truncation)| Truncate(*truncation)).ok_or_else(unknown)
            }
        }
        deserializer.deserialize_any(TruncateVisitor)
    }
}

/// What a request says of texts that are longer than the model reads at once, in the words of several APIs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cut {
    /// NIM, Cohere, Jina.
    pub(crate) truncate: Option<Truncate>,
    /// Voyage.
    pub(crate) truncation: Option<bool>,
    /// vLLM: to how many tokens; -1 is as many as the model reads.
    pub(crate) prompt_tokens: Option<i64>,
    /// vLLM.
    pub(crate) side: Option<Name<Side>>,
}

impl Cut {
    /// What is done with long texts: `default` where nothing is said.
    ///
    /// # Errors
    /// A text is to be cut to fewer tokens than the model reads, which is not done here.
    pub(crate) fn of(
        self,
        asked: &Asked,
        model: Option<&str>,
        default: Truncation,
    ) -> Result<Truncation, ApiError> {
        if let Some(tokens) = self.prompt_tokens {
            let window = asked.window(model);
            if tokens != -1 && usize::try_from(tokens).map_or(true, |tokens| tokens < window) {
                let problem =
                    format!("texts are cut to the model's window alone: send -1, or at least {window}");
                return Err(invalid("truncate_prompt_tokens", &problem));
            }
            return Ok(match self.side.map(Name::get) {
                Some(Side::Left) => Truncation::Start,
                Some(Side::Right) | None => Truncation::End,
            });
        }
        let switch = self.truncation.map(|is_on| if is_on { Truncation::End } else { Truncation::Error });
        Ok(self.truncate.map(|Truncate(truncation)| truncation).or(switch).unwrap_or(default))
    }
}

/// The body of a request: what every one has, and what is its own.
macro_rules! request_body {
    ($(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, serde::Deserialize, JsonSchema)]
        struct $name {
            $($(#[$field_doc])* $field: $type,)*
            model: Option<String>,
            truncate: Option<$crate::openai::asked::Truncate>,
            truncation: Option<bool>,
            truncate_prompt_tokens: Option<i64>,
            truncation_side: Option<$crate::http::body::Name<$crate::openai::asked::Side>>,
        }

        impl $name {
            fn cut(&self) -> $crate::openai::asked::Cut {
                $crate::openai::asked::Cut {
                    truncate: self.truncate,
                    truncation: self.truncation,
                    prompt_tokens: self.truncate_prompt_tokens,
                    side: self.truncation_side,
                }
            }
        }
    };
}
pub(crate) use request_body;

/// Tokens of a call.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    pub(crate) fn of(response: &InferResponse) -> Self {
        Self { prompt_tokens: response.tokens, total_tokens: response.tokens }
    }
}

/// Seconds since 1970 at which a call was answered.
pub(crate) fn created(response: &InferResponse) -> u64 {
    response.timings.answered_at.0 / 1000
}

/// The results of a call, of which none is refused by itself.
pub(crate) fn results(response: InferResponse) -> Result<Vec<TaskResult>, ApiError> {
    response.answer.results.into_iter().map(|result| result.map_err(ApiError::Input)).collect()
}

/// What only a fault of ours can bring about.
pub(crate) fn other_output() -> ApiError {
    ApiError::internal("an output of another task")
}

pub(crate) fn invalid(field: &str, problem: &str) -> ApiError {
    ApiError::InvalidRequest { field: field.to_owned(), problem: problem.to_owned() }
}
