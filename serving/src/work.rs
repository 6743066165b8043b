//! The work of a call: tokenising, computing and decoding; each bounded, and over when the caller leaves or the deadline passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use batching::{Failure, Priority, RejectReason, Rejection, Submission, TenantId, Ticket, Timestamp, Tokens};
use models::tasks::{Answer, Job, Parameters, Prepared};
use models::{Errand, ModelEntry, PoolError, Sequence, SequenceOutput, Stage};
use router::Reservation;

use crate::app::App;
use crate::error::ApiError;
use crate::load::Part;

/// How long a call whose other windows are computed waits for a place in a full queue before it asks again.
const PLACE_WAIT: Duration = Duration::from_millis(5);

/// For whom and until when a call is worked on.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) app: &'a App,
    pub(crate) entry: &'a ModelEntry,
    pub(crate) tenant: TenantId,
    pub(crate) weight: u32,
    pub(crate) priority: Priority,
    pub(crate) deadline: Timestamp,
}

/// Windows of one call that the scheduler may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightMax {
    /// How many.
    pub sequences: usize,
    /// Their tokens; one more window is given while there are fewer.
    pub tokens: u64,
}

/// Windows that the scheduler has, in order.
struct InFlight<'a> {
    work: Work<'a>,
    windows: VecDeque<Window>,
    tokens: u64,
}

struct Window {
    ticket: Ticket<SequenceOutput>,
    index: usize,
    job: Job,
}

impl Work<'_> {
    /// Checks texts and cuts them into windows. Tells the reservation if there was work, also where it ends in a refusal.
    ///
    /// # Errors
    /// The texts cannot be run, there is no room, or the deadline passes.
    pub(crate) async fn tokenize(
        self,
        inputs: Vec<String>,
        parameters: Parameters,
        reservation: &mut Reservation,
    ) -> Result<Prepared, ApiError> {
        let app = self.app;
        let (started, model, catalog) = (app.engine.now(), self.entry.id, Arc::clone(&app.catalog));
        let bytes = inputs.iter().map(|text| text.len() as u64).sum();
        let done = app
            .pool
            .run(self.errand(Stage::Prepare, bytes), move |pace| async move {
                let prepared = catalog.prepare_paced(model, &inputs, &parameters, &pace).await;
                (prepared, pace.spent() > 0)
            })
            .await;
        app.telemetry.tokenized(model, app.engine.now().saturating_duration_since(started));
        let (prepared, has_worked) = done.map_err(no_worker)?;
        if has_worked {
            reservation.work_began();
        }
        Ok(prepared?)
    }

    /// Computes all windows. The scheduler has a bounded number of them at a time and is given the next as it is done with others, so
    /// that a long call neither fills its queue nor is refused for its length. All or nothing: what it has is cancelled if one fails
    /// or the caller leaves.
    ///
    /// # Errors
    /// A window cannot be computed, or not in time.
    pub(crate) async fn compute(
        self,
        prepared: &mut Prepared,
        reservation: &mut Reservation,
        part: &mut Part,
    ) -> Result<Vec<SequenceOutput>, ApiError> {
        let left = self.deadline.saturating_duration_since(self.app.engine.now());
        // The scheduler ends what is queued at its deadline; this ends what a device holds longer than that.
        let feed = self.feed(prepared.take_jobs(), reservation, part);
        tokio::time::timeout(left, feed).await.unwrap_or(Err(ApiError::DeadlineExceeded))
    }

    async fn feed(
        self,
        jobs: Vec<Job>,
        reservation: &mut Reservation,
        part: &mut Part,
    ) -> Result<Vec<SequenceOutput>, ApiError> {
        let count = jobs.len();
        let mut jobs: VecDeque<(usize, Job)> = jobs.into_iter().enumerate().collect();
        let mut outputs: Vec<SequenceOutput> = vec![SequenceOutput::default(); count];
        let mut flight = InFlight { work: self, windows: VecDeque::new(), tokens: 0 };
        let mut computed = 0;
        while computed < count {
            let refusal = flight.fill(&mut jobs).err();
            let Some(Window { ticket, index, job }) = flight.windows.pop_front() else {
                // Nothing of it is computed, so it costs nothing to come again; later its windows wait for places.
                if let Some(rejection) = refusal.filter(|rejection| computed == 0 || !is_full(rejection)) {
                    return Err(rejected(&rejection));
                }
                tokio::time::sleep(PLACE_WAIT).await;
                continue;
            };
            flight.tokens -= job.sequence.len() as u64;
            match ticket.await {
                Ok(done) => {
                    let batch = u32::try_from(done.batch_sequences).unwrap_or(1).max(1);
                    let compute = done.compute / batch;
                    reservation.computed(compute);
                    outputs[index] = done.output;
                    computed += 1;
                    part.computed(compute, (count - computed) as f64 / count as f64);
                }
                Err(Failure::Rejected(rejection)) if computed > 0 && is_full(&rejection) => {
                    jobs.push_front((index, job));
                    tokio::time::sleep(PLACE_WAIT).await;
                }
                Err(failure) => return Err(failed(&failure)),
            }
        }
        Ok(outputs)
    }

    /// Makes the answer of the outputs.
    ///
    /// # Errors
    /// The outputs are not what the model should give, or the deadline passes.
    pub(crate) async fn decode(
        self,
        prepared: Prepared,
        outputs: Vec<SequenceOutput>,
    ) -> Result<Answer, ApiError> {
        let app = self.app;
        let started = app.engine.now();
        let answer =
            app.pool.run(self.errand(Stage::Decode, 0), move |_| async { prepared.decode(outputs) }).await;
        app.telemetry.decoded(self.entry.id, app.engine.now().saturating_duration_since(started));
        answer.map_err(no_worker)?.map_err(ApiError::internal)
    }

    fn errand(&self, stage: Stage, bytes: u64) -> Errand {
        let Self { tenant, weight, deadline, .. } = *self;
        Errand { stage, tenant, weight, bytes, deadline }
    }
}

