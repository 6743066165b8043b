//! The life of a request, the same for every protocol: protocols only translate.
//!
//! authenticate -> take a place -> read -> admit -> tokenise -> settle the reservation -> submit with a deadline -> batch ->
//! execute -> decode -> meter -> respond.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use models::tasks::{Answer, OnError, Parameters};
use models::{ModelEntry, ModelState, NoDefault, Task};
use router::idempotency::{self, Attempt};
use router::ledger::JournalError;
use router::limit::{Quota, Unit};
use router::{
    Demand, Outcome, Peer, Place, PlaceError, Principal, RefusedInputs, Reservation, Role, WallTime,
};
use units::{ModelId, Priority, Timestamp};

use crate::app::App;
use crate::body_meter::BodyMeter;
use crate::error::ApiError;
use crate::load::{Excess, Part};
use crate::server::Account;
use crate::telemetry::access::CANCELLED;
use crate::telemetry::{Access, CallEnd, Timeliness};
use crate::work::Work;

/// A call that is refused when so much of it was read counts against the limit.
const COUNTED_FROM_BYTES: u64 = 64 << 10;

/// Who is calling and how, before anything is checked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Value of the `Authorization` header or metadata entry.
    pub authorization: Option<String>,
    /// The other end of the connection.
    pub peer: Peer,
    /// Id of the request, `req_…` or the caller's own.
    pub request_id: Arc<str>,
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// Where to tell what the access log should know.
    pub access: Access,
    /// What bounds the body of the request while it is read.
    pub body: BodyMeter,
    /// In whose name the answer waits.
    pub account: Account,
}

/// What is asked, in no protocol's terms.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// Name of the model; `None` is the task's default model.
    pub model: Option<String>,
    /// The texts.
    pub inputs: Vec<String>,
    /// What to do with them.
    pub parameters: Parameters,
    /// What a fault of one text does to the others.
    pub on_error: OnError,
    /// Class of service.
    pub priority: Priority,
    /// Longest the caller will wait; capped by the server's request timeout.
    pub timeout: Option<Duration>,
}

/// The answer, in no protocol's terms.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// Name of the model that answered.
    pub model: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// One result per input, in order, or why there is none.
    pub answer: Answer,
    /// Inputs computed, which are those charged.
    pub inputs: usize,
    /// Tokens of these.
    pub tokens: usize,
    /// What is left of the tenant's limits.
    pub quotas: Vec<(Unit, Quota)>,
}

/// A protocol's side of one request.
pub trait Exchange: Send {
    /// What the protocol makes of the answer.
    type Answer: Send;

    /// The place of this request, if it has one already.
    fn place(&mut self) -> Option<Place> {
        None
    }

    /// Reads the request; called only once the caller is known and has a place, so that nobody without credentials makes the
    /// server read a body, and nobody keeps others out with many. The body is charged to the place and has a deadline.
    /// An answer in place of a request is one that was given before: nothing is computed and nothing is charged.
    fn read(
        &mut self,
        principal: &Principal,
    ) -> impl Future<Output = Result<Asked<Self::Answer>, ApiError>> + Send;

    /// Makes the answer: after this it is kept if it was asked to be, the request is recorded, and then answered.
    fn answer(
        &mut self,
        response: InferResponse,
    ) -> impl Future<Output = Result<Self::Answer, ApiError>> + Send;

    /// Shows with an answer that was given before what is left of the tenant's limit, where the protocol can.
    fn show_quota(&self, _: &mut Self::Answer, _: &Quota) {}

    /// The answer that was made, if it is to be kept under an idempotency key.
    fn to_keep(&mut self) -> Option<(Attempt, idempotency::Answer)> {
        None
    }
}

/// What a protocol read.
pub enum Asked<A> {
    /// A request.
    Request(InferRequest),
    /// One that was answered before. It passes every check of the first one and counts against the limit; it is not charged.
    Again {
        /// Name of the model that was asked for.
        model: Option<String>,
        /// The answer.
        answer: A,
    },
}

