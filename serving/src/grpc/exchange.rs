//! One gRPC message as the pipeline sees it.

use std::marker::PhantomData;
use std::time::Duration;

use router::Principal;

use super::convert::{FromResponse, IntoInferRequest};
use crate::error::ApiError;
use crate::pipeline::{Asked, Exchange, InferRequest, InferResponse};

/// A message `Q` that is to be answered with an `A`.
pub(super) struct Message<Q, A> {
    message: Option<Q>,
    timeout: Result<Option<Duration>, ApiError>,
    answer: PhantomData<fn() -> A>,
}

impl<Q, A> Message<Q, A> {
    pub(super) fn new(message: Q, timeout: Result<Option<Duration>, ApiError>) -> Self {
        Self { message: Some(message), timeout, answer: PhantomData }
    }
}

impl<Q: IntoInferRequest + Send, A: FromResponse + Send> Exchange for Message<Q, A> {
    type Answer = A;

    async fn read(&mut self, _: &Principal) -> Result<Asked<A>, ApiError> {
        let message = self.message.take().ok_or_else(|| ApiError::internal("a message is read once"))?;
        let timeout = self.timeout.clone()?;
        Ok(Asked::Request(InferRequest { timeout, ..message.into_infer_request()? }))
    }

    async fn answer(&mut self, response: InferResponse) -> Result<A, ApiError> {
        Ok(A::from_response(response))
    }
}
