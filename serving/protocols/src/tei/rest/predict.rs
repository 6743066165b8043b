//! `POST /predict`: classes of texts.

use std::fmt;

use api::tasks::{Input, LabelScore};
use api::{ApiError, InferRequest, InferResponse, Operation};
use axum::body::Bytes;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::super::errors::Tei;
use super::super::requests::{Direction, PAIR, truncation};
use super::Targeted;
use super::embed::characters;
use crate::http::body::{self, Name};
use crate::http::dialect::{Answer, Shape};
use crate::http::inputs::OneOrMany;
use crate::http::target::Target;
use crate::openapi::Api;
use crate::outputs;
use crate::tei::facts::Facts;

/// `POST /predict`.
pub struct Predict(pub Target);

#[derive(Debug, Deserialize, JsonSchema)]
struct Body {
    #[schemars(with = "OneOrMany<OneOrMany<String>>")]
    inputs: Texts,
    truncate: Option<bool>,
    truncation_direction: Option<Name<Direction>>,
    raw_scores: Option<bool>,
}

/// `"a"` and `["a"]` are one text, `["a", "b"]` is a pair, `[["a"], ["b"]]` are several of these.
#[derive(Debug, PartialEq, Eq)]
struct Texts {
    list: Vec<Input>,
    is_batch: bool,
}

/// An element of an array.
enum Element {
    Text(String),
    Item(String),
}

/// How its answer is written.
pub struct Classes {
    is_batch: bool,
    is_raw: bool,
    characters: usize,
}

/// A class with its score.
#[derive(Debug, Serialize, JsonSchema)]
struct Class {
    score: f32,
    label: String,
}

impl From<LabelScore> for Class {
    fn from(LabelScore { label, score, .. }: LabelScore) -> Self {
        Self { score, label: label.to_string() }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of arrays of one string each")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts { list: vec![text.into()], is_batch: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Texts, A::Error> {
                let (mut list, mut is_batch) = (Vec::new(), true);
                while let Some(element) = elements.next_element()? {
                    match element {
                        Element::Text(_) if !list.is_empty() => return Err(A::Error::custom(PAIR)),
                        Element::Text(text) => {
                            list.push(text.into());
                            is_batch = false;
                        }
                        Element::Item(_) if !is_batch => {
                            return Err(A::Error::custom("strings and arrays in one array"));
                        }
                        Element::Item(text) => list.push(text.into()),
                    }
                }
                Ok(Texts { list, is_batch })
            }
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of one string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Element, A::Error> {
                let first = texts.next_element::<String>()?;
                let text = first.ok_or_else(|| A::Error::custom("an empty array where a text should be"))?;
                match texts.next_element::<String>()? {
                    Some(_) => Err(A::Error::custom(PAIR)),
                    None => Ok(Element::Item(text)),
                }
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

impl Targeted for Predict {
    fn of(target: Target) -> Self {
        Self(target)
    }
}

impl Shape for Predict {
    type Dialect = Tei;
    type Rendering = Classes;

    fn operation(&self) -> Option<Operation> {
        Some(Operation::Classify)
    }

    fn read(self, _: &Parts, body: &Bytes) -> Result<(InferRequest, Classes), ApiError> {
        let Body { inputs: Texts { list, is_batch }, truncate, truncation_direction, raw_scores } =
            body::parse(body)?;
        let truncation = truncation(truncate, truncation_direction.map(Name::get));
        let rendering =
            Classes { is_batch, is_raw: raw_scores.unwrap_or(false), characters: characters(&list) };
        Ok((self.0.classes(list, truncation), rendering))
    }

    fn write(response: InferResponse, rendering: Classes) -> Result<Answer, ApiError> {
        let Classes { is_batch, is_raw, characters } = rendering;
        let facts = Facts::of(&response, characters);
        let classes = outputs::classes(response, is_raw)?.into_iter();
        let mut texts = classes.map(|labels| labels.into_iter().map(Class::from).collect::<Vec<_>>());
        if is_batch { facts.answer(&texts.collect::<Vec<_>>()) } else { facts.answer(&texts.next()) }
    }
}

/// What is read and written, for the document.
pub(super) fn schemas(api: &mut Api) -> (Value, Value) {
    let (one, many) = (api.written_whole::<Vec<Class>>(), api.written_whole::<Vec<Vec<Class>>>());
    (api.read_whole::<Body>(), json!({"anyOf": [one, many]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |json: &str, expected: Option<(&[&str], bool)>| {
            let found = serde_json::from_str::<Texts>(json).ok();
            let expected = expected.map(|(texts, is_batch)| Texts {
                list: texts.iter().map(|text| Input::from(*text)).collect(),
                is_batch,
            });
            assert_eq!(found, expected, "{json}");
        };
        check(r#""a""#, Some((&["a"], false)));
        check(r#"["a"]"#, Some((&["a"], false)));
        check(r#"[["a"],["b"]]"#, Some((&["a", "b"], true)));
        check("[]", Some((&[], true)));
        for wrong in
            [r#"["a","b"]"#, r#"[["a","b"]]"#, r#"[["a"],"b"]"#, r#"["a",["b"]]"#, "[[]]", "[1]", "{}"]
        {
            check(wrong, None);
        }
    }
}
