//! The message of a call, read when its caller is known and has a place.

use api::{ApiError, BodyMeter};
use axum::http::HeaderMap;
use prost::Message as ProstMessage;
use tonic::{Code, Status, Streaming};

/// Says how the messages of a call are compressed.
pub(super) const GRPC_ENCODING: &str = "grpc-encoding";

/// The one message of a call, of which nothing is read yet.
pub struct UnreadMessage<Q> {
    messages: Streaming<Q>,
    /// Charged with what a compressed message turns out to be.
    body: BodyMeter,
    is_compressed: bool,
    /// Longest message, in bytes, when it is not compressed.
    limit: usize,
}

impl<Q: ProstMessage> UnreadMessage<Q> {
    /// The message of a call with these headers, which may have so many bytes.
    pub fn new(messages: Streaming<Q>, headers: &HeaderMap, body: BodyMeter, limit: usize) -> Self {
        let is_compressed = headers.get(GRPC_ENCODING).is_some_and(|encoding| encoding != "identity");
        Self { messages, body, is_compressed, limit }
    }

    /// Reads the message, and to the end that there is no other one ([`super::Form`]).
    ///
    /// # Errors
    /// It is too large, not what it should be, or does not come.
    pub async fn read(mut self) -> Result<Q, ApiError> {
        let limit = self.limit;
        let first = self.messages.message().await.map_err(|status| unreadable(&status, limit))?;
        // An end before it is a peer that has left.
        let message = first.ok_or(ApiError::BodyIncomplete)?;
        if self.is_compressed {
            self.body.hold(message.encoded_len())?;
        }
        self.messages.trailers().await.map_err(|status| unreadable(&status, limit))?;
        Ok(message)
    }
}

/// Why a message cannot be read, in our table's terms: size and form are tonic's to find, and their codes
/// ours.
pub fn unreadable(status: &Status, limit: usize) -> ApiError {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => ApiError::BodyTooLarge { limit },
        Code::InvalidArgument | Code::Internal => {
            ApiError::InvalidRequest { field: "message".to_owned(), problem: status.message().to_owned() }
        }
        _ => ApiError::BodyIncomplete,
    }
}
