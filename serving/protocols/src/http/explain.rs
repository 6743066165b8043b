//! What is wrong with a caller's JSON or query, in our words: which field, what was expected, what type came.
//! A parser quotes what it met, which may be a caller's text: values are never repeated, and names that we do
//! not know only in part.

use api::ApiError;
use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

/// Longest part of an unknown name that is shown, in characters.
const NAME_LENGTH_MAX: usize = 64;

/// Explains why `text` is not the JSON that was expected.
pub(super) fn json(text: &str, path: &Path, error: &serde_json::Error) -> ApiError {
    if error.classify() == Category::Data {
        let message = without_place(error);
        return ApiError::InvalidRequest { field: field(path, &message), problem: problem(&message) };
    }
    // Where a name is expected, the parser calls every other type a syntax error: ask what knows of no types.
    let problem = match without_place(error).as_str() {
        "expected value" => {
            format!("expected another type, got {}", kind_at(text, error.line(), error.column()))
        }
        "number out of range" => "number out of range".to_owned(),
        _ => return invalid(error),
    };
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => ApiError::InvalidRequest { field: field(path, ""), problem },
        Err(error) => invalid(&error),
    }
}

/// Explains why a query is not what was expected.
pub fn query(error: &axum::extract::rejection::QueryRejection) -> ApiError {
    let message = error.body_text();
    let message = message.strip_prefix("Failed to deserialize query string: ").unwrap_or(&message);
    // Before what is wrong comes where, and that may be a name that nobody knows.
    let told = match message.find("unknown field `") {
        Some(start) => problem(&message[start..]),
        None => match message.split_once(": ") {
            Some((field, message)) => format!("{field}: {}", problem(message)),
            None => problem(message),
        },
    };
    ApiError::InvalidRequest { field: "query".to_owned(), problem: told }
}

fn invalid(error: &serde_json::Error) -> ApiError {
    ApiError::InvalidJson { problem: without_place(error), line: error.line(), column: error.column() }
}

fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}

/// A path such as `inputs[3]` or `parameters.top_k`.
fn field(path: &Path, message: &str) -> String {
    let mut field = String::new();
    let mut segments: Vec<_> = path.iter().collect();
    // A name that no set has is a value.
    if message.starts_with("unknown variant") && matches!(segments.last(), Some(Segment::Enum { .. })) {
        segments.pop();
    }
    for segment in segments {
        match segment {
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                let dot = if field.is_empty() { "" } else { "." };
                field.push_str(dot);
                field.push_str(&shown(name));
            }
            Segment::Unknown => {}
        }
    }
    if field.is_empty() { "body".to_owned() } else { field }
}

/// A name that may be anything, cut and escaped.
fn shown(name: &str) -> String {
    let mut rest = name.chars();
    let start: String = rest.by_ref().take(NAME_LENGTH_MAX).flat_map(char::escape_debug).collect();
    if rest.next().is_some() { format!("{start}…") } else { start }
}

/// A parser's message without the values that it quotes: `invalid type: string "secret", expected u32`
/// becomes `expected u32, got string`.
fn problem(message: &str) -> String {
    // What is expected is ours and comes last; what was met is the caller's and may contain anything.
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (name, expected) = rest.rsplit_once("`, ").unwrap_or((rest, "which is none of ours"));
        // A list of names has this in it too.
        let (name, expected) = rest
            .rsplit_once("`, expected ")
            .map_or((name, expected), |(name, _)| (name, &rest[name.len() + "`, ".len()..]));
        return format!("unknown field `{}`, {expected}", shown(name));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let expected = rest.rsplit_once("`, expected ").map(|(_, expected)| format!(", expected {expected}"));
        return format!("unknown value{}", expected.unwrap_or_default());
    }
    let quoting = ["invalid type: ", "invalid value: "];
    let Some(rest) = quoting.iter().find_map(|prefix| message.strip_prefix(prefix)) else {
        return message.to_owned();
    };
    let Some((met, expected)) = rest.rsplit_once(", expected ") else { return "unexpected value".to_owned() };
    format!("expected {}, got {}", in_json(expected), kind(met))
}

/// What a parser expects, in the words of JSON and not of our types.
fn in_json(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a map" => "an object",
        "a sequence" => "an array",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

/// The type that serde says it met, in JSON's words.
fn kind(met: &str) -> &'static str {
    let kinds = [
        ("map", "object"),
        ("sequence", "array"),
        ("string", "string"),
        ("integer", "integer"),
        ("floating point", "floating point"),
        ("boolean", "boolean"),
        ("null", "null"),
    ];
    kinds.iter().find(|(met_is, _)| met.starts_with(met_is)).map_or("another value", |(_, kind)| kind)
}

/// The type of the value that begins at a place of valid JSON, as the parser counts lines and columns.
fn kind_at(text: &str, line: usize, column: usize) -> &'static str {
    let line = text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default();
    match line.as_bytes().get(column.saturating_sub(1)) {
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        Some(b'[') => "array",
        Some(b'{' | b'}' | b',') => "object",
        Some(b'-' | b'0'..=b'9') => "number",
        _ => "another value",
    }
}
