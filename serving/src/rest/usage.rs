//! `GET /v1/ml/usage`: what the caller's own tenant used.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use router::{Role, WallTime};

use super::refuse;
use crate::app::App;
use crate::caller;
use crate::pipeline;
use crate::usage_report::ReportQuery;

pub(super) async fn own(State(app): State<Arc<App>>, request: Request) -> Response {
    let request_id = caller::request_id(request.extensions());
    let result = async move {
        let caller = caller::caller(request.headers(), request.extensions(), "rest")?;
        let principal = pipeline::authorise(&app, &caller, Role::Viewer).await?;
        let query = ReportQuery::parse(request.uri(), WallTime::now())?;
        // Bills are the owner's to see.
        let has_cost = principal.has(Role::Owner);
        query.answer(app.tenancy.usage.as_ref(), &principal.tenant().name, has_cost).await
    }
    .await;
    result.unwrap_or_else(|error| refuse(&error, &request_id))
}
