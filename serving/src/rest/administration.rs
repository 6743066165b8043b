//! `/v1/ml/keys`: a tenant's administrators manage its keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use router::{Role, Scope, WallTime};
use serde_json::json;

use super::{body, refuse};
use crate::administration::{CreateKey, CreatedKey, RotateKey};
use crate::app::App;
use crate::error::ApiError;
use crate::pipeline::Caller;
use crate::{caller, pipeline};

/// An administrator of a tenant, and how the audit log names it.
struct Administrator {
    scope: Scope,
    actor: String,
}

impl Administrator {
    async fn of(app: &App, caller: Result<Caller, ApiError>) -> Result<Self, ApiError> {
        let principal = pipeline::authorise(app, &caller?, Role::Admin).await?;
        let name = &principal.tenant().name;
        let tenant = name.parse().map_err(ApiError::internal)?;
        let actor = format!("{name}/{}", principal.key());
        Ok(Self { scope: Scope { tenant, role: principal.role() }, actor })
    }
}

fn caller_of(request: &Request) -> Result<Caller, ApiError> {
    caller::caller(request.headers(), request.extensions(), "rest")
}

pub(super) async fn own_keys(State(app): State<Arc<App>>, request: Request) -> Response {
    let request_id = caller::request_id(request.extensions());
    let result = async move {
        let administrator = Administrator::of(&app, caller_of(&request)).await?;
        let keys =
            app.tenancy.administration.keys(WallTime::now(), Some(&administrator.scope.tenant)).await?;
        Ok(Json(json!({ "keys": keys })).into_response())
    }
    .await;
    result.unwrap_or_else(|error: ApiError| refuse(&error, &request_id))
}

pub(super) async fn create_own_key(State(app): State<Arc<App>>, request: Request) -> Response {
    let request_id = caller::request_id(request.extensions());
    let result = async move {
        let Administrator { scope, actor } = Administrator::of(&app, caller_of(&request)).await?;
        let new: CreateKey = body::parse(&body::read(request, &app.config).await?)?;
        let (administration, new) = (&app.tenancy.administration, new.of(scope.tenant.clone()));
        let made = administration.create_key(WallTime::now(), &actor, Some(&scope), &new).await?;
        Ok((StatusCode::CREATED, Json(CreatedKey::from(made))).into_response())
    }
    .await;
    result.unwrap_or_else(|error: ApiError| refuse(&error, &request_id))
}

pub(super) async fn rotate_own_key(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let request_id = caller::request_id(request.extensions());
    let result = async move {
        let Administrator { scope, actor } = Administrator::of(&app, caller_of(&request)).await?;
        let rotate: RotateKey = body::parse(&body::read(request, &app.config).await?)?;
        let (administration, overlap) = (&app.tenancy.administration, rotate.overlap()?);
        let made = administration.rotate_key(WallTime::now(), &actor, Some(&scope), &id, overlap).await?;
        Ok((StatusCode::CREATED, Json(CreatedKey::from(made))).into_response())
    }
    .await;
    result.unwrap_or_else(|error: ApiError| refuse(&error, &request_id))
}

pub(super) async fn revoke_own_key(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let request_id = caller::request_id(request.extensions());
    let result = async move {
        let Administrator { scope, actor } = Administrator::of(&app, caller_of(&request)).await?;
        let administration = &app.tenancy.administration;
        let key = administration.revoke_key(WallTime::now(), &actor, Some(&scope), &id).await?;
        Ok(Json(key).into_response())
    }
    .await;
    result.unwrap_or_else(|error: ApiError| refuse(&error, &request_id))
}
