//! The services: metadata to caller, message to call, error to status.

use std::pin::Pin;

use api::{ApiError, Caller, Reads, request_id};
use axum::http::HeaderMap;
use futures_util::{Stream, StreamExt};
use proto::tei as wire;
use proto::tei::embed_server::Embed;
use proto::tei::info_server::Info;
use proto::tei::predict_server::Predict;
use proto::tei::rerank_server::Rerank;
use proto::tei::tokenize_server::Tokenize;
use tonic::{Request, Response, Status, Streaming};

use super::exchange::{Collected, Unary};
use super::methods::{self, Method, refusal};
use super::stream::Answering;
use crate::Services;
use crate::grpc::{Bulk, UnreadMessage};
use crate::head::grpc_timeout;
use crate::http::dialect::Dialect;
use crate::http::target::{PathModel, Target};
use crate::idempotency::{key, refuse_key};
use crate::tei::Tei;
use crate::tei::errors::status;
use crate::tei::rest::described;

/// Names the model of a call.
const MODEL: &str = "x-model";

/// All of the services.
#[derive(Clone)]
pub(super) struct TeiApi {
    services: Services,
}

/// Answers of a stream.
type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

impl TeiApi {
    pub(super) fn new(services: Services) -> Self {
        Self { services }
    }

    fn target(&self, headers: &HeaderMap) -> Target {
        let name = headers.get(MODEL).and_then(|name| name.to_str().ok()).map(str::to_owned);
        Target::new(&self.services, PathModel(name))
    }

    async fn unary<M: Method>(
        &self,
        request: Request<Streaming<M::Question>>,
    ) -> Result<Response<M::Answer>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let (request_id, headers) = (request_id(&extensions), metadata.into_headers());
        let caller = Caller::of_dialect(&headers, extensions, Tei::PROTOCOL);
        let bytes_max = self.services.bounds.body_bytes_max;
        let unary = Unary::<M> {
            message: UnreadMessage::new(messages, &headers, caller.body.clone(), bytes_max),
            target: self.target(&headers),
            timeout: grpc_timeout(&headers),
            key: key(&headers).map(|key| key.map(str::to_owned)),
        };
        let answer = self.services.inference.call(caller, Some(M::OPERATION), unary).await;
        answer.map_err(|error| refusal::<M>(error, &request_id))
    }

    async fn stream<M: Method>(
        &self,
        request: Request<Streaming<M::Question>>,
    ) -> Result<Response<Answers<M::Answer>>, Status> {
        // Its messages were set aside.
        let (metadata, extensions, _) = request.into_parts();
        let (request_id, headers) = (request_id(&extensions), metadata.into_headers());
        let caller = Caller::of_dialect(&headers, extensions, Tei::PROTOCOL);
        let answering = Answering::<M>::new(self.target(&headers));
        let bulk = Bulk::open(&*self.services.inference, answering, caller, &headers).await;
        let answers = bulk.map_err(|error| status(&error, &request_id))?.answer();
        Ok(answers.map(|answers| {
            Box::pin(answers.map(|answer| answer.and_then(|outcome| outcome.0))) as Answers<M::Answer>
        }))
    }

    async fn collected(
        &self,
        request: Request<Streaming<wire::RerankStreamRequest>>,
    ) -> Result<Response<wire::RerankResponse>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let (request_id, headers) = (request_id(&extensions), metadata.into_headers());
        let caller = Caller::of_dialect(&headers, extensions, Tei::PROTOCOL);
        let target = self.target(&headers);
        let bytes_max = self.services.bounds.body_bytes_max;
        let timeout = refuse_key(&headers).and_then(|()| grpc_timeout(&headers));
        let collected = Collected { messages, target, timeout, bytes_max };
        let answer = self.services.inference.call(caller, Some(methods::Rerank::OPERATION), collected).await;
        answer.map_err(|error| refusal::<methods::Rerank>(error, &request_id))
    }

    async fn info(
        &self,
        request: Request<Streaming<wire::InfoRequest>>,
    ) -> Result<wire::InfoResponse, ApiError> {
        let (metadata, extensions, messages) = request.into_parts();
        let headers = metadata.into_headers();
        let caller = Caller::of_dialect(&headers, extensions, Tei::PROTOCOL);
        let _visit = self.services.models.visit(&caller, Reads::Message).await?;
        let bytes_max = self.services.bounds.body_bytes_max;
        let message = UnreadMessage::new(messages, &headers, caller.body.clone(), bytes_max);
        let wire::InfoRequest {} =
            message.read().await.map_err(|error| caller.body.fault().unwrap_or(error))?;
        described(&self.services, &self.target(&headers)).map(wire::InfoResponse::from)
    }
}

