//! Hugging Face's tasks as its hosted API and `huggingface_hub.InferenceClient` have them: `{"inputs",
//! "parameters"}` to a URL that means one model, and one task where the model has several.

mod entities;
mod openapi;
mod parameters;
mod pipeline;

use api::{ApiError, request_id};
use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::post;
use serde::Serialize;

use crate::Services;
use crate::http::dialect::{self, Answer, Dialect};
use crate::http::target::{PathModel, Target};
use crate::http::words::Words;

pub(crate) use openapi::describe;
pub use pipeline::{Pipeline, PipelineTask};

/// The dialect.
pub struct HuggingFace;

impl Dialect for HuggingFace {
    const PROTOCOL: &'static str = "huggingface";
    const WORDS: Option<Words> = Some(Words {
        parameters: &[("labels", "parameters.candidate_labels"), ("reference", "inputs.source_sentence")],
        ..Words::of_array("inputs", "`truncate` true cuts it off there")
    });

    fn error(error: &ApiError, _: &str) -> Answer {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        let status = error.row().http;
        Answer::json(status, &Body { error: error.to_string() }).unwrap_or_else(|_| Answer::empty(status))
    }
}

/// The routes.
pub fn routes(services: &Services) -> Router {
    let dialects = services.dialects;
    let routes = Router::new()
        .route("/hf/{name}", post(answer))
        .route("/models/{name}", post(answer))
        .route("/models/{name}/pipeline/{task}", post(answer))
        .with_state(services.clone());
    dialect::routes::<HuggingFace>(dialects, dialects.huggingface, routes)
}

async fn answer(
    State(services): State<Services>,
    model: PathModel,
    // Where it is no UTF-8 there is no such model.
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let task = params.ok().and_then(|params| {
        params.iter().find(|(name, _)| *name == "task").map(|(_, task)| PipelineTask::of_name(task))
    });
    let task = match task {
        Some(None) => {
            let id = request_id(request.extensions());
            return dialect::refuse::<HuggingFace>(&ApiError::RouteNotFound, &id);
        }
        Some(Some(task)) => Some(task),
        None => None,
    };
    let shape = Pipeline { target: Target::new(&services, model), task };
    dialect::answer(&services, shape, request).await
}

/// Whether a path is the dialect's.
pub(crate) fn is_path(path: &str) -> bool {
    let rest = path.strip_prefix("/hf/").or_else(|| path.strip_prefix("/models/"));
    rest.is_some_and(|rest| !rest.is_empty())
}
