//! Input tensors, in no wire's terms, and what they hold.

use api::ApiError;
use api::tasks::Input;
use axum::body::Bytes;

use super::error::invalid;

/// An input tensor.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
    pub(super) data: Data,
}

/// The elements of a tensor, in the order of rows.
#[derive(Debug)]
pub(super) enum Data {
    /// Strings.
    Texts(Vec<String>),
    /// Strings that may be none yet.
    Strings(Vec<Vec<u8>>),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// As the binary extension has them: numbers in little-endian, strings each after its length in four
    /// bytes.
    Raw(Bytes),
    /// What no input takes.
    Other,
}

/// What a call asks of a model.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) list: Vec<Input>,
    /// Whether the inputs are a column, `[n, 1]`: then what answers each with one value is one too.
    pub(super) is_column: bool,
}

/// Names of the tensors of token ids.
const INPUT_IDS: &str = "input_ids";
const ATTENTION_MASK: &str = "attention_mask";
/// All of whose values say the same of a single text.
const TOKEN_TYPE_IDS: &str = "token_type_ids";
const TAKEN: &str = "a model takes one BYTES tensor of texts, or `input_ids` with `attention_mask`";

/// A tensor with where it stands in the request.
struct Placed {
    field: String,
    tensor: Tensor,
}

/// Reads the inputs of a call: the one tensor of texts, whatever its name, or token ids with their mask.
pub(super) fn inputs(tensors: Vec<Tensor>) -> Result<Inputs, ApiError> {
    let (mut texts, mut ids, mut mask) = (None, None, None);
    for (index, tensor) in tensors.into_iter().enumerate() {
        let field = format!("inputs[{index}]");
        let place = match tensor.name.as_str() {
            INPUT_IDS => &mut ids,
            ATTENTION_MASK => &mut mask,
            TOKEN_TYPE_IDS => continue,
            _ if tensor.datatype == "BYTES" => &mut texts,
            _ => return Err(invalid(field, format!("no such input: {TAKEN}"))),
        };
        if place.is_some() {
            return Err(invalid(field, format!("such an input came before: {TAKEN}")));
        }
        *place = Some(Placed { field, tensor });
    }
    match (texts, ids, mask) {
        (Some(texts), None, None) => texts.texts(),
        (None, Some(ids), mask) => ids.tokens(mask),
        _ => Err(invalid("inputs", TAKEN)),
    }
}

impl Placed {
    fn wrong(&self, part: &str, problem: impl Into<String>) -> ApiError {
        invalid(format!("{}.{part}", self.field), problem)
    }

    fn texts(self) -> Result<Inputs, ApiError> {
        let (rows, is_column) = match *self.tensor.shape {
            [rows] => (rows, false),
            [rows, 1] => (rows, true),
            _ => return Err(self.wrong("shape", "expected [n] or [n, 1]")),
        };
        let texts = match self.tensor.data {
            Data::Texts(texts) => texts,
            Data::Strings(strings) => {
                strings.into_iter().map(|string| text(&self.field, string)).collect::<Result<_, _>>()?
            }
            Data::Raw(bytes) => split(&self.field, &bytes)?,
            Data::Integers(_) | Data::Other => return Err(self.wrong("data", "expected strings")),
        };
        if i64::try_from(texts.len()).ok() != Some(rows) {
            return Err(invalid(
                format!("{}.shape", self.field),
                format!("it says {rows} elements, and there are {}", texts.len()),
            ));
        }
        Ok(Inputs { list: texts.into_iter().map(Input::Text).collect(), is_column })
    }

