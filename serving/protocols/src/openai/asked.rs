//! What the requests of this family share: the model that is meant, and what is done with long texts.

use std::borrow::Cow;
use std::fmt;

use api::tasks::Truncation;
use api::{ApiError, InferResponse};
use axum::body::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::http::body::{self, Name};
use crate::http::target::Target;
use crate::http::told::has_field;

/// The target of a request whose body may name a model, where its path names none. NIM's clients may write
/// what a text is for behind the name, which makes no difference here.
pub(crate) fn in_body(target: Target, name: Option<String>) -> Target {
    let Some(name) = target.name.clone().or(name) else { return target };
    let stem = ["-query", "-passage"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let name = match stem {
        Some(stem) if target.find(&name).is_none() => stem.to_owned(),
        _ => name,
    };
    target.named(Some(name))
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
    /// vLLM: whether the tokens are there that the model reads around a text.
    pub(crate) special_tokens: Option<bool>,
}

impl Cut {
    /// What is done with long texts: `default` where nothing is said.
    ///
    /// # Errors
    /// A text is to be cut to fewer tokens than the model reads, or read without special tokens, which is not
    /// done here.
    pub(crate) fn of(self, target: &Target, default: Truncation) -> Result<Truncation, ApiError> {
        if self.special_tokens == Some(false) {
            return Err(invalid("add_special_tokens", "the model reads no text without its special tokens"));
        }
        if let Some(tokens) = self.prompt_tokens {
            let window = target.window();
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

/// Refuses to cut texts to fewer tokens than the model reads at once.
///
/// # Errors
/// They are to be cut so.
pub(crate) fn whole_window(field: &str, tokens: Option<usize>, target: &Target) -> Result<(), ApiError> {
    let window = target.window();
    match tokens.filter(|tokens| *tokens < window) {
        Some(_) => {
            Err(invalid(field, &format!("texts are cut to the model's window alone: at least {window}")))
        }
        None => Ok(()),
    }
}

/// Parses a body, of which chat messages in the place of a text are refused by name.
///
/// # Errors
/// It is another one.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    body::parse(body).map_err(|error| match has_field(body, &["messages"]) {
        true => invalid("messages", "chat templates are not applied here: send the text itself"),
        false => error,
    })
}

/// Refuses what is no text, or the address of something else: as a text it would get an answer that means
/// nothing.
///
/// # Errors
/// It is another modality.
pub(super) fn only_text(modality: Option<&str>) -> Result<(), ApiError> {
    match modality {
        None | Some("text") => Ok(()),
        Some(_) => Err(invalid("modality", "texts alone are read here")),
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
            add_special_tokens: Option<bool>,
        }

        impl $name {
            fn target(&self, target: $crate::http::target::Target) -> $crate::http::target::Target {
                $crate::openai::asked::in_body(target, self.model.clone())
            }

            fn cut(&self) -> $crate::openai::asked::Cut {
                $crate::openai::asked::Cut {
                    truncate: self.truncate,
                    truncation: self.truncation,
                    prompt_tokens: self.truncate_prompt_tokens,
                    side: self.truncation_side,
                    special_tokens: self.add_special_tokens,
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

pub(crate) fn invalid(field: &str, problem: &str) -> ApiError {
    ApiError::InvalidRequest { field: field.to_owned(), problem: problem.to_owned() }
}
