//! Its REST routes.

mod embed;
mod info;
mod openapi;
mod predict;
mod rerank;
mod root;
mod tokens;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};

use super::errors::Tei;
use crate::http::dialect::{self, Shape};
use crate::http::target::{PathModel, Target};
use crate::{Services, grpc};

pub use embed::Embed;
pub(crate) use info::{alive_schema, described};
pub use info::{health, info};
pub(crate) use openapi::describe;
pub use predict::Predict;
pub use rerank::{Rerank, Similarity};
pub use root::Root;
pub use tokens::{Decode, Tokenize};

/// The routes. Those of health are of the containers' contract too.
pub fn routes(services: &Services, health: &grpc::Health) -> Router {
    let routes = Router::new()
        .route("/info", get(info))
        .route("/embed", post(answer::<Embed>))
        .route("/embed_all", post(answer::<embed::EmbedAll>))
        .route("/embed_sparse", post(answer::<embed::EmbedSparse>))
        .route("/predict", post(answer::<Predict>))
        .route("/similarity", post(answer::<Similarity>))
        .route("/decode", post(answer::<Decode>))
        .route("/models/{name}/info", get(info))
        .route("/models/{name}/embed", post(answer::<Embed>))
        .route("/models/{name}/embed_all", post(answer::<embed::EmbedAll>))
        .route("/models/{name}/embed_sparse", post(answer::<embed::EmbedSparse>))
        .route("/models/{name}/predict", post(answer::<Predict>))
        .route("/models/{name}/rerank", post(answer::<Rerank>))
        .route("/models/{name}/similarity", post(answer::<Similarity>))
        .route("/models/{name}/tokenize", post(answer::<Tokenize>))
        .route("/models/{name}/decode", post(answer::<Decode>))
        .with_state(services.clone());
    let probe = {
        let health = health.clone();
        async move |request: Request| info::alive(&health, &request)
    };
    let dialects = services.dialects;
    // KServe's v1 has the probe too.
    let root = Router::new().route("/", get(probe));
    let root = if dialects.tei { root.route("/", post(answer::<Root>)) } else { root };
    let root = root.with_state(services.clone());
    dialect::routes::<Tei>(dialects, dialects.tei, routes).merge(dialect::routes::<Tei>(
        dialects,
        dialects.tei || dialects.oip,
        root,
    ))
}

/// A shape that needs to know its target alone.
pub trait Targeted: Shape {
    /// The shape of a request for it.
    fn of(target: Target) -> Self;
}

async fn answer<S: Targeted>(
    State(services): State<Services>,
    model: PathModel,
    request: Request,
) -> Response {
    let shape = S::of(Target::new(&services, model));
    dialect::answer(&services, shape, request).await
}
