//! The calls: metadata to caller, message to request, answer to message.
//!
//! Calls come here when their heads do, with nothing of their messages read: the service is generated as if every call were a
//! stream of messages, which looks the same on the wire (`build.rs`). So it is the pipeline that decides when a message is read, by
//! whom and within which bounds, as it is for REST.

use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use models::Task;
use router::Role;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{FromResponse, IntoInferRequest};
use super::exchange::{Call, Message, UnreadCall};
use super::messages::{GRPC_ENCODING, Messages};
use super::stream::Bulk;
use proto::v1;
use proto::v1::inference_service_server::InferenceService;

use super::convert;
use crate::app::App;
use crate::caller::{caller, grpc_timeout, request_id};
use crate::error::ApiError;
use crate::idempotency::refuse_key;
use crate::pipeline::{self, Caller};

/// The service.
pub(super) struct Inference {
    app: Arc<App>,
}

impl Inference {
    /// The service over `app`.
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn unary<Q, A>(&self, task: Task, request: Request<Streaming<Q>>) -> Result<Response<A>, Status>
    where
        Q: IntoInferRequest + prost::Message,
        A: FromResponse + prost::Message + Default,
    {
        let (metadata, extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let result = async {
            let headers = metadata.into_headers();
            let caller = caller(&headers, &extensions, "grpc")?;
            let unread = self.unread(&caller, &headers, messages);
            let timeout = grpc_timeout(&headers);
            // There is one method a task.
            let (app, route) = (Arc::clone(&self.app), format!("grpc:{}", task.as_str()));
            let mut message = Message::<Q, A>::of_call(unread, timeout, Call { app, route, headers });
            pipeline::infer(&self.app, &caller, task, &mut message).await
        };
        result.await.map_err(|error| error.to_status(&request_id))
    }

    async fn read<Q: prost::Message, A>(
        &self,
        request: Request<Streaming<Q>>,
        answer: impl FnOnce(&App, Q) -> Result<A, ApiError>,
    ) -> Result<Response<A>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let result = async {
            let headers = metadata.into_headers();
            let caller = caller(&headers, &extensions, "grpc")?;
            let principal = pipeline::authorise(&self.app, &caller, Role::Viewer).await?;
            let place = self.app.places.take(&principal).map_err(pipeline::no_place)?;
            caller.body.admit(&place, self.app.config.connections.body_timeout());
            let message = self.unread(&caller, &headers, messages).read().await;
            answer(&self.app, message.map_err(|error| caller.body.fault().unwrap_or(error))?)
        }
        .await;
        result.map(Response::new).map_err(|error| error.to_status(&request_id))
    }

    fn unread<Q>(&self, caller: &Caller, headers: &HeaderMap, messages: Streaming<Q>) -> UnreadCall<Q> {
        let is_compressed = headers.get(GRPC_ENCODING).is_some_and(|encoding| encoding != "identity");
        let limit = self.app.config.limits.body_bytes_max;
        UnreadCall { messages, body: caller.body.clone(), is_compressed, limit }
    }

    /// A stream whose caller is known and has a place for it: refused at once rather than with every message.
    async fn bulk(&self, headers: &HeaderMap, extensions: &http::Extensions) -> Result<Bulk, ApiError> {
        refuse_key(headers)?;
        let (caller, timeout) = (caller(headers, extensions, "grpc")?, grpc_timeout(headers)?);
        let principal = pipeline::authorise(&self.app, &caller, Role::Editor).await?;
        let place = self.app.stream_places.take(&principal).map_err(pipeline::no_place)?;
        caller.body.admit_messages(&place);
        let (limits, patience) = (&self.app.config.limits, self.app.config.connections.body_timeout());
        // What is longer than all bodies together may be would wait for ever.
        let bytes_max = limits.body_bytes_max.min(limits.body_bytes_in_flight_max);
        let counted = (caller.body.clone(), caller.account.clone());
        let messages = Messages::of((headers, extensions), counted, bytes_max, patience);
        Ok(Bulk { app: Arc::clone(&self.app), caller, principal, _place: place, messages, timeout })
    }
}

#[tonic::async_trait]
impl InferenceService for Inference {
    async fn classify(
        &self,
        request: Request<Streaming<v1::ClassifyRequest>>,
    ) -> Result<Response<v1::ClassifyResponse>, Status> {
        self.unary(Task::Classify, request).await
    }

    async fn analyze_sentiment(
        &self,
        request: Request<Streaming<v1::AnalyzeSentimentRequest>>,
    ) -> Result<Response<v1::AnalyzeSentimentResponse>, Status> {
        self.unary(Task::Sentiment, request).await
    }

    async fn extract_entities(
        &self,
        request: Request<Streaming<v1::ExtractEntitiesRequest>>,
    ) -> Result<Response<v1::ExtractEntitiesResponse>, Status> {
        self.unary(Task::Entities, request).await
    }

    async fn summarize(
        &self,
        request: Request<Streaming<v1::SummarizeRequest>>,
    ) -> Result<Response<v1::SummarizeResponse>, Status> {
        self.unary(Task::Summarize, request).await
    }

    async fn embed(
        &self,
        request: Request<Streaming<v1::EmbedRequest>>,
    ) -> Result<Response<v1::EmbedResponse>, Status> {
        self.unary(Task::Embed, request).await
    }

    type InferStreamStream = Pin<Box<dyn Stream<Item = Result<v1::InferStreamResponse, Status>> + Send>>;

    async fn infer_stream(
        &self,
        request: Request<Streaming<v1::InferStreamRequest>>,
    ) -> Result<Response<Self::InferStreamStream>, Status> {
        // Its messages were set aside.
        let (metadata, extensions, _) = request.into_parts();
        let bulk = self.bulk(&metadata.into_headers(), &extensions).await;
        let bulk = bulk.map_err(|error| error.to_status(&request_id(&extensions)))?;
        Ok(Response::new(Box::pin(bulk.answer())))
    }

    async fn list_models(
        &self,
        request: Request<Streaming<v1::ListModelsRequest>>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        self.read(request, |app, _| {
            let models = app.catalog.models().iter().map(convert::model).collect();
            Ok(v1::ListModelsResponse { models })
        })
        .await
    }

    async fn get_model(
        &self,
        request: Request<Streaming<v1::GetModelRequest>>,
    ) -> Result<Response<v1::Model>, Status> {
        self.read(request, |app, message| {
            app.catalog.find(&message.name).map(convert::model).ok_or(ApiError::ModelNotFound)
        })
        .await
    }
}
