//! Answers as their callers' `Accept-Encoding` asks for them.

use std::io::Write;

use api::ApiError;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};

/// A coding of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::oip) enum Compression {
    Gzip,
    Deflate,
}

impl Compression {
    /// The coding that a caller asks for and nothing else. Ordinary HTTP clients offer a list to choose from,
    /// of which we choose the body as it is: vectors hardly become smaller. The protocol's clients ask for
    /// one.
    pub(super) fn asked(headers: &HeaderMap) -> Option<Self> {
        match headers.get(ACCEPT_ENCODING)?.as_bytes() {
            b"gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    pub(super) fn compress(self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let level = Level::fast();
        let compressed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        compressed.map_err(ApiError::internal)
    }
}
