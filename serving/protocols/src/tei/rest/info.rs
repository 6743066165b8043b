//! `GET /info`, `GET /health` and their like.

use std::collections::BTreeMap;

use api::{ApiError, Caller, ModelInfo, Reads, Task, request_id};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::super::errors::Tei;
use crate::http::dialect::{Dialect, refuse};
use crate::http::target::{PathModel, Target};
use crate::openapi::Api;
use crate::{ServerFacts, Services, grpc};

/// What a model and the server are.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Info {
    model_id: String,
    model_sha: Option<String>,
    model_dtype: &'static str,
    served_model_name: String,
    model_type: ModelType,
    max_concurrent_requests: usize,
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: usize,
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
    sha: &'static str,
    docker_label: Option<&'static str>,
}

/// What a model is for. The dialect knows the first three.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ModelType {
    Embedding { pooling: &'static str },
    Classifier(Labels),
    Reranker(Labels),
    TokenClassification(Labels),
    Summarization {},
}

#[derive(Debug, Serialize, JsonSchema)]
struct Labels {
    id2label: BTreeMap<usize, String>,
    label2id: BTreeMap<String, usize>,
}

impl Labels {
    fn of(labels: &[String]) -> Self {
        let numbered = || labels.iter().cloned().enumerate();
        Self { id2label: numbered().collect(), label2id: numbered().map(|(id, label)| (label, id)).collect() }
    }
}

impl Info {
    fn of(model: ModelInfo, server: &ServerFacts, inputs_max: usize) -> Self {
        let model_type = match model.task {
            Task::Embed => {
                let pooling = model.pooling.first().map_or("mean", |pooling| pooling.as_str());
                ModelType::Embedding { pooling }
            }
            Task::Classify | Task::Sentiment => ModelType::Classifier(Labels::of(&model.labels)),
            Task::Entities => ModelType::TokenClassification(Labels::of(&model.labels)),
            Task::Summarize => ModelType::Summarization {},
            Task::Rerank => ModelType::Reranker(Labels::of(&model.labels)),
        };
        let (model_id, model_sha) = match model.repository {
            // What was trained here has the encoder of a repository, and is not what is there.
            Some((repository, revision)) if model.task == Task::Embed => (repository, Some(revision)),
            _ => (model.name.clone(), None),
        };
        Self {
            model_id,
            model_sha,
            model_dtype: model.dtype,
            served_model_name: model.name,
            model_type,
            max_concurrent_requests: server.calls_in_flight_max,
            max_input_length: model.limits.tokens_max,
            max_batch_tokens: server.batch_tokens_max,
            max_batch_requests: server.batch_sequences_max,
            max_client_batch_size: inputs_max,
            auto_truncate: true,
            tokenization_workers: server.tokenizer_threads,
            version: server.version,
            sha: server.commit,
            docker_label: None,
        }
    }
}

/// `GET /info`, for whoever may look at models.
pub async fn info(State(services): State<Services>, model: PathModel, request: Request) -> Response {
    let id = request_id(request.extensions());
    show(&services, model, request).await.unwrap_or_else(|error| refuse::<Tei>(&error, &id))
}

async fn show(services: &Services, model: PathModel, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let caller = Caller::of_dialect(&parts.headers, parts.extensions, Tei::PROTOCOL);
    let _visit = services.models.visit(&caller, Reads::Head).await?;
    let target = Target::new(services, model);
    Ok(Json(described(services, &target)?).into_response())
}

/// What a target and the server are, for who may look at models.
///
/// # Errors
/// There is no such model.
pub(crate) fn described(services: &Services, target: &Target) -> Result<Info, ApiError> {
    let model = target.model(&[Task::Embed, Task::Classify, Task::Sentiment])?;
    Ok(Info::of(model, &services.server, target.inputs_max))
}

/// Its message has numbers of 32 bits, and no name for models of other kinds than the first three.
impl From<Info> for proto::tei::InfoResponse {
    fn from(info: Info) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let model_type = match info.model_type {
            ModelType::Embedding { .. } => proto::tei::ModelType::Embedding,
            ModelType::Reranker(_) => proto::tei::ModelType::Reranker,
            ModelType::Classifier(_) | ModelType::TokenClassification(_) | ModelType::Summarization {} => {
                proto::tei::ModelType::Classifier
            }
        };
        Self {
            version: info.version.to_owned(),
            sha: Some(info.sha.to_owned()),
            docker_label: info.docker_label.map(str::to_owned),
            model_id: info.model_id,
            model_sha: info.model_sha,
            model_dtype: info.model_dtype.to_owned(),
            model_type: model_type.into(),
            max_concurrent_requests: number(info.max_concurrent_requests),
            max_input_length: number(info.max_input_length),
            max_batch_tokens: number(info.max_batch_tokens),
            max_batch_requests: Some(number(info.max_batch_requests)),
            max_client_batch_size: number(info.max_client_batch_size),
            tokenization_workers: number(info.tokenization_workers),
        }
    }
}

/// What KServe's v1 client reads.
#[derive(Serialize, JsonSchema)]
struct Alive {
    status: &'static str,
}

/// `GET /`: the same, in words that KServe's v1 client reads.
pub(super) fn alive(health: &grpc::Health, request: &Request) -> Response {
    let response = self::health(health, request);
    if response.status().is_success() { Json(Alive { status: "alive" }).into_response() } else { response }
}

/// `GET /health` and `GET /ping`, for everybody: whether calls should be sent here.
pub fn health(health: &grpc::Health, request: &Request) -> Response {
    if health.is_serving("") {
        return StatusCode::OK.into_response();
    }
    refuse::<Tei>(&ApiError::Starting, &request_id(request.extensions()))
}

/// What is told of a model, for the document.
pub(super) fn schema(api: &mut Api) -> Value {
    api.written_whole::<Info>()
}

/// What `GET /` tells, for the document.
pub(crate) fn alive_schema(api: &mut Api) -> Value {
    api.written_whole::<Alive>()
}
