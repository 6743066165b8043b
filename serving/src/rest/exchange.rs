//! One POST of an inference route as the pipeline sees it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use router::Principal;
use router::idempotency::{Answer, Attempt};
use router::limit::{Quota, Unit};

use super::idempotency;
use super::wire::{self, WireTask};
use super::{body, limits};
use crate::app::App;
use crate::caller;
use crate::error::ApiError;
use crate::idempotency::{Once, Sender, Start};
use crate::pipeline::{Asked, Exchange, InferResponse};

/// A request for the task `W`.
pub(super) struct Post<W: WireTask> {
    app: Arc<App>,
    request: Option<Request>,
    rendering: W::Rendering,
    once: Option<Once>,
    /// Of the answer.
    body: Bytes,
}

impl<W: WireTask> Post<W> {
    pub(super) fn new(app: Arc<App>, request: Request) -> Self {
        let rendering = W::Rendering::default();
        Self { app, request: Some(request), rendering, once: None, body: Bytes::new() }
    }
}

impl<W: WireTask> Exchange for Post<W> {
    type Answer = Response;

    async fn read(&mut self, principal: &Principal) -> Result<Asked<Response>, ApiError> {
        let request = self.request.take().ok_or_else(|| ApiError::internal("a request is read once"))?;
        let (parts, content) = request.into_parts();
        let timeout = caller::rest_timeout(&parts.headers)?;
        let (headers, route) = (parts.headers.clone(), parts.uri.path().to_owned());
        let body = body::read(Request::from_parts(parts, content), &self.app.config).await?;
        let (mut request, rendering) = wire::parse::<W>(&body)?;
        request.timeout = request.timeout.or(timeout);
        self.rendering = rendering;
        match Once::start(&self.app, Sender::from(principal), &route, &headers, &body).await? {
            Start::First(once) => {
                self.once = Some(once);
                Ok(Asked::Request(request))
            }
            Start::Again(answer) => {
                Ok(Asked::Again { model: request.model, answer: idempotency::replay(answer) })
            }
        }
    }

    async fn answer(&mut self, response: InferResponse) -> Result<Response, ApiError> {
        let quotas = response.quotas.clone();
        let text = serde_json::to_vec(&wire::Response::new::<W>(response, &self.rendering));
        let body = Bytes::from(text.map_err(ApiError::internal)?);
        self.body = body.clone();
        let mut response = idempotency::json(StatusCode::OK, body);
        limits::show(&quotas, response.headers_mut());
        Ok(response)
    }

    fn show_quota(&self, answer: &mut Response, quota: &Quota) {
        limits::show(&[(Unit::Requests, *quota)], answer.headers_mut());
    }

    fn to_keep(&mut self) -> Option<(Attempt, Answer)> {
        let attempt = self.once.take()?.attempt()?;
        let body = std::mem::take(&mut self.body).to_vec();
        Some((attempt, Answer { status: StatusCode::OK.as_u16(), body }))
    }
}
