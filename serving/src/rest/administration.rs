//! `/v1/ml/keys`: a tenant's administrators manage its keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use router::{Role, Scope, WallTime};

use super::failed::Answer;
use super::idempotency::{Start, posted};
use crate::administration::{CreateKey, CreatedKey, RotateKey};
use crate::app::App;
use crate::caller::rest_caller;
use crate::error::ApiError;
use crate::page::Page;
use crate::pipeline::{self, Caller};

/// An administrator of a tenant, and how the audit log names it.
struct Administrator {
    scope: Scope,
    actor: String,
}

impl Administrator {
    async fn of(app: &App, caller: Caller) -> Result<Self, ApiError> {
        let principal = pipeline::authorise(app, &caller, Role::Admin).await?;
        let name = &principal.tenant().name;
        let tenant = name.parse().map_err(ApiError::internal)?;
        let actor = format!("{name}/{}", principal.key());
        Ok(Self { scope: Scope { tenant, role: principal.role() }, actor })
    }
}

pub(super) async fn own_keys(State(app): State<Arc<App>>, request: Request) -> Answer {
    let Administrator { scope, .. } = Administrator::of(&app, rest_caller(&request)?).await?;
    let page = Page::parse(request.uri())?;
    let keys = app.tenancy.administration.keys(WallTime::now(), Some(&scope.tenant)).await?;
    Ok(page.answer("keys", &keys, |key| &key.id)?)
}

pub(super) async fn create_own_key(State(app): State<Arc<App>>, request: Request) -> Answer {
    let Administrator { scope, actor } = Administrator::of(&app, rest_caller(&request)?).await?;
    let (once, new) = match posted::<CreateKey>(&app, scope.tenant.as_str(), request).await? {
        Start::First(first) => first,
        Start::Again(answer) => return Ok(answer),
    };
    let (administration, new) = (&app.tenancy.administration, new.of(scope.tenant.clone()));
    let made = administration.create_key(WallTime::now(), &actor, Some(&scope), &new).await?;
    Ok(once.answer(StatusCode::CREATED, &CreatedKey::from(made)).await?)
}

pub(super) async fn rotate_own_key(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let Administrator { scope, actor } = Administrator::of(&app, rest_caller(&request)?).await?;
    let (once, rotate) = match posted::<RotateKey>(&app, scope.tenant.as_str(), request).await? {
        Start::First(first) => first,
        Start::Again(answer) => return Ok(answer),
    };
    let (administration, overlap) = (&app.tenancy.administration, rotate.overlap()?);
    let made = administration.rotate_key(WallTime::now(), &actor, Some(&scope), &id, overlap).await?;
    Ok(once.answer(StatusCode::CREATED, &CreatedKey::from(made)).await?)
}

pub(super) async fn revoke_own_key(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let Administrator { scope, actor } = Administrator::of(&app, rest_caller(&request)?).await?;
    let key = app.tenancy.administration.revoke_key(WallTime::now(), &actor, Some(&scope), &id).await?;
    Ok(Json(key).into_response())
}