    /// Token ids, without those that the mask leaves out.
    fn tokens(self, mask: Option<Self>) -> Result<Inputs, ApiError> {
        let [rows, columns] = *self.tensor.shape else {
            return Err(self.wrong("shape", "expected [n, length]"));
        };
        // A length of 0 would make any number of rows out of nothing.
        if rows < 0 || columns < 1 {
            return Err(self.wrong("shape", "expected [n, length], with a length of at least 1"));
        }
        if mask.as_ref().is_some_and(|mask| mask.tensor.shape != self.tensor.shape) {
            return Err(invalid(self.field, "`input_ids` and `attention_mask` have different shapes"));
        }
        let field = self.field.clone();
        let ids = self.integers()?;
        let kept = match mask {
            Some(mask) => {
                let (field, values) = (mask.field.clone(), mask.integers()?);
                if values.iter().any(|value| !(0..=1).contains(value)) {
                    return Err(invalid(format!("{field}.data"), "expected 0 or 1"));
                }
                values
            }
            None => vec![1; ids.len()],
        };
        let columns = usize::try_from(columns).unwrap_or(usize::MAX);
        let row = |(ids, kept): (&[i64], &[i64])| {
            let ids = ids.iter().zip(kept).filter(|(_, kept)| **kept == 1);
            let ids = ids.map(|(id, _)| u32::try_from(*id)).collect::<Result<_, _>>();
            ids.map(Input::Tokens).map_err(|_| invalid(format!("{field}.data"), "a token id is out of range"))
        };
        let list = ids.chunks(columns).zip(kept.chunks(columns)).map(row).collect::<Result<_, _>>()?;
        Ok(Inputs { list, is_column: false })
    }

    fn integers(self) -> Result<Vec<i64>, ApiError> {
        let width = match self.tensor.datatype.as_str() {
            "INT64" => 8,
            "INT32" => 4,
            _ => return Err(self.wrong("datatype", "expected INT64 or INT32")),
        };
        let count = self.tensor.shape.iter().try_fold(1_i64, |count, length| count.checked_mul(*length));
        let integers = match self.tensor.data {
            Data::Integers(integers) => integers,
            Data::Raw(ref bytes) if bytes.len().is_multiple_of(width) => {
                bytes.chunks_exact(width).map(little_endian).collect()
            }
            Data::Raw(_) => return Err(self.wrong("data", "its bytes are no whole number of elements")),
            Data::Texts(_) | Data::Strings(_) | Data::Other => {
                return Err(self.wrong("data", "expected whole numbers"));
            }
        };
        if i64::try_from(integers.len()).ok() != count {
            let problem = format!("it says another number of elements than the {} there are", integers.len());
            return Err(invalid(format!("{}.shape", self.field), problem));
        }
        Ok(integers)
    }
}

/// A signed number of four or eight bytes.
fn little_endian(bytes: &[u8]) -> i64 {
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(bytes), _) => i64::from_le_bytes(*bytes),
        (None, Some(bytes)) => i64::from(i32::from_le_bytes(*bytes)),
        (None, None) => 0,
    }
}

fn text(field: &str, string: Vec<u8>) -> Result<String, ApiError> {
    String::from_utf8(string).map_err(|_| invalid(field, "a text is not valid UTF-8"))
}

