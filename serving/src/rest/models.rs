//! `GET /v1/ml/models`: what is served here.

use std::sync::Arc;

use ::models::card::{Origin, WEIGHTS_FILE};
use ::models::{Limits, ModelEntry, ModelState};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use router::Role;
use serde::Serialize;

use super::failed::Answer;
use crate::app::App;
use crate::caller::rest_caller;
use crate::error::ApiError;
use crate::pipeline;

/// Why a model does not answer, for whoever may look at models: files by name and without their folders, which are the operator's
/// business. The whole reason is in the log and under `/admin/v1/models`.
pub(crate) fn public_reason(reason: &str) -> String {
    let names = reason.split_whitespace().map(|word| word.rsplit_once('/').map_or(word, |(_, name)| name));
    names.collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Serialize)]
struct ModelList<'a> {
    models: Vec<ModelView<'a>>,
}

#[derive(Debug, Serialize)]
struct ModelView<'a> {
    name: &'a str,
    version: &'a str,
    task: &'static str,
    labels: &'a [String],
    limits: &'a Limits,
    /// Whether texts are put into plain characters before they are tokenised.
    normalize_text: bool,
    p99_target_ms: u64,
    price_per_1000_requests_usd: String,
    source: SourceView<'a>,
    license: &'a str,
    status: &'static str,
    /// Why the model does not answer; absent while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct SourceView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    /// Of the weights file.
    sha256: String,
}

impl<'a> From<&'a ModelEntry> for ModelView<'a> {
    fn from(entry: &'a ModelEntry) -> Self {
        let card = &*entry.card;
        let (repository, revision) = match &card.source.origin {
            Origin::Folder(_) => (None, None),
            Origin::Repository { repository, revision, .. } => {
                (Some(repository.as_str()), Some(revision.as_str()))
            }
        };
        let (status, reason) = match &entry.state {
            ModelState::Loaded { .. } => ("loaded", None),
            ModelState::Unavailable { reason } => ("unavailable", Some(public_reason(reason))),
        };
        Self {
            name: &card.name,
            version: &card.version,
            task: card.task.as_str(),
            labels: &card.labels,
            limits: &card.limits,
            normalize_text: card.normalize_text,
            p99_target_ms: card.p99_target.as_millis() as u64,
            price_per_1000_requests_usd: card.price_per_1000_requests.to_string(),
            source: SourceView {
                repository,
                revision,
                sha256: card.source.files.get(WEIGHTS_FILE).map(ToString::to_string).unwrap_or_default(),
            },
            license: &card.license,
            status,
            reason,
        }
    }
}

/// All models.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Answer {
    pipeline::authorise(&app, &rest_caller(&request)?, Role::Viewer).await?;
    let models = app.catalog.models().iter().map(ModelView::from).collect();
    Ok(Json(ModelList { models }).into_response())
}

/// One model.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    pipeline::authorise(&app, &rest_caller(&request)?, Role::Viewer).await?;
    let Path(name) = name?;
    let entry = app.catalog.find(&name).ok_or(ApiError::ModelNotFound)?;
    Ok(Json(ModelView::from(entry)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_without_folders() {
        let check = |reason: &str, expected: &str| assert_eq!(public_reason(reason), expected);
        check("/srv/cards/ner-v2/head.safetensors: not weights", "head.safetensors: not weights");
        check("cannot read /my data/x.json (os error 2)", "cannot read my x.json (os error 2)");
        check("head 5 is not supported", "head 5 is not supported");
    }
}
