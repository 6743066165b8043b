//! Requests and answers of `…/infer` as JSON, with tensors as bytes behind it (the binary extension).

use std::collections::HashMap;
use std::fmt;

use api::ApiError;
use axum::body::Bytes;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::compress::Compression;
use crate::http::body::{self, Object};
use crate::http::dialect;
use crate::oip::call::{Answered, Asked, AskedOutput, Elements, OutputTensor};
use crate::oip::error::{HEADER_LENGTH, invalid};
use crate::oip::model::TEXT;
use crate::oip::parameters::{Value, Values};
use crate::oip::tensor::{Data, Tensor};
use crate::openapi::Api;

#[derive(Debug, Deserialize, JsonSchema)]
struct WireRequest {
    id: Option<String>,
    parameters: Option<Object<WireParameters>>,
    inputs: Vec<Object<WireTensor>>,
    outputs: Option<Vec<Object<WireOutput>>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WireTensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    parameters: Option<Object<WireParameters>>,
    #[schemars(with = "Option<Vec<serde_json::Value>>")]
    data: Option<Flat>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WireOutput {
    name: String,
    parameters: Option<Object<WireParameters>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(in crate::oip) struct WireParameters(HashMap<String, WireValue>);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct WireValue(serde_json::Value);

impl From<WireValue> for Value {
    fn from(WireValue(value): WireValue) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Bool(value) => Self::Bool(value),
            Json::String(text) => Self::Text(text),
            Json::Number(number) => {
                let integer = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
                integer.map_or(Self::Other, Self::Integer)
            }
            Json::Null | Json::Array(_) | Json::Object(_) => Self::Other,
        }
    }
}

/// Parameters, of which there may be none.
pub(in crate::oip) fn values(parameters: Option<Object<WireParameters>>) -> Values {
    let parameters = parameters.map(|Object(WireParameters(parameters))| parameters).unwrap_or_default();
    Values(parameters.into_iter().map(|(name, value)| (name, value.into())).collect())
}

/// The elements of a tensor, however deep their arrays are.
#[derive(Debug, Default)]
struct Flat {
    texts: Vec<String>,
    integers: Vec<i64>,
    others: usize,
}

impl Flat {
    fn into_data(self) -> Data {
        match self {
            Self { texts, others: 0, integers } if integers.is_empty() => Data::Texts(texts),
            Self { integers, others: 0, texts } if texts.is_empty() => Data::Integers(integers),
            _ => Data::Other,
        }
    }
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Self::default();
        Onto(&mut flat).deserialize(deserializer)?;
        Ok(flat)
    }
}

/// Reads elements onto those that are there.
struct Onto<'a>(&'a mut Flat);

impl<'de> DeserializeSeed<'de> for Onto<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Onto<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings or numbers")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.texts.push(text.to_owned());
        Ok(())
    }

    fn visit_string<E>(self, text: String) -> Result<(), E> {
        self.0.texts.push(text);
        Ok(())
    }

    fn visit_i64<E>(self, integer: i64) -> Result<(), E> {
        self.0.integers.push(integer);
        Ok(())
    }

    fn visit_u64<E>(self, integer: u64) -> Result<(), E> {
        match i64::try_from(integer) {
            Ok(integer) => self.0.integers.push(integer),
            Err(_) => self.0.others += 1,
        }
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.others += 1;
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.0.others += 1;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Onto(self.0))?.is_some() {}
        Ok(())
    }
}

