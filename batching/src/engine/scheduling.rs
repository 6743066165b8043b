//! The thread that owns the scheduler.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, never, select};
use futures_channel::oneshot;

use super::clock::Clock;
use super::ticket::{Answer, Failure};
use super::{Sentinel, State, Submission};
use crate::event::{Event, Observer};
use crate::scheduler::{Batch, BatchId, Decision, Entry, Rejected, Request, RequestId, Scheduler};
use crate::units::{DeviceId, ModelId, Timestamp};

/// What other threads ask of this one.
pub(super) enum Command<I, O> {
    Submit(Job<I, O>),
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
}

/// A batch whose members carry their way back.
pub(super) type DeviceBatch<I, O> = Batch<Payload<I, O>>;

pub(super) struct SchedulingThread<I, O> {
    scheduler: Scheduler<Payload<I, O>>,
    commands: Receiver<Command<I, O>>,
    completions: Receiver<(BatchId, Option<Duration>)>,
    devices: Vec<Sender<DeviceBatch<I, O>>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    state: Arc<State>,
    /// Queued requests by job.
    queued: HashMap<u64, RequestId>,
    is_stopping: bool,
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
        completions: Receiver<(BatchId, Option<Duration>)>,
        devices: Vec<Sender<DeviceBatch<I, O>>>,
        (clock, observer, state): (Arc<dyn Clock>, Arc<dyn Observer>, Arc<State>),
    ) -> Self {
        let queued = HashMap::new();
        Self { scheduler, commands, completions, devices, clock, observer, state, queued, is_stopping: false }
    }

    pub(super) fn run(mut self) {
        let _sentinel = Sentinel(Arc::clone(&self.state));
        loop {
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
        let timer = wake.map_or_else(never, |at| after(at.saturating_duration_since(now)));
        select! {
            recv(self.commands) -> command => match command {
                Ok(command) => self.obey(command),
                // Every handle to the engine is gone.
                Err(_) => {
                    self.is_stopping = true;
                    self.commands = never();
                }
            },
            recv(self.completions) -> batch => if let Ok(batch) = batch { self.complete(batch) },
            recv(timer) -> _ => {}
        }
        // Everything that has arrived is seen before the next decision, so that batches form; bounded, so that a flood
        // of submissions cannot keep devices waiting.
        for _ in 0..self.commands.len() {
            if let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
        }
        while let Ok(batch) = self.completions.try_recv() {
            self.complete(batch);
        }
    }

    fn obey(&mut self, command: Command<I, O>) {
        match command {
            Command::Submit(job) => self.enqueue(job),
            Command::Cancel(job) => {
                if let Some(entry) = self.queued.remove(&job).and_then(|id| self.scheduler.cancel(id)) {
                    self.tell(entry.request.model, &Event::Cancelled { model: entry.request.model });
                }
            }
            Command::Shutdown => self.is_stopping = true,
        }
    }

    fn enqueue(&mut self, job: Job<I, O>) {
        let Job { id: job, submission, answer } = job;
        let Submission { model, tenant, weight, priority, tokens, deadline, input } = submission;
        if answer.is_canceled() {
            // Left before it was seen: it was accepted and cancelled.
            self.observer.on_event(&Event::Enqueued { model, tenant, priority, tokens });
            self.observer.on_event(&Event::Cancelled { model });
            return;
        }
        let payload = Payload { job, input, answer };
        let request = Request { model, tenant, weight, priority, tokens, deadline, payload };
        match self.scheduler.enqueue(self.clock.now(), request) {
            Ok(id) => {
                self.queued.insert(job, id);
                self.tell(model, &Event::Enqueued { model, tenant, priority, tokens });
            }
            Err(Rejected { rejection, payload }) => {
                self.observer.on_event(&Event::Rejected { model, reason: rejection.reason });
                let _ = payload.answer.send(Err(Failure::Rejected(rejection)));
            }
        }
    }

    fn complete(&mut self, (batch, compute): (BatchId, Option<Duration>)) {
        self.scheduler.complete(self.clock.now(), batch, compute);
    }

    /// Expires what is late and gives every device all it may have. Returns when to look again.
    fn dispatch(&mut self) -> Option<Timestamp> {
        let now = self.clock.now();
        for entry in self.scheduler.expire(now) {
            self.expired(entry);
        }
        let mut wake = self.scheduler.next_expiry();
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

    fn expired(&mut self, entry: Entry<Payload<I, O>>) {
        let model = entry.request.model;
        self.queued.remove(&entry.request.payload.job);
        self.tell(model, &Event::Expired { model });
        let _ = entry.request.payload.answer.send(Err(Failure::DeadlineExceeded));
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
            self.complete((id, None));
        }
    }

    /// Tells of an event that changed a model's queue, and of the queue.
    fn tell(&self, model: ModelId, event: &Event) {
        self.observer.on_event(event);
        let queue = self.scheduler.model_snapshot(Timestamp::ZERO, model);
        let (requests, tokens) = (queue.queued_requests, queue.queued_tokens);
        self.observer.on_event(&Event::Queue { model, requests, tokens });
    }

    fn publish(&self) {
        let snapshot = self.scheduler.snapshot(self.clock.now());
        *self.state.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}
