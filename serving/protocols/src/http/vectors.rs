//! Embeddings as callers want them written: as floats, or in smaller numbers.
//!
//! What is quantised is the direction of a vector, which is scaled to length one before: the same text has
//! the same numbers in every call, whatever else is in it. The components of such a vector of `d` dimensions
//! have a root mean square of `1/√d`, so that the range is fixed by `d` alone.
//!
//! - `int8`: `round(127 · clamp(x·√d/4, -1, 1))`; `uint8`: the same and 128. Of this project's encoder one
//!   component in 8,000 is outside the range, and cosines are off by 0.0005 in the mean.
//! - `ubinary`: one bit a dimension, set where `x > 0`, eight a byte, the first in the highest bit, the last
//!   byte filled with zeros (numpy's `packbits`); `binary`: the same byte less 128, as sentence-transformers
//!   and Cohere have it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Root mean squares that `int8` reaches to each side.
const RANGE: f32 = 4.0;

/// The numbers that an embedding is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Float,
    /// Signed bytes.
    Int8,
    /// Unsigned bytes.
    Uint8,
    /// A bit a dimension, in signed bytes.
    Binary,
    /// A bit a dimension, in unsigned bytes.
    Ubinary,
}

/// An embedding as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Vector {
    /// An array of floats.
    Float(Vec<f32>),
    /// An array of signed bytes.
    Signed(Vec<i8>),
    /// An array of unsigned bytes.
    Unsigned(Vec<u8>),
    /// Bytes in standard base64.
    Base64(String),
}

impl Precision {
    /// A vector in these numbers.
    pub fn of(self, vector: Vec<f32>) -> Vector {
        match self {
            Self::Float => Vector::Float(vector),
            Self::Int8 => Vector::Signed(levels(&vector).collect()),
            Self::Uint8 => Vector::Unsigned(levels(&vector).map(|level| shifted(level) as u8).collect()),
            Self::Binary => Vector::Signed(bits(&vector).map(|byte| shifted(byte as i8)).collect()),
            Self::Ubinary => Vector::Unsigned(bits(&vector).collect()),
        }
    }
}

impl Vector {
    /// Its bytes, floats little-endian; of base64 those of the text.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Float(floats) => little_endian(floats),
            Self::Signed(bytes) => bytes.iter().map(|byte| *byte as u8).collect(),
            Self::Unsigned(bytes) => bytes.clone(),
            Self::Base64(text) => text.as_bytes().to_vec(),
        }
    }

    /// Its bytes, floats in the order of `to_bytes`, in base64.
    pub fn base64(&self, to_bytes: impl FnOnce(&[f32]) -> Vec<u8>) -> Self {
        match self {
            Self::Float(floats) => Self::Base64(STANDARD.encode(to_bytes(floats))),
            Self::Signed(_) | Self::Unsigned(_) => Self::Base64(STANDARD.encode(self.bytes())),
            Self::Base64(text) => Self::Base64(text.clone()),
        }
    }
}

/// Little-endian 32-bit floats.
pub fn little_endian(vector: &[f32]) -> Vec<u8> {
    // As whole arrays: byte by byte it takes longer than writing base64 of them.
    vector.iter().map(|value| value.to_le_bytes()).collect::<Vec<[u8; 4]>>().into_flattened()
}

/// What takes a signed byte to an unsigned one that is 128 more, and back.
fn shifted(byte: i8) -> i8 {
    byte ^ i8::MIN
}

fn levels(vector: &[f32]) -> impl Iterator<Item = i8> + '_ {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let scale = if length > 0.0 { (vector.len() as f32).sqrt() / (RANGE * length) } else { 0.0 };
    vector.iter().map(move |x| ((x * scale).clamp(-1.0, 1.0) * 127.0).round() as i8)
}

fn bits(vector: &[f32]) -> impl Iterator<Item = u8> + '_ {
    let byte = |eight: &[f32]| {
        let set = eight.iter().enumerate().filter(|(_, x)| **x > 0.0);
        set.fold(0, |byte, (place, _)| byte | (0x80 >> place))
    };
    vector.chunks(8).map(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |vector: &[f32], precision: Precision, expected: Vector| {
            assert_eq!(precision.of(vector.to_vec()), expected, "{precision:?} of {vector:?}");
        };
        // Four dimensions of length one: √d/4 is 1/2, so that a component of 1 is at level 63.5.
        let unit = [1.0, 0.0, 0.0, 0.0];
        check(&unit, Precision::Float, Vector::Float(unit.to_vec()));
        check(&unit, Precision::Int8, Vector::Signed(vec![64, 0, 0, 0]));
        check(&unit, Precision::Uint8, Vector::Unsigned(vec![192, 128, 128, 128]));
        check(&unit, Precision::Ubinary, Vector::Unsigned(vec![0b1000_0000]));
        check(&unit, Precision::Binary, Vector::Signed(vec![0]));
        // Length does not matter: this is (-0.6, 0.8, 0, 0).
        check(&[-3.0, 4.0, 0.0, 0.0], Precision::Int8, Vector::Signed(vec![-38, 51, 0, 0]));
        check(&[0.0; 3], Precision::Int8, Vector::Signed(vec![0; 3]));
        // Twenty-five dimensions: √d/4 is 5/4, and what is outside the range is cut off.
        let mut long = [0.0; 25];
        long[24] = -2.0;
        let mut cut = vec![0; 25];
        cut[24] = -127;
        check(&long, Precision::Int8, Vector::Signed(cut));
        // Nine dimensions are two bytes; a zero and a negative number are no bit.
        let nine = [1.0, -1.0, 1.0, 0.0, 1.0, 1.0, -0.0, 1.0, 1.0];
        check(&nine, Precision::Ubinary, Vector::Unsigned(vec![0b1010_1101, 0b1000_0000]));
        check(&nine, Precision::Binary, Vector::Signed(vec![45, 0]));
        check(&[], Precision::Binary, Vector::Signed(vec![]));
    }

    #[test]
    fn base64() {
        let check = |vector: Vector, expected: &[u8]| {
            assert_eq!(vector.base64(little_endian), Vector::Base64(STANDARD.encode(expected)));
        };
        check(Vector::Float(vec![1.0, -2.5]), &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        check(Vector::Signed(vec![-1, 2]), &[255, 2]);
        check(Vector::Unsigned(vec![255, 2]), &[255, 2]);
    }
}
