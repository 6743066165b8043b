//! `/v1/ml/keys`: a tenant's administrators manage its keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use protocols::v1::rest::errors::{Answer, Failed};
use router::{Actor, AdministrationError, Place, Principal, Role, Scope, WallTime};

use super::{CreateKey, OwnAdministration, Page, PostOutcome, RotateKey, posted, show_made};
use crate::error::{ApiError, OrRefused};
use crate::idempotency::Sender;
use crate::pipeline::{Caller, PlaceCharge, authorise};

/// An administrator of a tenant, and how the audit log names it.
struct Administrator {
    principal: Principal,
    scope: Scope,
    actor: String,
}

impl Administrator {
    /// The same with a place for a call whose body is read, as every call with one has.
    async fn placed(own: &OwnAdministration, caller: Caller) -> Result<(Self, Place), ApiError> {
        let body = caller.body.clone();
        let administrator = Self::of(own, caller).await?;
        let place = own.places.take(&administrator.principal).or_refused()?;
        body.admit(PlaceCharge(place.meter()), own.body_timeout);
        Ok((administrator, place))
    }

    async fn of(own: &OwnAdministration, caller: Caller) -> Result<Self, ApiError> {
        let principal = authorise(&own.tenancy.gatekeeper, &caller, Role::Admin).await?;
        let name = &principal.tenant().name;
        let tenant = name.parse().map_err(ApiError::internal)?;
        let actor = format!("{name}/{}", principal.key());
        Ok(Self { scope: Scope { tenant, role: principal.role() }, actor, principal })
    }
}

pub(super) async fn own_keys(State(own): State<Arc<OwnAdministration>>, request: Request) -> Answer {
    let Administrator { scope, .. } = Administrator::of(&own, Caller::of(&request)).await?;
    let page = Page::parse(request.uri())?;
    let keys = match own.tenancy.administration.keys(WallTime::now(), Some(&scope.tenant)).await {
        // The development tenant, and tenants that are known by their JWTs alone, have none.
        Err(AdministrationError::NoTenant) => Vec::new(),
        keys => keys.or_refused()?,
    };
    Ok(page.answer("keys", &keys, |key| &key.id)?)
}

pub(super) async fn create_own_key(State(own): State<Arc<OwnAdministration>>, request: Request) -> Answer {
    let caller = Caller::of(&request);
    let (Administrator { principal, scope, actor }, _place) = Administrator::placed(&own, caller).await?;
    let may = |new: &CreateKey| scope.check(new.role).or_refused();
    let (once, new) = match posted(own.changes(), Sender::from(&principal), request, may).await? {
        PostOutcome::First(once, new) => (once, new.of(scope.tenant.clone())),
        PostOutcome::Again(answer) => return Ok(answer),
    };
    let actor = Actor { name: &actor, request: once.request() };
    let made = own.tenancy.administration.create_key(WallTime::now(), actor, Some(&scope), &new).await;
    show_made(once, made).await
}

pub(super) async fn rotate_own_key(
    State(own): State<Arc<OwnAdministration>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    let caller = Caller::of(&request);
    let (Administrator { principal, scope, actor }, _place) = Administrator::placed(&own, caller).await?;
    let Path(id) = id.map_err(Failed::path)?;
    own.tenancy.administration.check_managed(WallTime::now(), &scope, &id).await.or_refused()?;
    let any = |_: &RotateKey| Ok(());
    let (once, rotate) = match posted(own.changes(), Sender::from(&principal), request, any).await? {
        PostOutcome::First(once, rotate) => (once, rotate),
        PostOutcome::Again(answer) => return Ok(answer),
    };
    let (administration, overlap) = (&own.tenancy.administration, rotate.overlap()?);
    let actor = Actor { name: &actor, request: once.request() };
    let made = administration.rotate_key(WallTime::now(), actor, Some(&scope), &id, overlap).await;
    show_made(once, made).await
}

pub(super) async fn revoke_own_key(
    State(own): State<Arc<OwnAdministration>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    let Administrator { scope, actor, .. } = Administrator::of(&own, Caller::of(&request)).await?;
    let Path(id) = id.map_err(Failed::path)?;
    let key = own.tenancy.administration.revoke_key(WallTime::now(), &actor, Some(&scope), &id).await;
    let key = key.or_refused()?;
    Ok(Json(key).into_response())
}
