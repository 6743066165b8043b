//! `/admin/v1/…`: the operator manages all tenants, and sees what each of them uses. Opened by the operator's
//! token ([`crate::secrets`]).

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use protocols::http::{body, explain};
use protocols::v1::rest::errors::{self, Answer, Failed};
use protocols::v1::rest::refuse_request;
use router::accounts::TenantName;
use router::{Actor, AuthenticationError, CredentialError, WallTime, bearer_token};
use serde::Deserialize;
use serde_json::json;

use super::Operations;
use crate::administration::{
    ChangeTenant, CreateKey, CreateTenant, JsonKey, Page, PostOutcome, RotateKey, answer, posted, show_made,
};
use crate::caller;
use crate::error::{ApiError, OrRefused, TableError};
use crate::idempotency::Sender;
use crate::lifecycle::{self, Wish};
use crate::server::Account;
use crate::telemetry::{self, Format};
use crate::usage_report::ReportQuery;

/// How the audit log names whoever shows the operator's token.
const OPERATOR: &str = "operator";
/// Lines of the audit log shown if not told otherwise, and at most.
const AUDIT_DEFAULT: usize = 100;
const AUDIT_MAX: usize = 10_000;

pub(super) fn router(operations: Arc<Operations>) -> Router {
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
        .route("/admin/v1/metrics", get(metrics))
        .route("/admin/v1/models", get(models))
        .route("/admin/v1/models/{name}/load", post(load_model))
        .route("/admin/v1/models/{name}/reload", post(reload_model))
        .route("/admin/v1/models/{name}/unload", post(unload_model))
        // On these routes alone: what is not here is not found, whoever asks.
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(from_fn_with_state(Arc::clone(&operations), operator_only))
        .fallback(unknown)
        .layer(from_fn(errors::explain))
        .layer(from_fn(caller::identify))
        .with_state(operations)
}

async fn operator_only(State(operations): State<Arc<Operations>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).map(HeaderValue::to_str).transpose();
    let token = header.map_err(|_| CredentialError::Malformed).and_then(bearer_token);
    match token {
        Ok(token) if operations.tenancy.operator_token.is(token) => {
            if let Some(account) = request.extensions().get::<Account>() {
                account.operate();
            }
            next.run(request).await
        }
        Ok(_) => Failed::from(AuthenticationError::UnknownKey.refused()).into_response(),
        Err(error) => Failed::from(AuthenticationError::Credential(error).refused()).into_response(),
    }
}

async fn method_not_allowed() -> Failed {
    Failed::from(ApiError::MethodNotAllowed)
}

/// Answers routes that the operations port does not have, and gRPC services likewise.
async fn unknown(request: Request) -> Response {
    refuse_request(&ApiError::OperationsRouteNotFound, &request)
}

/// The name of a tenant in a path.
fn tenant_name(text: &str) -> Result<TenantName, ApiError> {
    text.parse().map_err(|_| router::AdministrationError::NoTenant.refused())
}

async fn tenants(State(operations): State<Arc<Operations>>, request: Request) -> Answer {
    let page = Page::parse(request.uri())?;
    let tenants = operations.tenancy.administration.tenants(WallTime::now()).await.or_refused()?;
    Ok(page.cut(tenants, |tenant| tenant.name.as_str()).answer("tenants")?)
}

async fn create_tenant(State(operations): State<Arc<Operations>>, request: Request) -> Answer {
    let (once, CreateTenant { name, plan }) =
        match posted(operations.changes(), Sender::OPERATOR, request).await? {
            PostOutcome::First(once, new) => (once, new),
            PostOutcome::Again(answer) => return Ok(answer),
        };
    let administration = &operations.tenancy.administration;
    let tenant = administration.create_tenant(WallTime::now(), OPERATOR, &name, plan).await.or_refused()?;
    Ok(answer(once, StatusCode::CREATED, &tenant).await?)
}

async fn change_tenant(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let ChangeTenant { plan, is_suspended } =
        body::parse(&body::read_change(request, &operations.bounds).await?)?;
    let (administration, name) = (&operations.tenancy.administration, tenant_name(&name)?);
    let tenant = administration
        .change_tenant(WallTime::now(), OPERATOR, &name, plan, is_suspended)
        .await
        .or_refused()?;
    Ok(Json(tenant).into_response())
}

async fn keys(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let page = Page::parse(request.uri())?;
    let keys = operations
        .tenancy
        .administration
        .keys(WallTime::now(), Some(&tenant_name(&name)?))
        .await
        .or_refused()?;
    Ok(page.cut(keys, |key| &key.id).answer("keys")?)
}

async fn all_keys(State(operations): State<Arc<Operations>>, request: Request) -> Answer {
    let page = Page::parse(request.uri())?;
    let keys = operations.tenancy.administration.keys(WallTime::now(), None).await.or_refused()?;
    Ok(page.cut(keys, |key| &key.id).answer("keys")?)
}

