//! `InferStream`: answers come as they finish, each with the id of its request.

use std::marker::PhantomData;
use std::time::Duration;

use api::{ApiError, Operation, StreamedCall};
use proto::v1::infer_stream_request::Request;
use proto::v1::infer_stream_response::Response;
use proto::v1::{InferStreamRequest, InferStreamResponse, StreamError};

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::Streamed;
use crate::grpc::Conversation;

/// What is said on a stream.
pub(super) struct Inferring;

impl Conversation for Inferring {
    type Question = InferStreamRequest;
    type Answer = InferStreamResponse;
    const IS_ORDERED: bool = false;

    async fn respond(&self, call: Box<dyn StreamedCall>, message: InferStreamRequest) -> InferStreamResponse {
        respond(call, message).await
    }
}

/// Longest id of a message of a stream, in bytes: it is echoed with every answer.
const CORRELATION_ID_BYTES_MAX: usize = 256;

async fn respond(call: Box<dyn StreamedCall>, message: InferStreamRequest) -> InferStreamResponse {
    let request_id = call.request_id();
    let InferStreamRequest { mut correlation_id, request, timeout_ms } = message;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    let is_id = correlation_id.len() <= CORRELATION_ID_BYTES_MAX;
    let result = if is_id {
        one_of(call, request, timeout).await
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

async fn one_of(
    call: Box<dyn StreamedCall>,
    request: Option<Request>,
    timeout: Option<Duration>,
) -> Result<Response, ApiError> {
    match request {
        Some(Request::Classify(m)) => {
            one(call, Operation::Classify, m, timeout).await.map(Response::Classify)
        }
        Some(Request::Sentiment(m)) => {
            one(call, Operation::Sentiment, m, timeout).await.map(Response::Sentiment)
        }
        Some(Request::Entities(m)) => {
            one(call, Operation::Entities, m, timeout).await.map(Response::Entities)
        }
        Some(Request::Summarize(m)) => {
            one(call, Operation::Summarize, m, timeout).await.map(Response::Summarize)
        }
        Some(Request::Embed(m)) => one(call, Operation::Embed, m, timeout).await.map(Response::Embed),
        Some(Request::Rerank(m)) => one(call, Operation::Rerank, m, timeout).await.map(Response::Rerank),
        Some(Request::Similarity(m)) => {
            one(call, Operation::Similarity, m, timeout).await.map(Response::Similarity)
        }
        Some(Request::Tokenize(m)) => {
            one(call, Operation::Tokenize, m, timeout).await.map(Response::Tokenize)
        }
        Some(Request::Detokenize(m)) => {
            one(call, Operation::Detokenize, m, timeout).await.map(Response::Detokenize)
        }
        None => {
            let problem = "expected one of classify, sentiment, entities, summarize, embed, rerank, similarity, tokenize, detokenize";
            let problem = problem.to_owned();
            Err(refused(call, ApiError::InvalidRequest { field: "request".to_owned(), problem }))
        }
    }
}

async fn one<Q, A>(
    call: Box<dyn StreamedCall>,
    operation: Operation,
    message: Q,
    timeout: Option<Duration>,
) -> Result<A, ApiError>
where
    Q: IntoInferRequest + prost::Message + 'static,
    A: FromResponse + prost::Message + Default + 'static,
{
    let message = Streamed { message, timeout, answer: PhantomData };
    call.call(Some(operation), message).await.map(tonic::Response::into_inner)
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