/// Answers one request for `task`.
///
/// # Errors
/// Whatever [`ApiError`] names. Dropping the future cancels the request and frees its place.
pub async fn infer<E: Exchange>(
    app: &App,
    caller: &Caller,
    task: Task,
    exchange: &mut E,
) -> Result<E::Answer, ApiError> {
    let started = app.engine.now();
    let mut end = Ended::new(app, caller, task, started);
    let result = async {
        let principal = authorise(app, caller, Role::Editor).await?;
        end.tenant = Some(Arc::clone(&principal.tenant().name));
        let given = exchange.place();
        let is_whole = given.is_none();
        let place = match given {
            Some(place) => place,
            None => app.places.take(&principal).map_err(no_place)?,
        };
        let _working = caller.account.work();
        caller.body.admit(&place, Some(app.config.connections.body_timeout()));
        let asked = match exchange.read(&principal).await {
            Ok(asked) => asked,
            Err(error) => {
                let fault = caller.body.fault();
                let is_refused = fault.is_none() && outcome(&error) == Outcome::Refused;
                // To read and parse much is work: it counts, or it could be had without end.
                if is_refused && is_whole && caller.body.bytes() >= COUNTED_FROM_BYTES {
                    app.tenancy.gatekeeper.admit_replay(WallTime::now(), &principal).await?;
                }
                return Err(fault.unwrap_or(error));
            }
        };
        let request = match asked {
            Asked::Request(request) => request,
            Asked::Again { model, mut answer } => {
                end.model = Some(find_model(app, task, model.as_deref())?.id);
                if let Some(quota) = app.tenancy.gatekeeper.admit_replay(WallTime::now(), &principal).await? {
                    exchange.show_quota(&mut answer, &quota);
                }
                // It costs nothing, so of many at once each is as large as what was computed.
                caller.account.check()?;
                return Ok(answer);
            }
        };
        let entry = find_model(app, task, request.model.as_deref())?;
        end.model = Some(entry.id);
        caller.access.asked(&entry.card.name, request.inputs.len());
        let deadline = started + request.timeout.unwrap_or(Duration::MAX).min(app.config.request_timeout());
        let tenant = principal.tenant();
        let (tenant, weight, priority) = (tenant.id, tenant.plan.terms().weight, request.priority);
        let work = Work { app, entry, tenant, weight, priority, deadline };
        let mut part = enter(work, &request)?;
        let demand = demand(caller, entry, request.inputs.len());
        let mut reservation = app.tenancy.gatekeeper.admit(WallTime::now(), &principal, demand).await?;
        let result = run(work, request, &mut reservation, &mut part, &mut end).await;
        let mut answered = Outcome::Completed;
        let result = match result {
            Ok(response) => {
                // An answer of errors alone: each input is refused, and so is the call.
                if response.inputs == 0 {
                    answered = Outcome::Refused;
                }
                exchange.answer(response).await
            }
            Err(error) => Err(error),
        };
        let outcome = result.as_ref().err().map_or(answered, outcome);
        // Only what is recorded is answered.
        // What failed stays with the exchange, which frees its key.
        let kept = if result.is_ok() { exchange.to_keep() } else { None };
        match kept {
            Some((attempt, answer)) => conclude(app, attempt, answer, (reservation, outcome)).await?,
            None => reservation.finish(outcome).await.map_err(unrecorded)?,
        }
        result
    }
    .await;
    if result.as_ref().is_err_and(is_want_of_capacity) && end.has_target.is_none() {
        // Without a place by now. Callers who come again at once would take the time of those who are answered.
        tokio::time::sleep(app.load.refusal_wait(app.engine.now())).await;
    }
    end.finish(&result);
    result
}

/// Not answered, since it would not be charged; another server may have room.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unrecorded(error: JournalError) -> ApiError {
    ApiError::StoreUnavailable { detail: error.to_string() }
}

/// Keeps an answer under its idempotency key and charges what is completed of it: both or neither, whether the caller is still
/// there or not.
async fn conclude(
    app: &App,
    attempt: Attempt,
    answer: idempotency::Answer,
    (reservation, outcome): (Reservation, Outcome),
) -> Result<(), ApiError> {
    let answers = Arc::clone(&app.tenancy.idempotency);
    // Dropping what waits for a task does not end the task.
    let concluded = tokio::spawn(async move {
        // Nobody gets it before it is charged.
        let _unsettled = answers.settle(&attempt);
        if let Err(error) = answers.keep(WallTime::now(), &attempt, &answer).await {
            answers.release(&attempt).await;
            reservation.finish(Outcome::Failed).await.map_err(unrecorded)?;
            return Err(error.into());
        }
        if let Err(error) = reservation.finish(outcome).await {
            answers.release(&attempt).await;
            return Err(unrecorded(error));
        }
        Ok(())
    });
    concluded.await.map_err(ApiError::internal)?
}