async fn create_key(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let (once, new) = match posted::<CreateKey>(operations.changes(), Sender::OPERATOR, request).await? {
        PostOutcome::First(once, new) => (once, new),
        PostOutcome::Again(answer) => return Ok(answer),
    };
    let (administration, new) = (&operations.tenancy.administration, new.of(tenant_name(&name)?));
    let actor = Actor { name: OPERATOR, request: once.request() };
    let made = administration.create_key(WallTime::now(), actor, None, &new).await;
    Ok(show_made::<JsonKey>(once, made).await?)
}

async fn rotate_key(
    State(operations): State<Arc<Operations>>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let (once, rotate) = match posted::<RotateKey>(operations.changes(), Sender::OPERATOR, request).await? {
        PostOutcome::First(once, rotate) => (once, rotate),
        PostOutcome::Again(answer) => return Ok(answer),
    };
    let (administration, overlap) = (&operations.tenancy.administration, rotate.overlap()?);
    let actor = Actor { name: OPERATOR, request: once.request() };
    let made = administration.rotate_key(WallTime::now(), actor, None, &id, overlap).await;
    Ok(show_made::<JsonKey>(once, made).await?)
}

async fn revoke_key(State(operations): State<Arc<Operations>>, Path(id): Path<String>) -> Answer {
    let key = operations
        .tenancy
        .administration
        .revoke_key(WallTime::now(), OPERATOR, None, &id)
        .await
        .or_refused()?;
    Ok(Json(key).into_response())
}

async fn usage(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let query = ReportQuery::parse(request.uri(), WallTime::now())?;
    let name = tenant_name(&name)?;
    Ok(query.report(operations.tenancy.usage.as_ref(), name.as_str(), true).await?.answer())
}

async fn all_usage(State(operations): State<Arc<Operations>>, request: Request) -> Answer {
    let query = ReportQuery::parse(request.uri(), WallTime::now())?;
    Ok(query.report_all(operations.tenancy.usage.as_ref()).await?.answer())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    limit: Option<usize>,
}

async fn audit(State(operations): State<Arc<Operations>>, request: Request) -> Answer {
    let Query(query) =
        Query::<AuditQuery>::try_from_uri(request.uri()).map_err(|error| explain::query(&error))?;
    if query.limit == Some(0) {
        let (field, problem) = ("query".to_owned(), "limit: must be at least 1".to_owned());
        return Err(ApiError::InvalidRequest { field, problem }.into());
    }
    let entries = query.limit.unwrap_or(AUDIT_DEFAULT).min(AUDIT_MAX);
    Ok(Json(json!({ "entries": operations.tenancy.administration.audit(entries).await.or_refused()? }))
        .into_response())
}

/// What each tenant uses and costs, which is not for everybody who may look at `/metrics`.
async fn metrics(State(operations): State<Arc<Operations>>, headers: HeaderMap) -> Answer {
    let format = Format::negotiate(&headers);
    let text = operations.telemetry.usage.tenants.encode(format).map_err(ApiError::internal)?;
    Ok(telemetry::answer(format, text))
}

/// Which models answer, and why the others do not, in full.
async fn models(State(operations): State<Arc<Operations>>) -> Answer {
    let catalog = operations.catalog.load();
    let mut entries: Vec<_> = catalog.models().iter().collect();
    entries.sort_by(|left, right| left.card.name.cmp(&right.card.name));
    let models: Vec<_> = entries.into_iter().map(|entry| lifecycle::view(entry)).collect();
    let rejected = catalog.rejected().iter();
    let rejected: Vec<_> =
        rejected.map(|card| json!({ "folder": card.name, "reason": card.reason })).collect();
    Ok(Json(json!({ "models": models, "rejected": rejected })).into_response())
}

/// A model that is to be loaded.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadModel {
    /// Where it is, if it has no card: as the option `--model` has it.
    checkpoint: Option<String>,
}

/// A change of a model that has no more to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeModel {}

async fn load_model(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let LoadModel { checkpoint } = body::parse(&body::read_change(request, &operations.bounds).await?)?;
    change_model(&operations, &name, Wish::Load { checkpoint }).await
}

async fn reload_model(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let ChangeModel {} = body::parse(&body::read_change(request, &operations.bounds).await?)?;
    change_model(&operations, &name, Wish::Reload).await
}

async fn unload_model(
    State(operations): State<Arc<Operations>>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let ChangeModel {} = body::parse(&body::read_change(request, &operations.bounds).await?)?;
    change_model(&operations, &name, Wish::Unload).await
}

async fn change_model(operations: &Operations, name: &str, wish: Wish) -> Answer {
    Ok(Json(operations.lifecycle.change(OPERATOR, name, wish).await?).into_response())
}
