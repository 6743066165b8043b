//! The life of a request, the same for every protocol: protocols only translate.
//!
//! authenticate -> take a place -> read -> admit -> tokenise -> settle the reservation -> submit with a
//! deadline -> batch -> execute -> decode -> meter -> respond.

mod caller;
mod guard;
mod models;
mod quotas;
mod service;
mod stream;
mod work;

use std::sync::Arc;
use std::time::Duration;

use ::models::tasks::{Operation, Parameters, TaskRequest};
use ::models::{Catalog, ModelEntry, ModelState, NoDefault};
use api::exchange::{AnyExchange, ProtocolAnswer};
use api::{Call, InferRequest, InferResponse, Kept, Made, MicroDollars, Processor, Timings};
use batching::RefusedWork;
use router::idempotency::{self, Attempt, Owed};
use router::ledger::JournalError;
use router::{Demand, Outcome, Place, Principal, RefusedInputs, Reservation, Role, WallTime};
use units::Priority;

use crate::app::App;
use crate::error::{ApiError, OrRefused, TableError};
use crate::idempotency::{Once, Sender, Start};
use crate::load::{Bytes, Excess, Part, Patience};

pub(crate) use caller::{Caller, authorise};
pub(crate) use service::Pipeline;
pub(crate) use stream::PlaceCharge;

use guard::CallGuard;
use work::Work;

/// Answers one call, in the place that it has if it has one already.
///
/// # Errors
/// Whatever [`ApiError`] names. Dropping the future cancels the call and frees its place.
async fn infer(
    app: &App,
    caller: &Caller,
    operation: Option<Operation>,
    given: Option<Place>,
    exchange: Box<dyn AnyExchange>,
) -> Result<ProtocolAnswer, ApiError> {
    let mut end = CallGuard::new(app, caller, operation, app.engine.now());
    let mut result = answer(app, caller, &mut end, given, exchange).await;
    if let Err(refusal) = count_refusal(app, caller, &end, result.as_ref().err()).await
        && result.is_err()
    {
        result = Err(refusal);
    }
    if result.as_ref().is_err_and(is_want_of_capacity) && end.has_target.is_none() {
        // Without a place by now. Callers who come again at once would take the time of those who are
        // answered.
        tokio::time::sleep(app.load.refusal_wait(app.engine.now())).await;
    }
    end.finish(&result);
    result
}

async fn answer(
    app: &App,
    caller: &Caller,
    end: &mut CallGuard<'_>,
    given: Option<Place>,
    exchange: Box<dyn AnyExchange>,
) -> Result<ProtocolAnswer, ApiError> {
    let gatekeeper = &app.tenancy.gatekeeper;
    let principal = authorise(gatekeeper, caller, Role::Editor).await?;
    end.principal = Some(principal.clone());
    let place = match given {
        Some(place) => place,
        None => app.places.take(&principal).or_refused().inspect_err(|_| count_unread(app, &principal))?,
    };
    let _working = caller.account.work();
    caller.body.admit(PlaceCharge(place.meter()), app.config.connections.body_timeout());
    let (Call { request, reply, .. }, start) = match read(app, caller, &principal, exchange).await {
        Ok(read) => read,
        Err(error) => return Err(caller.body.fault().unwrap_or(error)),
    };
    let operation = request.parameters.operation();
    end.operation = Some(operation);
    // From here on the call keeps to the models that are there now, whatever comes and goes.
    let catalog = app.catalog.load();
    let entry = find_model(&catalog, operation, request.model.as_deref())?;
    end.model = Some(Arc::clone(entry));
    let once = match start {
        Start::First(once) => once,
        Start::Again(kept) => {
            let quota = gatekeeper.admit_replay(WallTime::now(), &principal).await.or_refused()?;
            end.is_counted = true;
            let kept = Kept { status: kept.status, body: kept.body.into() };
            let answer = reply.again(kept, &quotas::of_replay(WallTime::now(), quota))?;
            // It costs nothing, so of many at once each is as large as what was computed.
            caller.account.check()?;
            return Ok(answer);
        }
    };
    caller.access.asked(&entry.card.name, request.inputs.len());
    let deadline = end.started() + request.timeout.unwrap_or(Duration::MAX).min(app.config.request_timeout());
    let tenant = principal.tenant();
    let (tenant, weight, priority) = (tenant.id, tenant.plan.terms().weight, request.priority);
    let work = Work { app, catalog: &catalog, entry, tenant, weight, priority, deadline };
    let mut part = enter(work, &request)?;
    let demand = demand(caller, entry, operation, request.inputs.len());
    let mut reservation = gatekeeper.admit(WallTime::now(), &principal, demand).await.or_refused()?;
    let result = run(work, request, &mut reservation, &mut part, end).await;
    let mut answered = Outcome::Completed;
    let result = result.and_then(|response| {
        // An answer of errors alone: each input is refused, and so is the call.
        if response.inputs == 0 {
            answered = Outcome::Refused;
        }
        reply.answer(response, once.request().is_some())
    });
    let outcome = result.as_ref().err().map_or(answered, outcome);
    end.is_counted = reservation.counts(outcome);
    // Only what is recorded is answered. What failed frees its key.
    match result {
        Ok(Made { answer, kept }) => {
            match once.attempt() {
                Some(attempt) => conclude(app, attempt, kept, (reservation, outcome)).await?,
                None => reservation.finish(outcome).await.map_err(unrecorded)?,
            }
            Ok(answer)
        }
        Err(error) => {
            reservation.finish(outcome).await.map_err(unrecorded)?;
            Err(error)
        }
    }
}

