//! Bidirectional streams for bulk callers: many requests in flight on each, whatever protocol they are of.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::{ApiError, CallStream, Caller, HeldAnswerBytes, Inference, NextCall, StreamedCall};
use axum::http::{Extensions, HeaderMap};
use futures_util::Stream;
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::{Response, Status};

use super::{LastLimits, Messages, status};
use crate::head::grpc_timeout;
use crate::idempotency::refuse_key;

/// What a protocol says to each message of its streams.
pub trait Conversation: Send + Sync + 'static {
    /// A message.
    type Question: Message + Default + 'static;
    /// What answers it, an error too: that leaves the stream up.
    type Answer: Message + 'static;
    /// Whether answers come in the order of their messages; else each comes when it is there.
    const IS_ORDERED: bool;

    /// Answers a message, and keeps what its answer is told of limits.
    fn respond(
        &self,
        call: Box<dyn StreamedCall>,
        question: Self::Question,
        limits: &LastLimits,
    ) -> impl Future<Output = Self::Answer> + Send;
}

/// A stream of messages, with all that reading and answering it takes.
pub struct Bulk<C> {
    conversation: Arc<C>,
    stream: Arc<dyn CallStream>,
    request_id: Arc<str>,
    messages: Messages,
    /// How long the caller waits for all of it.
    timeout: Option<Duration>,
    limits: LastLimits,
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

    fn add(&self, answer: &impl Message) {
        self.answers.fetch_add(1, Ordering::AcqRel);
        self.bytes().add(answer.encoded_len());
    }

    fn remove(&self, answer: &impl Message) {
        self.answers.fetch_sub(1, Ordering::AcqRel);
        self.bytes().remove(answer.encoded_len());
        self.taken.notify_one();
    }
}

/// An answer on its way to the peer, or why there are no more.
type Outgoing<A> = Result<A, Status>;

/// The answers of a stream as the transport takes them.
struct Answers<A> {
    receiver: mpsc::UnboundedReceiver<Outgoing<A>>,
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

impl<C: Conversation> Bulk<C> {
    /// A stream whose caller is known and has a place for it.
    ///
    /// # Errors
    /// The caller is refused.
    pub async fn open(
        inference: &dyn Inference,
        conversation: C,
        caller: Caller,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        refuse_key(headers)?;
        let (conversation, timeout) = (Arc::new(conversation), grpc_timeout(headers)?);
        let (request_id, body) = (Arc::clone(&caller.request_id), caller.body.clone());
        let extensions: Extensions = caller.extensions.clone();
        let stream = inference.open_stream(caller).await?;
        let messages = Messages::new(headers, &extensions, body, Arc::clone(&stream));
        let limits = LastLimits::default();
        Ok(Self { conversation, stream, request_id, messages, timeout, limits })
    }

    /// Answers every message of the stream, each on a task of its own: deadlines pass and places are given
    /// back whether or not the peer takes its answers. At most `limits.stream_calls_in_flight_max` are worked
    /// on or wait to be taken, and new ones begin only while less than `limits.stream_answer_bytes_max` wait,
    /// and not more than the tenant's share. Beyond that, and while the tenant has no place free or no room
    /// for a message's bytes, the stream is not read, and HTTP/2 flow control holds the sender back: no
    /// message of an admitted stream is refused for want of these. When the server stops, no more is read,
    /// what was read is answered, and the stream ends as unavailable.
    pub fn answer(self) -> Response<impl Stream<Item = Outgoing<C::Answer>> + Send> {
        let limits = self.limits.clone();
        let (sender, receiver) = mpsc::unbounded_channel();
        let untaken = UnreadAnswers::new(&*self.stream);
        tokio::spawn(self.run(sender, Arc::clone(&untaken)));
        let mut response = Response::new(Answers { receiver, untaken });
        response.extensions_mut().insert(limits);
        response
    }

    async fn run(mut self, sender: mpsc::UnboundedSender<Outgoing<C::Answer>>, untaken: Arc<UnreadAnswers>) {
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
        sender: &mpsc::UnboundedSender<Outgoing<C::Answer>>,
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
        sender: &mpsc::UnboundedSender<Outgoing<C::Answer>>,
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
        let mut pending: Option<C::Question> = None;
        // Resolves when the answer before the next one is on its way, or never will be.
        let mut before: Option<oneshot::Receiver<()>> = None;
        loop {
            let (taken, freed) = (pin!(untaken.taken.notified()), stream.freed());
            if let Some(message) = pending.take() {
                match stream.next_call(message.encoded_len()) {
                    Some(NextCall { call, line }) => {
                        let (sender, untaken) = (sender.clone(), Arc::clone(untaken));
                        let (conversation, limits) = (Arc::clone(&self.conversation), self.limits.clone());
                        let (is_sent, sent) = oneshot::channel();
                        let turn = before.replace(sent).filter(|_| C::IS_ORDERED);
                        tasks.spawn(async move {
                            let _line = line;
                            let answer = conversation.respond(call, message, &limits).await;
                            untaken.add(&answer);
                            if let Some(turn) = turn {
                                // One that panicked has dropped its end.
                                let _ = turn.await;
                            }
                            // If the caller has left nobody is told.
                            let _ = sender.send(Ok(answer));
                            let _ = is_sent.send(());
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

impl<A: Message> Stream for Answers<A> {
    type Item = Outgoing<A>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outgoing<A>>> {
        let answer = ready!(self.receiver.poll_recv(context));
        if let Some(Ok(answer)) = &answer {
            self.untaken.remove(answer);
        }
        Poll::Ready(answer)
    }
}
