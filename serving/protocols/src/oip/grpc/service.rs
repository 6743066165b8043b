//! The calls: metadata to caller, message to request, answer to message.
//!
//! As in our own service, calls come here when their heads do, with nothing of their messages read
//! (`build.rs`).

use std::pin::Pin;
use std::sync::Arc;

use api::{ApiError, BodyMeter, Caller, Identity, ModelInfo, Reads, StreamedCall, request_id};
use proto::oip as pb;
use proto::oip::grpc_inference_service_server::GrpcInferenceService;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::exchange::{Streamed, Unary};
use super::{READY_BYTES_MAX, views};
use crate::grpc::{Bulk, Conversation, LastLimits, UnreadMessage, status_as};
use crate::head::grpc_timeout;
use crate::idempotency::key;
use crate::oip::error::message;
use crate::oip::{Oip, UNSUPPORTED, model};

/// As metrics name it.
const PROTOCOL: &str = "oip_grpc";

/// The service.
#[derive(Clone)]
pub(super) struct OipApi {
    oip: Oip,
    /// Whose the calls of a stream are.
    whose: Identity,
}

/// An error in the protocol's words.
fn status(error: &ApiError, request_id: &str) -> Status {
    status_as(error, error.row().grpc, message(error), request_id)
}

/// What Triton does and this server does not.
fn unsupported<Q, A>(request: &Request<Streaming<Q>>) -> Result<Response<A>, Status> {
    // In the table it is one more method that there is not.
    let (error, id) = (ApiError::RouteNotFound, request_id(request.extensions()));
    Err(status_as(&error, error.row().grpc, UNSUPPORTED.to_owned(), &id))
}

impl OipApi {
    /// The service over what answers.
    pub(super) fn new(oip: Oip) -> Self {
        Self { oip, whose: Identity::default() }
    }

    /// Answers a caller who looks at models.
    async fn look<Q: prost::Message, A>(
        &self,
        request: Request<Streaming<Q>>,
        answer: impl FnOnce(&Oip, Q) -> Result<A, ApiError>,
    ) -> Result<Response<A>, Status> {
        let (asked, request_id) = self.read(request).await;
        let result = asked.and_then(|(_, asked)| answer(&self.oip, asked));
        result.map(Response::new).map_err(|error| status(&error, &request_id))
    }

    /// Reads a message of a caller who may look at models.
    async fn read<Q: prost::Message>(
        &self,
        request: Request<Streaming<Q>>,
    ) -> (Result<(Caller, Q), ApiError>, Arc<str>) {
        let (metadata, extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let result = async {
            let headers = metadata.into_headers();
            let caller = Caller::of_dialect(&headers, extensions, PROTOCOL);
            let _visit = self.oip.services.models.visit(&caller, Reads::Message).await?;
            let bytes_max = self.oip.services.bounds.body_bytes_max;
            let message = UnreadMessage::new(messages, &headers, caller.body.clone(), bytes_max).read().await;
            let message = message.map_err(|error| caller.body.fault().unwrap_or(error))?;
            Ok((caller, message))
        };
        (result.await, request_id)
    }

    fn model(&self, name: &str, version: &str) -> Result<ModelInfo, ApiError> {
        model::find(&*self.oip.services.models, name, Some(version))
    }
}

impl Conversation for OipApi {
    type Question = pb::ModelInferRequest;
    type Answer = pb::ModelStreamInferResponse;
    const IS_ORDERED: bool = true;

