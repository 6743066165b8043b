//! `ml.inference.v1.AdministrationService`: the same over gRPC.

use std::future::Future;
use std::sync::Arc;

use api::{Kept, Reads, Repeat, request_id};
use axum::Router;
use axum::body::Bytes;
use prost::Message;
use proto::v1;
use proto::v1::administration_service_server::{AdministrationService, AdministrationServiceServer};
use protocols::grpc::{Form, UnreadMessage, route, status};
use protocols::http::body::CHANGE_BYTES_MAX;
use protocols::idempotency::{REPLAYED, key};
use protocols::v1::grpc::PROTOCOL;
use router::accounts::KeyView;
use router::{MadeKey, WallTime};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Ask, OwnAdministration, Posted, messages};
use crate::administration::made::KeyForm;
use crate::error::ApiError;
use crate::pipeline::Caller;

/// The service.
struct AdministrationApi(Arc<OwnAdministration>);

/// As a message.
struct KeyMessage;

/// A call whose message is still to come.
struct Incoming<Q> {
    caller: Caller,
    /// The key under which it may come again.
    key: Result<Option<String>, ApiError>,
    message: UnreadMessage<Q>,
}

/// The routes of the service.
pub(in crate::administration) fn routes(own: Arc<OwnAdministration>) -> Router {
    let bytes_max = message_bytes_max(&own);
    let service = AdministrationServiceServer::new(AdministrationApi(own))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX);
    route(Router::new(), service, Form { bytes_max, no_method: ApiError::RouteNotFound, streams: &[] })
}

fn message_bytes_max(own: &OwnAdministration) -> usize {
    CHANGE_BYTES_MAX.min(own.bounds.body_bytes_max)
}

impl<Q: Message + 'static> Incoming<Q> {
    /// What is asked, as `read` finds in the message.
    fn ask<T>(
        self,
        read: impl FnOnce(Q) -> Result<T, ApiError> + Send,
    ) -> Ask<impl Future<Output = Result<T, ApiError>> + Send> {
        let message = self.message;
        let read = async move { read(message.read().await?) };
        Ask { caller: self.caller, reads: Reads::Message, read }
    }

    /// The same of a change, which may come again.
    fn change<T>(
        self,
        method: &'static str,
        read: impl FnOnce(Q) -> Result<T, ApiError> + Send,
    ) -> Ask<impl Future<Output = Result<Posted<T>, ApiError>> + Send> {
        let (message, key) = (self.message, self.key);
        let read = async move {
            let message = message.read().await?;
            let body = Bytes::from(message.encode_to_vec());
            let asked = read(message)?;
            Ok((asked, key?.map(|key| Repeat { key, route: format!("grpc:{method}"), body })))
        };
        Ask { caller: self.caller, reads: Reads::Message, read }
    }
}

impl KeyForm for KeyMessage {
    type Answer = Response<v1::MadeKey>;

    fn first(MadeKey { key, view }: &MadeKey) -> Result<Self::Answer, ApiError> {
        let secret = key.expose().to_owned();
        Ok(Response::new(v1::MadeKey { key: Some(messages::key(view)), secret }))
    }

    fn kept(view: &KeyView) -> Result<Kept, ApiError> {
        let made = v1::MadeKey { key: Some(messages::key(view)), secret: String::new() };
        Ok(Kept { status: Code::Ok as u16, body: made.encode_to_vec().into() })
    }

    fn again(kept: Kept) -> Result<Self::Answer, ApiError> {
        let mut answer = Response::new(v1::MadeKey::decode(kept.body).map_err(ApiError::internal)?);
        answer.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
        Ok(answer)
    }
}

impl AdministrationApi {
    /// Answers a call with what comes of it, or why nothing does.
    async fn answer<Q, A, F>(
        &self,
        request: Request<Streaming<Q>>,
        answer: impl FnOnce(Incoming<Q>) -> F + Send,
    ) -> Result<Response<A>, Status>
    where
        Q: Message + 'static,
        F: Future<Output = Result<Response<A>, ApiError>> + Send,
    {
        let (metadata, extensions, messages) = request.into_parts();
        let request_id = request_id(&extensions);
        let headers = metadata.into_headers();
        let caller = Caller::from(api::Caller::new(&headers, extensions, PROTOCOL));
        let message = UnreadMessage::new(messages, &headers, caller.body.clone(), message_bytes_max(&self.0));
        let key = key(&headers).map(|key| key.map(str::to_owned));
        answer(Incoming { caller, key, message }).await.map_err(|error| {
            if let Some(detail) = error.log_detail() {
                tracing::error!(%request_id, code = error.row().code, detail, "request failed");
            }
            status(&error, &request_id)
        })
    }
}

#[tonic::async_trait]
impl AdministrationService for AdministrationApi {
    async fn list_keys(
        &self,
        request: Request<Streaming<v1::ListKeysRequest>>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        self.answer(request, |call| async {
            let page = self.0.keys(call.ask(messages::page)).await?;
            Ok(Response::new(messages::keys(page)))
        })
        .await
    }

    async fn create_key(
        &self,
        request: Request<Streaming<v1::CreateKeyRequest>>,
    ) -> Result<Response<v1::MadeKey>, Status> {
        let create =
            |call: Incoming<_>| self.0.create_key::<KeyMessage>(call.change("CreateKey", messages::create));
        self.answer(request, create).await
    }

    async fn rotate_key(
        &self,
        request: Request<Streaming<v1::RotateKeyRequest>>,
    ) -> Result<Response<v1::MadeKey>, Status> {
        let rotate =
            |call: Incoming<_>| self.0.rotate_key::<KeyMessage>(call.change("RotateKey", messages::rotate));
        self.answer(request, rotate).await
    }

    async fn revoke_key(
        &self,
        request: Request<Streaming<v1::RevokeKeyRequest>>,
    ) -> Result<Response<v1::Key>, Status> {
        self.answer(request, |call| async {
            let revoked = self.0.revoke_key(call.ask(|message: v1::RevokeKeyRequest| Ok(message.id))).await?;
            Ok(Response::new(messages::key(&revoked)))
        })
        .await
    }

    async fn get_usage(
        &self,
        request: Request<Streaming<v1::GetUsageRequest>>,
    ) -> Result<Response<v1::GetUsageResponse>, Status> {
        self.answer(request, |call| async {
            let report = self.0.usage(call.ask(|message| messages::query(message, WallTime::now()))).await?;
            Ok(Response::new(messages::report(report)))
        })
        .await
    }
}
