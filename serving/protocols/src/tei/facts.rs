//! What is told of an answer beside it: how long its parts took and how much it was, in milliseconds as
//! headers, and in nanoseconds as a message.

use std::time::Duration;

use api::{ApiError, InferResponse, Processor, Timings};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::http::dialect::Answer;

/// Everything about an answer but the answer.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    timings: Timings,
    tokens: usize,
    characters: usize,
    processor: Processor,
    model: HeaderValue,
}

impl Facts {
    /// Of a response to inputs of so many characters.
    pub(crate) fn of(response: &InferResponse, characters: usize) -> Self {
        let model = HeaderValue::from_str(&response.model);
        let model = model.unwrap_or(HeaderValue::from_static(""));
        let &InferResponse { timings, tokens, processor, .. } = response;
        Self { timings, tokens, characters, processor, model }
    }

    /// As headers. The name of the model is ours: it says what a route without a name has come to.
    pub(crate) fn headers(&self) -> [(HeaderName, HeaderValue); 9] {
        let Self { timings, tokens, characters, processor, model } = self;
        let whole = |number: usize| HeaderValue::from(number as u64);
        let milliseconds = |time: Duration| HeaderValue::from(time.as_millis() as u64);
        let header = HeaderName::from_static;
        [
            (header("x-compute-type"), HeaderValue::from_static(processor.as_str())),
            (header("x-compute-time"), milliseconds(timings.total)),
            (header("x-compute-characters"), whole(*characters)),
            (header("x-compute-tokens"), whole(*tokens)),
            (header("x-total-time"), milliseconds(timings.total)),
            (header("x-tokenization-time"), milliseconds(timings.tokenize)),
            (header("x-queue-time"), milliseconds(timings.queue)),
            (header("x-inference-time"), milliseconds(timings.compute)),
            (header("x-compute-model"), model.clone()),
        ]
    }

    /// As a message.
    pub(crate) fn metadata(&self) -> proto::tei::Metadata {
        let Self { timings, tokens, characters, .. } = self;
        let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        proto::tei::Metadata {
            compute_chars: whole(*characters),
            compute_tokens: whole(*tokens),
            total_time_ns: nanoseconds(timings.total),
            tokenization_time_ns: nanoseconds(timings.tokenize),
            queue_time_ns: nanoseconds(timings.queue),
            inference_time_ns: nanoseconds(timings.compute),
        }
    }

    /// An answer with them.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn answer(&self, value: &impl Serialize) -> Result<Answer, ApiError> {
        let mut answer = Answer::json(StatusCode::OK, value)?;
        answer.headers.extend(self.headers());
        Ok(answer)
    }
}
