//! The thread that owns the scheduler.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;

use super::clock::Clock;
use super::executor::ExecuteError;
use super::sync::atomic::Ordering;
use super::sync::{Arrival, Receiver, Sender, never, receive_either};
use super::ticket::{Answer, Failure};
use super::{Sentinel, State, Submission};
use crate::event::{Event, Observer};
use crate::scheduler::{
    Batch, BatchId, Decision, Ended, Entry, RejectReason, Rejected, Rejection, Request, RequestId, Scheduler,
};
use crate::units::{DeviceId, ModelId, Timestamp};

/// What other threads ask of this one.
pub(super) enum Command<I, O> {
    /// Requests of one call, that are taken all or none.
    Submit(Vec<Job<I, O>>),
    /// The caller of this job has left.
    Cancel(u64),
    /// Stop once everything accepted has been answered.
    Shutdown,
}

/// A submission with its way back.
pub(super) struct Job<I, O> {
    id: u64,
    submission: Submission<I>,
    answer: oneshot::Sender<Answer<O>>,
}

/// What travels through the scheduler with a request.
pub(super) struct Payload<I, O> {
    /// Number of the job, by which it is cancelled.
    pub(super) job: u64,
    pub(super) input: I,
    pub(super) answer: oneshot::Sender<Answer<O>>,
    /// Devices that were lost with it aboard.
    pub(super) losses: u8,
}

/// What a device says of a batch.
pub(super) enum DeviceReport<I, O> {
    /// Every member has its answer. `compute` is the time it took, if that is worth learning from.
    Done { batch: BatchId, compute: Option<Duration> },
    /// The device is gone, and these members have no answer.
    Lost { batch: BatchId, members: Vec<Entry<Payload<I, O>>>, error: ExecuteError },
}

/// A request is tried on one more device than the one lost with it: if that is lost too, it may be the cause.
const LOSSES_MAX: u8 = 1;

/// A batch whose members carry their way back.
pub(super) type DeviceBatch<I, O> = Batch<Payload<I, O>>;

pub(super) struct SchedulingThread<I, O> {
    scheduler: Scheduler<Payload<I, O>>,
    commands: Receiver<Command<I, O>>,
    reports: Receiver<DeviceReport<I, O>>,
    devices: Vec<Sender<DeviceBatch<I, O>>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    state: Arc<State>,
    /// Queued requests by job.
    queued: HashMap<u64, RequestId>,
    is_stopping: bool,
    /// How the last device was lost.
    lost: Option<ExecuteError>,
}

impl<I, O> Job<I, O> {
    pub(super) fn new(id: u64, submission: Submission<I>) -> (Self, oneshot::Receiver<Answer<O>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { id, submission, answer }, receiver)
    }
}

impl<I, O> SchedulingThread<I, O> {
    pub(super) fn new(
        scheduler: Scheduler<Payload<I, O>>,
        commands: Receiver<Command<I, O>>,
        reports: Receiver<DeviceReport<I, O>>,
        devices: Vec<Sender<DeviceBatch<I, O>>>,
        (clock, observer, state): (Arc<dyn Clock>, Arc<dyn Observer>, Arc<State>),
    ) -> Self {
        let queued = HashMap::new();
        Self {
            scheduler,
            commands,
            reports,
            devices,
            clock,
            observer,
            state,
            queued,
            is_stopping: false,
            lost: None,
        }
    }

    pub(super) fn run(mut self) {
        let _sentinel = Sentinel(Arc::clone(&self.state));
        loop {
            self.give_up();
            let wake = self.dispatch();
            self.publish();
            if self.is_stopping && self.scheduler.is_idle() && self.commands.is_empty() {
                return;
            }
            self.wait(wake);
        }
    }

    /// Blocks until something happens or it is time, then takes all that has arrived.
    fn wait(&mut self, wake: Option<Timestamp>) {
        let now = self.clock.now();
        let wait = wake.map(|at| at.saturating_duration_since(now));
        match receive_either(&self.commands, &self.reports, wait) {
            Arrival::First(command) => self.obey(command),
            Arrival::FirstEnded => {
                // Every handle to the engine is gone.
                self.is_stopping = true;
                self.commands = never();
            }
            Arrival::Second(report) => self.hear(report),
            Arrival::SecondEnded => self.reports = never(),
            Arrival::Nothing => {}
        }
        // Everything that has arrived is seen before the next decision, so that batches form; bounded, so that a flood
        // of submissions cannot keep devices waiting.
        for _ in 0..self.commands.len() {
            if let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
        }
        while let Ok(report) = self.reports.try_recv() {
            self.hear(report);
        }
    }

    fn obey(&mut self, command: Command<I, O>) {
        match command {
            Command::Submit(jobs) => self.enqueue(jobs),
            Command::Cancel(job) => {
                if let Some(entry) = self.queued.remove(&job).and_then(|id| self.scheduler.cancel(id)) {
                    self.tell(entry.request.model, &Event::Cancelled { model: entry.request.model });
                }
            }
            Command::Shutdown => self.is_stopping = true,
        }
    }