/// Counts a call that is refused after much of it was read, if nothing of it is counted: to read and to parse
/// it is work, which could be had without end. What there was no room for, or no fault of its caller's, is
/// not counted.
///
/// # Errors
/// Nothing is left of the limit.
async fn count_refusal(
    app: &App,
    caller: &Caller,
    end: &CallGuard<'_>,
    error: Option<&ApiError>,
) -> Result<(), ApiError> {
    let is_refused = error
        .is_none_or(|error| outcome(error) == Outcome::Refused && !is_want_of_capacity(error))
        && caller.body.fault().is_none();
    if end.is_counted || !is_refused || !caller.body.is_long() {
        return Ok(());
    }
    let Some(principal) = &end.principal else { return Ok(()) };
    app.tenancy.gatekeeper.admit_replay(WallTime::now(), principal).await.or_refused()?;
    Ok(())
}

/// Reads a call, and finds out whether it was answered before.
async fn read(
    app: &App,
    caller: &Caller,
    principal: &Principal,
    exchange: Box<dyn AnyExchange>,
) -> Result<(Call<Box<dyn api::exchange::AnyReply>>, Start), ApiError> {
    // Not much is read for whom nothing can be done.
    let leave = async { app.tenancy.gatekeeper.check_limit(WallTime::now(), principal).await.or_refused() };
    let mut call = app.reading.read(&caller.body, exchange.read(), leave).await?;
    if let Some(repeat) = &mut call.repeat {
        // What is asked of which model may be said beside the body, whatever the protocol.
        let (operation, model) = (call.request.parameters.operation(), call.request.model.as_deref());
        repeat.route = format!("{operation} {model:?} {}", repeat.route);
    }
    let start = Once::start(&app.tenancy, Sender::from(principal), call.repeat.as_ref()).await?;
    Ok((call, start))
}

/// Not answered, since it would not be charged; another server may have room.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unrecorded(error: JournalError) -> ApiError {
    ApiError::StoreUnavailable { detail: error.to_string() }
}

/// Keeps an answer under its idempotency key and charges what is completed of it: both or neither, whether
/// the caller is still there or not.
async fn conclude(
    app: &App,
    attempt: Attempt,
    kept: Kept,
    (mut reservation, outcome): (Reservation, Outcome),
) -> Result<(), ApiError> {
    let answers = Arc::clone(&app.tenancy.idempotency);
    let answer = idempotency::Answer { status: kept.status, body: kept.body.to_vec() };
    let journal = app.tenancy.gatekeeper.journal();
    let owed = reservation.record(outcome, &attempt.id()).map(|record| Owed {
        journal: app.tenancy.server.clone(),
        epoch: journal.epoch().to_owned(),
        from: journal.written(),
        record,
    });
    // Dropping what waits for a task does not end the task.
    let concluded = tokio::spawn(async move {
        // Nobody gets it before it is charged.
        let unsettled = answers.settle(&attempt);
        if let Err(error) = answers.keep(WallTime::now(), &attempt, &answer, owed.as_ref()).await {
            answers.release(&attempt).await;
            reservation.finish(Outcome::Failed).await.map_err(unrecorded)?;
            return Err(error.refused());
        }
        if let Err(error) = reservation.finish(outcome).await {
            answers.release(&attempt).await;
            return Err(unrecorded(error));
        }
        drop(unsettled);
        if let Some(owed) = owed {
            answers.attempt_recorded(attempt, owed).await;
        }
        Ok(())
    });
    concluded.await.map_err(ApiError::internal)?
}

async fn run(
    work: Work<'_>,
    request: InferRequest,
    reservation: &mut Reservation,
    part: &mut Part,
    end: &mut CallGuard<'_>,
) -> Result<InferResponse, ApiError> {
    let Work { app, catalog, entry, .. } = work;
    for needed in [Some(entry), scores_labels(catalog, entry, &request.parameters)?].into_iter().flatten() {
        let reason = match &needed.state {
            ModelState::Loaded { .. } => continue,
            ModelState::Unavailable { reason } => reason.as_str(),
            ModelState::Unloaded => models::UNLOADED,
        };
        let model = needed.card.name.clone();
        return Err(ApiError::ModelUnavailable { model, reason: reason.to_owned() });
    }
    let InferRequest { inputs, inputs_max, parameters, on_error, timeout, .. } = request;
    let request = TaskRequest { inputs, parameters, on_error, inputs_max };
    let mut timings = Timings::default();
    let mut prepared = work.tokenize(request, reservation, &mut timings).await?;
    part.prepared(app.pool.preparing(part.bytes().read));
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
        reservation.settle(WallTime::now(), tokens as u64).await.or_refused()?;
    }
    let outputs = work.compute(&mut prepared, reservation, part, &mut timings).await?;
    let answer = work.decode(prepared, outputs).await?;
    for error in answer.results.iter().filter_map(|result| result.as_ref().err()) {
        app.telemetry.calls.input_refused(entry.id, ApiError::Input(error.clone()).row().code);
    }
    end.caller.access.refused_inputs(refusals.count());
    part.done();
    Ok(InferResponse {
        model: Arc::from(entry.card.name.as_str()),
        version: Arc::from(entry.card.version.as_str()),
        answer,
        timings: Timings { total: end.duration(), answered_at: WallTime::now(), ..timings },
        inputs,
        tokens,
        processor: Processor::of(entry.card.runtime),
        quotas: quotas::of(WallTime::now(), &reservation.quotas()),
    })
}

