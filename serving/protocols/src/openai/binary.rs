//! vLLM's ways to write numbers as bytes: `embed_dtype` and `endianness`, in base64 or as a body of bytes.

use api::ApiError;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use half::{bf16, f16};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asked::{Usage, invalid};
use crate::http::dialect::Answer;

const METADATA: HeaderName = HeaderName::from_static("metadata");
/// Inputs of which a header can tell what is in a body of bytes: of each it has 115 bytes at most, and
/// clients read headers of up to 64 KiB.
const TOLD_INPUTS_MAX: usize = 500;

/// What numbers are written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dtype {
    #[default]
    Float32,
    Float16,
    Bfloat16,
    #[serde(rename = "fp8_e4m3")]
    Fp8E4m3,
    #[serde(rename = "fp8_e5m2")]
    Fp8E5m2,
}

/// Which byte comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Endianness {
    /// As this server's processors have it, which is little-endian.
    #[default]
    Native,
    Little,
    Big,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Coding {
    pub(super) dtype: Dtype,
    pub(super) endianness: Endianness,
}

impl Coding {
    /// The bytes of numbers.
    pub(super) fn bytes(self, numbers: &[f32]) -> Vec<u8> {
        match (self.dtype, self.endianness == Endianness::Big) {
            (Dtype::Float32, false) => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Dtype::Float32, true) => numbers.iter().flat_map(|x| x.to_be_bytes()).collect(),
            (Dtype::Float16, false) => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            (Dtype::Float16, true) => numbers.iter().flat_map(|x| f16::from_f32(*x).to_be_bytes()).collect(),
            (Dtype::Bfloat16, false) => {
                numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()
            }
            (Dtype::Bfloat16, true) => {
                numbers.iter().flat_map(|x| bf16::from_f32(*x).to_be_bytes()).collect()
            }
            (Dtype::Fp8E4m3, _) => numbers.iter().map(|x| minifloat(*x, E4M3)).collect(),
            (Dtype::Fp8E5m2, _) => numbers.iter().map(|x| minifloat(*x, E5M2)).collect(),
        }
    }
}

/// A float of eight bits, as the Open Compute Project's "OFP8" has them.
#[derive(Clone, Copy)]
struct Minifloat {
    mantissa_bits: i32,
    bias: i32,
    /// The largest finite number, which stands for all larger ones.
    max: f32,
    nan: u8,
}

const E4M3: Minifloat = Minifloat { mantissa_bits: 3, bias: 7, max: 448.0, nan: 0x7f };
const E5M2: Minifloat = Minifloat { mantissa_bits: 2, bias: 15, max: 57_344.0, nan: 0x7e };

/// The nearest number of eight bits, of two as near the even one.
fn minifloat(number: f32, Minifloat { mantissa_bits, bias, max, nan }: Minifloat) -> u8 {
    let sign = if number.is_sign_negative() { 0x80 } else { 0 };
    if number.is_nan() {
        return sign | nan;
    }
    let size = number.abs().min(max);
    let least = 1 - bias;
    // Numbers below the least normal one have its exponent.
    let exponent = if size > 0.0 { (((size.to_bits() >> 23) as i32) - 127).max(least) } else { least };
    // In units of the last place: exact, since both are powers of two.
    let units = (size * 2f32.powi(mantissa_bits - exponent)).round_ties_even() as i32;
    // A unit more than the mantissa holds carries into the exponent by itself.
    let bits = ((exponent - least) << mantissa_bits) + units;
    sign | bits as u8
}

/// What is where in a body of bytes.
#[derive(Debug, Serialize)]
struct Metadata<'a> {
    id: &'a str,
    created: u64,
    model: &'a str,
    data: Vec<Place>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Place {
    index: usize,
    embed_dtype: Dtype,
    endianness: Endianness,
    start: usize,
    end: usize,
    shape: Vec<usize>,
}

/// The numbers of one input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    pub(super) values: Vec<f32>,
    /// How many, or rows and columns of a matrix.
    pub(super) shape: Vec<usize>,
}

