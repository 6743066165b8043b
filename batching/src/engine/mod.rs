//! The imperative shell around the scheduler: threads, channels, a clock, and futures for the callers.
//!
//! ```text
//! submit ──► commands (bounded) ──► scheduler thread ──► batches (bounded) ──► device thread ──► tickets
//!   │                                   ▲                                          │
//!   └── ticket dropped: cancel ─────────┘◄──────────── completions ────────────────┘
//! ```

mod answer;
mod device;
mod executor;
mod message;
mod scheduling;
mod state;
mod sweep;
mod sync;
mod ticket;

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;
use units::{Clock, DeviceId, ModelId, Timestamp};

pub use answer::{Completion, Failure};
pub use executor::{ExecuteError, Executor, Overlap, UNDER_WAY_MAX};
pub use ticket::Ticket;

use crate::event::{Event, Observer};
use crate::scheduler::{
    Config, ConfigError, ModelConfig, RefusedWork, RejectReason, Rejection, Scheduler, Sequence, Snapshot,
};
use device::DeviceThread;
use message::{Command, Observation, Payload};
use scheduling::SchedulingThread;
use state::{State, Surroundings};
use sync::atomic::{AtomicU64, Ordering};
use sync::thread::{self, JoinHandle};
use sync::{Mutex, Sender, TrySendError, bounded};
use ticket::Canceller;

/// What the engine is told once.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// The scheduler's bounds; `devices` must equal the number of executors.
    pub scheduler: Config,
    /// Commands on their way to the scheduler thread; a call that finds the channel full is refused.
    pub commands_max: usize,
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

/// Why a model was not added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModelChangeError {
    /// A bound makes no sense, or the number was used before.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The channel to the scheduler is full: try again.
    #[error("the scheduler is busy")]
    Busy,
    /// The engine ended first.
    #[error("the engine was shut down")]
    ShutDown,
}

/// Retry hint where the scheduler cannot be asked for one.
const RETRY_SOON: Duration = Duration::from_millis(100);

/// A running scheduler and its devices. Cheap to clone; all clones are the same engine.
pub struct Engine<I, O> {
    shared: Arc<EngineCore<I, O>>,
}

struct EngineCore<I, O> {
    commands: Sender<Command<I, O>>,
    surroundings: Surroundings,
    next_job: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<I, O> Clone for Engine<I, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<I: Send + 'static, O: Send + 'static> Engine<I, O> {
    /// Measures what batches cost on each executor, then starts the scheduler thread and one thread for each
    /// executor.
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
        let surroundings = Surroundings { clock, observer, state: Arc::new(State::new()) };
        let (commands, incoming) = bounded(commands_max.max(1));
        // Room for every batch that can be in flight, one measurement, and one model to forget: nobody waits
        // to say something.
        let orders_max = batches_max.saturating_add(2);
        let (reports, reports_in) = bounded(orders_max.saturating_mul(executors.len()).max(1));
        let mut threads = Vec::new();
        let mut devices = Vec::new();
        for (index, mut executor) in executors.into_iter().enumerate() {
            let id = DeviceId(index as u16);
            for (number, config) in (0..).zip(&models) {
                let (model, clock) = (ModelId(number), surroundings.clock.as_ref());
                for Observation { work, compute } in sweep::measure(executor.as_mut(), model, config, clock) {
                    scheduler.calibrate(id, model, work, compute);
                }
            }
            let (orders, orders_in) = bounded(orders_max);
            let device = DeviceThread::new(id, executor, orders_in, reports.clone(), surroundings.clone());
            threads.push(thread::Builder::new().name(format!("device-{index}")).spawn(|| device.run())?);
            devices.push(orders);
        }
        surroundings.publish(&scheduler);
        let scheduling =
            SchedulingThread::new(scheduler, incoming, reports_in, devices, surroundings.clone());
        threads.push(thread::Builder::new().name("scheduler".to_owned()).spawn(|| scheduling.run())?);
        let (next_job, threads) = (AtomicU64::new(0), Mutex::new(threads));
        Ok(Self { shared: Arc::new(EngineCore { commands, surroundings, next_job, threads }) })
    }