/// The model that scores labels of the caller's, where there are any.
fn scores_labels<'a>(
    catalog: &'a Catalog,
    entry: &ModelEntry,
    parameters: &Parameters,
) -> Result<Option<&'a ModelEntry>, ApiError> {
    let has_labels = matches!(parameters, Parameters::Classify(classify) if classify.labels.is_some());
    let zero_shot = entry.card.zero_shot.as_ref().filter(|_| has_labels);
    zero_shot
        .and_then(::models::card::ZeroShot::model)
        .map(|model| find_named(catalog, model).map(Arc::as_ref))
        .transpose()
}

fn find_named<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Arc<ModelEntry>, ApiError> {
    catalog.find(name).ok_or_else(|| match catalog.find_rejected(name) {
        Some(card) => ApiError::ModelUnavailable { model: card.name.clone(), reason: card.reason.clone() },
        None => ApiError::ModelNotFound,
    })
}

/// Counts a call that is refused before it is read as asked for, so that an overload is known for one while
/// places are what ends it: who has a place is to be answered soon then.
fn count_unread(app: &App, principal: &Principal) {
    let tenant = principal.tenant();
    if let Some((model, seconds)) = app.load.like_latest(tenant.id) {
        let (tenant, weight, priority) = (tenant.id, tenant.plan.terms().weight, Priority::Normal);
        app.engine.refused(RefusedWork { model, tenant, weight, priority, calls: 1, seconds });
    }
}

/// Refuses a call that is predicted to be late, before anything is done for it.
fn enter(work: Work<'_>, request: &InferRequest) -> Result<Part, ApiError> {
    let Work { app, entry, tenant, weight, priority, deadline, .. } = work;
    let tokens_max = request.parameters.computed_tokens_max(&entry.card.limits);
    let bytes = request.inputs.iter().map(|input| Bytes::of_text(input.bytes(), tokens_max)).sum();
    let patience = Patience {
        left: deadline.saturating_duration_since(app.engine.now()),
        is_overloaded: app.engine.is_overloaded(),
    };
    let part = app.load.enter((tenant, weight), entry.id, bytes, patience);
    part.map_err(|Excess { retry_after, seconds, is_infeasible }| {
        // It was asked for all the same: what seems to have ended would begin again.
        let model = entry.id;
        app.engine.refused(RefusedWork { model, tenant, weight, priority, calls: 1, seconds });
        if is_infeasible && request.timeout.is_some() {
            ApiError::DeadlineInfeasible { retry_after }
        } else {
            ApiError::Overloaded { retry_after }
        }
    })
}

/// The model a request is for.
///
/// # Errors
/// There is none of that name, none is the task's default, or it does something else.
fn find_model<'a>(
    catalog: &'a Catalog,
    operation: Operation,
    name: Option<&str>,
) -> Result<&'a Arc<ModelEntry>, ApiError> {
    let entry = match name {
        Some(name) => find_named(catalog, name)?,
        None => catalog.default_of(operation).map_err(|error| match error {
            NoDefault::Unstated { task, candidates } if !candidates.is_empty() => {
                ApiError::ModelRequired { task: task.as_str(), candidates: candidates.join(", ") }
            }
            NoDefault::Unstated { .. } => ApiError::ModelNotFound,
            NoDefault::Rejected { name: model, reason } => ApiError::ModelUnavailable { model, reason },
        })?,
    };
    if operation.is_done_by(entry.card.task) {
        return Ok(entry);
    }
    let model = entry.card.name.clone();
    Err(ApiError::WrongTask { model, offers: entry.card.task.as_str(), asked: operation.as_str() })
}

fn demand(caller: &Caller, entry: &ModelEntry, operation: Operation, inputs: usize) -> Demand {
    let price = entry.card.price_per_1000_requests;
    Demand {
        request_id: Arc::clone(&caller.request_id),
        model: Arc::from(entry.card.name.as_str()),
        version: Arc::from(entry.card.version.as_str()),
        inputs: inputs as u64,
        price_per_1000: if operation.is_free() { MicroDollars::default() } else { price },
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

/// Whether there would have been an answer if there were more devices.
fn is_want_of_capacity(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Overloaded { .. } | ApiError::DeadlineInfeasible { .. } | ApiError::DeadlineExceeded
    )
}
