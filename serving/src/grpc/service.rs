//! The unary calls: metadata to caller, message to request, answer to message.

use std::pin::Pin;
use std::sync::Arc;

use models::Task;
use router::Role;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::{Call, Message};
use super::proto::inference_service_server::InferenceService;
use super::{convert, proto, stream};
use crate::app::App;
use crate::caller::{caller, grpc_timeout, request_id};
use crate::error::ApiError;
use crate::idempotency::refuse_key;
use crate::pipeline;

/// The service.
pub(super) struct Inference {
    app: Arc<App>,
}

impl Inference {
    /// The service over `app`.
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn unary<Q, A>(&self, task: Task, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: IntoInferRequest + prost::Message,
        A: FromResponse + prost::Message + Default,
    {
        let (metadata, extensions, message) = request.into_parts();
        let request_id = request_id(&extensions);
        let result = async {
            let headers = metadata.into_headers();
            let caller = caller(&headers, &extensions, "grpc")?;
            let mut message = Message::<Q, A>::new(message, grpc_timeout(&headers));
            // There is one method a task.
            let (app, route) = (Arc::clone(&self.app), format!("grpc:{}", task.as_str()));
            message = message.of(Call { app, route, headers });
            let result = pipeline::infer(&self.app, &caller, task, &mut message).await;
            if result.is_err() {
                message.failed();
            }
            result
        };
        result.await.map_err(|error| error.to_status(&request_id))
    }

    async fn read<T, A>(
        &self,
        request: Request<T>,
        answer: impl FnOnce(&App, T) -> Result<A, ApiError>,
    ) -> Result<Response<A>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let request_id = request_id(&extensions);
        let caller = caller(&metadata.into_headers(), &extensions, "grpc");
        let result = async {
            pipeline::authorise(&self.app, &caller?, Role::Viewer).await?;
            answer(&self.app, message)
        }
        .await;
        result.map(Response::new).map_err(|error| error.to_status(&request_id))
    }
}

#[tonic::async_trait]
impl InferenceService for Inference {
    async fn classify(
        &self,
        request: Request<proto::ClassifyRequest>,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        self.unary(Task::Classify, request).await
    }

    async fn analyze_sentiment(
        &self,
        request: Request<proto::AnalyzeSentimentRequest>,
    ) -> Result<Response<proto::AnalyzeSentimentResponse>, Status> {
        self.unary(Task::Sentiment, request).await
    }

    async fn extract_entities(
        &self,
        request: Request<proto::ExtractEntitiesRequest>,
    ) -> Result<Response<proto::ExtractEntitiesResponse>, Status> {
        self.unary(Task::Entities, request).await
    }

    async fn summarize(
        &self,
        request: Request<proto::SummarizeRequest>,
    ) -> Result<Response<proto::SummarizeResponse>, Status> {
        self.unary(Task::Summarize, request).await
    }

    async fn embed(
        &self,
        request: Request<proto::EmbedRequest>,
    ) -> Result<Response<proto::EmbedResponse>, Status> {
        self.unary(Task::Embed, request).await
    }

    type InferStreamStream = Pin<Box<dyn Stream<Item = Result<proto::InferStreamResponse, Status>> + Send>>;

    async fn infer_stream(
        &self,
        request: Request<Streaming<proto::InferStreamRequest>>,
    ) -> Result<Response<Self::InferStreamStream>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let stream_id = request_id(&extensions);
        let headers = metadata.into_headers();
        let caller = caller(&headers, &extensions, "grpc");
        // Refuse at once rather than with every message.
        let authorised = async {
            let caller = caller?;
            pipeline::authorise(&self.app, &caller, Role::Editor).await?;
            refuse_key(&headers)?;
            Ok::<_, ApiError>(caller)
        }
        .await;
        let caller = authorised.map_err(|error| error.to_status(&stream_id))?;
        Ok(Response::new(Box::pin(stream::answer(Arc::clone(&self.app), caller, messages))))
    }

    async fn list_models(
        &self,
        request: Request<proto::ListModelsRequest>,
    ) -> Result<Response<proto::ListModelsResponse>, Status> {
        self.read(request, |app, _| {
            let models = app.catalog.models().iter().map(convert::model).collect();
            Ok(proto::ListModelsResponse { models })
        })
        .await
    }

    async fn get_model(
        &self,
        request: Request<proto::GetModelRequest>,
    ) -> Result<Response<proto::Model>, Status> {
        self.read(request, |app, message| {
            app.catalog.find(&message.name).map(convert::model).ok_or(ApiError::ModelNotFound)
        })
        .await
    }
}
