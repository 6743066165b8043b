//! The calls: metadata to caller, message to request, answer to message.
//!
//! Calls come here when their heads do, with nothing of their messages read: the service is generated as if
//! every call were a stream of messages, which looks the same on the wire (`build.rs`). So it is the pipeline
//! that decides when a message is read, by whom and within which bounds, as it is for REST.

use std::marker::PhantomData;
use std::pin::Pin;

use api::{ApiError, Caller, ModelDirectory, Operation, Reads, request_id};
use axum::http::{Extensions, HeaderMap};
use proto::v1;
use proto::v1::inference_service_server::InferenceService;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::PROTOCOL;
use super::convert::{self, FromResponse, IntoInferRequest};
use super::exchange::Unary;
use super::stream::Inferring;
use crate::Services;
use crate::grpc::{Bulk, UnreadMessage, status};
use crate::head::grpc_timeout;
use crate::idempotency::key;

/// The service.
pub(super) struct InferenceApi {
    services: Services,
}

impl InferenceApi {
    /// The service over what answers.
    pub(super) fn new(services: Services) -> Self {
        Self { services }
    }

    async fn unary<Q, A>(
        &self,
        operation: Operation,
        request: Request<Streaming<Q>>,
    ) -> Result<Response<A>, Status>
    where
        Q: IntoInferRequest + prost::Message + 'static,
        A: FromResponse + prost::Message + Default + 'static,
    {
        let (metadata, extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let headers = metadata.into_headers();
        let caller = Caller::new(&headers, extensions, PROTOCOL);
        let unary = Unary {
            message: self.unread(&caller, &headers, messages),
            timeout: grpc_timeout(&headers),
            // There is one method an operation.
            route: format!("grpc:{operation}"),
            key: key(&headers).map(|key| key.map(str::to_owned)),
            answer: PhantomData,
        };
        let result = self.services.inference.call(caller, Some(operation), unary).await;
        result.map_err(|error| status(&error, &request_id))
    }

    async fn read<Q: prost::Message, A>(
        &self,
        request: Request<Streaming<Q>>,
        answer: impl FnOnce(&dyn ModelDirectory, Q) -> Result<A, ApiError>,
    ) -> Result<Response<A>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let result = async {
            let headers = metadata.into_headers();
            let caller = Caller::new(&headers, extensions, PROTOCOL);
            let models = &*self.services.models;
            let _visit = models.visit(&caller, Reads::Message).await?;
            let message = self.unread(&caller, &headers, messages).read().await;
            answer(models, message.map_err(|error| caller.body.fault().unwrap_or(error))?)
        }
        .await;
        result.map(Response::new).map_err(|error| status(&error, &request_id))
    }

    /// A stream whose caller is known and has a place for it.
    async fn bulk(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Bulk<Inferring>, ApiError> {
        let caller = Caller::new(headers, extensions.clone(), PROTOCOL);
        Bulk::open(&*self.services.inference, Inferring, caller, headers).await
    }

    fn unread<Q: prost::Message>(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        messages: Streaming<Q>,
    ) -> UnreadMessage<Q> {
        UnreadMessage::new(messages, headers, caller.body.clone(), self.services.bounds.body_bytes_max)
    }
}

#[tonic::async_trait]
impl InferenceService for InferenceApi {
    async fn classify(
        &self,
        request: Request<Streaming<v1::ClassifyRequest>>,
    ) -> Result<Response<v1::ClassifyResponse>, Status> {
        self.unary(Operation::Classify, request).await
    }

    async fn analyze_sentiment(
        &self,
        request: Request<Streaming<v1::AnalyzeSentimentRequest>>,
    ) -> Result<Response<v1::AnalyzeSentimentResponse>, Status> {
        self.unary(Operation::Sentiment, request).await
    }

    async fn extract_entities(
        &self,
        request: Request<Streaming<v1::ExtractEntitiesRequest>>,
    ) -> Result<Response<v1::ExtractEntitiesResponse>, Status> {
        self.unary(Operation::Entities, request).await
    }

    async fn summarize(
        &self,
        request: Request<Streaming<v1::SummarizeRequest>>,
    ) -> Result<Response<v1::SummarizeResponse>, Status> {
        self.unary(Operation::Summarize, request).await
    }

    async fn embed(
        &self,
        request: Request<Streaming<v1::EmbedRequest>>,
    ) -> Result<Response<v1::EmbedResponse>, Status> {
        self.unary(Operation::Embed, request).await
    }

    async fn rerank(
        &self,
        request: Request<Streaming<v1::RerankRequest>>,
    ) -> Result<Response<v1::RerankResponse>, Status> {
        self.unary(Operation::Rerank, request).await
    }

    async fn similarity(
        &self,
        request: Request<Streaming<v1::SimilarityRequest>>,
    ) -> Result<Response<v1::SimilarityResponse>, Status> {
        self.unary(Operation::Similarity, request).await
    }

    async fn tokenize(
        &self,
        request: Request<Streaming<v1::TokenizeRequest>>,
    ) -> Result<Response<v1::TokenizeResponse>, Status> {
        self.unary(Operation::Tokenize, request).await
    }

    async fn detokenize(
        &self,
        request: Request<Streaming<v1::DetokenizeRequest>>,
    ) -> Result<Response<v1::DetokenizeResponse>, Status> {
        self.unary(Operation::Detokenize, request).await
    }

    type InferStreamStream = Pin<Box<dyn Stream<Item = Result<v1::InferStreamResponse, Status>> + Send>>;

    async fn infer_stream(
        &self,
        request: Request<Streaming<v1::InferStreamRequest>>,
    ) -> Result<Response<Self::InferStreamStream>, Status> {
        // Its messages were set aside.
        let (metadata, extensions, _) = request.into_parts();
        let bulk = self.bulk(&metadata.into_headers(), &extensions).await;
        let bulk = bulk.map_err(|error| status(&error, &request_id(&extensions)))?;
        Ok(bulk.answer().map(|answers| Box::pin(answers) as Self::InferStreamStream))
    }

    async fn list_models(
        &self,
        request: Request<Streaming<v1::ListModelsRequest>>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        self.read(request, |models, _| {
            let models = models.models().into_iter().map(convert::model).collect();
            Ok(v1::ListModelsResponse { models })
        })
        .await
    }

    async fn get_model(
        &self,
        request: Request<Streaming<v1::GetModelRequest>>,
    ) -> Result<Response<v1::Model>, Status> {
        self.read(request, |models, message| {
            models.model(&message.name).map(convert::model).ok_or(ApiError::ModelNotFound)
        })
        .await
    }
}
