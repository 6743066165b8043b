//! Streams, whose answers come in the order of their messages. One that fails ends its stream, since the
//! dialect has no message for errors.

use std::marker::PhantomData;

use api::StreamedCall;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};
use tonic::Status;

use super::exchange::Streamed;
use super::methods::Method;
use crate::grpc::{Conversation, LastLimits};
use crate::http::target::Target;
use crate::tei::errors::status;

/// What is said on a stream.
pub(super) struct Answering<M> {
    target: Target,
    method: PhantomData<M>,
}

/// What a message came to.
#[derive(Debug)]
pub(super) struct Outcome<A>(pub(super) Result<A, Status>);

impl<M: Method> Answering<M> {
    pub(super) fn new(target: Target) -> Self {
        Self { target, method: PhantomData }
    }
}

impl<M: Method> Conversation for Answering<M> {
    type Question = M::Question;
    type Answer = Outcome<M::Answer>;
    const IS_ORDERED: bool = true;

    async fn respond(
        &self,
        call: Box<dyn StreamedCall>,
        message: M::Question,
        limits: &LastLimits,
    ) -> Outcome<M::Answer> {
        let request_id = call.request_id();
        let exchange = Streamed::<M> { message, target: self.target.clone() };
        let answer = limits.of(call.call(Some(M::OPERATION), exchange).await);
        Outcome(answer.map_err(|error| status(&error, &request_id)))
    }
}

/// As large as the answer. It is never written: what is in it is taken out before.
impl<A: Message> Message for Outcome<A> {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if let Ok(answer) = &self.0 {
            answer.encode_raw(buffer);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match &mut self.0 {
            Ok(answer) => answer.merge_field(tag, wire_type, buffer, context),
            Err(_) => Ok(()),
        }
    }

    fn encoded_len(&self) -> usize {
        self.0.as_ref().map_or(0, Message::encoded_len)
    }

    fn clear(&mut self) {
        if let Ok(answer) = &mut self.0 {
            answer.clear();
        }
    }
}