/// Reads a request, and says whether its answer is to be bytes where it does not say so itself.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<(Asked, bool), ApiError> {
    let wrong = |problem: &str| invalid(HEADER_LENGTH, problem);
    let length = match headers.get(HEADER_LENGTH) {
        None => body.len(),
        Some(value) => {
            let length = value.to_str().ok().and_then(|value| value.parse::<usize>().ok());
            length.ok_or_else(|| wrong("expected a whole number of bytes"))?
        }
    };
    if length == 0 && headers.contains_key(HEADER_LENGTH) {
        return raw(body).map(|asked| (asked, true));
    }
    let json = body.get(..length).ok_or_else(|| wrong("it is more than the body has"))?;
    let WireRequest { id, parameters, inputs, outputs } = body::parse(json)?;
    let mut tail = body.slice(length..);
    let tensors = inputs.into_iter().enumerate();
    let inputs = tensors.map(|(index, Object(wire))| tensor(index, wire, &mut tail));
    let inputs = inputs.collect::<Result<_, _>>()?;
    if !tail.is_empty() {
        return Err(invalid("body", "there are more bytes behind the JSON than its tensors have"));
    }
    let output =
        |Object(WireOutput { name, parameters })| AskedOutput { name, parameters: values(parameters) };
    let outputs = outputs.unwrap_or_default().into_iter().map(output).collect();
    Ok((Asked { id, parameters: values(parameters), inputs, outputs }, false))
}

/// A body that is nothing but the one input of the model, which is one text here.
fn raw(body: &Bytes) -> Result<Asked, ApiError> {
    let data = Data::Strings(vec![body.to_vec()]);
    let input = Tensor { name: TEXT.to_owned(), datatype: "BYTES".to_owned(), shape: vec![1], data };
    Ok(Asked { inputs: vec![input], ..Asked::default() })
}

/// A tensor, whose data may be the next bytes behind the JSON.
fn tensor(index: usize, wire: WireTensor, tail: &mut Bytes) -> Result<Tensor, ApiError> {
    let WireTensor { name, datatype, shape, parameters, data } = wire;
    let (field, parameters) = (format!("inputs[{index}]"), values(parameters));
    if parameters.has("shared_memory_region") {
        return Err(invalid(field, "shared memory is not supported"));
    }
    let data = match (parameters.count("binary_data_size")?, data) {
        (None, Some(flat)) => flat.into_data(),
        (Some(size), None) => {
            let size = usize::try_from(size).ok().filter(|size| *size <= tail.len());
            let missing =
                || invalid(&field, "it has fewer bytes behind the JSON than `binary_data_size` says");
            Data::Raw(tail.split_to(size.ok_or_else(missing)?))
        }
        (Some(_), Some(_)) => return Err(invalid(field, "expected either `data` or `binary_data_size`")),
        (None, None) => return Err(invalid(field, "missing field `data`")),
    };
    Ok(Tensor { name, datatype, shape, data })
}

#[derive(Debug, Serialize, JsonSchema)]
struct WireAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    model_name: &'a str,
    model_version: &'a str,
    outputs: Vec<WireAnswerTensor<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct WireAnswerTensor<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<WireElements<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum WireElements<'a> {
    Floats(&'a [f32]),
    Texts(&'a [String]),
}

/// Writes an answer.
pub(super) fn write(
    answered: &Answered,
    compression: Option<Compression>,
) -> Result<dialect::Answer, ApiError> {
    let mut tail = Vec::new();
    let outputs = answered.outputs.iter().map(|output| answer_tensor(output, &mut tail)).collect();
    let answer = WireAnswer {
        id: answered.id.as_deref(),
        model_name: &answered.model,
        model_version: &answered.version,
        outputs,
    };
    let mut body = serde_json::to_vec(&answer).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    let is_binary = answered.outputs.iter().any(|output| output.is_binary);
    if is_binary {
        headers.insert(HEADER_LENGTH, HeaderValue::from(body.len()));
        body.append(&mut tail);
    }
    let media_type = if is_binary { "application/octet-stream" } else { body::MEDIA_TYPE };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(compression) = compression {
        body = compression.compress(&body)?;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.name()));
    }
    Ok(dialect::Answer { status: StatusCode::OK, headers, body: body.into() })
}

