//! The bidirectional stream for bulk callers: many requests in flight, answers as they finish.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use models::Task;
use prost::Message as _;
use router::{Place, PlaceError, Principal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::{Message, unreadable};
use crate::app::App;
use crate::body_meter::BodyMeter;
use crate::error::ApiError;
use crate::pipeline::{self, Caller};
use crate::server::{Account, WaitingBytes};
use proto::v1::infer_stream_request::Request;
use proto::v1::infer_stream_response::Response;
use proto::v1::{InferStreamRequest, InferStreamResponse, StreamError};

/// A stream of messages, with all that reading and answering it takes.
pub(super) struct Bulk {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    pub(super) principal: Principal,
    /// Of the stream itself, for as long as it lasts: its messages have their own.
    pub(super) _place: Place,
    pub(super) messages: Streaming<InferStreamRequest>,
}

/// Answers that the peer has not taken.
#[derive(Debug)]
struct Untaken {
    answers: AtomicUsize,
    /// They wait in their tenant's name too.
    bytes: Mutex<WaitingBytes>,
    taken: Notify,
}

impl Untaken {
    fn new(account: &Account) -> Arc<Self> {
        let bytes = Mutex::new(account.waiting());
        Arc::new(Self { answers: AtomicUsize::default(), bytes, taken: Notify::new() })
    }

    fn bytes(&self) -> MutexGuard<'_, WaitingBytes> {
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
    untaken: Arc<Untaken>,
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
    /// Answers every message of the stream, each on a task of its own: deadlines pass and places are given back whether or not
    /// the peer takes its answers. At most `limits.stream_calls_in_flight_max` are worked on or wait to be taken, and new ones
    /// begin only while less than `limits.stream_answer_bytes_max` wait; beyond that, and while the tenant has no place free, the
    /// stream is not read, and HTTP/2 flow control holds the sender back. When the server stops, no more is read, what was read is
    /// answered, and the stream ends as unavailable.
    pub(super) fn answer(self) -> impl Stream<Item = Outgoing> + Send {
        let (sender, receiver) = mpsc::unbounded_channel();
        let untaken = Untaken::new(&self.caller.account);
        tokio::spawn(self.run(sender, Arc::clone(&untaken)));
        Answers { receiver, untaken }
    }

    async fn run(mut self, sender: mpsc::UnboundedSender<Outgoing>, untaken: Arc<Untaken>) {
        let mut tasks = JoinSet::new();
        let end = self.read(&sender, &untaken, &mut tasks).await;
        let failed = match end {
            End::Gone => return,
            End::Complete => None,
            End::Failed(error) => Some(error),
        };
        while let Some(ended) =
            tokio::select! { ended = tasks.join_next() => ended, () = sender.closed() => None }
        {
            if ended.is_err() {
                // Its caller cannot be told which one it was.
                let error = ApiError::internal("a task of a stream panicked");
                let _ = sender.send(Err(error.to_status(&self.caller.request_id)));
                return;
            }
        }
        if let Some(error) = failed {
            // If the caller has left nobody is told.
            let _ = sender.send(Err(error.to_status(&self.caller.request_id)));
        }
    }

    /// Reads messages and starts to answer them for as long as there are any.
    async fn read(
        &mut self,
        sender: &mpsc::UnboundedSender<Outgoing>,
        untaken: &Arc<Untaken>,
        tasks: &mut JoinSet<()>,
    ) -> End {
        let limits = self.app.config.limits.clone();
        let (app, stopping) = (Arc::clone(&self.app), self.app.stopping.clone());
        let has_room = |working: usize| {
            working + untaken.answers.load(Ordering::Acquire) < limits.stream_calls_in_flight_max
                && untaken.bytes().bytes() < limits.stream_answer_bytes_max
        };
        let mut number = 0_u64;
        // Read, and without a place yet.
        let mut pending: Option<InferStreamRequest> = None;
        loop {
            let (taken, freed) = (pin!(untaken.taken.notified()), pin!(app.places.freed()));
            if let Some(message) = pending.take() {
                match app.places.take(&self.principal) {
                    Ok(place) => {
                        let request_id = Arc::from(format!("{}.{number}", self.caller.request_id));
                        // A message is a call: it has a line of its own in the access log, written when this is dropped.
                        let line = self.caller.access.message(&request_id);
                        let (access, body) = (line.access(), BodyMeter::default());
                        let caller = Caller { request_id, access, body, ..self.caller.clone() };
                        number += 1;
                        let (app, sender, untaken) = (Arc::clone(&app), sender.clone(), Arc::clone(untaken));
                        tasks.spawn(async move {
                            let _line = line;
                            let answer = respond(&app, &caller, message, place).await;
                            untaken.add(&answer);
                            // If the caller has left nobody is told.
                            let _ = sender.send(Ok(answer));
                        });
                        continue;
                    }
                    Err(PlaceError::Plan { .. } | PlaceError::Full) => pending = Some(message),
                }
            }
            let is_reading = pending.is_none() && has_room(tasks.len());
            tokio::select! {
                biased;
                () = sender.closed() => return End::Gone,
                () = stopping.cancelled() => return End::Failed(ApiError::ShuttingDown),
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => if ended.is_err() {
                    return End::Failed(ApiError::internal("a task of a stream panicked"));
                },
                () = taken => {}
                () = freed, if pending.is_some() => {}
                message = self.messages.message(), if is_reading => match message {
                    Ok(Some(message)) => {
                        // What is read is charged to the place of its own call.
                        self.caller.body.release();
                        pending = Some(message);
                    }
                    Ok(None) => return End::Complete,
                    // An undecodable message leaves the stream without a frame boundary to go on from.
                    Err(status) => {
                        let fault = self.caller.body.fault();
                        return End::Failed(fault.unwrap_or_else(|| unreadable(&status, limits.body_bytes_max)));
                    }
                },
            }
        }
    }
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

async fn respond(
    app: &App,
    caller: &Caller,
    message: InferStreamRequest,
    place: Place,
) -> InferStreamResponse {
    let bytes = message.encoded_len();
    let InferStreamRequest { mut correlation_id, request, timeout_ms } = message;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    let is_id = correlation_id.len() <= CORRELATION_ID_BYTES_MAX;
    let result = match place.hold(bytes) {
        _ if !is_id => {
            // Its beginning tells the caller which one it was.
            correlation_id.truncate(correlation_id.floor_char_boundary(CORRELATION_ID_BYTES_MAX));
            let problem = format!("at most {CORRELATION_ID_BYTES_MAX} bytes");
            Err(refused(caller, ApiError::InvalidRequest { field: "correlation_id".to_owned(), problem }))
        }
        Ok(()) => one_of(app, caller, request, timeout, place).await,
        Err(error) => Err(refused(caller, pipeline::no_place(error))),
    };
    let response = result.unwrap_or_else(|error| Response::Error(stream_error(&error, &caller.request_id)));
    InferStreamResponse { correlation_id, response: Some(response) }
}

/// Tells the access log of an error that the pipeline has not seen.
fn refused(caller: &Caller, error: ApiError) -> ApiError {
    caller.access.refused(&error);
    error
}

async fn one_of(
    app: &App,
    caller: &Caller,
    request: Option<Request>,
    timeout: Option<Duration>,
    place: Place,
) -> Result<Response, ApiError> {
    match request {
        Some(Request::Classify(m)) => {
            one(app, caller, Task::Classify, m, timeout, place).await.map(Response::Classify)
        }
        Some(Request::Sentiment(m)) => {
            one(app, caller, Task::Sentiment, m, timeout, place).await.map(Response::Sentiment)
        }
        Some(Request::Entities(m)) => {
            one(app, caller, Task::Entities, m, timeout, place).await.map(Response::Entities)
        }
        Some(Request::Summarize(m)) => {
            one(app, caller, Task::Summarize, m, timeout, place).await.map(Response::Summarize)
        }
        Some(Request::Embed(m)) => {
            one(app, caller, Task::Embed, m, timeout, place).await.map(Response::Embed)
        }
        None => {
            let problem = "expected one of classify, sentiment, entities, summarize, embed".to_owned();
            Err(refused(caller, ApiError::InvalidRequest { field: "request".to_owned(), problem }))
        }
    }
}

async fn one<Q, A>(
    app: &App,
    caller: &Caller,
    task: Task,
    message: Q,
    timeout: Option<Duration>,
    place: Place,
) -> Result<A, ApiError>
where
    Q: IntoInferRequest + prost::Message,
    A: FromResponse + prost::Message + Default,
{
    let mut message = Message::<Q, A>::of_stream(message, timeout, place);
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