/// Implements a service of methods with one message, and of streams of them.
macro_rules! service {
    ($service:ident {
        one { $($one:ident($asked:ident) -> $answered:ident, $method:ident;)* }
        many { $($many:ident: $type:ident($asked_many:ident) -> $answered_many:ident, $method_many:ident;)* }
    }) => {
        #[tonic::async_trait]
        impl $service for TeiApi {
            $(async fn $one(
                &self,
                request: Request<Streaming<wire::$asked>>,
            ) -> Result<Response<wire::$answered>, Status> {
                self.unary::<methods::$method>(request).await
            })*

            $(type $type = Answers<wire::$answered_many>;

            async fn $many(
                &self,
                request: Request<Streaming<wire::$asked_many>>,
            ) -> Result<Response<Self::$type>, Status> {
                self.stream::<methods::$method_many>(request).await
            })*
        }
    };
}

service!(Embed {
    one {
        embed(EmbedRequest) -> EmbedResponse, Embed;
        embed_sparse(EmbedSparseRequest) -> EmbedSparseResponse, EmbedSparse;
        embed_all(EmbedAllRequest) -> EmbedAllResponse, EmbedAll;
    }
    many {
        embed_stream: EmbedStreamStream(EmbedRequest) -> EmbedResponse, Embed;
        embed_sparse_stream: EmbedSparseStreamStream(EmbedSparseRequest) -> EmbedSparseResponse, EmbedSparse;
        embed_all_stream: EmbedAllStreamStream(EmbedAllRequest) -> EmbedAllResponse, EmbedAll;
    }
});

service!(Predict {
    one {
        predict(PredictRequest) -> PredictResponse, Predict;
        predict_pair(PredictPairRequest) -> PredictResponse, PredictPair;
    }
    many {
        predict_stream: PredictStreamStream(PredictRequest) -> PredictResponse, Predict;
        predict_pair_stream: PredictPairStreamStream(PredictPairRequest) -> PredictResponse, PredictPair;
    }
});

service!(Tokenize {
    one {
        tokenize(EncodeRequest) -> EncodeResponse, Tokenize;
        decode(DecodeRequest) -> DecodeResponse, Decode;
    }
    many {
        tokenize_stream: TokenizeStreamStream(EncodeRequest) -> EncodeResponse, Tokenize;
        decode_stream: DecodeStreamStream(DecodeRequest) -> DecodeResponse, Decode;
    }
});

#[tonic::async_trait]
impl Rerank for TeiApi {
    async fn rerank(
        &self,
        request: Request<Streaming<wire::RerankRequest>>,
    ) -> Result<Response<wire::RerankResponse>, Status> {
        self.unary::<methods::Rerank>(request).await
    }

    async fn rerank_stream(
        &self,
        request: Request<Streaming<wire::RerankStreamRequest>>,
    ) -> Result<Response<wire::RerankResponse>, Status> {
        self.collected(request).await
    }
}

#[tonic::async_trait]
impl Info for TeiApi {
    async fn info(
        &self,
        request: Request<Streaming<wire::InfoRequest>>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        let request_id = request_id(request.extensions());
        let info = self.info(request).await;
        info.map(Response::new).map_err(|error| status(&error, &request_id))
    }
}
