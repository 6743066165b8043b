//! `InferStream`: answers come as they finish, each with the id of its request.

use std::marker::PhantomData;
use std::time::Duration;

use api::{ApiError, Operation, StreamedCall};
use proto::v1::infer_stream_request::Request;
use proto::v1::infer_stream_response::Response;
use proto::v1::{InferStreamRequest, InferStreamResponse, StreamError};

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::StreamMessage;
use crate::grpc::{Conversation, LastLimits};

/// What is said on a stream.
pub(super) struct Inferring;

impl Conversation for Inferring {
    type Question = InferStreamRequest;
    type Answer = InferStreamResponse;
    const IS_ORDERED: bool = false;

    async fn respond(
        &self,
        call: Box<dyn StreamedCall>,
        message: InferStreamRequest,
        limits: &LastLimits,
    ) -> InferStreamResponse {
        respond(call, message, limits).await
    }
}

/// Longest id of a message of a stream, in bytes: it is echoed with every answer.
const CORRELATION_ID_BYTES_MAX: usize = 256;

async fn respond(
    call: Box<dyn StreamedCall>,
    message: InferStreamRequest,
    limits: &LastLimits,
) -> InferStreamResponse {
    let request_id = call.request_id();
    let InferStreamRequest { mut correlation_id, request, timeout_ms } = message;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    let is_id = correlation_id.len() <= CORRELATION_ID_BYTES_MAX;
    let result = if is_id {
        one_of(Message { call, timeout, limits }, request).await
    } else {
        // Its beginning tells the caller which one it was.
        correlation_id.truncate(correlation_id.floor_char_boundary(CORRELATION_ID_BYTES_MAX));
        let problem = format!("at most {CORRELATION_ID_BYTES_MAX} bytes");
        Err(refused(call, ApiError::InvalidRequest { field: "correlation_id".to_owned(), problem }))
    };
    let response = result.unwrap_or_else(|error| Response::Error(stream_error(&error, &request_id)));
    InferStreamResponse { correlation_id, response: Some(response) }
}

/// Tells the access log of an error that nothing else has seen.
fn refused(call: Box<dyn StreamedCall>, error: ApiError) -> ApiError {
    call.refuse(&error);
    error
}

/// A message of a stream, but for what it asks.
struct Message<'a> {
    call: Box<dyn StreamedCall>,
    timeout: Option<Duration>,
    limits: &'a LastLimits,
}

async fn one_of(message: Message<'_>, request: Option<Request>) -> Result<Response, ApiError> {
    match request {
        Some(Request::Classify(m)) => message.answer(Operation::Classify, m).await.map(Response::Classify),
        Some(Request::Sentiment(m)) => message.answer(Operation::Sentiment, m).await.map(Response::Sentiment),
        Some(Request::Entities(m)) => message.answer(Operation::Entities, m).await.map(Response::Entities),
        Some(Request::Summarize(m)) => message.answer(Operation::Summarize, m).await.map(Response::Summarize),
        Some(Request::Embed(m)) => message.answer(Operation::Embed, m).await.map(Response::Embed),
        Some(Request::Rerank(m)) => message.answer(Operation::Rerank, m).await.map(Response::Rerank),
        Some(Request::Similarity(m)) => {
            message.answer(Operation::Similarity, m).await.map(Response::Similarity)
        }
        Some(Request::Tokenize(m)) => message.answer(Operation::Tokenize, m).await.map(Response::Tokenize),
        Some(Request::Detokenize(m)) => {
            message.answer(Operation::Detokenize, m).await.map(Response::Detokenize)
        }
        None => {
            let problem = "expected one of classify, sentiment, entities, summarize, embed, rerank, similarity, tokenize, detokenize";
            let problem = problem.to_owned();
            Err(refused(message.call, ApiError::InvalidRequest { field: "request".to_owned(), problem }))
        }
    }
}

impl Message<'_> {
    async fn answer<Q, A>(self, operation: Operation, question: Q) -> Result<A, ApiError>
    where
        Q: IntoInferRequest + prost::Message + 'static,
        A: FromResponse + prost::Message + Default + 'static,
    {
        let Self { call, timeout, limits } = self;
        let message = StreamMessage { message: question, timeout, answer: PhantomData };
        limits.of(call.call(Some(operation), message).await)
    }
}

fn stream_error(error: &ApiError, request_id: &str) -> StreamError {
    let row = error.row();
    StreamError {
        status: row.grpc as i32,
        code: row.code.to_owned(),
        message: error.to_string(),
        retry_after_ms: error.retry_after().map_or(0, |after| after.as_millis().max(1) as u64),
        request_id: request_id.to_owned(),
    }
}