/// Authenticates a caller and checks its role.
///
/// # Errors
/// No or bad credentials, a role below `needed`, or too many answers that the tenant does not read.
pub async fn authorise(app: &App, caller: &Caller, needed: Role) -> Result<Principal, ApiError> {
    let authorization = caller.authorization.as_deref();
    let principal = app.tenancy.gatekeeper.authenticate(WallTime::now(), authorization, &caller.peer).await?;
    caller.access.identified(&principal);
    caller.account.identify(principal.tenant().id)?;
    if principal.has(needed) {
        return Ok(principal);
    }
    Err(ApiError::Forbidden { needed: needed.name() })
}

/// Why there is no place for a call.
pub(crate) fn no_place(error: PlaceError) -> ApiError {
    error.limit().map_or(ApiError::Overloaded { retry_after: Duration::from_secs(1) }, ApiError::Limit)
}

async fn run(
    work: Work<'_>,
    request: InferRequest,
    reservation: &mut Reservation,
    part: &mut Part,
    end: &mut Ended<'_>,
) -> Result<InferResponse, ApiError> {
    let Work { app, entry, .. } = work;
    for needed in [Some(entry), scores_labels(app, entry, &request.parameters)?].into_iter().flatten() {
        if let ModelState::Unavailable { reason } = &needed.state {
            let model = needed.card.name.clone();
            return Err(ApiError::ModelUnavailable { model, reason: reason.clone() });
        }
    }
    let InferRequest { inputs, parameters, on_error, timeout, .. } = request;
    let mut prepared = work.tokenize(inputs, parameters, on_error, reservation).await?;
    // A target is for one text that is read at once, and for a caller who waits as long.
    let has_patience = timeout.is_none_or(|timeout| timeout >= entry.card.p99_target);
    end.has_target = Some(prepared.sequences() == 1 && has_patience);
    let (inputs, tokens) = (prepared.inputs(), prepared.tokens());
    end.caller.access.sized(tokens);
    let refusals = prepared.refusals();
    reservation.refuse(RefusedInputs {
        before_work: refusals.before_work as u64,
        after_work: refusals.after_work as u64,
    });
    if inputs > 0 {
        reservation.settle(WallTime::now(), tokens as u64).await?;
    }
    let outputs = work.compute(&mut prepared, reservation, part).await?;
    let answer = work.decode(prepared, outputs).await?;
    for error in answer.results.iter().filter_map(|result| result.as_ref().err()) {
        app.telemetry.calls.input_refused(entry.id, ApiError::Input(error.clone()).row().code);
    }
    end.caller.access.refused_inputs(refusals.count());
    part.done(app.pool.preparing(part.bytes()).as_secs_f64());
    Ok(InferResponse {
        model: Arc::from(entry.card.name.as_str()),
        version: Arc::from(entry.card.version.as_str()),
        answer,
        inputs,
        tokens,
        quotas: reservation.quotas(),
    })
}

/// The model that scores labels of the caller's, where there are any.
fn scores_labels<'a>(
    app: &'a App,
    entry: &ModelEntry,
    parameters: &Parameters,
) -> Result<Option<&'a ModelEntry>, ApiError> {
    let has_labels = matches!(parameters, Parameters::Classify(classify) if classify.labels.is_some());
    let zero_shot = entry.card.zero_shot.as_ref().filter(|_| has_labels);
    zero_shot.map(|zero_shot| find_named(app, &zero_shot.model)).transpose()
}

/// The model of a name.
fn find_named<'a>(app: &'a App, name: &str) -> Result<&'a ModelEntry, ApiError> {
    app.catalog.find(name).ok_or_else(|| match app.catalog.find_rejected(name) {
        Some(card) => ApiError::ModelUnavailable { model: card.name.clone(), reason: card.reason.clone() },
        None => ApiError::ModelNotFound,
    })
}

/// Refuses a call that is predicted to be late, before anything is done for it.
fn enter(work: Work<'_>, request: &InferRequest) -> Result<Part, ApiError> {
    let Work { app, entry, tenant, weight, deadline, .. } = work;
    let bytes = request.inputs.iter().map(|text| text.len() as u64).sum();
    let left = deadline.saturating_duration_since(app.engine.now());
    let part = app.load.enter((tenant, weight), entry.id, bytes, left);
    part.map_err(|Excess { retry_after }| match request.timeout {
        Some(_) => ApiError::DeadlineInfeasible { retry_after },
        None => ApiError::Overloaded { retry_after },
    })
}

