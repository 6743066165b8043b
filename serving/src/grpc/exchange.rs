//! One gRPC message as the pipeline sees it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use prost::Message as ProstMessage;
use router::Principal;
use tonic::metadata::MetadataValue;
use tonic::{Code, Response};

use super::convert::{FromResponse, IntoInferRequest};
use crate::app::App;
use crate::error::ApiError;
use crate::idempotency::{Once, REPLAYED, Sender, Start};
use crate::pipeline::{Asked, Exchange, InferRequest, InferResponse};

/// A message `Q` that is to be answered with an `A`.
pub(super) struct Message<Q, A> {
    message: Option<Q>,
    timeout: Result<Option<Duration>, ApiError>,
    call: Option<Call>,
    once: Option<Once>,
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

impl<Q, A> Message<Q, A> {
    pub(super) fn new(message: Q, timeout: Result<Option<Duration>, ApiError>) -> Self {
        Self { message: Some(message), timeout, call: None, once: None, answer: PhantomData }
    }

    /// The same, of a call by itself.
    pub(super) fn of(self, call: Call) -> Self {
        Self { call: Some(call), ..self }
    }

    /// The answer does not go out: it is not kept either.
    pub(super) fn failed(&mut self) {
        if let Some(once) = &mut self.once {
            once.forget();
        }
    }
}

impl<Q, A> Exchange for Message<Q, A>
where
    Q: IntoInferRequest + ProstMessage,
    A: FromResponse + ProstMessage + Default,
{
    type Answer = Response<A>;

    async fn read(&mut self, principal: &Principal) -> Result<Asked<Response<A>>, ApiError> {
        let message = self.message.take().ok_or_else(|| ApiError::internal("a message is read once"))?;
        let timeout = self.timeout.clone()?;
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
        if let Some(once) = &mut self.once {
            once.keep(Code::Ok as u16, &answer.encode_to_vec()).await?;
        }
        Ok(Response::new(answer))
    }
}
