//! The bidirectional stream for bulk callers: many requests in flight, answers as they finish.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use models::Task;
use tonic::{Status, Streaming};

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::Message;
use super::proto::infer_stream_request::Request;
use super::proto::infer_stream_response::Response;
use super::proto::{InferStreamRequest, InferStreamResponse, StreamError};
use crate::app::App;
use crate::error::ApiError;
use crate::pipeline::{self, Caller};

/// Answers every message of the stream. At most `limits.stream_requests_in_flight_max` are worked on
/// at once; beyond that the stream is not read, and HTTP/2 flow control holds the sender back. When
/// the server stops, no more is read, what was read is answered, and the stream ends as unavailable.
pub(super) fn answer(
    app: Arc<App>,
    caller: Caller,
    messages: Streaming<InferStreamRequest>,
) -> impl Stream<Item = Result<InferStreamResponse, Status>> + Send {
    let in_flight_max = app.config.limits.stream_requests_in_flight_max;
    let stopping = app.stopping.clone();
    let stream_id = Arc::clone(&caller.request_id);
    let end = {
        let stopping = stopping.clone();
        futures_util::stream::once(async move { stopping.is_cancelled() }).filter_map(move |is_stopping| {
            let status = is_stopping.then(|| Err(ApiError::ShuttingDown.to_status(&stream_id)));
            async move { status }
        })
    };
    messages
        .take_until(stopping.cancelled_owned())
        .enumerate()
        .map(move |(index, message)| {
            let app = Arc::clone(&app);
            let request_id = Arc::from(format!("{}.{index}", caller.request_id));
            // A message is a call: it has a line of its own in the access log, written when this is dropped.
            let line = caller.access.message(&request_id);
            let caller = Caller { request_id, access: line.access(), ..caller.clone() };
            async move {
                let _line = line;
                // An undecodable message leaves the stream without a frame boundary to go on from.
                let InferStreamRequest { correlation_id, request, timeout_ms } = message?;
                let response = respond(&app, &caller, request, timeout_ms).await;
                Ok(InferStreamResponse { correlation_id, response: Some(response) })
            }
        })
        .buffer_unordered(in_flight_max)
        .chain(end)
}

async fn respond(app: &App, caller: &Caller, request: Option<Request>, timeout_ms: u64) -> Response {
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    let result = match request {
        Some(Request::Classify(m)) => {
            one(app, caller, Task::Classify, m, timeout).await.map(Response::Classify)
        }
        Some(Request::Sentiment(m)) => {
            one(app, caller, Task::Sentiment, m, timeout).await.map(Response::Sentiment)
        }
        Some(Request::Entities(m)) => {
            one(app, caller, Task::Entities, m, timeout).await.map(Response::Entities)
        }
        Some(Request::Summarize(m)) => {
            one(app, caller, Task::Summarize, m, timeout).await.map(Response::Summarize)
        }
        Some(Request::Embed(m)) => one(app, caller, Task::Embed, m, timeout).await.map(Response::Embed),
        None => {
            let problem = "expected one of classify, sentiment, entities, summarize, embed".to_owned();
            let error = ApiError::InvalidRequest { field: "request".to_owned(), problem };
            caller.access.refused(&error);
            Err(error)
        }
    };
    result.unwrap_or_else(|error| Response::Error(stream_error(&error, &caller.request_id)))
}

async fn one<Q, A>(
    app: &App,
    caller: &Caller,
    task: Task,
    message: Q,
    timeout: Option<Duration>,
) -> Result<A, ApiError>
where
    Q: IntoInferRequest + prost::Message,
    A: FromResponse + prost::Message + Default,
{
    let mut message = Message::<Q, A>::new(message, Ok(timeout));
    pipeline::infer(app, caller, task, &mut message).await.map(tonic::Response::into_inner)
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