    async fn respond(
        &self,
        call: Box<dyn StreamedCall>,
        message: pb::ModelInferRequest,
        limits: &LastLimits,
    ) -> pb::ModelStreamInferResponse {
        let tally = self.oip.statistics.begin(self.whose.clone());
        let model = self.model(&message.model_name, &message.model_version).ok();
        let (id, name) = (message.id.clone(), message.model_name.clone());
        let streamed = Streamed { oip: self.oip.clone(), mark: tally.mark(), message };
        let result = limits.of(call.call(model.map(|model| model.task.into()), streamed).await);
        tally.end(result.is_ok());
        match result {
            Ok(answer) => {
                pb::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }
            }
            // Which request it was, its id says.
            Err(error) => pb::ModelStreamInferResponse {
                error_message: super::super::error::message(&error),
                infer_response: Some(pb::ModelInferResponse { id, model_name: name, ..Default::default() }),
            },
        }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for OipApi {
    async fn server_live(
        &self,
        _: Request<Streaming<pb::ServerLiveRequest>>,
    ) -> Result<Response<pb::ServerLiveResponse>, Status> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<Streaming<pb::ServerReadyRequest>>,
    ) -> Result<Response<pb::ServerReadyResponse>, Status> {
        Ok(Response::new(pb::ServerReadyResponse { ready: self.oip.health.is_serving("") }))
    }