    fn enqueue(&mut self, jobs: Vec<Job<I, O>>) {
        let mut requests = Vec::with_capacity(jobs.len());
        for Job { id: job, submission, answer } in jobs {
            let Submission { model, tenant, weight, priority, tokens, deadline, input } = submission;
            if answer.is_canceled() {
                // Left before it was seen: it was accepted and cancelled.
                self.observer.on_event(&Event::Enqueued { model, tenant, priority, tokens });
                self.observer.on_event(&Event::Cancelled { model });
                continue;
            }
            let payload = Payload { job, input, answer, losses: 0 };
            requests.push(Request { model, tenant, weight, priority, tokens, deadline, payload });
        }
        let Some(&Request { model, tenant, priority, .. }) = requests.first() else { return };
        let queued: Vec<_> = requests.iter().map(|request| (request.payload.job, request.tokens)).collect();
        match self.scheduler.enqueue_all(self.clock.now(), requests) {
            Ok(ids) => {
                for ((job, tokens), id) in queued.into_iter().zip(ids) {
                    self.queued.insert(job, id);
                    self.observer.on_event(&Event::Enqueued { model, tenant, priority, tokens });
                }
                self.tell_queue(model);
            }
            Err(Rejected { rejection, payload }) => {
                for payload in payload {
                    self.observer.on_event(&Event::Rejected { model, reason: rejection.reason });
                    let _ = payload.answer.send(Err(Failure::Rejected(rejection)));
                }
            }
        }
    }

    fn hear(&mut self, report: DeviceReport<I, O>) {
        let now = self.clock.now();
        match report {
            DeviceReport::Done { batch, compute } => self.scheduler.complete(now, batch, compute),
            DeviceReport::Lost { batch, members, error } => {
                self.state.is_healthy.store(false, Ordering::Release);
                if let Some(device) = self.scheduler.device_of(batch) {
                    self.scheduler.lose(device);
                }
                self.scheduler.complete(now, batch, None);
                for member in members {
                    self.try_elsewhere(now, member, &error);
                }
                self.lost = Some(error);
            }
        }
    }

    /// Queues a request of a lost device again if that can help.
    fn try_elsewhere(&mut self, now: Timestamp, mut entry: Entry<Payload<I, O>>, error: &ExecuteError) {
        let payload = &mut entry.request.payload;
        let failure = if payload.losses >= LOSSES_MAX || !self.scheduler.has_devices() {
            Failure::Execution(error.clone())
        } else if entry.request.deadline <= now {
            Failure::DeadlineExceeded
        } else {
            payload.losses += 1;
            let (job, model) = (payload.job, entry.request.model);
            let id = self.scheduler.requeue(entry);
            self.queued.insert(job, id);
            self.tell(model, &Event::Requeued { model });
            return;
        };
        let _ = entry.request.payload.answer.send(Err(failure));
    }

    /// Answers all that waits when there is nothing left to compute it.
    fn give_up(&mut self) {
        let Some(error) = self.lost.as_ref().filter(|_| !self.scheduler.has_devices()) else { return };
        let failure = Failure::Execution(error.clone());
        for entry in self.scheduler.abandon() {
            let model = entry.request.model;
            self.queued.remove(&entry.request.payload.job);
            self.tell(model, &Event::Cancelled { model });
            let _ = entry.request.payload.answer.send(Err(failure.clone()));
        }
    }

    /// Expires what is late and gives every device all it may have. Returns when to look again.
    fn dispatch(&mut self) -> Option<Timestamp> {
        let now = self.clock.now();
        for (entry, why) in self.scheduler.ended(now) {
            self.ended(entry, why);
        }
        let mut wake = self.scheduler.next_end();
        for index in 0..self.devices.len() {
            loop {
                match self.scheduler.poll(now, DeviceId(index as u16)) {
                    Decision::Dispatch(batch) => self.send(now, batch),
                    Decision::WaitUntil(at) => {
                        wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
                        break;
                    }
                    Decision::Idle => break,
                }
            }
        }
        wake
    }

    fn ended(&mut self, entry: Entry<Payload<I, O>>, why: Ended) {
        let model = entry.request.model;
        self.queued.remove(&entry.request.payload.job);
        let failure = match why {
            Ended::DeadlineExceeded => {
                self.tell(model, &Event::Expired { model });
                Failure::DeadlineExceeded
            }
            Ended::Shed => {
                self.tell(model, &Event::Shed { model });
                let retry_after = self.scheduler.retry_after();
                Failure::Rejected(Rejection { reason: RejectReason::QueueFull, retry_after })
            }
        };
        let _ = entry.request.payload.answer.send(Err(failure));
    }

    fn send(&mut self, now: Timestamp, batch: DeviceBatch<I, O>) {
        let Batch { model, device, tokens, .. } = batch;
        for entry in &batch.members {
            self.queued.remove(&entry.request.payload.job);
            let queue_delay = now.saturating_duration_since(entry.enqueued_at);
            self.observer.on_event(&Event::Dequeued { model, queue_delay });
        }
        self.tell(model, &Event::Dispatched { model, device, sequences: batch.members.len(), tokens });
        let id = batch.id;
        // There is room: the scheduler dispatches no more than the channel holds. A device thread that is gone drops
        // the batch, and with it the ways back: its tickets resolve as shut down.
        if self.devices[usize::from(device.0)].send(batch).is_err() {
            self.scheduler.complete(now, id, None);
        }
    }

    /// Tells of an event that changed a model's queue, and of the queue.
    fn tell(&self, model: ModelId, event: &Event) {
        self.observer.on_event(event);
        self.tell_queue(model);
    }

    fn tell_queue(&self, model: ModelId) {
        let queue = self.scheduler.model_snapshot(Timestamp::ZERO, model);
        let (requests, tokens) = (queue.queued_requests, queue.queued_tokens);
        self.observer.on_event(&Event::Queue { model, requests, tokens });
    }

    fn publish(&self) {
        let mut snapshot = self.state.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        self.scheduler.snapshot(self.clock.now(), &mut snapshot);
    }
}
