//! What schemas of Rust's types lack, and what they have too much.

use serde_json::{Map, Value};

/// Gives integers the bounds of their types, and takes away defaults that say nothing and formats that
/// OpenAPI does not know.
pub(super) fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            bound(map);
            if map.contains_key("type")
                && map.get("default").is_some_and(|default| default.is_null() || default == "")
            {
                map.remove("default");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn bound(map: &mut Map<String, Value>) {
    let is_integer = match map.get("type") {
        Some(Value::String(name)) => name == "integer",
        Some(Value::Array(names)) => names.iter().any(|name| name == "integer"),
        _ => false,
    };
    let Some(Value::String(format)) = map.get("format").filter(|_| is_integer) else { return };
    let (min, max): (i64, u64) = match format.as_str() {
        "uint" | "uint64" => (0, u64::MAX),
        "uint32" => (0, u32::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "int8" => (i8::MIN.into(), i8::MAX as u64),
        _ => return,
    };
    map.remove("format");
    map.entry("minimum").or_insert_with(|| min.into());
    map.entry("maximum").or_insert_with(|| max.into());
}
