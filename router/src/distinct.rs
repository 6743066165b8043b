//! JSON in which no object has two members of one name: which of them counts differs from reader to reader
//! (RFC 8259, section 4), and with it what was signed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value with such objects alone, however deep.
pub(crate) struct Distinct(pub(crate) Value);

struct Reader;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Distinct(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Distinct(value))) = members.next_entry::<String, _>()? {
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands there twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_refused_wherever_it_is() {
        let check = |text: &str, expected: bool| {
            let found = serde_json::from_str::<Distinct>(text).ok().map(|Distinct(value)| value);
            assert_eq!(found, serde_json::from_str(text).ok().filter(|_| expected), "{text}");
        };
        check(r#"{"a":[1,-2,3.5,"x",true,null,{"a":{}}],"b":1e300}"#, true);
        check(r#"{"tenant":"a","tenant":"b"}"#, false);
        check(r#"{"tenant":"a","tenant":"a"}"#, false);
        check(r#"{"plan":{"a":1,"\u0061":2}}"#, false);
        check(r#"[[{"a":1},{"a":1}]]"#, true);
        check(r#"[[{"a":1,"a":1}]]"#, false);
        check("7", true);
        check("{", false);
    }
}
