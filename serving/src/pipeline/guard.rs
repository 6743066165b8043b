//! How a call ended, told exactly once.

use std::sync::Arc;
use std::time::Duration;

use models::ModelEntry;
use models::tasks::Operation;
use router::Principal;
use units::Timestamp;

use super::caller::Caller;
use super::is_want_of_capacity;
use crate::app::App;
use crate::error::ApiError;
use crate::telemetry::{CallEnd, EndCode, Timeliness};

/// Tells telemetry how a request ended, exactly once: also when its future is dropped because the
/// caller went away.
pub(super) struct CallGuard<'a> {
    app: &'a App,
    pub(super) caller: &'a Caller,
    /// What is asked for, once it is known.
    pub(super) operation: Option<Operation>,
    /// Who calls, once it is known.
    pub(super) principal: Option<Principal>,
    /// Whether anything of the call is counted against its tenant's limit.
    pub(super) is_counted: bool,
    pub(super) model: Option<Arc<ModelEntry>>,
    started: Timestamp,
    code: EndCode,
    /// Whether the model's target can be expected to be met; none before that is known.
    pub(super) has_target: Option<bool>,
    timeliness: Option<Timeliness>,
    _in_flight: crate::telemetry::InFlight,
}

impl<'a> CallGuard<'a> {
    pub(super) fn new(
        app: &'a App,
        caller: &'a Caller,
        operation: Option<Operation>,
        started: Timestamp,
    ) -> Self {
        let _in_flight = app.telemetry.calls.started();
        Self {
            app,
            caller,
            operation,
            principal: None,
            is_counted: false,
            model: None,
            started,
            code: EndCode::Cancelled,
            has_target: None,
            timeliness: None,
            _in_flight,
        }
    }

    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    pub(super) fn duration(&self) -> Duration {
        self.app.engine.now().saturating_duration_since(self.started)
    }

    /// Whether the request met its model's target; without a result the caller left.
    fn timeliness<A>(&self, result: Option<&Result<A, ApiError>>) -> Timeliness {
        let target = self.model.as_ref().map_or(Duration::MAX, |entry| entry.card.p99_target);
        let is_late = match (result, self.has_target) {
            (Some(Err(ApiError::Overloaded { .. } | ApiError::DeadlineInfeasible { .. })), None) => {
                return Timeliness::TurnedAway;
            }
            (_, None | Some(false)) => return Timeliness::Irrelevant,
            (None, _) if self.duration() <= target => return Timeliness::Irrelevant,
            (Some(Ok(_)) | None, _) => self.duration() > target,
            (Some(Err(error)), _) if is_want_of_capacity(error) => true,
            (Some(Err(_)), _) => return Timeliness::Irrelevant,
        };
        if is_late { Timeliness::Late } else { Timeliness::InTime }
    }

    pub(super) fn finish<A>(&mut self, result: &Result<A, ApiError>) {
        self.timeliness = Some(self.timeliness(Some(result)));
        self.code = match result {
            Ok(_) => EndCode::Ok,
            Err(error) => {
                if let (Some(limit), Some(principal)) = (error.limit(), &self.principal) {
                    self.app.telemetry.tenancy.refused(limit);
                    self.app.telemetry.usage.tenants.refused(&principal.tenant().name, limit);
                }
                if let Some(detail) = error.log_detail() {
                    let code = error.row().code;
                    tracing::error!(request_id = %self.caller.request_id, code, detail, "request failed");
                }
                EndCode::Error(error.kind())
            }
        };
        self.caller.access.ended(result.as_ref().err());
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if self.timeliness.is_none() {
            self.caller.access.abandoned();
        }
        self.app.telemetry.calls.ended(CallEnd {
            protocol: self.caller.protocol,
            task: self.operation.map_or("other", Operation::as_str),
            model: self.model.as_ref().map_or("", |entry| entry.card.name.as_str()),
            code: self.code,
            timeliness: self.timeliness.unwrap_or_else(|| self.timeliness::<()>(None)),
            duration: self.duration(),
        });
    }
}
