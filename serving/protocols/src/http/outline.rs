//! What kind of request a body is, where several come on one route: seen before it is read as one of them.

use std::fmt;

use api::ApiError;
use axum::body::Bytes;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::body;

/// The fields by which bodies are told apart, whatever is in them.
#[derive(Debug, Deserialize)]
pub struct Outline {
    /// Texts to rank.
    texts: Option<IgnoredAny>,
    /// What is asked about.
    inputs: Option<IsObject>,
    /// How.
    parameters: Option<Parameters>,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    candidate_labels: Option<IgnoredAny>,
}

impl Outline {
    /// The outline of a body, which has to be a JSON object.
    ///
    /// # Errors
    /// It is none.
    pub fn of(body: &Bytes) -> Result<Self, ApiError> {
        body::parse(body)
    }

    /// Whether there are texts to rank.
    pub fn has_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// Whether a sentence stands beside others.
    pub fn is_comparison(&self) -> bool {
        matches!(self.inputs, Some(IsObject(true)))
    }

    /// Whether there are labels of the caller's.
    pub fn has_labels(&self) -> bool {
        self.parameters.as_ref().is_some_and(|parameters| parameters.candidate_labels.is_some())
    }
}

/// Whether a value is an object.
#[derive(Debug)]
struct IsObject(bool);

impl<'de> Deserialize<'de> for IsObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kind;
        impl<'de> Visitor<'de> for Kind {
            type Value = IsObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an array or an object")
            }

            fn visit_str<E>(self, _: &str) -> Result<IsObject, E> {
                Ok(IsObject(false))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<IsObject, A::Error> {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(IsObject(false))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<IsObject, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(IsObject(true))
            }
        }
        deserializer.deserialize_any(Kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines() {
        let check = |body: &'static str, expected: Option<(bool, bool, bool)>| {
            let outline = Outline::of(&Bytes::from_static(body.as_bytes())).ok();
            let found = outline.map(|o| (o.has_texts(), o.is_comparison(), o.has_labels()));
            assert_eq!(found, expected, "{body}");
        };
        check(r#"{"inputs":"a"}"#, Some((false, false, false)));
        check(r#"{"inputs":["a",{"b":1}],"more":2}"#, Some((false, false, false)));
        check(r#"{"inputs":{"source_sentence":"a","sentences":[]}}"#, Some((false, true, false)));
        check(r#"{"query":"a","texts":["b"]}"#, Some((true, false, false)));
        check(r#"{"inputs":"a","parameters":{"candidate_labels":["b"]}}"#, Some((false, false, true)));
        check(r#"{"inputs":"a","parameters":null}"#, Some((false, false, false)));
        for wrong in ["", "[]", r#"{"inputs":5}"#, r#"{"inputs":"a","parameters":7}"#] {
            check(wrong, None);
        }
    }
}
