//! The work of a call: tokenising, computing and decoding; each bounded, and over when the caller leaves or
//! the deadline passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::Timings;
use batching::{Completion, Failure, RejectReason, Rejection};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use models::tasks::{Answer, Job, Prepared, TaskRequest};
use models::{Catalog, Errand, ModelEntry, PoolError, Sequence, SequenceOutput, Stage};
use router::Reservation;
use units::{Priority, TenantId, Timestamp, Tokens};

use crate::app::App;
use crate::error::ApiError;
use crate::load::{InFlightMax, Part};

/// How long a call of which something is computed waits before it asks again for a window that was refused.
const PLACE_WAIT: Duration = Duration::from_millis(5);

/// Bytes of text, of at most [`SHORT_INPUTS`] inputs, that are prepared in about the time that it takes to
/// hand them to another thread and have them back: two wake-ups, of some 20 µs each where cores are idle.
const SHORT_BYTES: u64 = 512;
const SHORT_INPUTS: usize = 8;
/// Numbers of a short text's outputs that are decoded in less.
const SHORT_VALUES: usize = 4096;

/// The caller and the deadline of a call.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) app: &'a App,
    /// The models that the call keeps to.
    pub(super) catalog: &'a Arc<Catalog>,
    pub(super) entry: &'a ModelEntry,
    pub(super) tenant: TenantId,
    pub(super) weight: u32,
    pub(super) priority: Priority,
    pub(super) deadline: Timestamp,
}

/// Windows that the scheduler has. Whichever ends first is heard first: where one is refused, the others are
/// not computed in vain.
struct InFlight<'a> {
    work: Work<'a>,
    windows: FuturesUnordered<BoxFuture<'static, Window>>,
    tokens: u64,
}

/// A window that the scheduler had.
struct Window {
    index: usize,
    job: Job,
    result: Result<Completion<SequenceOutput>, Failure>,
}

