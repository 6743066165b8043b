//! One message as a call: of its own, or of a stream.

use std::time::Duration;

use api::{ApiError, Call, Exchange, InferRequest, InferResponse, Kept, Made, Quota, Repeat, Reply};
use axum::body::Bytes;
use prost::Message as _;
use proto::oip::{ModelInferRequest, ModelInferResponse};
use tonic::metadata::MetadataValue;
use tonic::{Code, Response};

use super::convert;
use crate::grpc::{UnreadMessage, show_limits};
use crate::idempotency::REPLAYED;
use crate::oip::Oip;
use crate::oip::call::Rendering;
use crate::oip::model;
use crate::oip::statistics::Mark;

/// The call of a message that is still to come.
pub(super) struct Unary {
    pub(super) oip: Oip,
    pub(super) mark: Mark,
    pub(super) message: UnreadMessage<ModelInferRequest>,
    /// How long the caller waits, as its head says.
    pub(super) timeout: Result<Option<Duration>, ApiError>,
    /// The key under which it may come again.
    pub(super) key: Result<Option<String>, ApiError>,
}

/// A message of a stream, which is there.
pub(super) struct Streamed {
    pub(super) oip: Oip,
    pub(super) mark: Mark,
    pub(super) message: ModelInferRequest,
}

/// Answers a message.
pub(super) struct Answer {
    rendering: Rendering,
    mark: Mark,
}

/// Reads a message.
fn read(oip: &Oip, mark: Mark, message: ModelInferRequest) -> Result<(InferRequest, Answer), ApiError> {
    let version = Some(message.model_version.as_str());
    let model = model::find(&*oip.services.models, &message.model_name, version)?;
    mark.is_of(&model);
    let inputs_max = oip.services.bounds.dialect_inputs_max;
    let (request, rendering) = convert::asked(message)?.into_request(&model, inputs_max, true)?;
    Ok((request, Answer { rendering, mark }))
}

impl Exchange for Unary {
    type Reply = Answer;

    async fn read(self) -> Result<Call<Answer>, ApiError> {
        let timeout = self.timeout?;
        let message = self.message.read().await?;
        let repeat = self.key?.map(|key| {
            let body = Bytes::from(message.encode_to_vec());
            Repeat { key, route: "grpc:ModelInfer".to_owned(), body }
        });
        let (request, reply) = read(&self.oip, self.mark, message)?;
        let timeout = [request.timeout, timeout].into_iter().flatten().min();
        Ok(Call { request: InferRequest { timeout, ..request }, repeat, reply })
    }
}

impl Exchange for Streamed {
    type Reply = Answer;

    async fn read(self) -> Result<Call<Answer>, ApiError> {
        let (request, reply) = read(&self.oip, self.mark, self.message)?;
        Ok(Call { request, repeat: None, reply })
    }
}

impl Reply for Answer {
    type Answer = Response<ModelInferResponse>;

    fn answer(self, response: InferResponse, is_kept: bool) -> Result<Made<Self::Answer>, ApiError> {
        self.mark.succeed(&response);
        let quotas = response.quotas.clone();
        let answer = convert::answer(response, self.rendering)?;
        let body = if is_kept { Bytes::from(answer.encode_to_vec()) } else { Bytes::new() };
        let mut answer = Response::new(answer);
        show_limits(&quotas, answer.metadata_mut());
        Ok(Made { answer, kept: Kept { status: Code::Ok as u16, body } })
    }

    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Self::Answer, ApiError> {
        let mut answer = Response::new(ModelInferResponse::decode(kept.body).map_err(ApiError::internal)?);
        answer.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
        show_limits(quotas, answer.metadata_mut());
        Ok(answer)
    }
}