    /// The present, on the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.surroundings.clock.now()
    }

    /// Hands a sequence to the scheduler. Never blocks. The ticket resolves to the output, or to why there is
    /// none; dropping it cancels the sequence.
    ///
    /// # Errors
    /// What is certain at once: the engine is draining, or the channel to the scheduler is full. Other
    /// refusals come through the ticket.
    pub fn submit(&self, sequence: Sequence<I>) -> Result<Ticket<O>, Rejection> {
        let model = sequence.model;
        let (sequence, ticket) = self.job(sequence);
        self.send(model, vec![sequence])?;
        Ok(ticket)
    }

    /// Hands the sequences of one call to the scheduler, which takes all of them or none, and counts them as
    /// one when it looks at what else there is to do. The model, tenant, weight and class of the first hold
    /// for all.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_all(&self, call: Vec<Sequence<I>>) -> Result<Vec<Ticket<O>>, Rejection> {
        let Some(model) = call.first().map(|first| first.model) else { return Ok(Vec::new()) };
        let (jobs, tickets): (Vec<_>, _) = call.into_iter().map(|sequence| self.job(sequence)).unzip();
        self.send(model, jobs)?;
        Ok(tickets)
    }

    /// Takes sequences of one more model from now on. Resolves once every device has measured what its
    /// batches cost, before which none should be submitted. Executors must know the model already. Number:
    /// see [`Scheduler::add_model`].
    pub fn add_model(
        &self,
        model: ModelId,
        config: ModelConfig,
    ) -> impl Future<Output = Result<(), ModelChangeError>> + Send + use<I, O> {
        let (added, outcome) = oneshot::channel();
        let sent = self.change(Command::AddModel { model, config, added });
        async move {
            sent?;
            Ok(outcome.await.map_err(|_| ModelChangeError::ShutDown)??)
        }
    }

    /// Takes nothing more for a model. Resolves once nothing of it waits or runs, and every executor has
    /// forgotten it.
    pub fn remove_model(
        &self,
        model: ModelId,
    ) -> impl Future<Output = Result<(), ModelChangeError>> + Send + use<I, O> {
        let (removed, outcome) = oneshot::channel();
        let sent = self.change(Command::RemoveModel { model, removed });
        async move {
            sent?;
            outcome.await.map_err(|_| ModelChangeError::ShutDown)
        }
    }

    fn change(&self, command: Command<I, O>) -> Result<(), ModelChangeError> {
        self.shared.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => ModelChangeError::Busy,
            TrySendError::Disconnected(_) => ModelChangeError::ShutDown,
        })
    }

    fn job(&self, sequence: Sequence<I>) -> (Sequence<Payload<I, O>>, Ticket<O>) {
        let job = self.shared.next_job.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        let (sequence, ()) = sequence.map(|input| (Payload { job, input, answer, losses: 0 }, ()));
        (sequence, Ticket::new(receiver, Canceller::new(job, &self.shared.commands)))
    }

    fn send(&self, model: ModelId, call: Vec<Sequence<Payload<I, O>>>) -> Result<(), Rejection> {
        let Surroundings { observer, state, .. } = &self.shared.surroundings;
        let sequences = call.len();
        let refuse = |reason| {
            for _ in 0..sequences {
                observer.on_event(&Event::Rejected { model, reason });
            }
            Rejection { reason, retry_after: RETRY_SOON }
        };
        if state.is_draining() {
            return Err(refuse(RejectReason::Draining));
        }
        self.shared.commands.try_send(Command::Submit(call)).map_err(|error| match error {
            TrySendError::Full(_) => refuse(RejectReason::QueueFull),
            TrySendError::Disconnected(_) => refuse(RejectReason::Draining),
        })
    }

    /// What waits, as of the scheduler thread's last turn.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.surroundings.state.snapshot()
    }

    /// Whether so much is asked for, for seconds on end, that not everybody can be answered, as of the
    /// scheduler thread's last turn.
    pub fn is_overloaded(&self) -> bool {
        self.shared.surroundings.state.is_overloaded()
    }

    /// Counts work that was refused for want of capacity and not submitted: it was asked for all the same.
    pub fn refused(&self, work: RefusedWork) {
        self.shared.surroundings.state.refuse(work);
    }

    /// Whether batches can be run: no device was lost and no thread has died.
    pub fn is_healthy(&self) -> bool {
        self.shared.surroundings.state.is_healthy()
    }

    /// Takes no new work; what is queued is still computed.
    pub fn drain(&self) {
        self.shared.surroundings.state.drain();
    }

    /// Drains, waits until everything accepted has been answered, and ends the threads. Blocks. Safe to call
    /// twice.
    pub fn shutdown(&self) {
        self.drain();
        // The scheduler thread reads commands until it is told to stop, so there will be room.
        let _ = self.shared.commands.send(Command::Shutdown);
        let threads =
            std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                self.shared.surroundings.state.ail();
            }
        }
    }
}
