//! The imperative shell around the scheduler: threads, channels, a clock, and futures for the callers.
//!
//! ```text
//! submit ──► commands (bounded) ──► scheduler thread ──► batches (bounded) ──► device thread ──► tickets
//!   │                                   ▲                                          │
//!   └── ticket dropped: cancel ─────────┘◄──────────── completions ────────────────┘
//! ```

mod clock;
mod device;
mod executor;
mod scheduling;
mod sweep;
mod sync;
mod ticket;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use clock::{Clock, MonotonicClock};
pub use executor::{ExecuteError, Executor, Overlap, UNDER_WAY_MAX};
pub use ticket::{Completion, Failure, Ticket};

use crate::event::{Event, Observer};
use crate::scheduler::{Config, ConfigError, RejectReason, Rejection, Scheduler, Snapshot};
use crate::units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};
use scheduling::{Command, Job, SchedulingThread};
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::thread::{self, JoinHandle};
use sync::{Mutex, Sender, TrySendError, bounded};
use ticket::Canceller;

/// What the engine is told once.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// The scheduler's bounds; `devices` must equal the number of executors.
    pub scheduler: Config,
    /// Commands on their way to the scheduler thread; a submission that finds the channel full is refused.
    pub commands_max: usize,
}

/// One sequence for the engine to compute.
#[derive(Debug)]
pub struct Submission<I> {
    /// The model.
    pub model: ModelId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The tenant's share of device time beside the others', at least 1.
    pub weight: u32,
    /// Its class.
    pub priority: Priority,
    /// Its cost.
    pub tokens: Tokens,
    /// Hard deadline, on the engine's clock.
    pub deadline: Timestamp,
    /// What the executor is given.
    pub input: I,
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A bound makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// One executor is needed for each device.
    #[error("{devices} devices are configured, {executors} executors given")]
    Executors {
        /// Devices configured.
        devices: u16,
        /// Executors given.
        executors: usize,
    },
    /// The system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Retry hint where the scheduler cannot be asked for one.
const RETRY_SOON: Duration = Duration::from_millis(100);

/// A running scheduler and its devices. Cheap to clone; all clones are the same engine.
pub struct Engine<I, O> {
    shared: Arc<Shared<I, O>>,
}

struct Shared<I, O> {
    commands: Sender<Command<I, O>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    state: Arc<State>,
    next_job: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What all threads of an engine see.
struct State {
    is_healthy: AtomicBool,
    is_draining: AtomicBool,
    snapshot: Mutex<Snapshot>,
}

impl<I, O> Clone for Engine<I, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<I: Send + 'static, O: Send + 'static> Engine<I, O> {
    /// Measures what batches cost on each executor, then starts the scheduler thread and one thread for each executor.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: EngineConfig,
        executors: Vec<Box<dyn Executor<Input = I, Output = O>>>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let EngineConfig { scheduler, commands_max } = config;
        if usize::from(scheduler.devices) != executors.len() {
            return Err(StartError::Executors { devices: scheduler.devices, executors: executors.len() });
        }
        let batches_max = scheduler.batches_in_flight_max;
        let models = scheduler.models.clone();
        let mut scheduler = Scheduler::new(scheduler)?;
        let state = Arc::new(State {
            is_healthy: AtomicBool::new(true),
            is_draining: AtomicBool::new(false),
            snapshot: Mutex::new(Snapshot::default()),
        });
        let (commands, incoming) = bounded(commands_max.max(1));
        // Room for every batch that can be in flight: a device never waits to say that it is done.
        let (reports, reports_in) = bounded(batches_max.saturating_mul(executors.len()).max(1));
        let mut threads = Vec::new();
        let mut devices = Vec::new();
        for (index, mut executor) in executors.into_iter().enumerate() {
            let id = DeviceId(index as u16);
            sweep::learn_costs(id, executor.as_mut(), &models, clock.as_ref(), &mut scheduler);
            let (batches, batches_in) = bounded(batches_max);
            let device = device::DeviceThread {
                id,
                executor,
                batches: batches_in,
                reports: reports.clone(),
                clock: Arc::clone(&clock),
                observer: Arc::clone(&observer),
                state: Arc::clone(&state),
                free_since: Timestamp::ZERO,
                lost: None,
            };
            threads.push(thread::Builder::new().name(format!("device-{index}")).spawn(|| device.run())?);
            devices.push(batches);
        }
        scheduler.snapshot(clock.now(), &mut state.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
        let scheduling = SchedulingThread::new(
            scheduler,
            incoming,
            reports_in,
            devices,
            (Arc::clone(&clock), Arc::clone(&observer), Arc::clone(&state)),
        );
        threads.push(thread::Builder::new().name("scheduler".to_owned()).spawn(|| scheduling.run())?);
        let threads = Mutex::new(threads);
        Ok(Self {
            shared: Arc::new(Shared {
                commands,
                clock,
                observer,
                state,
                next_job: AtomicU64::new(0),
                threads,
            }),
        })
    }

