//! From an HTTP body to UTF-8 text, and from text to a typed request with errors that say what and where.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use api::{ApiError, BodyMeter};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::coding::{Coding, Decoder};
use super::explain;
use super::objects::Objects;
use crate::Bounds;

/// What bodies are.
pub const MEDIA_TYPE: &str = "application/json";

/// Most bytes of a body or message that changes tenants or keys, of which the longest label makes some
/// hundred: to read and parse it is no work to speak of, so it need not count against a limit.
pub const CHANGE_BYTES_MAX: usize = 16 << 10;

/// Reads the JSON body of a change of tenants or keys.
pub async fn read_change(request: Request, bounds: &Bounds) -> Result<Bytes, ApiError> {
    read_up_to(CHANGE_BYTES_MAX.min(bounds.body_bytes_max), request, bounds).await
}

/// Reads a JSON body within the bounds of size, which are those of what it is once it is decoded, and of
/// time.
pub async fn read(request: Request, bounds: &Bounds) -> Result<Bytes, ApiError> {
    read_up_to(bounds.body_bytes_max, request, bounds).await
}

/// Reads a body of any type within the same bounds.
pub async fn read_any(request: Request, bounds: &Bounds) -> Result<Bytes, ApiError> {
    read_bytes(bounds.body_bytes_max, request, bounds).await
}

async fn read_up_to(bytes_max: usize, request: Request, bounds: &Bounds) -> Result<Bytes, ApiError> {
    if !is_json(request.headers()) {
        return Err(ApiError::UnsupportedMediaType { expected: MEDIA_TYPE });
    }
    read_bytes(bytes_max, request, bounds).await
}

async fn read_bytes(bytes_max: usize, request: Request, bounds: &Bounds) -> Result<Bytes, ApiError> {
    let coding = Coding::of(request.headers())?;
    let meter = request.extensions().get::<BodyMeter>().cloned().unwrap_or_default();
    let reading = decode(request.into_body(), coding, bytes_max, &meter);
    let read = tokio::time::timeout(bounds.body_timeout, reading).await;
    read.unwrap_or(Err(ApiError::BodyIncomplete))
}

/// Reads a body to its end; neither what comes nor what it decodes to may have more bytes than `limit`.
async fn decode(body: Body, coding: Coding, limit: usize, meter: &BodyMeter) -> Result<Bytes, ApiError> {
    let mut body = Limited::new(body, limit);
    let mut decoder = Decoder::new(coding, limit);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) if error.is::<LengthLimitError>() => return Err(ApiError::BodyTooLarge { limit }),
            Err(error) if is_malformed(&*error) => {
                let problem = "its transfer coding is malformed".to_owned();
                return Err(ApiError::InvalidRequest { field: "body".to_owned(), problem });
            }
            Err(_) => return Err(ApiError::BodyIncomplete),
        };
        if let Some(piece) = frame.data_ref() {
            let pushed = decoder.push(piece);
            meter.decoded(decoder.decoded());
            pushed?;
        }
    }
    decoder.finish().map(Bytes::from)
}

/// A value of a closed set, written as its name. (A derived enum also takes an object, `{"name": null}`.)
#[derive(Debug, Clone, Copy)]
pub struct Name<T>(pub T);

impl<T> Name<T> {
    pub fn get(self) -> T {
        self.0
    }
}

/// In documents they are what is within.
macro_rules! described_as_within {
    ($($wrapper:ident),+) => {$(
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                T::inline_schema()
            }

            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }

            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
        }
    )+};
}

described_as_within!(Name, Object);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NameVisitor<T> {
            type Value = Name<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<T>, E> {
                T::deserialize(name.into_deserializer()).map(Name)
            }
        }
        deserializer.deserialize_str(NameVisitor(PhantomData))
    }
}

/// A struct that is written as a JSON object, as it is in bodies anyway: for what is read of other JSON, and
/// at the top.
#[derive(Debug)]
pub struct Object<T>(pub T);

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