/// The model a request is for.
///
/// # Errors
/// There is none of that name, none is the task's default, or it does something else.
fn find_model<'a>(app: &'a App, task: Task, name: Option<&str>) -> Result<&'a ModelEntry, ApiError> {
    let entry = match name {
        Some(name) => find_named(app, name)?,
        None => app.catalog.default_for(task).map_err(|error| match error {
            NoDefault::Unstated { task, candidates } if !candidates.is_empty() => {
                ApiError::ModelRequired { task: task.as_str(), candidates: candidates.join(", ") }
            }
            NoDefault::Unstated { .. } => ApiError::ModelNotFound,
            NoDefault::Rejected { name: model, reason } => ApiError::ModelUnavailable { model, reason },
        })?,
    };
    if entry.card.task == task {
        return Ok(entry);
    }
    let model = entry.card.name.clone();
    Err(ApiError::WrongTask { model, offers: entry.card.task.as_str(), asked: task.as_str() })
}

fn demand(caller: &Caller, entry: &ModelEntry, inputs: usize) -> Demand {
    Demand {
        request_id: Arc::clone(&caller.request_id),
        model: Arc::from(entry.card.name.as_str()),
        version: Arc::from(entry.card.version.as_str()),
        inputs: inputs as u64,
        price_per_1000: entry.card.price_per_1000_requests,
    }
}

/// How a call ends that ends in an error.
fn outcome(error: &ApiError) -> Outcome {
    match error {
        ApiError::DeadlineExceeded => Outcome::Cancelled,
        ApiError::Internal { .. } | ApiError::ModelUnavailable { .. } | ApiError::StoreUnavailable { .. } => {
            Outcome::Failed
        }
        _ => Outcome::Refused,
    }
}

/// Tells telemetry how a request ended, exactly once: also when its future is dropped because the
/// caller went away.
struct Ended<'a> {
    app: &'a App,
    caller: &'a Caller,
    task: Task,
    tenant: Option<Arc<str>>,
    model: Option<ModelId>,
    started: Timestamp,
    code: &'static str,
    /// Whether the model's target can be expected to be met; none before that is known.
    has_target: Option<bool>,
    timeliness: Option<Timeliness>,
    _in_flight: crate::telemetry::InFlight,
}

impl<'a> Ended<'a> {
    fn new(app: &'a App, caller: &'a Caller, task: Task, started: Timestamp) -> Self {
        let _in_flight = app.telemetry.calls.started();
        Self {
            app,
            caller,
            task,
            tenant: None,
            model: None,
            started,
            code: CANCELLED,
            has_target: None,
            timeliness: None,
            _in_flight,
        }
    }

    fn entry(&self) -> Option<&'a ModelEntry> {
        self.model.and_then(|id| self.app.catalog.get(id))
    }

    fn duration(&self) -> Duration {
        self.app.engine.now().saturating_duration_since(self.started)
    }

    /// Whether the request met its model's target; without a result the caller left.
    fn timeliness<A>(&self, result: Option<&Result<A, ApiError>>) -> Timeliness {
        let target = self.entry().map_or(Duration::MAX, |entry| entry.card.p99_target);
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

    fn finish<A>(&mut self, result: &Result<A, ApiError>) {
        self.timeliness = Some(self.timeliness(Some(result)));
        self.code = match result {
            Ok(_) => "ok",
            Err(error) => {
                if let (ApiError::Limit(error), Some(tenant)) = (error, &self.tenant) {
                    self.app.telemetry.tenancy.refused(error);
                    self.app.telemetry.usage.tenants.refused(tenant, error);
                }
                let code = error.row().code;
                if let Some(detail) = error.log_detail() {
                    tracing::error!(request_id = %self.caller.request_id, code, detail, "request failed");
                }
                code
            }
        };
        self.caller.access.ended(self.code, result.as_ref().err());
    }
}

/// Whether there would have been an answer if there were more devices.
fn is_want_of_capacity(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Overloaded { .. } | ApiError::DeadlineInfeasible { .. } | ApiError::DeadlineExceeded
    )
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if self.timeliness.is_none() {
            self.caller.access.abandoned();
        }
        let entry = self.entry();
        self.app.telemetry.calls.ended(CallEnd {
            protocol: self.caller.protocol,
            task: self.task.as_str(),
            model: entry.map_or("", |entry| entry.card.name.as_str()),
            code: self.code,
            timeliness: self.timeliness.unwrap_or_else(|| self.timeliness::<()>(None)),
            duration: self.duration(),
        });
    }
}
