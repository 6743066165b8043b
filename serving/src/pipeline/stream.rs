//! Streams of calls: each has a place for itself, and each of its calls another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::body::ChargedPlace;
use api::exchange::{AnyExchange, ProtocolAnswer};
use api::{BodyMeter, CallStream, HeldAnswerBytes, NextCall, StreamBounds, StreamedCall};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use models::tasks::Operation;
use router::{Place, PlaceMeter, Principal, Role};

use super::{Caller, authorise, infer};
use crate::app::App;
use crate::error::{ApiError, OrRefused};
use crate::server::WaitingBytes;

/// Charges a body to the place of its call.
#[derive(Debug)]
pub(crate) struct PlaceCharge(pub(crate) PlaceMeter);

impl ChargedPlace for PlaceCharge {
    fn hold(&self, bytes: usize) -> bool {
        self.0.hold(bytes).is_ok()
    }
}

/// A stream whose caller is known and has a place for it.
pub(super) struct Stream {
    app: Arc<App>,
    caller: Caller,
    principal: Principal,
    /// Calls that were begun.
    calls: AtomicU64,
    /// Of the stream itself, for as long as it lasts.
    place: Place,
}

struct OneCall {
    app: Arc<App>,
    caller: Caller,
    place: Place,
}

impl Stream {
    pub(super) async fn open(app: Arc<App>, caller: Caller) -> Result<Self, ApiError> {
        let principal = authorise(&app.tenancy.gatekeeper, &caller, Role::Editor).await?;
        let place = app.stream_places.take(&principal).or_refused()?;
        caller.body.admit_messages();
        Ok(Self { app, caller, principal, calls: AtomicU64::new(0), place })
    }
}

impl CallStream for Stream {
    fn room(self: Arc<Self>, bytes: usize) -> BoxFuture<'static, Result<(), ApiError>> {
        async move {
            while let Some(room) = self.caller.account.room() {
                room.await;
            }
            // There is that much room at some time, or it would be too large.
            let held = self.place.meter().hold_in_turn(bytes).await;
            held.map_err(|_| ApiError::BodyTooLarge { limit: self.bounds().message_bytes_max })
        }
        .boxed()
    }

    fn next_call(&self, bytes: usize) -> Option<NextCall> {
        let place = self.app.places.take_with(&self.principal, bytes).ok()?;
        // It is charged to the place of its own call.
        self.place.meter().release();
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let request_id = Arc::from(format!("{}.{number}", self.caller.request_id));
        // A message is a call: it has a line of its own in the access log.
        let line = self.caller.access.message(&request_id);
        let (access, body) = (line.access(), BodyMeter::default());
        body.decoded(bytes);
        let account = self.caller.account.of_messages();
        let caller = Caller { request_id, access, body, account, ..self.caller.clone() };
        let call = OneCall { app: Arc::clone(&self.app), caller, place };
        Some(NextCall { call: Box::new(call), line: Box::new(line) })
    }

    fn freed(&self) -> BoxFuture<'_, ()> {
        // Not within an async block, which would begin to listen when it is first polled.
        self.app.places.freed().boxed()
    }

    fn stopping(&self) -> BoxFuture<'_, ()> {
        self.app.stopping.cancelled().boxed()
    }

    fn waiting(&self) -> Box<dyn HeldAnswerBytes> {
        Box::new(self.caller.account.waiting())
    }

    fn bounds(&self) -> StreamBounds {
        let limits = &self.app.config.limits;
        StreamBounds {
            calls_max: limits.stream_calls_in_flight_max,
            answer_bytes_max: limits.stream_answer_bytes_max,
            // What is longer than all bodies together may be would wait for ever.
            message_bytes_max: limits.body_bytes_max.min(limits.body_bytes_in_flight_max),
            message_timeout: self.app.config.connections.body_timeout(),
        }
    }
}

impl StreamedCall for OneCall {
    fn request_id(&self) -> Arc<str> {
        Arc::clone(&self.caller.request_id)
    }

    fn refuse(self: Box<Self>, error: &ApiError) {
        self.caller.access.refused(error);
    }

    fn infer(
        self: Box<Self>,
        operation: Option<Operation>,
        exchange: Box<dyn AnyExchange>,
    ) -> BoxFuture<'static, Result<ProtocolAnswer, ApiError>> {
        let Self { app, caller, place } = *self;
        async move { infer(&app, &caller, operation, Some(place), exchange).await }.boxed()
    }
}

impl HeldAnswerBytes for WaitingBytes {
    fn add(&mut self, bytes: usize) {
        WaitingBytes::add(self, bytes);
    }

    fn remove(&mut self, bytes: usize) {
        WaitingBytes::remove(self, bytes);
    }

    fn bytes(&self) -> usize {
        WaitingBytes::bytes(self)
    }
}
