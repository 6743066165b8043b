//! What the dialects of other servers over HTTP share: a POST is one call, read and answered in the dialect's
//! own shape, with its own form of errors. Keys, limits, deadlines, idempotency and metering are those of
//! every call.

use std::sync::{Arc, OnceLock};

use api::{
    ApiError, Call, Caller, Exchange, InferRequest, InferResponse, Kept, Made, Operation, Quota, Repeat,
    Reply, request_id,
};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::from_fn;
use axum::response::Response;
use serde::Serialize;

use super::words::Words;
use super::{body, failed, limits};
use crate::head::rest_timeout;
use crate::idempotency::{REPLAYED, key};
use crate::{Bounds, Dialects, Services};

/// The API of another server.
pub trait Dialect: 'static {
    /// As metrics and logs name it.
    const PROTOCOL: &'static str;
    /// Headers by which its requests are read or its answers written, in small letters. Shapes see no others,
    /// and with other values of these a request is another one under its idempotency key.
    const HEADERS: &'static [&'static str] = &[];

    /// What it calls what our own API calls otherwise; none: the same.
    const WORDS: Option<Words> = None;

    /// What lists the models, for whoever has asked for one that there is not.
    const MODELS: &'static str = "GET /v1/ml/models";

    /// An error in its words.
    fn message(error: &ApiError) -> String {
        match error {
            ApiError::ModelNotFound => format!("no such model; {} lists them", Self::MODELS),
            error => error.to_string(),
        }
    }

    /// Its form of an error: status, headers of its own and body. What every dialect says in headers, such as
    /// when to come again, is added.
    fn error(error: &ApiError, request_id: &str) -> Answer;

    /// Its own headers for what is left of a tenant's limits, beside those of every answer.
    fn show_limits(_quotas: &[Quota], _headers: &mut HeaderMap) {}
}

/// One kind of request of a dialect, with what is known of it before its body is read, such as the model in
/// its path.
pub trait Shape: Send + 'static {
    /// The dialect that it is of.
    type Dialect: Dialect;
    /// What of the request decides how the answer is written.
    type Rendering: Send + 'static;
    /// Whether a body has to be declared as JSON.
    const IS_JSON: bool = true;

    /// What is asked for, where that is known before the body is read.
    fn operation(&self) -> Option<Operation>;

    /// Reads a request. Its time-out is that of the head, unless this says another.
    ///
    /// # Errors
    /// It cannot be meant. The message never quotes an input.
    fn read(self, head: &Parts, body: &Bytes) -> Result<(InferRequest, Self::Rendering), ApiError>;

    /// What a request calls what our own API calls otherwise.
    fn words(_: &Self::Rendering) -> Option<Words> {
        <Self::Dialect as Dialect>::WORDS
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// It cannot be written.
    fn write(response: InferResponse, rendering: Self::Rendering) -> Result<Answer, ApiError>;
}

/// An answer as it is sent, and kept for callers who come again.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its headers, with its content type.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// An answer of JSON.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
        let json = HeaderValue::from_static(body::MEDIA_TYPE);
        Ok(Self { status, headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]), body: body.into() })
    }

    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// The answer as it is sent.
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        (*response.status_mut(), *response.headers_mut()) = (self.status, self.headers);
        response
    }

    /// What makes it again: its headers, an empty line, its body.
    fn keep(&self) -> Kept {
        let mut kept = Vec::with_capacity(self.body.len() + 64);
        for (name, value) in &self.headers {
            kept.extend_from_slice(name.as_str().as_bytes());
            kept.push(b':');
            kept.extend_from_slice(value.as_bytes());
            kept.push(b'\n');
        }
        kept.push(b'\n');
        kept.extend_from_slice(&self.body);
        Kept { status: self.status.as_u16(), body: kept.into() }
    }

    /// The answer of what was kept; none if that is something else.
    fn again(kept: &Kept) -> Option<Self> {
        let mut headers = HeaderMap::new();
        let mut rest = kept.body.clone();
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = rest.split_to(end + 1);
            let Some(line) = line.strip_suffix(b"\n").filter(|line| !line.is_empty()) else { break };
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            headers.append(name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?);
        }
        Some(Self { status: StatusCode::from_u16(kept.status).ok()?, headers, body: rest })
    }
}

/// Answers a request of some shape.
pub async fn answer<S: Shape>(services: &Services, shape: S, request: Request) -> Response {
    let id = request_id(request.extensions());
    call(services, shape, request).await.unwrap_or_else(|error| refuse::<S::Dialect>(&error, &id))
}

/// Answers a request of some shape, for who knows better in which form it is refused.
///
/// # Errors
/// Whatever [`ApiError`] names.
pub async fn call<S: Shape>(services: &Services, shape: S, request: Request) -> Result<Response, ApiError> {
    let extensions = request.extensions().clone();
    let caller = Caller::of_dialect(request.headers(), extensions, <S::Dialect as Dialect>::PROTOCOL);
    let (operation, bounds) = (shape.operation(), services.bounds);
    let words = Arc::new(OnceLock::new());
    let post = Post { shape, request, bounds, words: Arc::clone(&words) };
    let answer = services.inference.call(caller, operation, post).await;
    answer.map_err(|error| match (error, words.get().copied().unwrap_or(<S::Dialect as Dialect>::WORDS)) {
        (ApiError::Input(error), Some(words)) => words.of(error),
        (error, _) => error,
    })
}