fn answer_tensor<'a>(output: &'a OutputTensor, tail: &mut Vec<u8>) -> WireAnswerTensor<'a> {
    let (parameters, data) = if output.is_binary {
        let bytes = output.elements.to_bytes();
        tail.extend_from_slice(&bytes);
        (Some(BinarySize { binary_data_size: bytes.len() }), None)
    } else {
        let data = match &output.elements {
            Elements::Floats(values) => WireElements::Floats(values),
            Elements::Texts(texts) => WireElements::Texts(texts),
        };
        (None, Some(data))
    };
    let datatype = output.elements.datatype();
    WireAnswerTensor { name: output.name, datatype, shape: &output.shape, parameters, data }
}

/// What is read and written, for the document.
pub(in crate::oip) fn schemas(api: &mut Api) -> (serde_json::Value, serde_json::Value) {
    (api.read_whole::<WireRequest>(), api.written_whole::<WireAnswer<'_>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_with(length: Option<&str>, body: &[u8]) -> Result<(Asked, bool), String> {
        let mut headers = HeaderMap::new();
        if let Some(length) = length {
            headers.insert(HEADER_LENGTH, HeaderValue::from_str(length).unwrap());
        }
        let read = read(&headers, &Bytes::copy_from_slice(body));
        read.map_err(|error| error.field_violation().map_or_else(|| error.to_string(), |(field, _)| field))
    }

    #[test]
    fn data_of_any_depth() {
        let check = |json: &str, texts: &[&str], integers: &[i64]| {
            let data = serde_json::from_str::<Flat>(json).unwrap().into_data();
            match data {
                Data::Texts(found) => assert!(found == texts && integers.is_empty(), "{json}"),
                Data::Integers(found) => assert!(found == integers && texts.is_empty(), "{json}"),
                data => assert!(texts.is_empty() && integers.is_empty(), "{data:?}"),
            }
        };
        check(r#"["a","b"]"#, &["a", "b"], &[]);
        check(r#"[["a"],["b"]]"#, &["a", "b"], &[]);
        check("[[1,2],[3]]", &[], &[1, 2, 3]);
        check("[-5]", &[], &[-5]);
        for other in [r#"["a",1]"#, "[1.5]", "[true]", "[18446744073709551615]"] {
            check(other, &[], &[]);
        }
        assert!(
            serde_json::from_str::<Flat>("{}").is_err() && serde_json::from_str::<Flat>("[null]").is_err()
        );
        assert!(serde_json::from_str::<Flat>(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn bytes_behind_the_json() {
        let json = br#"{"inputs":[{"name":"t","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}]}"#;
        let whole = [&json[..], b"\x01\0\0\0a"].concat();
        let length = json.len().to_string();
        let (asked, is_binary) = read_with(Some(&length), &whole).unwrap();
        assert!(matches!(&asked.inputs[0].data, Data::Raw(bytes) if &bytes[..] == b"\x01\0\0\0a"));
        assert!(!is_binary);
        let field = |length: Option<&str>, body: &[u8]| read_with(length, body).map(drop).unwrap_err();
        assert_eq!(field(Some(&length), json), "inputs[0]");
        assert_eq!(field(Some(&length), &[&whole[..], b"x"].concat()), "body");
        assert_eq!(field(Some("9999"), &whole), "inference-header-content-length");
        assert_eq!(field(Some("-1"), &whole), "inference-header-content-length");
        let (asked, is_binary) = read_with(Some("0"), b"a text").unwrap();
        assert!(is_binary && matches!(&asked.inputs[0].data, Data::Strings(texts) if texts == &[b"a text"]));
        let both = br#"{"inputs":[{"name":"t","datatype":"BYTES","shape":[1],"data":["a"],"parameters":{"binary_data_size":0}}]}"#;
        assert_eq!(field(None, both), "inputs[0]");
        assert_eq!(field(None, br#"{"inputs":[{"name":"t","datatype":"BYTES","shape":[1]}]}"#), "inputs[0]");
        assert_eq!(field(None, br#"{"inputs":[["t"]]}"#), "inputs[0]");
    }
}
