//! `Content-Encoding` of request bodies (RFC 9110, section 8.4): none, `gzip` or `deflate`, decoded as the
//! body arrives and bounded by what comes out, not by what goes in.

use api::ApiError;
use std::io::{self, Write};

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// What is taken, as `Accept-Encoding` of a refusal says it (RFC 9110, section 15.5.16).
pub const ACCEPTED: &str = "gzip, deflate, identity";

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// The coding that the headers name.
    ///
    /// # Errors
    /// One that is not taken, or one after another.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match (name.as_str(), values.next()) {
            ("" | "identity", None) => Ok(Self::Identity),
            ("gzip" | "x-gzip", None) => Ok(Self::Gzip),
            ("deflate", None) => Ok(Self::Deflate),
            _ => Err(ApiError::UnsupportedContentEncoding),
        }
    }
}

/// Decodes one body piece by piece.
pub(super) enum Decoder {
    Identity(BoundedBuffer),
    Gzip(MultiGzDecoder<BoundedBuffer>),
    Deflate(ZlibDecoder<BoundedBuffer>),
}

impl Decoder {
    /// For a body that may have so many bytes once it is decoded.
    pub(super) fn new(coding: Coding, limit: usize) -> Self {
        let decoded = BoundedBuffer { bytes: Vec::new(), limit };
        match coding {
            Coding::Identity => Self::Identity(decoded),
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(decoded)),
            Coding::Deflate => Self::Deflate(ZlibDecoder::new(decoded)),
        }
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// Too many bytes come out of it, or it is not what its coding says.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        let written = match self {
            Self::Identity(decoded) => decoded.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
            Self::Deflate(decoder) => decoder.write_all(piece),
        };
        written.map_err(|error| self.fault(&error))
    }

    /// Bytes that came out of it so far.
    pub(super) fn decoded(&self) -> usize {
        let buffer = match self {
            Self::Identity(decoded) => decoded,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Deflate(decoder) => decoder.get_ref(),
        };
        buffer.bytes.len()
    }

    /// The body.
    ///
    /// # Errors
    /// As for a piece; and if it ends too soon.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ApiError> {
        let ended = match &mut self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
        };
        ended.map_err(|error| self.fault(&error))?;
        Ok(match self {
            Self::Identity(decoded) => decoded.bytes,
            Self::Gzip(mut decoder) => std::mem::take(&mut decoder.get_mut().bytes),
            Self::Deflate(mut decoder) => std::mem::take(&mut decoder.get_mut().bytes),
        })
    }

    fn fault(&self, error: &io::Error) -> ApiError {
        let (coding, limit) = match self {
            Self::Identity(decoded) => return ApiError::BodyTooLarge { limit: decoded.limit },
            Self::Gzip(decoder) => ("gzip", decoder.get_ref().limit),
            Self::Deflate(decoder) => ("deflate", decoder.get_ref().limit),
        };
        if error.kind() == io::ErrorKind::FileTooLarge {
            return ApiError::BodyTooLarge { limit };
        }
        ApiError::InvalidContentEncoding { coding }
    }
}

/// Bytes up to a limit.
pub(super) struct BoundedBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for BoundedBuffer {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.limit - self.bytes.len() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings() {
        let check = |values: &[&'static str], expected: Option<Coding>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(Coding::of(&headers).ok(), expected, "{values:?}");
        };
        check(&[], Some(Coding::Identity));
        check(&["identity"], Some(Coding::Identity));
        check(&["GZIP"], Some(Coding::Gzip));
        check(&["x-gzip"], Some(Coding::Gzip));
        check(&["deflate"], Some(Coding::Deflate));
        check(&["br"], None);
        check(&["gzip, gzip"], None);
        check(&["gzip", "gzip"], None);
    }

    #[test]
    fn bodies() {
        let check = |coding: Coding, body: &[u8], expected: Result<&[u8], &str>| {
            // However it is cut into pieces.
            for size in [1, 7, body.len().max(1)] {
                let mut decoder = Decoder::new(coding, 1000);
                let decoded = body
                    .chunks(size)
                    .try_for_each(|piece| decoder.push(piece))
                    .and_then(|()| decoder.finish());
                let found = decoded.map_err(|error| error.row().code);
                assert_eq!(found.as_deref(), expected.as_deref(), "{coding:?} in pieces of {size}");
            }
        };
        let text: &[u8] = b"{\"inputs\": \"a text, a text, a text\"}";
        check(Coding::Identity, text, Ok(text));
        check(Coding::Identity, &[b'x'; 1001], Err("body_too_large"));
        check(Coding::Gzip, &gzip(text), Ok(text));
        check(Coding::Deflate, &deflate(text), Ok(text));
        // Two members are one body (RFC 1952, section 2.2).
        check(Coding::Gzip, &[gzip(&text[..9]), gzip(&text[9..])].concat(), Ok(text));
        check(Coding::Gzip, &gzip(&[b'x'; 1000]), Ok(&[b'x'; 1000]));
        // A thousand times as large as it came.
        check(Coding::Gzip, &gzip(&vec![0; 1_000_000]), Err("body_too_large"));
        check(Coding::Deflate, &deflate(&vec![0; 1_000_000]), Err("body_too_large"));
        check(Coding::Gzip, text, Err("invalid_content_encoding"));
        check(Coding::Deflate, &gzip(text), Err("invalid_content_encoding"));
        let whole = gzip(text);
        check(Coding::Gzip, &whole[..whole.len() - 4], Err("invalid_content_encoding"));
        check(Coding::Gzip, b"", Err("invalid_content_encoding"));
        let whole = deflate(text);
        check(Coding::Deflate, &whole[..whole.len() - 4], Err("invalid_content_encoding"));
    }
}