    /// The present, on the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Hands a request to the scheduler. Never blocks. The ticket resolves to the output, or to why there is none;
    /// dropping it cancels the request.
    ///
    /// # Errors
    /// What is certain at once: the engine is draining, or the channel to the scheduler is full. Other refusals come
    /// through the ticket.
    pub fn submit(&self, submission: Submission<I>) -> Result<Ticket<O>, Rejection> {
        let model = submission.model;
        let (job, ticket) = self.job(submission);
        self.send(model, vec![job])?;
        Ok(ticket)
    }

    /// Hands requests of one call to the scheduler, which takes all of them or none, and counts them as one when it looks at what
    /// else there is to do. The model, tenant, weight and class of the first hold for all.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_all(&self, submissions: Vec<Submission<I>>) -> Result<Vec<Ticket<O>>, Rejection> {
        let Some(model) = submissions.first().map(|first| first.model) else { return Ok(Vec::new()) };
        let (jobs, tickets): (Vec<_>, _) =
            submissions.into_iter().map(|submission| self.job(submission)).unzip();
        self.send(model, jobs)?;
        Ok(tickets)
    }

    fn job(&self, submission: Submission<I>) -> (Job<I, O>, Ticket<O>) {
        let id = self.shared.next_job.fetch_add(1, Ordering::Relaxed);
        let (job, answer) = Job::new(id, submission);
        (job, Ticket::new(answer, Canceller::new(id, &self.shared.commands)))
    }

    fn send(&self, model: ModelId, jobs: Vec<Job<I, O>>) -> Result<(), Rejection> {
        let shared = &self.shared;
        let requests = jobs.len();
        let refuse = |reason| {
            for _ in 0..requests {
                shared.observer.on_event(&Event::Rejected { model, reason });
            }
            Rejection { reason, retry_after: RETRY_SOON }
        };
        if shared.state.is_draining.load(Ordering::Acquire) {
            return Err(refuse(RejectReason::Draining));
        }
        shared.commands.try_send(Command::Submit(jobs)).map_err(|error| match error {
            TrySendError::Full(_) => refuse(RejectReason::QueueFull),
            TrySendError::Disconnected(_) => refuse(RejectReason::Draining),
        })
    }

    /// What waits, as of the scheduler thread's last turn.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.state.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether batches can be run: no device was lost and no thread has died.
    pub fn is_healthy(&self) -> bool {
        self.shared.state.is_healthy.load(Ordering::Acquire)
    }

    /// Takes no new work; what is queued is still computed.
    pub fn drain(&self) {
        self.shared.state.is_draining.store(true, Ordering::Release);
    }

    /// Drains, waits until everything accepted has been answered, and ends the threads. Blocks. Safe to call twice.
    pub fn shutdown(&self) {
        self.drain();
        // The scheduler thread reads commands until it is told to stop, so there will be room.
        let _ = self.shared.commands.send(Command::Shutdown);
        let threads =
            std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                self.shared.state.is_healthy.store(false, Ordering::Release);
            }
        }
    }
}

/// Marks the engine as unhealthy if its thread unwinds.
struct Sentinel(Arc<State>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_healthy.store(false, Ordering::Release);
        }
    }
}
