//! Routes that text-embeddings-inference and the family of OpenAI have both: whose a request is, the fields
//! of its body tell.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;

use crate::Services;
use crate::http::dialect::{self, Shape, not_found};
use crate::http::target::{PathModel, Target};
use crate::http::told::{self, has_field};
use crate::openai::{self, OpenAi, Style};
use crate::tei::Tei;
use crate::tei::rest;

/// The routes, for those of the two that are spoken.
pub(crate) fn routes(services: Services) -> Router {
    let is_on = services.dialects.tei || services.dialects.openai || services.dialects.cohere;
    let routes = Router::new().route("/rerank", post(rerank)).route("/tokenize", post(tokenize));
    dialect::routes::<Tei>(is_on, routes.with_state(services))
}

async fn rerank(State(services): State<Services>, request: Request) -> Response {
    let dialects = services.dialects;
    let tei = rest::Rerank(Target::new(&services, PathModel(None)));
    let target = Target::new(&services, PathModel(None));
    let openai = openai::Rerank { target, style: Style::Superset };
    let spoken = (dialects.tei, dialects.openai || dialects.cohere);
    answer(&services, spoken, (tei, openai), |body| has_field(body, &["documents"]), request).await
}

async fn tokenize(State(services): State<Services>, request: Request) -> Response {
    let dialects = services.dialects;
    let tei = rest::Tokenize(Target::new(&services, PathModel(None)));
    let openai = openai::Tokenize(Target::new(&services, PathModel(None)));
    let spoken = (dialects.tei, dialects.openai);
    answer(&services, spoken, (tei, openai), |body| has_field(body, &["prompt", "messages"]), request).await
}

/// Answers a request of one of two shapes, of those whose dialects are spoken.
async fn answer<A: Shape<Dialect = Tei>, B: Shape<Dialect = OpenAi>>(
    services: &Services,
    spoken: (bool, bool),
    (tei, openai): (A, B),
    is_openai: fn(&axum::body::Bytes) -> bool,
    request: Request,
) -> Response {
    match spoken {
        (true, true) => told::answer(services, (tei, openai), is_openai, request).await,
        (true, false) => dialect::answer(services, tei, request).await,
        (false, true) => dialect::answer(services, openai, request).await,
        (false, false) => not_found::<Tei>(request).await,
    }
}
