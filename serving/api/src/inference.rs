//! What answers calls, for every protocol, job and page alike.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use models_core::card::Task;
use models_core::tasks::Operation;

use crate::caller::Caller;
use crate::error::ApiError;
use crate::exchange::{AnyExchange, Exchange, ProtocolAnswer, Reply};
use crate::model_info::ModelInfo;

/// Answers calls: authenticates, limits, computes and records, in this order and the same for all.
pub trait Inference: Send + Sync {
    /// Answers one call; a protocol calls [`call`](trait.Inference.html#method.call), which knows the type of
    /// its answer. `operation` is what it asks for, where that is known before it is read: what fails until
    /// then is counted so. Dropping the future cancels the call and frees its place.
    fn infer(
        &self,
        caller: Caller,
        operation: Option<Operation>,
        exchange: Box<dyn AnyExchange>,
    ) -> BoxFuture<'_, Result<ProtocolAnswer, ApiError>>;

    /// Opens a stream whose messages are calls. The caller has to be known and to have a place for it: it is
    /// refused at once rather than with every message.
    fn open_stream(&self, caller: Caller) -> BoxFuture<'_, Result<Arc<dyn CallStream>, ApiError>>;
}

impl dyn Inference {
    /// Answers one call. Dropping the future cancels it and frees its place.
    ///
    /// # Errors
    /// Whatever [`ApiError`] names.
    pub async fn call<E: Exchange>(
        &self,
        caller: Caller,
        operation: Option<Operation>,
        exchange: E,
    ) -> Result<<E::Reply as Reply>::Answer, ApiError> {
        self.infer(caller, operation, Box::new(exchange)).await?.into_answer()
    }
}

/// A stream of calls from one caller. Each of them takes a place of its own.
pub trait CallStream: Send + Sync {
    /// Resolves when there is room for a message of so many bytes, and for its answer; from then on the bytes
    /// are charged to the stream, until its next call has a place.
    fn room(self: Arc<Self>, bytes: usize) -> BoxFuture<'static, Result<(), ApiError>>;

    /// Takes a place for the next call, whose message has so many bytes; none while none is free.
    fn next_call(&self, bytes: usize) -> Option<NextCall>;

    /// Resolves when a place may have become free since the call of this function.
    fn freed(&self) -> BoxFuture<'_, ()>;

    /// Resolves when the server stops: no more is read then.
    fn stopping(&self) -> BoxFuture<'_, ()>;

    /// What counts answers that wait to be read, in the tenant's name.
    fn waiting(&self) -> Box<dyn HeldAnswerBytes>;

    /// How much of it may be in flight.
    fn bounds(&self) -> StreamBounds;
}

/// Bounds of a [`CallStream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamBounds {
    /// Calls that are worked on or whose answers wait to be read.
    pub calls_max: usize,
    /// Bytes of answers that wait, above which no more is read.
    pub answer_bytes_max: usize,
    /// Longest message, in bytes.
    pub message_bytes_max: usize,
    /// Time for a message to arrive once there is room for it.
    pub message_timeout: Duration,
}

/// Bytes of answers that wait in somebody's name; given back when dropped.
pub trait HeldAnswerBytes: Send + std::fmt::Debug {
    /// More wait.
    fn add(&mut self, bytes: usize);

    /// Fewer wait.
    fn remove(&mut self, bytes: usize);

    /// How many wait.
    fn bytes(&self) -> usize;
}

/// The next call of a [`CallStream`].
pub struct NextCall {
    /// It, with its place.
    pub call: Box<dyn StreamedCall>,
    /// Its line in the access log, which is written when this is dropped.
    pub line: Box<dyn Send>,
}

/// One call of a [`CallStream`], with its place: answered or refused once.
pub trait StreamedCall: Send {
    /// `X-Request-ID` of the call, ours or the caller's.
    fn request_id(&self) -> Arc<str>;

    /// Tells the access log of an error that nothing else has seen.
    fn refuse(self: Box<Self>, error: &ApiError);

    /// See [`Inference::infer`].
    fn infer(
        self: Box<Self>,
        operation: Option<Operation>,
        exchange: Box<dyn AnyExchange>,
    ) -> BoxFuture<'static, Result<ProtocolAnswer, ApiError>>;
}

impl dyn StreamedCall {
    /// Answers the call.
    ///
    /// # Errors
    /// Whatever [`ApiError`] names.
    pub async fn call<E: Exchange>(
        self: Box<Self>,
        operation: Option<Operation>,
        exchange: E,
    ) -> Result<<E::Reply as Reply>::Answer, ApiError> {
        self.infer(operation, Box::new(exchange)).await?.into_answer()
    }
}

/// What a call that looks at models reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Its head alone.
    Head,
    /// A message too: it takes a place, to which the message is charged.
    Message,
}

/// Who may look at models, while it does; with the place of its call, if it has one.
pub struct Visit(pub Option<Box<dyn Send + Sync>>);