/// The strings of a tensor of the binary extension.
fn split(field: &str, mut bytes: &[u8]) -> Result<Vec<String>, ApiError> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let cut = || invalid(field, "its bytes end within a string or within the length of one");
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (string, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        texts.push(text(field, string.to_vec())?);
        bytes = rest;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tensor(name: &str, datatype: &str, shape: &[i64], data: Data) -> Tensor {
        Tensor { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), data }
    }

    fn raw(bytes: &[u8]) -> Data {
        Data::Raw(Bytes::copy_from_slice(bytes))
    }

    fn texts(texts: &[&str]) -> Data {
        Data::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// What is read, or the field that is wrong.
    fn check(tensors: Vec<Tensor>, expected: Result<(Vec<Input>, bool), &str>) {
        let shown = format!("{tensors:?}");
        let found = inputs(tensors).map(|inputs| (inputs.list, inputs.is_column));
        let found = found.map_err(|error| error.field_violation().unwrap().0);
        assert_eq!(found, expected.map_err(str::to_owned), "{shown}");
    }

    #[test]
    fn tensors_of_texts() {
        let ab = || vec![Input::from("a"), Input::from("bé")];
        check(vec![tensor("text", "BYTES", &[2], texts(&["a", "bé"]))], Ok((ab(), false)));
        check(vec![tensor("TEXT", "BYTES", &[2, 1], texts(&["a", "bé"]))], Ok((ab(), true)));
        let bytes = b"\x01\0\0\0a\x03\0\0\0b\xc3\xa9";
        check(vec![tensor("text", "BYTES", &[2], raw(bytes))], Ok((ab(), false)));
        let strings = Data::Strings(vec![b"a".to_vec(), "bé".as_bytes().to_vec()]);
        check(vec![tensor("text", "BYTES", &[2], strings)], Ok((ab(), false)));
        check(vec![tensor("text", "BYTES", &[0], raw(b""))], Ok((vec![], false)));
        check(vec![tensor("text", "BYTES", &[1], raw(b"\0\0\0\0"))], Ok((vec![Input::from("")], false)));
        for (shape, data, field) in [
            (&[1][..], texts(&["a", "b"]), "inputs[0].shape"),
            (&[-1], texts(&["a"]), "inputs[0].shape"),
            (&[1, 2], texts(&["a", "b"]), "inputs[0].shape"),
            (&[], texts(&["a"]), "inputs[0].shape"),
            (&[i64::MAX], texts(&["a"]), "inputs[0].shape"),
            (&[1], Data::Integers(vec![1]), "inputs[0].data"),
            (&[1], Data::Other, "inputs[0].data"),
            (&[1], raw(b"\x02\0\0\0a"), "inputs[0]"),
            (&[1], raw(b"\x01\0\0"), "inputs[0]"),
            (&[1], raw(b"\xff\xff\xff\xffa"), "inputs[0]"),
            (&[1], raw(b"\x01\0\0\0\xff"), "inputs[0]"),
        ] {
            check(vec![tensor("text", "BYTES", shape, data)], Err(field));
        }
    }

    #[test]
    fn tensors_of_token_ids() {
        let ids = |datatype: &str, shape: &[i64], data| tensor("input_ids", datatype, shape, data);
        let mask = |shape: &[i64], data: &[i64]| {
            tensor("attention_mask", "INT64", shape, Data::Integers(data.to_vec()))
        };
        let whole = |data: &[i64]| Data::Integers(data.to_vec());
        let rows = |rows: &[&[u32]]| rows.iter().map(|ids| Input::Tokens(ids.to_vec())).collect::<Vec<_>>();
        let four = [101, 7, 102, 0];
        let all = ids("INT64", &[2, 2], whole(&four));
        check(vec![all], Ok((rows(&[&[101, 7], &[102, 0]]), false)));
        // Padding may be on either side.
        let (given, masked) = (ids("INT64", &[2, 2], whole(&four)), mask(&[2, 2], &[1, 0, 0, 1]));
        check(vec![masked, given], Ok((rows(&[&[101], &[0]]), false)));
        let little: Vec<u8> = four.iter().flat_map(|id| (*id as i32).to_le_bytes()).collect();
        check(vec![ids("INT32", &[1, 4], raw(&little))], Ok((rows(&[&[101, 7, 102, 0]]), false)));
        let types = tensor("token_type_ids", "INT64", &[1], Data::Other);
        check(vec![ids("INT32", &[1, 1], whole(&[7])), types], Ok((rows(&[&[7]]), false)));
        for (tensors, field) in [
            (vec![], "inputs"),
            (vec![mask(&[1, 1], &[1])], "inputs"),
            (
                vec![ids("INT64", &[1, 1], whole(&[1])), tensor("text", "BYTES", &[1], texts(&["a"]))],
                "inputs",
            ),
            (vec![tensor("pixels", "FP32", &[1], Data::Other)], "inputs[0]"),
            (vec![ids("INT64", &[1, 1], whole(&[1])), ids("INT64", &[1, 1], whole(&[1]))], "inputs[1]"),
            (vec![ids("FP32", &[1, 1], whole(&[1]))], "inputs[0].datatype"),
            (vec![ids("INT64", &[1], whole(&[1]))], "inputs[0].shape"),
            (vec![ids("INT64", &[1_000_000_000_000, 0], whole(&[]))], "inputs[0].shape"),
            (vec![ids("INT64", &[i64::MAX, i64::MAX], whole(&[1]))], "inputs[0].shape"),
            (vec![ids("INT64", &[1, 2], whole(&[1]))], "inputs[0].shape"),
            (vec![ids("INT64", &[1, 1], whole(&[-1]))], "inputs[0].data"),
            (vec![ids("INT64", &[1, 1], whole(&[1 << 32]))], "inputs[0].data"),
            (vec![ids("INT64", &[1, 1], raw(b"1234567"))], "inputs[0].data"),
            (vec![ids("INT64", &[1, 1], texts(&["1"]))], "inputs[0].data"),
            (vec![ids("INT64", &[1, 2], whole(&[1, 1])), mask(&[2, 1], &[1, 1])], "inputs[0]"),
            (vec![ids("INT64", &[1, 1], whole(&[1])), mask(&[1, 1], &[2])], "inputs[1].data"),
        ] {
            check(tensors, Err(field));
        }
    }
}