/// Parses a JSON body, which must be an object. A byte order mark before it is not minded (RFC 8259, section
/// 8.1).
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|e| ApiError::InvalidUtf8 { offset: e.valid_up_to() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(value) = serde_path_to_error::deserialize(Objects(&mut json))
        .map_err(|error| explain::json(text, error.path(), error.inner()))?;
    json.end().map_err(|error| ApiError::InvalidJson {
        problem: "trailing characters".to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    Ok(value)
}

/// Whether a body broke off because of what came, and not because nothing came: hyper's errors of its chunks
/// are these.
fn is_malformed(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::{Error as IoError, ErrorKind as K};
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<IoError>() {
            return matches!(error.kind(), K::InvalidInput | K::InvalidData);
        }
        source = error.source();
    }
    false
}

/// Whether the body is JSON in UTF-8. Other charsets are not, whatever they would be: JSON between systems is
/// UTF-8 (RFC 8259, section 8.1), of which US-ASCII is a part.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut parts = value.split(';').map(str::trim);
    let is_good = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            let value = value.trim_matches('"');
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        }
        _ => true,
    };
    parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(MEDIA_TYPE)) && parts.all(is_good)
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
    fn types_of_bodies() {
        let check = |value: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().expect(value));
            assert_eq!(is_json(&headers), expected, "{value}");
        };
        check("application/json", true);
        check("Application/JSON ; Charset=\"UTF-8\"", true);
        check("application/json;charset=us-ascii", true);
        check("application/json; profile=x; charset=utf8", true);
        check("application/json; charset=utf-16", false);
        check("application/json; charset=iso-8859-1", false);
        check("application/json; charset=utf-8; charset=utf-16", false);
        check("text/json", false);
        check("", false);
        assert!(!is_json(&HeaderMap::new()));
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
        // No struct is an array of its fields, of however many.
        for inner in ["[]", "[1]", "[1,2]", "[[1]]"] {
            check(
                &format!("{{\"name\":\"a\",\"inner\":{inner}}}"),
                "invalid request: inner: expected an object, got array",
            );
        }
        check(r#"{"name":7}"#, "invalid request: name: expected a string, got integer");
        check(
            r#"{"name":"a","inner":{"top_k":"my secret, expected u9"}}"#,
            "invalid request: inner.top_k: expected a whole number from 0 to 255, got string",
        );
        check(
            r#"{"name":"a","inner":{"top_k":300}}"#,
            "invalid request: inner.top_k: expected a whole number from 0 to 255, got integer",
        );
        check(
            r#"{"name":"a","inner":{"k":1}}"#,
            "invalid request: inner.k: unknown field `k`, expected `top_k`",
        );
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Choice {
        name: Option<Name<Colour>>,
        plain: Option<Colour>,
        list: Option<Vec<Colour>>,
        number: Option<f64>,
    }

    #[derive(Debug, Clone, Copy, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only parsed")]
    enum Colour {
        Red,
        Blue,
        Mixed { share: u8 },
    }

    /// A value of the wrong type is not invalid JSON, wherever it is and whatever it is.
    #[test]
    fn values_of_the_wrong_type() {
        let check = |body: &str, expected: &str| {
            let found = parse::<Choice>(body.as_bytes()).map(|_| "fine".to_owned());
            let found = found.unwrap_or_else(|error| error.to_string());
            let expected = expected.replace("OURS", "expected one of `red`, `blue`, `mixed`");
            assert_eq!(found, expected, "{body}");
        };
        let invalid = |rest: &str| format!("invalid request: {rest}");
        check(r#"{"name":"red"}"#, "fine");
        check(r#"{"plain":"red","list":["blue",{"mixed":{"share":1}}]}"#, "fine");
        for (value, kind) in
            [("5", "integer"), ("-1.5", "floating point"), ("true", "boolean"), ("[]", "array")]
        {
            check(
                &format!("{{\"name\":{value}}}"),
                &invalid(&format!("name: expected a string, got {kind}")),
            );
        }
        check(r#"{"name":{"red":null}}"#, &invalid("name: expected a string, got object"));
        check(r#"{"name":"my secret"}"#, &invalid("name: unknown value, OURS"));
        check(r#"{"name":"`, expected secret"}"#, &invalid("name: unknown value, OURS"));
        // Derived enums, where types are not ours.
        check(r#"{"plain":5}"#, &invalid("plain: expected another type, got number"));
        check("{\n \"plain\":\n  true}", &invalid("plain: expected another type, got boolean"));
        check(r#"{"plain":[1]}"#, &invalid("plain: expected another type, got array"));
        check(r#"{"plain":{}}"#, &invalid("plain: expected another type, got object"));
        check(
            r#"{"plain":{"red":null,"blue":null}}"#,
            &invalid("plain: expected another type, got another value"),
        );
        check(r#"{"list":["red",null]}"#, &invalid("list[1]: expected another type, got null"));
        check(r#"{"plain":{"my secret":1}}"#, &invalid("plain: unknown value, OURS"));
        check(
            r#"{"plain":{"mixed":{"share":"s"}}}"#,
            &invalid("plain.mixed.share: expected a whole number from 0 to 255, got string"),
        );
        check(r#"{"number":1e999}"#, &invalid("number: number out of range"));
        // And what is not JSON is that, and where.
        let syntax = |rest: &str| format!("the request body is not valid JSON: {rest}");
        check(r#"{"plain":5,}"#, &syntax("key must be a string at line 1 column 12"));
        check(r#"{"plain":x}"#, &syntax("expected value at line 1 column 10"));
    }

    /// What a caller wrote comes back only as the name of a field, and then not all of it.
    #[test]
    fn callers_are_not_quoted() {
        let check = |body: &str| {
            let message = parse::<Choice>(body.as_bytes()).map(|_| ()).expect_err(body).to_string();
            assert!(message.len() < 500 && !message.contains("secret"), "{message}");
        };
        let long = "x".repeat(2_000_000);
        check(&format!("{{\"{long}\":1}}"));
        check(&format!("{{\"{long}secret\":1}}"));
        check(&format!("{{\"name\":\"{long}\"}}"));
        check(&format!("{{\"plain\":\"{long}\"}}"));
        check(&format!("{{\"plain\":{{\"{long}\":1}}}}"));
        check(&format!("{{\"number\":\"{long}\"}}"));
        check("{\"name\":\"a secret\"}");
        check("{\"plain\":\"a secret\"}");
        check("{\"plain\":{\"a secret\":1}}");
        check("{\"list\":[\"a secret\"]}");
        let quoted = parse::<Choice>(b"{\"a\\nb\":1}").map(|_| ()).expect_err("unknown").to_string();
        assert!(quoted.contains("unknown field `a\\nb`, expected one of `name`"), "{quoted}");
    }

    #[test]
    fn a_byte_order_mark_is_not_minded() {
        assert!(parse::<Choice>("\u{feff}{\"name\":\"red\"}".as_bytes()).is_ok());
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