/// The models that are served here, for whoever may look at them.
pub trait ModelDirectory: Send + Sync {
    /// Lets a caller in. A message is read with what bounds it, [`Caller::body`], after that.
    fn visit<'a>(&'a self, caller: &'a Caller, reads: Reads) -> BoxFuture<'a, Result<Visit, ApiError>>;

    /// All models, loaded or not.
    fn models(&self) -> Vec<ModelInfo>;

    /// The model that a call may name so; none if there is none.
    fn model(&self, name: &str) -> Option<ModelInfo>;

    /// The model of a task that answers callers who name none.
    fn default_model(&self, task: Task) -> Option<ModelInfo>;

    /// Whether the special tokens that a model reads around every text are around these ids, or around what
    /// is left of them without padding; none if it does not answer.
    fn is_wrapped(&self, model: &str, ids: &[u32]) -> Option<bool>;

    /// How much of the calls that may be worked on at once is, from 0 to 1.
    fn busy_fraction(&self) -> f64;
}

/// Loads and unloads models, for callers whose tenants may. Goes on if the caller leaves.
pub trait ModelRepository: Send + Sync {
    /// Whether the caller may.
    fn is_managed_by<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<bool, ApiError>>;

    /// Loads a model; anew, if it is loaded. Resolves when it answers.
    fn load<'a>(&'a self, caller: &'a Caller, name: &'a str) -> BoxFuture<'a, Result<(), ApiError>>;

    /// Unloads a model. Resolves when it is gone.
    fn unload<'a>(&'a self, caller: &'a Caller, name: &'a str) -> BoxFuture<'a, Result<(), ApiError>>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use http::{Extensions, HeaderMap};
    use models_core::tasks::{Answer, Input, OnError, Parameters};
    use units::Priority;

    use super::*;
    use crate::call::{InferRequest, InferResponse, Processor, Timings};
    use crate::exchange::{Call, Kept, Made, Repeat};
    use crate::quota::Quota;

    /// Answers each call by how many inputs it has; one with a key was answered before.
    struct Counting;

    impl Inference for Counting {
        fn infer(
            &self,
            _: Caller,
            _: Option<Operation>,
            exchange: Box<dyn AnyExchange>,
        ) -> BoxFuture<'_, Result<ProtocolAnswer, ApiError>> {
            Box::pin(async move {
                let Call { request, repeat, reply } = exchange.read().await?;
                if let Some(Repeat { body, .. }) = repeat {
                    return reply.again(Kept { status: 1, body }, &[]);
                }
                let (model, answer) = (Arc::from("m"), Answer { results: Vec::new() });
                let (inputs, version) = (request.inputs.len(), Arc::clone(&model));
                let (processor, quotas, timings) = (Processor::Cpu, Vec::new(), Timings::default());
                let response =
                    InferResponse { model, version, answer, timings, inputs, tokens: 0, processor, quotas };
                reply.answer(response, false).map(|made| made.answer)
            })
        }

        fn open_stream(&self, _: Caller) -> BoxFuture<'_, Result<Arc<dyn CallStream>, ApiError>> {
            Box::pin(async { Err(ApiError::RouteNotFound) })
        }
    }

    struct Texts {
        inputs: usize,
        key: Option<&'static str>,
    }

    struct Count;

    impl Exchange for Texts {
        type Reply = Count;

        async fn read(self) -> Result<Call<Count>, ApiError> {
            let repeat = self.key.map(|key| Repeat {
                key: key.to_owned(),
                route: String::new(),
                body: key.as_bytes().into(),
            });
            let request = InferRequest {
                model: None,
                inputs: vec![Input::Text(String::new()); self.inputs],
                inputs_max: None,
                parameters: Parameters::Embed(Default::default()),
                on_error: OnError::Fail,
                priority: Priority::Normal,
                timeout: None,
            };
            if self.inputs == 0 {
                Err(ApiError::BodyIncomplete)
            } else {
                Ok(Call { request, repeat, reply: Count })
            }
        }
    }

    impl Reply for Count {
        type Answer = String;

        fn answer(self, response: InferResponse, _: bool) -> Result<Made<String>, ApiError> {
            Ok(Made { answer: format!("{} inputs", response.inputs), kept: Kept::default() })
        }

        fn again(self, kept: Kept, _: &[Quota]) -> Result<String, ApiError> {
            Ok(format!("again {}", String::from_utf8_lossy(&kept.body)))
        }
    }

    #[test]
    fn a_protocol_has_answers_of_its_own_type() {
        let inference: &dyn Inference = &Counting;
        let check = |inputs, key, expected: Result<&str, &str>| {
            let caller = Caller::new(&HeaderMap::new(), Extensions::new(), "test");
            let call = pin!(inference.call(caller, Some(Operation::Embed), Texts { inputs, key }));
            let Poll::Ready(found) = call.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("nothing waits");
            };
            let found = found.map_err(|error| error.row().code);
            assert_eq!(found.as_deref().map_err(|code| *code), expected);
        };
        check(2, None, Ok("2 inputs"));
        check(2, Some("key"), Ok("again key"));
        check(0, None, Err("body_incomplete"));
    }
}
