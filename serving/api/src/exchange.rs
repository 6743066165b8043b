//! A protocol's side of one call: it is read once and answered once, since both consume what they are done
//! with.
//!
//! [`Exchange`] and [`Reply`] are what a protocol writes, with a type of answer of its own. Whoever answers
//! calls knows no such type: it has them as [`AnyExchange`] and [`AnyReply`], and gives back a
//! [`ProtocolAnswer`], which only a reply can make.

use std::any::Any;
use std::future::Future;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use crate::call::{InferRequest, InferResponse};
use crate::error::ApiError;
use crate::quota::Quota;

/// A call of which nothing is read yet.
pub trait Exchange: Send + 'static {
    /// What answers it.
    type Reply: Reply;

    /// Reads the call. This happens only once the caller is known and has a place, so that nobody without
    /// credentials makes the server read a body, and nobody keeps others out with many. The body is charged
    /// to the place and has a deadline.
    fn read(self) -> impl Future<Output = Result<Call<Self::Reply>, ApiError>> + Send;
}

/// A call that was read.
pub struct Call<R> {
    /// What is asked.
    pub request: InferRequest,
    /// Identity of a call that may be repeated; none: a repeat is computed again.
    pub repeat: Option<Repeat>,
    /// What answers it.
    pub reply: R,
}

/// Identity of a call that may be sent again: it has the same answer within a day, and is charged once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The key that the caller chose.
    pub key: String,
    /// The route or method, with whatever else beside the body decides the answer or its form. What is asked
    /// of which model is added by who answers.
    pub route: String,
    /// The body, which has to be the same.
    pub body: Bytes,
}

/// What answers a call.
pub trait Reply: Send + 'static {
    /// What the protocol makes of an answer.
    type Answer: Send + 'static;

    /// Makes the answer. After this it is kept if that `is_kept`, the call is recorded, and then answered.
    ///
    /// # Errors
    /// It cannot be written: the call fails.
    fn answer(self, response: InferResponse, is_kept: bool) -> Result<Made<Self::Answer>, ApiError>;

    /// Makes the answer of what was kept of the one that was given before, and shows what is left of the
    /// tenant's limits where the protocol can.
    ///
    /// # Errors
    /// What was kept cannot be read.
    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Self::Answer, ApiError>;
}

/// An answer that was made.
pub struct Made<A> {
    /// What the call is answered with.
    pub answer: A,
    /// What makes it again; asked for only of answers that are kept.
    pub kept: Kept,
}

/// What is kept of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its status, in the protocol's terms.
    pub status: u16,
    /// The whole body, encoded as the protocol sent it.
    pub body: Bytes,
}

/// The answer of some protocol. Only a [`Reply`] makes one, so that whoever has it has answered its call.
pub struct ProtocolAnswer(Box<dyn Any + Send>);

impl ProtocolAnswer {
    /// The answer, for the protocol whose reply made it.
    pub(crate) fn into_answer<A: 'static>(self) -> Result<A, ApiError> {
        let answer = self.0.downcast::<A>();
        answer.map(|answer| *answer).map_err(|_| ApiError::internal("this is the answer of another call"))
    }
}

/// An [`Exchange`] of any protocol.
pub trait AnyExchange: Send {
    /// See [`Exchange::read`].
    fn read(self: Box<Self>) -> BoxFuture<'static, Result<Call<Box<dyn AnyReply>>, ApiError>>;
}

/// A [`Reply`] of any protocol.
pub trait AnyReply: Send {
    /// See [`Reply::answer`].
    ///
    /// # Errors
    /// The call fails.
    fn answer(
        self: Box<Self>,
        response: InferResponse,
        is_kept: bool,
    ) -> Result<Made<ProtocolAnswer>, ApiError>;

    /// See [`Reply::again`].
    ///
    /// # Errors
    /// The call fails.
    fn again(self: Box<Self>, kept: Kept, quotas: &[Quota]) -> Result<ProtocolAnswer, ApiError>;
}

impl<E: Exchange> AnyExchange for E {
    fn read(self: Box<Self>) -> BoxFuture<'static, Result<Call<Box<dyn AnyReply>>, ApiError>> {
        Box::pin(async move {
            let Call { request, repeat, reply } = Exchange::read(*self).await?;
            Ok(Call { request, repeat, reply: Box::new(reply) as Box<dyn AnyReply> })
        })
    }
}

impl<R: Reply> AnyReply for R {
    fn answer(
        self: Box<Self>,
        response: InferResponse,
        is_kept: bool,
    ) -> Result<Made<ProtocolAnswer>, ApiError> {
        let Made { answer, kept } = Reply::answer(*self, response, is_kept)?;
        Ok(Made { answer: ProtocolAnswer(Box::new(answer)), kept })
    }

    fn again(self: Box<Self>, kept: Kept, quotas: &[Quota]) -> Result<ProtocolAnswer, ApiError> {
        Reply::again(*self, kept, quotas).map(|answer| ProtocolAnswer(Box::new(answer)))
    }
}