    async fn model_ready(
        &self,
        request: Request<Streaming<pb::ModelReadyRequest>>,
    ) -> Result<Response<pb::ModelReadyResponse>, Status> {
        // As over REST: whoever waits for a model needs no key, and what there is not is not ready.
        let (metadata, extensions, messages) = request.into_parts();
        let (headers, request_id) = (metadata.into_headers(), request_id(&extensions));
        let body = extensions.get::<BodyMeter>().cloned().unwrap_or_default();
        let message = UnreadMessage::new(messages, &headers, body, READY_BYTES_MAX).read().await;
        let pb::ModelReadyRequest { name, version } = message.map_err(|error| status(&error, &request_id))?;
        let model = self.model(&name, &version);
        let ready = model.is_ok_and(|model| self.oip.health.is_serving(&model.name));
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<Streaming<pb::ServerMetadataRequest>>,
    ) -> Result<Response<pb::ServerMetadataResponse>, Status> {
        Ok(Response::new(views::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<Streaming<pb::ModelMetadataRequest>>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        self.look(request, |_, asked| self.model(&asked.name, &asked.version).map(|m| views::metadata(&m)))
            .await
    }

    async fn model_infer(
        &self,
        request: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        let (metadata, mut extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let headers = metadata.into_headers();
        let tally = self.oip.statistics.begin(Identity::to_be_known(&mut extensions));
        let caller = Caller::of_dialect(&headers, extensions, PROTOCOL);
        let bytes_max = self.oip.services.bounds.body_bytes_max;
        let unary = Unary {
            oip: self.oip.clone(),
            mark: tally.mark(),
            message: UnreadMessage::new(messages, &headers, caller.body.clone(), bytes_max),
            timeout: grpc_timeout(&headers),
            key: key(&headers).map(|key| key.map(str::to_owned)),
        };
        // Which task it is, its message says.
        let result = self.oip.services.inference.call(caller, None, unary).await;
        tally.end(result.is_ok());
        result.map_err(|error| status(&error, &request_id))
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<pb::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        // Its messages were set aside.
        let (metadata, mut extensions, _) = request.into_parts();
        let (headers, request_id) = (metadata.into_headers(), request_id(&extensions));
        let api = Self { oip: self.oip.clone(), whose: Identity::to_be_known(&mut extensions) };
        let caller = Caller::of_dialect(&headers, extensions, PROTOCOL);
        let bulk = Bulk::open(&*self.oip.services.inference, api, caller, &headers).await;
        let bulk = bulk.map_err(|error| status(&error, &request_id))?;
        Ok(bulk.answer().map(|answers| Box::pin(answers) as Self::ModelStreamInferStream))
    }

    async fn model_config(
        &self,
        request: Request<Streaming<pb::ModelConfigRequest>>,
    ) -> Result<Response<pb::ModelConfigResponse>, Status> {
        self.look(request, |oip, asked| {
            let model = self.model(&asked.name, &asked.version)?;
            let config = views::config(&model, oip.services.bounds.dialect_inputs_max);
            Ok(pb::ModelConfigResponse { config: Some(config) })
        })
        .await
    }

    async fn model_statistics(
        &self,
        mut request: Request<Streaming<pb::ModelStatisticsRequest>>,
    ) -> Result<Response<pb::ModelStatisticsResponse>, Status> {
        let whose = Identity::to_be_known(request.extensions_mut());
        self.look(request, |oip, asked| {
            let models = match asked.name.as_str() {
                "" => oip.services.models.models(),
                name => vec![self.model(name, &asked.version)?],
            };
            let of = |model: &ModelInfo| views::statistics(model, oip.statistics.of(&whose, model));
            Ok(pb::ModelStatisticsResponse { model_stats: models.iter().map(of).collect() })
        })
        .await
    }

    async fn repository_index(
        &self,
        request: Request<Streaming<pb::RepositoryIndexRequest>>,
    ) -> Result<Response<pb::RepositoryIndexResponse>, Status> {
        self.look(request, |oip, asked| Ok(views::index(&oip.services.models.models(), asked.ready))).await
    }

    async fn repository_model_load(
        &self,
        request: Request<Streaming<pb::RepositoryModelLoadRequest>>,
    ) -> Result<Response<pb::RepositoryModelLoadResponse>, Status> {
        let (asked, request_id) = self.read(request).await;
        let result = async {
            let (caller, asked) = asked?;
            model::load(&self.oip.services, &caller, &asked.model_name, asked.parameters.keys()).await
        };
        let answer = result.await.map(|()| Response::new(pb::RepositoryModelLoadResponse {}));
        answer.map_err(|error| status(&error, &request_id))
    }

    async fn repository_model_unload(
        &self,
        request: Request<Streaming<pb::RepositoryModelUnloadRequest>>,
    ) -> Result<Response<pb::RepositoryModelUnloadResponse>, Status> {
        let (asked, request_id) = self.read(request).await;
        let result = async {
            let (caller, asked) = asked?;
            self.oip.services.repository.unload(&caller, &asked.model_name).await
        };
        let answer = result.await.map(|()| Response::new(pb::RepositoryModelUnloadResponse {}));
        answer.map_err(|error| status(&error, &request_id))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<Streaming<pb::SystemSharedMemoryStatusRequest>>,
    ) -> Result<Response<pb::SystemSharedMemoryStatusResponse>, Status> {
        unsupported(&request)
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<Streaming<pb::SystemSharedMemoryRegisterRequest>>,
    ) -> Result<Response<pb::SystemSharedMemoryRegisterResponse>, Status> {
        unsupported(&request)
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<Streaming<pb::SystemSharedMemoryUnregisterRequest>>,
    ) -> Result<Response<pb::SystemSharedMemoryUnregisterResponse>, Status> {
        unsupported(&request)
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<Streaming<pb::CudaSharedMemoryStatusRequest>>,
    ) -> Result<Response<pb::CudaSharedMemoryStatusResponse>, Status> {
        unsupported(&request)
    }

    async fn cuda_shared_memory_register(
        &self,
        request: Request<Streaming<pb::CudaSharedMemoryRegisterRequest>>,
    ) -> Result<Response<pb::CudaSharedMemoryRegisterResponse>, Status> {
        unsupported(&request)
    }

    async fn cuda_shared_memory_unregister(
        &self,
        request: Request<Streaming<pb::CudaSharedMemoryUnregisterRequest>>,
    ) -> Result<Response<pb::CudaSharedMemoryUnregisterResponse>, Status> {
        unsupported(&request)
    }

    async fn trace_setting(
        &self,
        request: Request<Streaming<pb::TraceSettingRequest>>,
    ) -> Result<Response<pb::TraceSettingResponse>, Status> {
        unsupported(&request)
    }

    async fn log_settings(
        &self,
        request: Request<Streaming<pb::LogSettingsRequest>>,
    ) -> Result<Response<pb::LogSettingsResponse>, Status> {
        unsupported(&request)
    }
}
