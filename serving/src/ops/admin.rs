//! `/admin/v1/…`: the operator manages all tenants. Opened by the token in `operator.token` of the state folder.

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use router::accounts::TenantName;
use router::{AuthenticationError, CredentialError, WallTime};
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::administration::{ChangeTenant, CreateKey, CreateTenant, CreatedKey, RotateKey};
use crate::app::App;
use crate::caller;
use crate::error::ApiError;
use crate::page::Page;
use crate::rest::body;
use crate::rest::failed::{self, Answer, Failed};
use crate::rest::idempotency::{self, Start, posted};
use crate::usage_report::ReportQuery;

/// How the audit log names whoever shows the operator's token.
const OPERATOR: &str = "operator";
/// Lines of the audit log shown if not told otherwise, and at most.
const AUDIT_DEFAULT: usize = 100;
const AUDIT_MAX: usize = 10_000;

/// The routes.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/admin/v1/tenants", get(tenants).post(create_tenant))
        .route("/admin/v1/tenants/{name}", patch(change_tenant))
        .route("/admin/v1/tenants/{name}/keys", get(keys).post(create_key))
        .route("/admin/v1/tenants/{name}/usage", get(usage))
        .route("/admin/v1/usage", get(all_usage))
        .route("/admin/v1/keys", get(all_keys))
        .route("/admin/v1/keys/{id}", delete(revoke_key))
        .route("/admin/v1/keys/{id}/rotate", post(rotate_key))
        .route("/admin/v1/audit", get(audit))
        .layer(from_fn_with_state(Arc::clone(&app), operator_only))
        .layer(from_fn(failed::explain))
        .layer(from_fn(caller::identify))
        .with_state(app)
}

async fn operator_only(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let error = match header.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if bool::from(token.trim().as_bytes().ct_eq(app.tenancy.operator_token.as_bytes())) => {
            return next.run(request).await;
        }
        Some(_) => AuthenticationError::UnknownKey,
        None => AuthenticationError::Credential(CredentialError::Missing),
    };
    Failed::from(error).into_response()
}

/// The name of a tenant in a path.
fn tenant_name(text: &str) -> Result<TenantName, ApiError> {
    text.parse().map_err(|_| router::AdministrationError::NoTenant.into())
}

async fn tenants(State(app): State<Arc<App>>, request: Request) -> Answer {
    let page = Page::parse(request.uri())?;
    let tenants = app.tenancy.administration.tenants().await?;
    Ok(page.answer("tenants", &tenants, |tenant| tenant.name.as_str())?)
}

async fn create_tenant(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (once, CreateTenant { name, plan }) = match posted(&app, idempotency::OPERATOR, request).await? {
        Start::First(first) => first,
        Start::Again(answer) => return Ok(answer),
    };
    let administration = &app.tenancy.administration;
    let tenant = administration.create_tenant(WallTime::now(), OPERATOR, &name, plan).await?;
    Ok(once.answer(StatusCode::CREATED, &tenant).await?)
}

async fn change_tenant(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Answer {
    let ChangeTenant { plan, is_suspended } = body::parse(&body::read(request, &app.config).await?)?;
    let (administration, name) = (&app.tenancy.administration, tenant_name(&name)?);
    let tenant = administration.change_tenant(WallTime::now(), OPERATOR, &name, plan, is_suspended).await?;
    Ok(Json(tenant).into_response())
}

async fn keys(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Answer {
    let page = Page::parse(request.uri())?;
    let keys = app.tenancy.administration.keys(WallTime::now(), Some(&tenant_name(&name)?)).await?;
    Ok(page.answer("keys", &keys, |key| &key.id)?)
}

async fn all_keys(State(app): State<Arc<App>>, request: Request) -> Answer {
    let page = Page::parse(request.uri())?;
    let keys = app.tenancy.administration.keys(WallTime::now(), None).await?;
    Ok(page.answer("keys", &keys, |key| &key.id)?)
}

async fn create_key(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Answer {
    let (once, new) = match posted::<CreateKey>(&app, idempotency::OPERATOR, request).await? {
        Start::First(first) => first,
        Start::Again(answer) => return Ok(answer),
    };
    let new = new.of(tenant_name(&name)?);
    let made = app.tenancy.administration.create_key(WallTime::now(), OPERATOR, None, &new).await?;
    Ok(once.answer(StatusCode::CREATED, &CreatedKey::from(made)).await?)
}

async fn rotate_key(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Answer {
    let (once, rotate) = match posted::<RotateKey>(&app, idempotency::OPERATOR, request).await? {
        Start::First(first) => first,
        Start::Again(answer) => return Ok(answer),
    };
    let (administration, overlap) = (&app.tenancy.administration, rotate.overlap()?);
    let made = administration.rotate_key(WallTime::now(), OPERATOR, None, &id, overlap).await?;
    Ok(once.answer(StatusCode::CREATED, &CreatedKey::from(made)).await?)
}

async fn revoke_key(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let key = app.tenancy.administration.revoke_key(WallTime::now(), OPERATOR, None, &id).await?;
    Ok(Json(key).into_response())
}

async fn usage(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Answer {
    let query = ReportQuery::parse(request.uri(), WallTime::now())?;
    Ok(query.answer(app.tenancy.usage.as_ref(), tenant_name(&name)?.as_str(), true).await?)
}

async fn all_usage(State(app): State<Arc<App>>, request: Request) -> Answer {
    let query = ReportQuery::parse(request.uri(), WallTime::now())?;
    Ok(query.answer_all(app.tenancy.usage.as_ref()).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    limit: Option<usize>,
}

async fn audit(State(app): State<Arc<App>>, request: Request) -> Answer {
    let Query(query) = Query::<AuditQuery>::try_from_uri(request.uri()).map_err(|error| {
        ApiError::InvalidRequest { field: "query".to_owned(), problem: error.body_text() }
    })?;
    let entries = query.limit.unwrap_or(AUDIT_DEFAULT).min(AUDIT_MAX);
    Ok(Json(json!({ "entries": app.tenancy.administration.audit(entries).await? })).into_response())
}
