//! JSON Schema in a few words, for tables of fields.

use serde_json::{Map, Value};

/// How deep fields of fields are shown.
const DEPTH_MAX: usize = 3;

/// A field of an object, or of an object within it.
pub(super) struct Field {
    /// Its path, such as `parameters.top_k`.
    pub(super) path: String,
    pub(super) is_required: bool,
    /// What it may be; names in backticks.
    pub(super) kind: String,
    pub(super) default: Option<String>,
    pub(super) description: String,
}

/// All fields of an object's schema, those of objects within it behind theirs.
pub(super) fn fields(document: &Value, schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect(document, schema, "", DEPTH_MAX, &mut found);
    found
}

fn collect(document: &Value, schema: &Value, path: &str, depth: usize, found: &mut Vec<Field>) {
    let schema = resolved(document, schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect(document, part, path, depth, found);
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if found.iter().any(|known| known.path == path) {
            continue;
        }
        let inner = resolved(document, field);
        let description = [field, inner].iter().find_map(|schema| schema["description"].as_str());
        found.push(Field {
            is_required: required.contains(&name.as_str()),
            kind: kind(document, field),
            default: field.get("default").map(ToString::to_string),
            description: description.unwrap_or_default().replace('\n', " "),
            path: path.clone(),
        });
        if depth > 1 {
            for within in objects(document, field) {
                let path = if inner["type"] == "array" { format!("{path}[]") } else { path.clone() };
                collect(document, within, &path, depth - 1, found);
            }
        }
    }
}

/// Objects that a schema may be, or of which it may be an array.
fn objects<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolved(document, schema);
    let items = schema.get("items").map(|items| objects(document, items)).unwrap_or_default();
    let choices = schema["anyOf"].as_array().into_iter().flatten().flat_map(|one| objects(document, one));
    let own = (schema.get("properties").is_some() || schema.get("allOf").is_some()).then_some(schema);
    own.into_iter().chain(items).chain(choices).collect()
}

/// What a value may be; names in backticks.
pub(super) fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    let quoted =
        |value: &Value| value.as_str().map_or_else(|| format!("`{value}`"), |text| format!("`{text}`"));
    if let Some(value) = schema.get("const") {
        return quoted(value);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(quoted).collect::<Vec<_>>().join(", ");
    }
    for choices in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choices].as_array() {
            let mut kinds = Vec::new();
            for one in choices.iter().map(|choice| kind(document, choice)).filter(|kind| kind != "null") {
                if !kinds.contains(&one) {
                    kinds.push(one);
                }
            }
            let all_are_names = kinds.iter().all(|kind| kind.starts_with('`'));
            return kinds.join(if all_are_names { ", " } else { " or " });
        }
    }
    let mut names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if names == ["null"] {
        return "null".to_owned();
    }
    names.retain(|name| *name != "null");
    let name = names.join(" or ");
    match name.as_str() {
        "" => "any".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("array of {}", kind(document, items)),
            None => name,
        },
        "integer" | "number" => format!("{name}{}", range(schema)),
        "string" => match schema["format"].as_str() {
            Some(format) => format!("string ({format})"),
            None => name,
        },
        _ => name,
    }
}

/// Bounds that are no bounds of a type.
fn range(schema: &Value) -> String {
    let of_types = [u64::from(u8::MAX), u32::MAX.into(), u64::MAX];
    let least = schema["minimum"].as_u64().filter(|least| *least > 0);
    let most = schema["maximum"].as_u64().filter(|most| !of_types.contains(most));
    match (least, most) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

/// What a reference stands for.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target =
        value.get("$ref").and_then(Value::as_str).and_then(|path| document.pointer(path.strip_prefix('#')?));
    target.unwrap_or(value)
}

/// Members of an object in the order in which a person reads them.
pub(super) fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds() {
        let document =
            json!({"components": {"schemas": {"Mode": {"oneOf": [{"const": "live"}, {"const": "test"}]}}}});
        let check =
            |schema: Value, expected: &str| assert_eq!(kind(&document, &schema), expected, "{schema}");
        check(json!({"type": ["string", "null"]}), "string");
        check(json!({"type": "string", "format": "date"}), "string (date)");
        check(json!({"type": "integer", "minimum": 1, "maximum": u64::MAX}), "integer, at least 1");
        check(json!({"type": "integer", "minimum": 0, "maximum": 100}), "integer, at most 100");
        check(json!({"anyOf": [{"$ref": "#/components/schemas/Mode"}, {"type": "null"}]}), "`live`, `test`");
        check(json!({"type": "array", "items": {"type": "number"}}), "array of number");
        check(
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
            "string or array of string",
        );
        check(json!({}), "any");
    }

    #[test]
    fn fields_within_fields() {
        let document = json!({"components": {"schemas": {"Inner": {"type": "object", "properties": {"b": {"type": "boolean"}}}}}});
        let schema = json!({
            "type": "object", "required": ["a"],
            "properties": {
                "a": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}]},
                "c": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
            },
        });
        let found = fields(&document, &schema);
        let found: Vec<_> = found.iter().map(|field| (field.path.as_str(), field.is_required)).collect();
        assert_eq!(found, [("a", true), ("a.b", false), ("c", false), ("c[].b", false)]);
    }
}