impl InFlight<'_> {
    /// Gives the scheduler as many windows as it may have.
    fn fill(&mut self, jobs: &mut VecDeque<(usize, Job)>) -> Result<(), Rejection> {
        let Work { app, tenant, weight, priority, deadline, .. } = self.work;
        let InFlightMax { sequences, tokens } = app.call_in_flight_max;
        while self.windows.len() < sequences && (self.tokens < tokens || self.windows.is_empty()) {
            let Some((index, job)) = jobs.pop_front() else { return Ok(()) };
            let submission = Submission::<Sequence> {
                model: job.model,
                tenant,
                weight,
                priority,
                tokens: Tokens(job.sequence.len() as u32),
                deadline,
                // Kept here too: where there is no place for it, it is given again.
                input: job.sequence.clone(),
            };
            match app.engine.submit(submission) {
                Ok(ticket) => {
                    self.tokens += job.sequence.len() as u64;
                    self.windows.push_back(Window { ticket, index, job });
                }
                Err(rejection) => {
                    jobs.push_front((index, job));
                    return Err(rejection);
                }
            }
        }
        Ok(())
    }
}

fn is_full(rejection: &Rejection) -> bool {
    rejection.reason == RejectReason::QueueFull
}

fn no_worker(error: PoolError) -> ApiError {
    match error {
        PoolError::Full { drain } => ApiError::Overloaded { retry_after: drain.max(Duration::from_secs(1)) },
        PoolError::DeadlinePassed => ApiError::DeadlineExceeded,
        PoolError::Start(_) | PoolError::Panicked => ApiError::internal(error),
    }
}

fn rejected(rejection: &Rejection) -> ApiError {
    match rejection.reason {
        RejectReason::Infeasible => ApiError::DeadlineInfeasible { retry_after: rejection.retry_after },
        RejectReason::QueueFull => ApiError::Overloaded { retry_after: rejection.retry_after },
        RejectReason::DeadlinePassed => ApiError::DeadlineExceeded,
        RejectReason::Draining => ApiError::ShuttingDown,
        RejectReason::TooLarge | RejectReason::UnknownModel => ApiError::internal(rejection),
    }
}

fn failed(failure: &Failure) -> ApiError {
    match failure {
        Failure::Rejected(rejection) => rejected(rejection),
        Failure::DeadlineExceeded => ApiError::DeadlineExceeded,
        Failure::ShutDown => ApiError::ShuttingDown,
        Failure::Execution(error) => ApiError::internal(error),
    }
}
