//! From an HTTP body to UTF-8 text, and from text to a typed request with errors that say what and where.

use std::fmt;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::config::Config;
use crate::error::ApiError;

/// Reads a JSON body within the bounds of size and time.
pub(crate) async fn read(request: Request, config: &Config) -> Result<Bytes, ApiError> {
    if !is_json(&request) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let limit = config.limits.body_bytes_max;
    let body = Limited::new(request.into_body(), limit).collect();
    let body =
        tokio::time::timeout(config.request_timeout(), body).await.map_err(|_| ApiError::BodyIncomplete)?;
    match body {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge { limit }),
        Err(_) => Err(ApiError::BodyIncomplete),
    }
}

/// A struct that is written as a JSON object. Without this, derived structs also take an array of their fields.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Parses a JSON body, which must be an object.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|e| ApiError::InvalidUtf8 { offset: e.valid_up_to() })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.inner())
    })?;
    json.end().map_err(|error| explain("", &error))?;
    Ok(value)
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = value.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Puts a parser's error in our words. The parser quotes the value it met, which is the caller's text; we name its
/// type instead.
fn explain(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let (line, column) = (error.line(), error.column());
    let message = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    if error.classify() != Category::Data {
        return ApiError::InvalidJson { problem: message.to_owned(), line, column };
    }
    let field = if path.is_empty() || path == "." { "body".to_owned() } else { path.to_owned() };
    ApiError::InvalidRequest { field, problem: without_values(message) }
}

/// `invalid type: string "secret", expected u32` becomes `expected u32, got string`.
fn without_values(message: &str) -> String {
    let quoting = ["invalid type: ", "invalid value: "];
    let Some(rest) = quoting.iter().find_map(|prefix| message.strip_prefix(prefix)) else {
        return message.to_owned();
    };
    // What is expected is ours and comes last; what was met is the caller's and may contain anything.
    let Some((met, expected)) = rest.rsplit_once(", expected ") else { return "unexpected value".to_owned() };
    let kind: String = met.chars().take_while(|c| c.is_ascii_lowercase() || *c == ' ').collect();
    let kind = match kind.trim() {
        "map" => "object",
        "sequence" => "array",
        "" => "another value",
        other => other,
    };
    format!("expected {expected}, got {kind}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Sample {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        top_k: u8,
    }

    #[test]
    fn errors_say_what_and_where() {
        let check = |body: &str, expected: &str| {
            let error = parse::<Sample>(body.as_bytes()).expect_err(body);
            assert_eq!(error.to_string(), expected, "{body}");
        };
        let invalid = "the request body is not valid JSON: ";
        check("", &format!("{invalid}EOF while parsing a value at line 1 column 0"));
        check("{\n  \"name\": }", &format!("{invalid}expected value at line 2 column 11"));
        check(
            r#"{"name":"a","inner":{"top_k":1}} x"#,
            &format!("{invalid}trailing characters at line 1 column 34"),
        );
        check("[]", "invalid request: body: expected an object, got array");
        check(r#"{"name":7}"#, "invalid request: name: expected a string, got integer");
        check(
            r#"{"name":"a","inner":{"top_k":"my secret, expected u9"}}"#,
            "invalid request: inner.top_k: expected u8, got string",
        );
        check(
            r#"{"name":"a","inner":{"top_k":300}}"#,
            "invalid request: inner.top_k: expected u8, got integer",
        );
        check(
            r#"{"name":"a","inner":{"k":1}}"#,
            "invalid request: inner.k: unknown field `k`, expected `top_k`",
        );
    }

    #[test]
    fn text_that_is_not_unicode() {
        let check = |body: &[u8], code: &str| {
            assert_eq!(parse::<Sample>(body).expect_err("refused").row().code, code, "{body:?}");
        };
        check(b"{\"name\":\"\xff\"}", "invalid_utf8");
        check(br#"{"name":"\ud800"}"#, "invalid_json");
        check(br#"{"name":"\udc00 x"}"#, "invalid_json");
        check(b"{\"name\":\"a\nb\"}", "invalid_json");
    }
}
