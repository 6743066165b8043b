//! `/v1/ml/keys` and `/v1/ml/usage`: over REST.

use std::sync::Arc;

use api::Reads;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use axum::{Json, Router, middleware, routing};
use protocols::v1::rest::errors::{self, Answer};
use router::WallTime;

use super::{Ask, OwnAdministration};
use crate::administration::made::JsonKey;
use crate::administration::page::Page;
use crate::administration::posted::read_post;
use crate::error::ApiError;
use crate::pipeline::Caller;
use crate::usage_report::ReportQuery;

/// The id in a path.
type Id = Result<Path<String>, PathRejection>;

/// The routes.
pub(in crate::administration) fn routes(own: Arc<OwnAdministration>) -> Router {
    Router::new()
        .route("/v1/ml/usage", routing::get(usage))
        .route("/v1/ml/keys", routing::get(list).post(create))
        .route("/v1/ml/keys/{id}", routing::delete(revoke))
        .route("/v1/ml/keys/{id}/rotate", routing::post(rotate))
        .layer(middleware::from_fn(errors::explain))
        .with_state(own)
}

fn id_of(id: Id) -> Result<String, ApiError> {
    id.map(|Path(id)| id).map_err(errors::bad_path)
}

async fn list(State(own): State<Arc<OwnAdministration>>, request: Request) -> Answer {
    let (caller, uri) = (Caller::of(&request), request.into_parts().0.uri);
    let read = async { Page::parse(&uri) };
    let page = own.keys(Ask { caller, reads: Reads::Head, read }).await?;
    Ok(page.answer("keys")?)
}

async fn create(State(own): State<Arc<OwnAdministration>>, request: Request) -> Answer {
    let caller = Caller::of(&request);
    let read = read_post(request, &own.bounds);
    Ok(own.create_key::<JsonKey>(Ask { caller, reads: Reads::Message, read }).await?)
}

async fn rotate(State(own): State<Arc<OwnAdministration>>, id: Id, request: Request) -> Answer {
    let caller = Caller::of(&request);
    let read = async {
        let id = id_of(id)?;
        let (rotate, repeat) = read_post(request, &own.bounds).await?;
        Ok(((id, rotate), repeat))
    };
    Ok(own.rotate_key::<JsonKey>(Ask { caller, reads: Reads::Message, read }).await?)
}

async fn revoke(State(own): State<Arc<OwnAdministration>>, id: Id, request: Request) -> Answer {
    let read = async { id_of(id) };
    let key = own.revoke_key(Ask { caller: Caller::of(&request), reads: Reads::Head, read }).await?;
    Ok(Json(key).into_response())
}

async fn usage(State(own): State<Arc<OwnAdministration>>, request: Request) -> Answer {
    let (caller, uri) = (Caller::of(&request), request.into_parts().0.uri);
    let read = async { ReportQuery::parse(&uri, WallTime::now()) };
    let report = own.usage(Ask { caller, reads: Reads::Head, read }).await?;
    Ok(report.answer())
}
