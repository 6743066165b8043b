//! `GET /v1/ml/models`: what is served here.

use api::{ApiError, Caller, Limits, ModelInfo, ModelStatus, Reads};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::PROTOCOL;
use super::errors::{Answer, bad_path};
use crate::Services;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ModelList<'a> {
    models: Vec<ModelView<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Model")]
pub(super) struct ModelView<'a> {
    name: &'a str,
    version: &'a str,
    /// What it does.
    task: &'static str,
    /// A classifier's classes.
    labels: &'a [String],
    limits: &'a Limits,
    /// Whether texts are put into plain characters before they are tokenised.
    normalize_text: bool,
    /// 99 % of calls are to be answered within this time.
    p99_target_ms: u64,
    /// Dollars, as a decimal number.
    price_per_1000_requests_usd: String,
    source: SourceView<'a>,
    /// SPDX identifier of the weights' licence.
    license: &'a str,
    /// Whether it is known to compute what its authors' library computes: `verified`, `unverified` or
    /// `failed`.
    verification: &'static str,
    /// `loaded` or `unavailable`.
    status: &'static str,
    /// Why the model does not answer; absent while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Source")]
struct SourceView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    /// Of the weights file.
    sha256: &'a str,
}

impl<'a> From<&'a ModelInfo> for ModelView<'a> {
    fn from(model: &'a ModelInfo) -> Self {
        let repository = model.repository.as_ref();
        let (status, reason) = match &model.status {
            ModelStatus::Loaded => ("loaded", None),
            ModelStatus::Unavailable { reason } => ("unavailable", Some(reason.as_str())),
        };
        Self {
            name: &model.name,
            version: &model.version,
            task: model.task.as_str(),
            labels: &model.labels,
            limits: &model.limits,
            normalize_text: model.normalize_text,
            p99_target_ms: model.p99_target.as_millis() as u64,
            price_per_1000_requests_usd: model.price_per_1000_requests.to_string(),
            source: SourceView {
                repository: repository.map(|(repository, _)| repository.as_str()),
                revision: repository.map(|(_, revision)| revision.as_str()),
                sha256: &model.sha256,
            },
            license: &model.license,
            verification: model.verification.as_str(),
            status,
            reason,
        }
    }
}

/// All models.
pub(super) async fn list(State(services): State<Services>, request: Request) -> Answer {
    visit(&services, request).await?;
    let models = services.models.models();
    Ok(Json(ModelList { models: models.iter().map(ModelView::from).collect() }).into_response())
}

/// One model.
pub(super) async fn show(
    State(services): State<Services>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    visit(&services, request).await?;
    let Path(name) = name.map_err(bad_path)?;
    let model = services.models.model(&name).ok_or(ApiError::ModelNotFound)?;
    Ok(Json(ModelView::from(&model)).into_response())
}

/// Lets in whoever may look at models.
async fn visit(services: &Services, request: Request) -> Result<(), ApiError> {
    let (parts, _) = request.into_parts();
    let caller = Caller::new(&parts.headers, parts.extensions, PROTOCOL);
    services.models.visit(&caller, Reads::Head).await.map(drop)
}