/// An error as an answer of a dialect.
pub fn refuse<D: Dialect>(error: &ApiError, request_id: &str) -> Response {
    let answer = D::error(error, request_id);
    let is_unknown = answer.status == StatusCode::UNAUTHORIZED;
    let mut response = failed(error, answer.into_response());
    limits::show_refused(error, response.headers_mut());
    if is_unknown {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Routes that refuse what is no method of theirs in the form of the dialect that their path is of, and
/// everything in this one's while it is switched off.
pub fn routes<D: Dialect>(dialects: Dialects, is_on: bool, routes: Router) -> Router {
    let refuse_method =
        async move |request: Request| crate::refuse(dialects, &ApiError::MethodNotAllowed, &request);
    let routes = routes.method_not_allowed_fallback(refuse_method);
    if is_on { routes } else { routes.layer(from_fn(async |request, _| not_found::<D>(request).await)) }
}

/// Answers what is no route, for paths that are the dialect's alone.
pub async fn not_found<D: Dialect>(request: Request) -> Response {
    refuse::<D>(&ApiError::RouteNotFound, &request_id(request.extensions()))
}

/// Those of some headers that have one of these names.
fn kept_headers(headers: &HeaderMap, names: &[&'static str]) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in names {
        for value in headers.get_all(*name) {
            kept.append(*name, value.clone());
        }
    }
    kept
}

/// What a request is known by beside its body: its path, and the headers that its shape has seen.
fn whole_route(head: &Parts) -> String {
    let mut route = head.uri.path().to_owned();
    for (name, value) in &head.headers {
        route.push_str(&format!(" {name}: {}", value.as_bytes().escape_ascii()));
    }
    route
}

/// A request of which nothing is read yet.
struct Post<S> {
    shape: S,
    request: Request,
    bounds: Bounds,
    /// Those of the request, once it is read.
    words: Arc<OnceLock<Option<Words>>>,
}

/// Answers it.
struct PostReply<S: Shape>(S::Rendering);

impl<S: Shape> Exchange for Post<S> {
    type Reply = PostReply<S>;

    async fn read(self) -> Result<Call<PostReply<S>>, ApiError> {
        let (mut head, content) = self.request.into_parts();
        let timeout = rest_timeout(&head.headers)?;
        let key = key(&head.headers)?.map(str::to_owned);
        let request = Request::from_parts(head.clone(), content);
        let body = match S::IS_JSON {
            true => body::read(request, &self.bounds).await?,
            false => body::read_any(request, &self.bounds).await?,
        };
        head.headers = kept_headers(&head.headers, <S::Dialect as Dialect>::HEADERS);
        let (mut request, rendering) = self.shape.read(&head, &body)?;
        request.timeout = request.timeout.or(timeout);
        // A request is read once.
        let _ = self.words.set(S::words(&rendering));
        let repeat = key.map(|key| Repeat { key, route: whole_route(&head), body: body.clone() });
        Ok(Call { request, repeat, reply: PostReply(rendering) })
    }
}

impl<S: Shape> Reply for PostReply<S> {
    type Answer = Response;

    fn answer(self, response: InferResponse, is_kept: bool) -> Result<Made<Response>, ApiError> {
        let quotas = response.quotas.clone();
        let answer = S::write(response, self.0)?;
        let kept = if is_kept { answer.keep() } else { Kept::default() };
        let mut answer = answer.into_response();
        limits::show(&quotas, answer.headers_mut());
        S::Dialect::show_limits(&quotas, answer.headers_mut());
        Ok(Made { answer, kept })
    }

    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Response, ApiError> {
        let answer =
            Answer::again(&kept).ok_or_else(|| ApiError::internal("what was kept cannot be read"))?;
        let mut answer = answer.into_response();
        answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        limits::show(quotas, answer.headers_mut());
        S::Dialect::show_limits(quotas, answer.headers_mut());
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_known_by_what_its_shape_sees() {
        let head = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/v2/x?a=1");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (mut head, _) = request.body(Body::empty()).unwrap().into_parts();
            head.headers =
                kept_headers(&head.headers, &["accept-encoding", "inference-header-content-length"]);
            (head.headers.len(), whole_route(&head))
        };
        let plain = (0, "/v2/x".to_owned());
        assert_eq!(head(&[]), plain);
        assert_eq!(head(&[("user-agent", "x"), ("authorization", "Bearer x")]), plain);
        let length = ("inference-header-content-length", "7");
        assert_eq!(head(&[length]), (1, "/v2/x inference-header-content-length: 7".to_owned()));
        let both = [length, ("accept-encoding", "gzip"), ("accept-encoding", "\u{e9}")];
        let known =
            "/v2/x accept-encoding: gzip accept-encoding: \\xc3\\xa9 inference-header-content-length: 7";
        assert_eq!(head(&both), (3, known.to_owned()));
    }

    #[test]
    fn an_answer_is_kept_with_its_headers() {
        let check = |headers: &[(&'static str, &'static str)], body: &'static [u8]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let headers: HeaderMap = headers.iter().map(pair).collect();
            let answer = Answer { status: StatusCode::OK, headers, body: Bytes::from_static(body) };
            let again = Answer::again(&answer.keep()).unwrap();
            assert_eq!(
                (again.status, &again.headers, &again.body),
                (answer.status, &answer.headers, &answer.body)
            );
        };
        check(&[], b"");
        check(&[("content-type", "application/json")], b"{}");
        check(
            &[("content-type", "application/octet-stream"), ("inference-header-content-length", "7")],
            b"\n\n:\0",
        );
        let foreign = Kept { status: 200, body: Bytes::from_static(b"no lines") };
        assert!(Answer::again(&foreign).is_none());
    }
}
