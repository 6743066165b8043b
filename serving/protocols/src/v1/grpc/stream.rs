//! The bidirectional stream for bulk callers: many requests in flight, answers as they finish.

use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::{ApiError, CallStream, HeldAnswerBytes, NextCall, Operation, StreamedCall};
use futures_util::Stream;
use prost::Message as _;
use proto::v1::infer_stream_request::Request;
use proto::v1::infer_stream_response::Response;
use proto::v1::{InferStreamRequest, InferStreamResponse, StreamError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tonic::Status;

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::StreamMessage;
use crate::grpc::{Messages, status};

/// A stream of messages, with all that reading and answering it takes.
pub(super) struct Bulk {
    pub(super) stream: Arc<dyn CallStream>,
    pub(super) request_id: Arc<str>,
    pub(super) messages: Messages,
    /// How long the caller waits for all of it.
    pub(super) timeout: Option<Duration>,
}

/// Answers that the peer has not taken.
#[derive(Debug)]
struct UnreadAnswers {
    answers: AtomicUsize,
    /// They wait in their tenant's name too.
    bytes: Mutex<Box<dyn HeldAnswerBytes>>,
    taken: Notify,
}

impl UnreadAnswers {
    fn new(stream: &dyn CallStream) -> Arc<Self> {
        let bytes = Mutex::new(stream.waiting());
        Arc::new(Self { answers: AtomicUsize::default(), bytes, taken: Notify::new() })
    }

    fn bytes(&self) -> MutexGuard<'_, Box<dyn HeldAnswerBytes>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, answer: &InferStreamResponse) {
        self.answers.fetch_add(1, Ordering::AcqRel);
        self.bytes().add(answer.encoded_len());
    }

    fn remove(&self, answer: &InferStreamResponse) {
        self.answers.fetch_sub(1, Ordering::AcqRel);
        self.bytes().remove(answer.encoded_len());
        self.taken.notify_one();
    }
}

/// An answer on its way to the peer, or why there are no more.
type Outgoing = Result<InferStreamResponse, Status>;

/// The answers of a stream as the transport takes them.
struct Answers {
    receiver: mpsc::UnboundedReceiver<Outgoing>,
    untaken: Arc<UnreadAnswers>,
}

/// Why no more is read.
enum End {
    /// The caller has sent all.
    Complete,
    /// The stream cannot go on.
    Failed(ApiError),
    /// The caller has left.
    Gone,
}

impl Bulk {
    /// Answers every message of the stream, each on a task of its own: deadlines pass and places are given
    /// back whether or not the peer takes its answers. At most `limits.stream_calls_in_flight_max` are worked
    /// on or wait to be taken, and new ones begin only while less than `limits.stream_answer_bytes_max` wait,
    /// and not more than the tenant's share. Beyond that, and while the tenant has no place free or no room
    /// for a message's bytes, the stream is not read, and HTTP/2 flow control holds the sender back: no
    /// message of an admitted stream is refused for want of these. When the server stops, no more is read,
    /// what was read is answered, and the stream ends as unavailable.
    pub(super) fn answer(self) -> impl Stream<Item = Outgoing> + Send {
        let (sender, receiver) = mpsc::unbounded_channel();
        let untaken = UnreadAnswers::new(&*self.stream);
        tokio::spawn(self.run(sender, Arc::clone(&untaken)));
        Answers { receiver, untaken }
    }

    async fn run(mut self, sender: mpsc::UnboundedSender<Outgoing>, untaken: Arc<UnreadAnswers>) {
        let request_id = Arc::clone(&self.request_id);
        let timeout = self.timeout;
        let answered = self.answer_all(&sender, &untaken);
        let failed = match timeout {
            // Calls that are worked on end with it.
            Some(timeout) => {
                tokio::time::timeout(timeout, answered).await.unwrap_or(Some(ApiError::DeadlineExceeded))
            }
            None => answered.await,
        };
        if let Some(error) = failed {
            // If the caller has left nobody is told.
            let _ = sender.send(Err(status(&error, &request_id)));
        }
    }

    /// Answers all messages, and returns why the stream cannot go on, if so.
    async fn answer_all(
        &mut self,
        sender: &mpsc::UnboundedSender<Outgoing>,
        untaken: &Arc<UnreadAnswers>,
    ) -> Option<ApiError> {
        let mut tasks = JoinSet::new();
        let failed = match self.read(sender, untaken, &mut tasks).await {
            End::Gone => return None,
            End::Complete => None,
            End::Failed(error) => Some(error),
        };
        while let Some(ended) =
            tokio::select! { ended = tasks.join_next() => ended, () = sender.closed() => None }
        {
            if ended.is_err() {
                return Some(panicked());
            }
        }
        failed
    }

    /// Reads messages and starts to answer them for as long as there are any.
    async fn read(
        &mut self,
        sender: &mpsc::UnboundedSender<Outgoing>,
        untaken: &Arc<UnreadAnswers>,
        tasks: &mut JoinSet<()>,
    ) -> End {
        let (stream, bounds) = (Arc::clone(&self.stream), self.stream.bounds());
        let has_room = |working: usize| {
            working + untaken.answers.load(Ordering::Acquire) < bounds.calls_max
                && untaken.bytes().bytes() < bounds.answer_bytes_max
        };
        let mut stopping = stream.stopping();
        // Read, and without a place yet.
        let mut pending: Option<InferStreamRequest> = None;
        loop {
            let (taken, freed) = (pin!(untaken.taken.notified()), stream.freed());
            if let Some(message) = pending.take() {
                match stream.next_call(message.encoded_len()) {
                    Some(NextCall { call, line }) => {
                        let (sender, untaken) = (sender.clone(), Arc::clone(untaken));
                        tasks.spawn(async move {
                            let _line = line;
                            let answer = respond(call, message).await;
                            untaken.add(&answer);
                            // If the caller has left nobody is told.
                            let _ = sender.send(Ok(answer));
                        });
                        continue;
                    }
                    None => pending = Some(message),
                }
            }
            let is_reading = self.messages.has_begun() || (pending.is_none() && has_room(tasks.len()));
            tokio::select! {
                biased;
                () = sender.closed() => return End::Gone,
                () = &mut stopping => return End::Failed(ApiError::ShuttingDown),
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => if ended.is_err() {
                    return End::Failed(panicked());
                },
                () = taken => {}
                () = freed, if pending.is_some() => {}
                message = self.messages.next(), if is_reading => match message {
                    Ok(Some(message)) => pending = Some(message),
                    Ok(None) => return End::Complete,
                    // Such a message leaves the stream without a frame boundary to go on from.
                    Err(error) => return End::Failed(error),
                },
            }
        }
    }
}

/// A call's caller cannot be told which one it was.
fn panicked() -> ApiError {
    ApiError::internal("a task of a stream panicked")
}

impl Stream for Answers {
    type Item = Outgoing;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        let answer = ready!(self.receiver.poll_recv(context));
        if let Some(Ok(answer)) = &answer {
            self.untaken.remove(answer);
        }
        Poll::Ready(answer)
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
    let message = StreamMessage { message, timeout, answer: PhantomData };
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
