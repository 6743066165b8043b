//! One gRPC message as a call: of its own, or of a stream.

use std::marker::PhantomData;
use std::time::Duration;

use api::{ApiError, Call, Exchange, InferRequest, InferResponse, Kept, Made, Quota, Repeat, Reply};
use axum::body::Bytes;
use prost::Message as ProstMessage;
use tonic::metadata::MetadataValue;
use tonic::{Code, Response};

use super::convert::{FromResponse, IntoInferRequest};
use crate::grpc::{UnreadMessage, show_limits};
use crate::idempotency::REPLAYED;

/// The call of a message `Q`, which is still to come, that is to be answered with an `A`.
pub(super) struct Unary<Q, A> {
    pub(super) message: UnreadMessage<Q>,
    /// How long the caller waits.
    pub(super) timeout: Result<Option<Duration>, ApiError>,
    /// The method.
    pub(super) route: String,
    /// The key under which it may come again.
    pub(super) key: Result<Option<String>, ApiError>,
    pub(super) answer: PhantomData<fn() -> A>,
}

/// A message `Q` of a stream, which is there, that is to be answered with an `A`.
pub(super) struct StreamMessage<Q, A> {
    pub(super) message: Q,
    pub(super) timeout: Option<Duration>,
    pub(super) answer: PhantomData<fn() -> A>,
}

/// Answers with an `A`.
pub(super) struct Answer<A>(PhantomData<fn() -> A>);

impl<Q, A> Exchange for Unary<Q, A>
where
    Q: IntoInferRequest + ProstMessage + 'static,
    A: FromResponse + ProstMessage + Default + 'static,
{
    type Reply = Answer<A>;

    async fn read(self) -> Result<Call<Answer<A>>, ApiError> {
        let timeout = self.timeout?;
        let message = self.message.read().await?;
        let repeat = self.key?.map(|key| {
            let body = Bytes::from(message.encode_to_vec());
            Repeat { key, route: self.route, body }
        });
        let request = InferRequest { timeout, ..message.into_infer_request()? };
        Ok(Call { request, repeat, reply: Answer(PhantomData) })
    }
}

impl<Q, A> Exchange for StreamMessage<Q, A>
where
    Q: IntoInferRequest + ProstMessage + 'static,
    A: FromResponse + ProstMessage + Default + 'static,
{
    type Reply = Answer<A>;

    async fn read(self) -> Result<Call<Answer<A>>, ApiError> {
        let request = InferRequest { timeout: self.timeout, ..self.message.into_infer_request()? };
        Ok(Call { request, repeat: None, reply: Answer(PhantomData) })
    }
}

impl<A> Reply for Answer<A>
where
    A: FromResponse + ProstMessage + Default + 'static,
{
    type Answer = Response<A>;

    fn answer(self, response: InferResponse, is_kept: bool) -> Result<Made<Response<A>>, ApiError> {
        let quotas = response.quotas.clone();
        let answer = A::from_response(response);
        let body = if is_kept { Bytes::from(answer.encode_to_vec()) } else { Bytes::new() };
        let mut answer = Response::new(answer);
        show_limits(&quotas, answer.metadata_mut());
        Ok(Made { answer, kept: Kept { status: Code::Ok as u16, body } })
    }

    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Response<A>, ApiError> {
        let mut answer = Response::new(A::decode(kept.body).map_err(ApiError::internal)?);
        answer.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
        show_limits(quotas, answer.metadata_mut());
        Ok(answer)
    }
}
