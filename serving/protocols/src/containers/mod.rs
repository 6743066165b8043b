//! The contracts of SageMaker and Vertex AI with containers: probes, `/invocations`, and predictions for
//! instances. The platform stands before the container and lets callers in by itself, so what it sends has no
//! credentials of ours: it is answered under a key that the operator sets for it, if there is one.

mod invocation;
mod openapi;
mod vertex;

use api::ApiError;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use tower::ServiceExt;

use crate::http::dialect::{self, Answer, Dialect};
use crate::http::target::{PathModel, Target};
use crate::tei::rest::health as state;
use crate::tei::{Fault, Refused, Tei};
use crate::{Dialects, Services, grpc};

pub(crate) use openapi::describe;

/// Names the model of an invocation, where SageMaker is asked for one.
const TARGET_MODEL: &str = "x-amzn-sagemaker-target-model";
/// Where the probes are answered.
const PING_PATH: &str = "/ping";
/// Where predictions are made.
const PREDICT_PATH: &str = "/vertex";

/// What the operator or the platform says of the contracts.
#[derive(Debug, Clone, Default)]
pub struct ContainerOptions {
    /// `Authorization` of calls that bring none.
    pub authorization: Option<HeaderValue>,
    /// Another path for probes.
    pub health_path: Option<String>,
    /// Another path for predictions.
    pub predict_path: Option<String>,
}

/// The contracts as a dialect: errors are those of text-embeddings-inference, whose containers are deployed
/// so.
pub struct Containers;

impl Dialect for Containers {
    const PROTOCOL: &'static str = "containers";

    fn error(error: &ApiError, request_id: &str) -> Answer {
        Tei::error(error, request_id)
    }
}

/// The routes. Servers of all kinds have the probes.
pub fn routes(services: &Services, health: &grpc::Health) -> Router {
    let probe = || {
        let health = health.clone();
        async move |request: Request| state(&health, &request)
    };
    let dialects = services.dialects;
    let probes = Router::new().route("/ping", get(probe()).post(probe())).route("/health", get(probe()));
    let calls = Router::new()
        .route("/invocations", post(invoke))
        .route("/vertex", post(predict))
        .with_state(services.clone());
    let named = Router::new().route("/models/{name}/invoke", post(invoke_named)).with_state(services.clone());
    let is_probed = dialects.containers || dialects.tei || dialects.openai;
    dialect::routes::<Containers>(dialects, is_probed, probes)
        .merge(dialect::routes::<Containers>(dialects, dialects.containers || dialects.tei, calls))
        .merge(dialect::routes::<Containers>(dialects, dialects.containers, named))
        .merge(loading(dialects))
}

/// SageMaker's routes that load and unload a model, or tell of one that was loaded so. Other methods of their
/// paths are other dialects', which say what they are.
fn loading(dialects: Dialects) -> Router {
    let refused = async move |request: Request| {
        if !dialects.containers {
            return crate::refuse(dialects, &ApiError::MethodNotAllowed, &request);
        }
        not_loaded_so()
    };
    Router::new().route("/models", post(refused)).route("/models/{name}", get(refused).delete(refused))
}

/// The platform would name a model by a hash, and where its files are.
fn not_loaded_so() -> Response {
    let error = "models are loaded when the server starts, from cards, and not by SageMaker's multi-model mode: \
                 POST /models/{name}/invoke or the header X-Amzn-SageMaker-Target-Model chooses among them";
    let refused = Refused { error: error.to_owned(), error_type: Fault::Backend };
    let answer = Answer::json(StatusCode::NOT_IMPLEMENTED, &refused);
    answer.unwrap_or_else(|_| Answer::empty(StatusCode::NOT_IMPLEMENTED)).into_response()
}

/// Whether a path is the dialect's.
pub(crate) fn is_path(path: &str) -> bool {
    let is_named = path.strip_prefix("/models/").and_then(|rest| rest.strip_suffix("/invoke"));
    is_named.is_some_and(|name| !name.contains('/'))
        || ["/ping", "/invocations", PREDICT_PATH].contains(&path)
}

/// The API with the paths that the platform has set, which may be those of other routes: they are looked at
/// before any route is.
pub fn at_their_paths(api: Router, options: &ContainerOptions) -> Router {
    let paths = [(&options.health_path, PING_PATH, "GET"), (&options.predict_path, PREDICT_PATH, "POST")];
    let paths: Vec<(String, &str, &str)> =
        paths.into_iter().filter_map(|(path, ours, method)| Some((path.clone()?, ours, method))).collect();
    if paths.is_empty() {
        return api;
    }
    let led = api.map_request(move |mut request: Request| {
        let asked = (request.uri().path(), request.method().as_str());
        let found = paths.iter().find(|(path, _, method)| (path.as_str(), *method) == asked);
        if let Some((_, ours, _)) = found {
            *request.uri_mut() = Uri::from_static(ours);
        }
        request
    });
    Router::new().fallback_service(led)
}

/// `POST /invocations`
async fn invoke(State(services): State<Services>, request: Request) -> Response {
    let name = request.headers().get(TARGET_MODEL).and_then(|name| name.to_str().ok()).map(str::to_owned);
    let shape = invocation::Invocation(Target::new(&services, PathModel(name)));
    dialect::answer(&services, shape, authorized(&services, request)).await
}

/// `POST /models/{name}/invoke`: the same for the model of the path.
async fn invoke_named(State(services): State<Services>, model: PathModel, request: Request) -> Response {
    let shape = invocation::Invocation(Target::new(&services, model));
    dialect::answer(&services, shape, authorized(&services, request)).await
}

/// `POST /vertex`
async fn predict(State(services): State<Services>, request: Request) -> Response {
    let shape = vertex::Instances(Target::new(&services, PathModel(None)));
    dialect::answer(&services, shape, authorized(&services, request)).await
}

/// A request with the credentials that the operator has set for those without.
fn authorized(services: &Services, mut request: Request) -> Request {
    let has_some = [AUTHORIZATION.as_str(), "x-api-key", "api-key"]
        .iter()
        .any(|name| request.headers().contains_key(*name));
    if let Some(authorization) = services.containers.authorization.clone().filter(|_| !has_some) {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn paths_of_the_platform() {
        let options = ContainerOptions {
            health_path: Some("/predict".to_owned()),
            predict_path: Some("/predict".to_owned()),
            ..ContainerOptions::default()
        };
        let api = Router::new()
            .route("/ping", get(async || "probe"))
            .route("/vertex", post(async || "prediction"))
            .route("/predict", post(async || "another dialect"))
            .route("/else", get(async || "else"));
        let api = at_their_paths(api, &options);
        for (method, path, expected) in [
            ("GET", "/predict", "probe"),
            ("POST", "/predict", "prediction"),
            ("GET", "/else", "else"),
            ("GET", "/ping", "probe"),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = api.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
            assert_eq!(answer.to_bytes(), expected, "{method} {path}");
        }
    }
}
