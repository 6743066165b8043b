//! The inputs of a call as JSON has them: a text, or several, or token ids in the place of a text.

use std::borrow::Cow;
use std::fmt;

use api::tasks::{INPUTS_MAX, Input};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// `"a"`, `["a", "b"]`, `[101, 7]` (one input of token ids) or `[[101, 7], "a"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The inputs.
    pub list: Vec<Input>,
    /// Whether they stand in an array of their own, so that the answer does too where a dialect has it so.
    pub is_list: bool,
}

/// The same where an object in the place of a text is its field `text`, whatever else is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputsOrObjects(pub Inputs);

/// A text, or an object's field `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOrObject(pub String);

/// In documents: one of something, or an array of them.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

/// An element of an array; an object may be one where `OBJECTS` says so.
enum Element<const OBJECTS: bool> {
    Input(Input),
    Id(u32),
}

/// An object with a text.
#[derive(Deserialize)]
struct TextObject {
    text: String,
}

impl JsonSchema for Inputs {
    fn schema_name() -> Cow<'static, str> {
        "Inputs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        forms(&json_schema!({"type": "string"}))
    }
}

impl JsonSchema for InputsOrObjects {
    fn schema_name() -> Cow<'static, str> {
        "InputsOrObjects".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        forms(&TextOrObject::json_schema(generator))
    }
}

impl JsonSchema for TextOrObject {
    fn schema_name() -> Cow<'static, str> {
        "TextOrObject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        ]})
    }
}

/// What inputs are where a text is this.
fn forms(text: &Schema) -> Schema {
    let ids =
        json_schema!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": u32::MAX}});
    json_schema!({"anyOf": [
        text,
        {"type": "array", "minItems": 1, "items": {"anyOf": [text, ids]}},
        {"allOf": [ids], "minItems": 1},
    ]})
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read::<D, false>(deserializer)
    }
}

impl<'de> Deserialize<'de> for InputsOrObjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Inputs::read::<D, true>(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for TextOrObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let got = match Element::<true>::deserialize(deserializer)? {
            Element::Input(Input::Text(text)) => return Ok(Self(text)),
            Element::Input(Input::Tokens(_)) => "token ids",
            Element::Id(_) => "integer",
        };
        Err(D::Error::custom(format_args!("expected a string or an object with a text, got {got}")))
    }
}

impl Inputs {
    fn read<'de, D: Deserializer<'de>, const OBJECTS: bool>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor<const OBJECTS: bool>;
        impl<'de, const OBJECTS: bool> Visitor<'de> for InputsVisitor<OBJECTS> {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings or of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs { list: vec![text.into()], is_list: false })
            }

            fn visit_string<E>(self, text: String) -> Result<Inputs, E> {
                Ok(Inputs { list: vec![text.into()], is_list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Inputs, A::Error> {
                let mut list = Vec::new();
                let mut ids: Option<Vec<u32>> = None;
                while let Some(element) = elements.next_element::<Element<OBJECTS>>()? {
                    if list.len() == INPUTS_MAX {
                        // No model takes so many: the rest is not even read.
                        return Err(A::Error::custom(format_args!("more than {INPUTS_MAX} inputs")));
                    }
                    match element {
                        Element::Input(input) if ids.is_none() => list.push(input),
                        Element::Id(id) if list.is_empty() => ids.get_or_insert_default().push(id),
                        _ => return Err(A::Error::custom("texts and single token ids in one array")),
                    }
                }
                Ok(match ids {
                    Some(ids) => Inputs { list: vec![Input::Tokens(ids)], is_list: false },
                    None => Inputs { list, is_list: true },
                })
            }
        }
        deserializer.deserialize_any(InputsVisitor::<OBJECTS>)
    }
}

impl<'de, const OBJECTS: bool> Deserialize<'de> for Element<OBJECTS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor<const OBJECTS: bool>;
        impl<'de, const OBJECTS: bool> Visitor<'de> for ElementVisitor<OBJECTS> {
            type Value = Element<OBJECTS>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match OBJECTS {
                    true => "a string, an object with a text or an array of token ids",
                    false => "a string or an array of token ids",
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Element<OBJECTS>, A::Error> {
                if !OBJECTS {
                    return Err(A::Error::invalid_type(Unexpected::Map, &self));
                }
                let TextObject { text } = TextObject::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(Element::Input(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Element<OBJECTS>, E> {
                Ok(Element::Input(text.into()))
            }

            fn visit_string<E>(self, text: String) -> Result<Element<OBJECTS>, E> {
                Ok(Element::Input(text.into()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Element<OBJECTS>, E> {
                u32::try_from(id).map(Element::Id).map_err(|_| E::custom("no token id has so many digits"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Element<OBJECTS>, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = elements.next_element::<u32>()? {
                    ids.push(id);
                }
                Ok(Element::Input(Input::Tokens(ids)))
            }
        }
        deserializer.deserialize_any(ElementVisitor::<OBJECTS>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        let check = |json: &str, expected: Option<Vec<Input>>| {
            let found = serde_json::from_str::<InputsOrObjects>(json).ok().map(|inputs| inputs.0.list);
            assert_eq!(found, expected, "{json}");
        };
        check(
            r#"[{"text":"a","image":null},"b",[7]]"#,
            Some(vec!["a".into(), "b".into(), Input::Tokens(vec![7])]),
        );
        check(r#"[7]"#, Some(vec![Input::Tokens(vec![7])]));
        check(r#"[{"image":"x"}]"#, None);
        check(r#"{"text":"a"}"#, None);
        let text = |json: &str| serde_json::from_str::<TextOrObject>(json).ok().map(|text| text.0);
        assert_eq!(text(r#"{"text":"a"}"#).as_deref(), Some("a"));
        assert_eq!(text(r#""a""#).as_deref(), Some("a"));
        assert_eq!(text("[1]"), None);
        assert_eq!(text("null"), None);
    }

    #[test]
    fn inputs() {
        let check = |json: &str, expected: Option<(Vec<Input>, bool)>| {
            let found = serde_json::from_str::<Inputs>(json).ok().map(|inputs| (inputs.list, inputs.is_list));
            assert_eq!(found, expected, "{json}");
        };
        check(r#""a""#, Some((vec!["a".into()], false)));
        check(r#"["a","b"]"#, Some((vec!["a".into(), "b".into()], true)));
        check("[]", Some((vec![], true)));
        let many = |count: usize| format!("[{}]", vec![r#""a""#; count].join(","));
        check(&many(INPUTS_MAX), Some((vec!["a".into(); INPUTS_MAX], true)));
        check(&many(INPUTS_MAX + 1), None);
        check("[101,7]", Some((vec![Input::Tokens(vec![101, 7])], false)));
        check(r#"[[101,7],"a"]"#, Some((vec![Input::Tokens(vec![101, 7]), "a".into()], true)));
        check("[[]]", Some((vec![Input::Tokens(vec![])], true)));
        for wrong in [
            "5",
            "null",
            "{}",
            "[null]",
            r#"[{"text":"a"}]"#,
            "[-1]",
            "[1.5]",
            "[4294967296]",
            r#"["a",1]"#,
            r#"[1,"a"]"#,
            "[[[1]]]",
        ] {
            check(wrong, None);
        }
    }
}
