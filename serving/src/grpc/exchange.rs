//! One gRPC message as the pipeline sees it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use prost::Message as ProstMessage;
use router::idempotency::{Answer, Attempt};
use router::{Place, Principal};
use tonic::metadata::MetadataValue;
use tonic::{Code, Response, Status, Streaming};

use super::convert::{FromResponse, IntoInferRequest};
use crate::app::App;
use crate::body_meter::BodyMeter;
use crate::error::ApiError;
use crate::idempotency::{Once, REPLAYED, Sender, Start};
use crate::pipeline::{Asked, Exchange, InferRequest, InferResponse};

/// A message `Q` that is to be answered with an `A`.
pub(super) struct Message<Q, A> {
    source: Option<Source<Q>>,
    timeout: Result<Option<Duration>, ApiError>,
    place: Option<Place>,
    call: Option<Call>,
    once: Option<Once>,
    /// Of the answer, if it is to be kept.
    body: Vec<u8>,
    answer: PhantomData<fn() -> A>,
}

/// A call whose answer may be kept under an `idempotency-key` of its metadata.
pub(super) struct Call {
    pub(super) app: Arc<App>,
    /// The method.
    pub(super) route: String,
    /// Its metadata.
    pub(super) headers: HeaderMap,
}

/// Where the message is.
enum Source<Q> {
    /// Still to come.
    Call(Box<UnreadCall<Q>>),
    /// Read from a stream.
    Stream(Q),
}

/// The one message of a call, of which nothing is read yet.
pub(super) struct UnreadCall<Q> {
    pub(super) messages: Streaming<Q>,
    /// Charged with what a compressed message turns out to be.
    pub(super) body: BodyMeter,
    pub(super) is_compressed: bool,
    /// Longest message, in bytes, when it is not compressed.
    pub(super) limit: usize,
}

impl<Q: ProstMessage> UnreadCall<Q> {
    /// Reads the message, and to the end that there is no other one ([`super::form`]).
    ///
    /// # Errors
    /// It is too large, not what it should be, or does not come.
    pub(super) async fn read(mut self) -> Result<Q, ApiError> {
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

/// Why a message cannot be read, in our table's terms: size and form are tonic's to find, and their codes ours.
pub(super) fn unreadable(status: &Status, limit: usize) -> ApiError {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => ApiError::BodyTooLarge { limit },
        Code::InvalidArgument | Code::Internal => {
            ApiError::InvalidRequest { field: "message".to_owned(), problem: status.message().to_owned() }
        }
        _ => ApiError::BodyIncomplete,
    }
}

impl<Q, A> Message<Q, A> {
    pub(super) fn of_call(
        unread: UnreadCall<Q>,
        timeout: Result<Option<Duration>, ApiError>,
        call: Call,
    ) -> Self {
        let source = Some(Source::Call(Box::new(unread)));
        Self {
            source,
            timeout,
            place: None,
            call: Some(call),
            once: None,
            body: Vec::new(),
            answer: PhantomData,
        }
    }

    pub(super) fn of_stream(message: Q, timeout: Option<Duration>, place: Place) -> Self {
        let (source, timeout) = (Some(Source::Stream(message)), Ok(timeout));
        Self {
            source,
            timeout,
            place: Some(place),
            call: None,
            once: None,
            body: Vec::new(),
            answer: PhantomData,
        }
    }
}

impl<Q, A> Exchange for Message<Q, A>
where
    Q: IntoInferRequest + ProstMessage,
    A: FromResponse + ProstMessage + Default,
{
    type Answer = Response<A>;

    fn place(&mut self) -> Option<Place> {
        self.place.take()
    }

    async fn read(&mut self, principal: &Principal) -> Result<Asked<Response<A>>, ApiError> {
        let source = self.source.take().ok_or_else(|| ApiError::internal("a message is read once"))?;
        let timeout = self.timeout.clone()?;
        let message = match source {
            Source::Call(call) => call.read().await?,
            Source::Stream(message) => message,
        };
        let start = match &self.call {
            Some(Call { app, route, headers }) => {
                let (sender, body) = (Sender::from(principal), message.encode_to_vec());
                Some(Once::start(app, sender, route, headers, &body).await?)
            }
            None => None,
        };
        let request = InferRequest { timeout, ..message.into_infer_request()? };
        match start {
            Some(Start::Again(kept)) => {
                let answer = A::decode(kept.body.as_slice()).map_err(ApiError::internal)?;
                let mut answer = Response::new(answer);
                answer.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
                Ok(Asked::Again { model: request.model, answer })
            }
            Some(Start::First(once)) => {
                self.once = Some(once);
                Ok(Asked::Request(request))
            }
            None => Ok(Asked::Request(request)),
        }
    }

    async fn answer(&mut self, response: InferResponse) -> Result<Response<A>, ApiError> {
        let answer = A::from_response(response);
        if self.once.as_ref().is_some_and(|once| once.request().is_some()) {
            self.body = answer.encode_to_vec();
        }
        Ok(Response::new(answer))
    }

    fn to_keep(&mut self) -> Option<(Attempt, Answer)> {
        let attempt = self.once.take()?.attempt()?;
        Some((attempt, Answer { status: Code::Ok as u16, body: std::mem::take(&mut self.body) }))
    }
}
