//! The inputs of a call as JSON has them: a text, or several, or token ids in the place of a text.

use std::fmt;

use api::tasks::Input;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// `"a"`, `["a", "b"]`, `[101, 7]` (one input of token ids) or `[[101, 7], "a"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The inputs.
    pub list: Vec<Input>,
    /// Whether they stand in an array of their own, so that the answer does too where a dialect has it so.
    pub is_list: bool,
}

/// An element of an array.
enum Element {
    Input(Input),
    Id(u32),
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor;
        impl<'de> Visitor<'de> for InputsVisitor {
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
                while let Some(element) = elements.next_element()? {
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
        deserializer.deserialize_any(InputsVisitor)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Input(text.into()))
            }

            fn visit_string<E>(self, text: String) -> Result<Element, E> {
                Ok(Element::Input(text.into()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Element, E> {
                u32::try_from(id).map(Element::Id).map_err(|_| E::custom("no token id has so many digits"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = elements.next_element::<u32>()? {
                    ids.push(id);
                }
                Ok(Element::Input(Input::Tokens(ids)))
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        let check = |json: &str, expected: Option<(Vec<Input>, bool)>| {
            let found = serde_json::from_str::<Inputs>(json).ok().map(|inputs| (inputs.list, inputs.is_list));
            assert_eq!(found, expected, "{json}");
        };
        check(r#""a""#, Some((vec!["a".into()], false)));
        check(r#"["a","b"]"#, Some((vec!["a".into(), "b".into()], true)));
        check("[]", Some((vec![], true)));
        check("[101,7]", Some((vec![Input::Tokens(vec![101, 7])], false)));
        check(r#"[[101,7],"a"]"#, Some((vec![Input::Tokens(vec![101, 7]), "a".into()], true)));
        check("[[]]", Some((vec![Input::Tokens(vec![])], true)));
        for wrong in [
            "5",
            "null",
            "{}",
            "[null]",
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