impl Work<'_> {
    /// Checks texts and cuts them into windows. Tells the reservation if there was work, also where it ends
    /// in a refusal.
    ///
    /// # Errors
    /// The texts cannot be run, there is no room, or the deadline passes.
    pub(super) async fn tokenize(
        self,
        request: TaskRequest,
        reservation: &mut Reservation,
        timings: &mut Timings,
    ) -> Result<Prepared, ApiError> {
        let app = self.app;
        let (started, model, catalog) = (app.engine.now(), self.entry.id, Arc::clone(self.catalog));
        let bytes = request.inputs.iter().map(|input| input.bytes() as u64).sum();
        let is_short = request.inputs.len() <= SHORT_INPUTS
            && bytes + request.parameters.text_bytes() as u64 <= SHORT_BYTES;
        let errand = Errand { bytes, is_short, ..self.errand(Stage::Prepare) };
        let done = app
            .pool
            .run(errand, move |pace| async move {
                let prepared = catalog.prepare_paced(model, &request, &pace).await;
                (prepared, pace.spent() > 0)
            })
            .await;
        timings.tokenize = app.engine.now().saturating_duration_since(started);
        app.telemetry.calls.tokenized(model, timings.tokenize);
        let (prepared, has_worked) = done.map_err(no_worker)?;
        if has_worked {
            reservation.work_began();
        }
        Ok(prepared?)
    }

    /// Computes all windows. The scheduler has a bounded number of them at a time and is given the next as it
    /// is done with others, so that a long call neither fills its queue nor is refused for its length. All or
    /// nothing: what it has is cancelled if one fails or the caller leaves.
    ///
    /// # Errors
    /// A window cannot be computed, or not in time.
    pub(super) async fn compute(
        self,
        prepared: &mut Prepared,
        reservation: &mut Reservation,
        part: &mut Part,
        timings: &mut Timings,
    ) -> Result<Vec<SequenceOutput>, ApiError> {
        let left = self.deadline.saturating_duration_since(self.app.engine.now());
        // The scheduler ends what is queued at its deadline; this ends what a device holds longer than that.
        let feed = self.feed(prepared.take_jobs(), reservation, part, timings);
        tokio::time::timeout(left, feed).await.unwrap_or(Err(ApiError::DeadlineExceeded))
    }

    async fn feed(
        self,
        jobs: Vec<Job>,
        reservation: &mut Reservation,
        part: &mut Part,
        timings: &mut Timings,
    ) -> Result<Vec<SequenceOutput>, ApiError> {
        let count = jobs.len();
        let mut jobs: VecDeque<(usize, Job)> = jobs.into_iter().enumerate().collect();
        let mut outputs: Vec<SequenceOutput> = vec![SequenceOutput::default(); count];
        let mut flight = InFlight { work: self, windows: FuturesUnordered::new(), tokens: 0 };
        let mut computed = 0;
        while computed < count {
            let refusal = flight.fill(&mut jobs).err();
            let Some(Window { index, job, result }) = flight.windows.next().await else {
                // Nothing of it is computed, so it costs nothing to come again; later its windows wait for
                // places.
                if let Some(rejection) =
                    refusal.filter(|rejection| computed == 0 || !is_want_of_place(rejection))
                {
                    return Err(rejected(&rejection));
                }
                tokio::time::sleep(PLACE_WAIT).await;
                continue;
            };
            flight.tokens -= job.sequence.len() as u64;
            match result {
                Ok(done) => {
                    let batch = u32::try_from(done.batch_sequences).unwrap_or(1).max(1);
                    let compute = done.compute / batch;
                    reservation.computed(compute);
                    timings.sequence(done.queue, done.compute);
                    outputs[index] = done.output;
                    computed += 1;
                    part.computed(compute, (count - computed) as f64 / count as f64);
                }
                Err(Failure::Rejected(rejection)) if computed > 0 && is_want_of_place(&rejection) => {
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
    pub(super) async fn decode(
        self,
        prepared: Prepared,
        outputs: Vec<SequenceOutput>,
    ) -> Result<Answer, ApiError> {
        let app = self.app;
        let started = app.engine.now();
        // A token is at least a byte.
        let is_short = prepared.tokens() as u64 <= SHORT_BYTES
            && prepared.sequences() <= SHORT_INPUTS
            && outputs.iter().map(|output| output.values.len()).sum::<usize>() <= SHORT_VALUES;
        let errand = Errand { is_short, ..self.errand(Stage::Decode) };
        let answer = app.pool.run(errand, move |_| async { prepared.decode(outputs) }).await;
        app.telemetry.calls.decoded(self.entry.id, app.engine.now().saturating_duration_since(started));
        answer.map_err(no_worker)?.map_err(ApiError::internal)
    }

    fn sequence(&self, job: &Job) -> batching::Sequence<Sequence> {
        let Self { tenant, weight, priority, deadline, .. } = *self;
        let tokens = Tokens(job.sequence.len() as u32);
        batching::Sequence {
            model: job.model,
            tenant,
            weight,
            priority,
            tokens,
            deadline,
            payload: job.sequence.clone(),
        }
    }

    fn errand(&self, stage: Stage) -> Errand {
        let Self { tenant, weight, deadline, .. } = *self;
        Errand { stage, tenant, weight, bytes: 0, is_short: false, deadline }
    }
}

impl InFlight<'_> {
    /// Gives the scheduler as many windows as it may have, all or none.
    fn fill(&mut self, jobs: &mut VecDeque<(usize, Job)>) -> Result<(), Rejection> {
        let InFlightMax { sequences, tokens } = self.work.app.call_in_flight_max;
        let mut next = Vec::new();
        let mut tokens_now = self.tokens;
        while let Some((index, job)) = jobs.pop_front() {
            let (count, length) = (self.windows.len() + next.len(), job.sequence.len() as u64);
            let is_other = next.first().is_some_and(|(_, first): &(usize, Job)| first.model != job.model);
            if count > 0 && (count >= sequences || tokens_now + length > tokens || is_other) {
                jobs.push_front((index, job));
                break;
            }
            tokens_now += length;
            next.push((index, job));
        }
        // Kept here too: where there is no place for them, they are given again.
        let call = next.iter().map(|(_, job)| self.work.sequence(job)).collect();
        match self.work.app.engine.submit_all(call) {
            Ok(tickets) => {
                self.tokens = tokens_now;
                self.windows.extend(next.into_iter().zip(tickets).map(|((index, job), ticket)| {
                    async move { Window { index, job, result: ticket.await } }.boxed()
                }));
                Ok(())
            }
            Err(rejection) => {
                next.into_iter().rev().for_each(|window| jobs.push_front(window));
                Err(rejection)
            }
        }
    }
}

/// Whether there may be a place later.
fn is_want_of_place(rejection: &Rejection) -> bool {
    matches!(rejection.reason, RejectReason::QueueFull | RejectReason::Infeasible)
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
