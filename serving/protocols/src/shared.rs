//! Routes that two dialects have both, of text-embeddings-inference, Cohere and the family of OpenAI: whose a
//! request is, the fields of its body tell.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;

use crate::cohere::{self, Cohere};
use crate::http::dialect::{self, Shape, not_found};
use crate::http::target::{PathModel, Target};
use crate::http::told::{self, has_field};
use crate::openai::{self, Style};
use crate::tei::Tei;
use crate::tei::rest;
use crate::{Dialects, Services};

const RERANK_PATH: &str = "/rerank";
const TOKENIZE_PATH: &str = "/tokenize";
const CLASSIFY_PATH: &str = "/v1/classify";

/// The routes, for those of the two that are spoken.
pub(crate) fn routes(services: Services) -> Router {
    let dialects = services.dialects;
    let rerank = Router::new().route(RERANK_PATH, post(rerank)).with_state(services.clone());
    let tokenize = Router::new().route(TOKENIZE_PATH, post(tokenize)).with_state(services.clone());
    let classify = Router::new().route(CLASSIFY_PATH, post(classify)).with_state(services);
    dialect::routes::<Tei>(dialects, dialects.tei || is_second(RERANK_PATH, dialects), rerank)
        .merge(dialect::routes::<Tei>(dialects, dialects.tei || is_second(TOKENIZE_PATH, dialects), tokenize))
        .merge(dialect::routes::<Cohere>(
            dialects,
            dialects.cohere || is_second(CLASSIFY_PATH, dialects),
            classify,
        ))
}

/// Whether a path is one of these whose second dialect, which is OpenAI's, alone is spoken: then all that
/// comes there is of it. Otherwise what is refused before a body is read is refused in the first one's form.
pub(crate) fn is_second(path: &str, dialects: Dialects) -> bool {
    match path {
        RERANK_PATH => !dialects.tei && (dialects.openai || dialects.cohere),
        TOKENIZE_PATH => !dialects.tei && dialects.openai,
        CLASSIFY_PATH => !dialects.cohere && dialects.openai,
        _ => false,
    }
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

/// Cohere's texts are `inputs`, Jina's `input`.
async fn classify(State(services): State<Services>, request: Request) -> Response {
    let (dialects, target) = (services.dialects, Target::new(&services, PathModel(None)));
    let shapes = (cohere::Classify(target.clone()), openai::Classification(target));
    let spoken = (dialects.cohere, dialects.openai);
    answer(&services, spoken, shapes, |body| has_field(body, &["input"]), request).await
}

/// Answers a request of one of two shapes, of those whose dialects are spoken.
async fn answer<A: Shape, B: Shape>(
    services: &Services,
    spoken: (bool, bool),
    (first, second): (A, B),
    is_second: fn(&Bytes) -> bool,
    request: Request,
) -> Response {
    match spoken {
        (true, true) => told::answer(services, (first, second), is_second, request).await,
        (true, false) => dialect::answer(services, first, request).await,
        (false, true) => dialect::answer(services, second, request).await,
        (false, false) => not_found::<A::Dialect>(request).await,
    }
}
