//! One POST of an inference route as a call.

use std::marker::PhantomData;

use api::{ApiError, Call, Exchange, InferResponse, Kept, Made, Quota, Repeat, Reply};
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use super::wire::{self, WireTask};
use crate::Bounds;
use crate::head::rest_timeout;
use crate::http::{body, limits};
use crate::idempotency::key;

/// A request for the task `W`, of which nothing is read yet.
pub(super) struct Post<W: WireTask> {
    pub(super) request: Request,
    pub(super) bounds: Bounds,
    pub(super) task: PhantomData<fn() -> W>,
}

/// Answers a request for the task `W`.
pub(super) struct PostReply<W: WireTask> {
    rendering: W::Rendering,
}

impl<W: WireTask> Exchange for Post<W> {
    type Reply = PostReply<W>;

    async fn read(self) -> Result<Call<PostReply<W>>, ApiError> {
        let (parts, content) = self.request.into_parts();
        let timeout = rest_timeout(&parts.headers)?;
        let (headers, route) = (parts.headers.clone(), parts.uri.path().to_owned());
        let body = body::read(Request::from_parts(parts, content), &self.bounds).await?;
        let (mut request, rendering) = wire::parse::<W>(&body)?;
        request.timeout = request.timeout.or(timeout);
        let repeat = key(&headers)?.map(|key| Repeat { key: key.to_owned(), route, body });
        Ok(Call { request, repeat, reply: PostReply { rendering } })
    }
}

impl<W: WireTask> Reply for PostReply<W> {
    type Answer = Response;

    fn answer(self, response: InferResponse, _: bool) -> Result<Made<Response>, ApiError> {
        let quotas = response.quotas.clone();
        let text = serde_json::to_vec(&wire::Response::new::<W>(response, &self.rendering));
        let body = Bytes::from(text.map_err(ApiError::internal)?);
        let mut answer = super::json(StatusCode::OK, body.clone());
        limits::show(&quotas, answer.headers_mut());
        Ok(Made { answer, kept: Kept { status: StatusCode::OK.as_u16(), body } })
    }

    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Response, ApiError> {
        let mut answer = super::replay(kept);
        limits::show(quotas, answer.headers_mut());
        Ok(answer)
    }
}
