//! `GET /v1/ml/usage`: what the caller's own tenant used.

use std::sync::Arc;

use axum::extract::{Request, State};
use protocols::v1::rest::errors::Answer;
use router::{Role, WallTime};

use super::OwnAdministration;
use crate::pipeline::{Caller, authorise};
use crate::usage_report::ReportQuery;

pub(super) async fn own(State(own): State<Arc<OwnAdministration>>, request: Request) -> Answer {
    let caller = Caller::of(&request);
    let principal = authorise(&own.tenancy.gatekeeper, &caller, Role::Viewer).await?;
    let query = ReportQuery::parse(request.uri(), WallTime::now())?;
    // Bills are the owner's to see.
    let has_cost = principal.has(Role::Owner);
    Ok(query.answer(own.tenancy.usage.as_ref(), &principal.tenant().name, has_cost).await?)
}
