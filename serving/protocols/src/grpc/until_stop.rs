//! Ends the answers of services that would go on for as long as their callers like, when the server stops.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use api::{ApiError, request_id};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response;
use http_body::Frame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::status;

/// An answer, or its end if the server stops before.
struct UntilStop {
    body: Body,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    status: Option<Status>,
}

/// Middleware that ends answers when the server stops.
pub(super) async fn until_stop(
    State(stopping): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let status = Some(status(&ApiError::ShuttingDown, &request_id(request.extensions())));
    let stopped = Box::pin(stopping.cancelled_owned());
    next.run(request).await.map(|body| Body::new(UntilStop { body, stopped, status }))
}

impl HttpBody for UntilStop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.status.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(this.stopped.as_mut().poll(context));
        let Some(status) = this.status.take() else { return Poll::Ready(None) };
        let mut trailers = status.into_http::<Body>().into_parts().0.headers;
        trailers.remove(CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.status.is_none() || self.body.is_end_stream()
    }
}
