//! One POST of an inference route as a call.

use std::marker::PhantomData;

use api::tasks::OnError;
use api::{ApiError, Call, Exchange, InferResponse, Kept, Made, Quota, Repeat, Reply};
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use super::wire::{self, WireTask};
use crate::Bounds;
use crate::head::rest_timeout;
use crate::http::{body, limits};
use crate::idempotency::key;

/// What bytes are declared as.
const OCTETS: &str = "application/octet-stream";
/// How many vectors there are in a body of bytes, and how many bytes each has.
const EMBEDDING_SHAPE: HeaderName = HeaderName::from_static("x-embedding-shape");

/// A request for the task `W`, of which nothing is read yet.
pub(super) struct Post<W: WireTask> {
    pub(super) request: Request,
    pub(super) bounds: Bounds,
    pub(super) task: PhantomData<fn() -> W>,
}

/// Answers a request for the task `W`.
pub(super) struct PostReply<W: WireTask> {
    rendering: W::Rendering,
    /// How many vectors the answer has, where it is their bytes.
    rows: Option<usize>,
}

impl<W: WireTask> Exchange for Post<W> {
    type Reply = PostReply<W>;

    async fn read(self) -> Result<Call<PostReply<W>>, ApiError> {
        let (parts, content) = self.request.into_parts();
        let timeout = rest_timeout(&parts.headers)?;
        let (headers, route) = (parts.headers.clone(), parts.uri.path().to_owned());
        let body = body::read(Request::from_parts(parts, content), &self.bounds).await?;
        let (mut request, rendering) = wire::parse::<W>(&body)?;
        let rows = (W::BYTES.is_some() && wants_bytes(&headers)).then_some(request.inputs.len());
        if rows.is_some() && request.on_error == OnError::Partial {
            let problem = "bytes have no place for an error: ask for JSON, or for `fail`".to_owned();
            return Err(ApiError::InvalidRequest { field: "parameters.on_error".to_owned(), problem });
        }
        // The same request for another kind of answer is another one.
        let route = if rows.is_some() { format!("{route} {OCTETS}") } else { route };
        request.timeout = request.timeout.or(timeout);
        let repeat = key(&headers)?.map(|key| Repeat { key: key.to_owned(), route, body });
        Ok(Call { request, repeat, reply: PostReply { rendering, rows } })
    }
}

impl<W: WireTask> Reply for PostReply<W> {
    type Answer = Response;

    fn answer(self, response: InferResponse, _: bool) -> Result<Made<Response>, ApiError> {
        let quotas = response.quotas.clone();
        let body = match W::BYTES.filter(|_| self.rows.is_some()) {
            Some(bytes) => wire::bytes(response, &self.rendering, bytes)?,
            None => serde_json::to_vec(&wire::Response::new::<W>(response, &self.rendering))
                .map_err(ApiError::internal)?,
        };
        let kept = Kept { status: StatusCode::OK.as_u16(), body: Bytes::from(body) };
        let mut answer = super::json(StatusCode::OK, kept.body.clone());
        self.declare(&kept, answer.headers_mut());
        limits::show(&quotas, answer.headers_mut());
        Ok(Made { answer, kept })
    }

    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Response, ApiError> {
        let mut answer = super::replay(kept.clone());
        self.declare(&kept, answer.headers_mut());
        limits::show(quotas, answer.headers_mut());
        Ok(answer)
    }
}

impl<W: WireTask> PostReply<W> {
    /// Says that an answer is bytes, if it is, and of how many vectors of how many bytes.
    fn declare(&self, kept: &Kept, headers: &mut HeaderMap) {
        let Some(rows) = self.rows.filter(|rows| *rows > 0) else { return };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
        if let Ok(shape) = HeaderValue::try_from(format!("{rows},{}", kept.body.len() / rows)) {
            headers.insert(EMBEDDING_SHAPE, shape);
        }
    }
}

/// Whether a caller takes bytes and no JSON.
fn wants_bytes(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = accepted.flat_map(|value| value.split(','));
    let essences: Vec<&str> = types.map(|one| one.split(';').next().unwrap_or_default().trim()).collect();
    let has = |name: &str| essences.iter().any(|essence| essence.eq_ignore_ascii_case(name));
    has(OCTETS) && !has(body::MEDIA_TYPE)
}
