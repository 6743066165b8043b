//! What a tenant manages itself, its keys and what it used: done in one place, for every protocol. A protocol
//! reads what is asked, as a future that nobody polls before the caller is known and may ask, and makes its
//! answer of what comes out.

pub(super) mod grpc;
mod messages;
pub(super) mod rest;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::{Kept, Reads, Repeat};
use protocols::Bounds;
use router::accounts::KeyView;
use router::{Actor, AdministrationError, Place, Places, Principal, Role, Scope, WallTime};

use super::made::{KeyForm, show_made};
use super::page::{Cut, Page};
use super::{CreateKey, RotateKey};
use crate::error::{ApiError, OrRefused};
use crate::idempotency::{Once, Sender, Start};
use crate::pipeline::{Caller, PlaceCharge, authorise};
use crate::tenancy::Tenancy;
use crate::usage_report::{Report, ReportQuery};

/// What tenants manage themselves.
pub(crate) struct OwnAdministration {
    pub(crate) tenancy: Arc<Tenancy>,
    pub(crate) places: Arc<Places>,
    /// How much is read of a change.
    pub(crate) bounds: Bounds,
    /// From the place of a call to the last byte of its body.
    pub(crate) body_timeout: Duration,
}

/// A request of which nothing is read yet.
pub(super) struct Ask<R> {
    pub(super) caller: Caller,
    /// What there is to read: a message takes a place first, as that of every call does.
    pub(super) reads: Reads,
    /// Reads what is asked.
    pub(super) read: R,
}

/// A change that was read: what is to be done, and under which key it may come again.
pub(super) type Posted<T> = (T, Option<Repeat>);

/// An administrator of a tenant, and how the audit log names it.
struct Administrator {
    principal: Principal,
    scope: Scope,
    actor: String,
}

impl Administrator {
    fn of(principal: Principal) -> Result<Self, ApiError> {
        let name = &principal.tenant().name;
        let tenant = name.parse().map_err(ApiError::internal)?;
        let actor = format!("{name}/{}", principal.key());
        Ok(Self { scope: Scope { tenant, role: principal.role() }, actor, principal })
    }
}

impl OwnAdministration {
    /// Reads a request, once its caller is known and may ask. What it takes meanwhile is the caller's place.
    async fn admit<T>(
        &self,
        ask: Ask<impl Future<Output = Result<T, ApiError>> + Send>,
        needed: Role,
    ) -> Result<(Principal, Option<Place>, T), ApiError> {
        let Ask { caller, reads, read } = ask;
        let principal = authorise(&self.tenancy.gatekeeper, &caller, needed).await?;
        let place = match reads {
            Reads::Head => None,
            Reads::Message => {
                let place = self.places.take(&principal).or_refused()?;
                caller.body.admit(PlaceCharge(place.meter()), self.body_timeout);
                Some(place)
            }
        };
        let asked = read.await.map_err(|error| caller.body.fault().unwrap_or(error))?;
        Ok((principal, place, asked))
    }

    /// A page of the tenant's keys.
    ///
    /// # Errors
    /// The caller may not ask, or what it asks is not good. Likewise below.
    pub(super) async fn keys(
        &self,
        ask: Ask<impl Future<Output = Result<Page, ApiError>> + Send>,
    ) -> Result<Cut<KeyView>, ApiError> {
        let (principal, _place, page) = self.admit(ask, Role::Admin).await?;
        let Administrator { scope, .. } = Administrator::of(principal)?;
        let keys = match self.tenancy.administration.keys(WallTime::now(), Some(&scope.tenant)).await {
            // The development tenant, and tenants that are known by their JWTs alone, have none.
            Err(AdministrationError::NoTenant) => Vec::new(),
            keys => keys.or_refused()?,
        };
        Ok(page.cut(keys, |key| &key.id))
    }

    /// Makes a key, of a role not above the caller's.
    pub(super) async fn create_key<F: KeyForm>(
        &self,
        ask: Ask<impl Future<Output = Result<Posted<CreateKey>, ApiError>> + Send>,
    ) -> Result<F::Answer, ApiError> {
        let (principal, _place, (new, repeat)) = self.admit(ask, Role::Admin).await?;
        let Administrator { principal, scope, actor } = Administrator::of(principal)?;
        // Whoever sends it again may no longer do what it asks for: so that is checked before what it did is
        // told.
        scope.check(new.role).or_refused()?;
        let once = match Once::start(&self.tenancy, Sender::from(&principal), repeat.as_ref()).await? {
            Start::First(once) => once,
            Start::Again(answer) => return F::again(kept(answer)),
        };
        let new = new.of(scope.tenant.clone());
        let actor = Actor { name: &actor, request: once.request() };
        let made = self.tenancy.administration.create_key(WallTime::now(), actor, Some(&scope), &new).await;
        show_made::<F>(once, made).await
    }

    /// Makes a key in place of the one of this id.
    pub(super) async fn rotate_key<F: KeyForm>(
        &self,
        ask: Ask<impl Future<Output = Result<Posted<(String, RotateKey)>, ApiError>> + Send>,
    ) -> Result<F::Answer, ApiError> {
        let (principal, _place, ((id, rotate), repeat)) = self.admit(ask, Role::Admin).await?;
        let Administrator { principal, scope, actor } = Administrator::of(principal)?;
        let administration = &self.tenancy.administration;
        administration.check_managed(WallTime::now(), &scope, &id).await.or_refused()?;
        let once = match Once::start(&self.tenancy, Sender::from(&principal), repeat.as_ref()).await? {
            Start::First(once) => once,
            Start::Again(answer) => return F::again(kept(answer)),
        };
        let overlap = rotate.overlap()?;
        let actor = Actor { name: &actor, request: once.request() };
        let made = administration.rotate_key(WallTime::now(), actor, Some(&scope), &id, overlap).await;
        show_made::<F>(once, made).await
    }

    /// Revokes the key of this id. It may be asked again: one that is revoked stays so.
    pub(super) async fn revoke_key(
        &self,
        ask: Ask<impl Future<Output = Result<String, ApiError>> + Send>,
    ) -> Result<KeyView, ApiError> {
        let (principal, _place, id) = self.admit(ask, Role::Admin).await?;
        let Administrator { scope, actor, .. } = Administrator::of(principal)?;
        let administration = &self.tenancy.administration;
        administration.revoke_key(WallTime::now(), &actor, Some(&scope), &id).await.or_refused()
    }

    /// What the tenant used.
    pub(super) async fn usage(
        &self,
        ask: Ask<impl Future<Output = Result<ReportQuery, ApiError>> + Send>,
    ) -> Result<Report, ApiError> {
        let (principal, _place, query) = self.admit(ask, Role::Viewer).await?;
        // Bills are the owner's to see.
        let has_cost = principal.has(Role::Owner);
        query.report(self.tenancy.usage.as_ref(), &principal.tenant().name, has_cost).await
    }
}

fn kept(answer: router::idempotency::Answer) -> Kept {
    Kept { status: answer.status, body: answer.body.into() }
}