impl From<Vec<f32>> for Numbers {
    fn from(values: Vec<f32>) -> Self {
        Self { shape: vec![values.len()], values }
    }
}

impl From<Vec<Vec<f32>>> for Numbers {
    fn from(rows: Vec<Vec<f32>>) -> Self {
        let shape = vec![rows.len(), rows.first().map_or(0, Vec::len)];
        Self { values: rows.concat(), shape }
    }
}

/// Of which call a body of bytes is the answer.
pub(super) struct About<'a> {
    pub(super) id: &'a str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) usage: Usage,
}

/// Refuses a call of more inputs than a header can tell of.
pub(super) fn check_told(inputs: usize) -> Result<(), ApiError> {
    if inputs <= TOLD_INPUTS_MAX {
        return Ok(());
    }
    let problem = format!("a header tells of {TOLD_INPUTS_MAX} inputs at most: send `bytes_only`, or fewer");
    Err(invalid("encoding_format", &problem))
}

/// Numbers as a body of bytes, with or without a header that tells what is where.
///
/// # Errors
/// A fault of ours.
pub(super) fn answer(
    inputs: Vec<Numbers>,
    coding: Coding,
    about: Option<About<'_>>,
) -> Result<Answer, ApiError> {
    let (mut body, mut data) = (Vec::new(), Vec::with_capacity(inputs.len()));
    for (index, Numbers { values, shape }) in inputs.into_iter().enumerate() {
        let start = body.len();
        body.extend(coding.bytes(&values));
        let Coding { dtype: embed_dtype, endianness } = coding;
        data.push(Place { index, embed_dtype, endianness, start, end: body.len(), shape });
    }
    let bytes = HeaderValue::from_static("application/octet-stream");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, bytes)]);
    if let Some(About { id, created, model, usage }) = about {
        let text = serde_json::to_string(&Metadata { id, created, model, data, usage });
        let text = text.map_err(ApiError::internal)?;
        headers.insert(METADATA, HeaderValue::try_from(text).map_err(ApiError::internal)?);
    }
    Ok(Answer { status: StatusCode::OK, headers, body: Bytes::from(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits() {
        let check = |number: f32, e4m3: u8, e5m2: u8| {
            assert_eq!((minifloat(number, E4M3), minifloat(number, E5M2)), (e4m3, e5m2), "{number}");
        };
        check(0.0, 0, 0);
        check(-0.0, 0x80, 0x80);
        check(1.0, 0x38, 0x3c);
        check(-1.5, 0xbc, 0xbe);
        // Halfway between two of the first: to the even one.
        check(1.0625, 0x38, 0x3c);
        check(1.1875, 0x3a, 0x3d);
        // Up to the next power of two.
        check(1.99, 0x40, 0x40);
        // The least normal one, the least one at all, and less than half of it.
        check(2f32.powi(-6), 0x08, 0x24);
        check(2f32.powi(-9), 0x01, 0x18);
        check(2f32.powi(-16), 0x00, 0x01);
        check(2f32.powi(-18), 0x00, 0x00);
        check(1e9, 0x7e, 0x7b);
        check(f32::NAN, 0x7f, 0x7e);
    }

    #[test]
    fn wider_ones() {
        let check = |dtype: Dtype, endianness: Endianness, expected: &[u8]| {
            assert_eq!(Coding { dtype, endianness }.bytes(&[-2.5]), expected, "{dtype:?}");
        };
        check(Dtype::Float32, Endianness::Native, &[0, 0, 0x20, 0xc0]);
        check(Dtype::Float32, Endianness::Big, &[0xc0, 0x20, 0, 0]);
        check(Dtype::Float16, Endianness::Little, &[0, 0xc1]);
        check(Dtype::Float16, Endianness::Big, &[0xc1, 0]);
        check(Dtype::Bfloat16, Endianness::Little, &[0x20, 0xc0]);
        check(Dtype::Bfloat16, Endianness::Big, &[0xc0, 0x20]);
    }
}
