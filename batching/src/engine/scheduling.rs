//! The thread that owns the scheduler.

use std::collections::{HashMap, VecDeque};

use futures_channel::oneshot;
use units::{DeviceId, ModelId, Timestamp};

use super::answer::Failure;
use super::executor::ExecuteError;
use super::message::{Command, DeviceBatch, DeviceReport, Observation, Order, Payload};
use super::state::Surroundings;
use super::sync::{Arrival, Receiver, Sender, never, receive_either};
use crate::event::Event;
use crate::scheduler::{
    Batch, ConfigError, Decision, EndReason, EnqueueError, Entry, ModelConfig, RejectReason, Rejection,
    Scheduler, Sequence, SequenceId,
};

/// A sequence is tried on one more device than the one lost with it: if that is lost too, it may be the
/// cause.
const LOSSES_MAX: u8 = 1;

pub(super) struct SchedulingThread<I, O> {
    scheduler: Scheduler<Payload<I, O>>,
    commands: Receiver<Command<I, O>>,
    reports: Receiver<DeviceReport<I, O>>,
    devices: Vec<Sender<Order<I, O>>>,
    surroundings: Surroundings,
    /// Queued sequences by job.
    queued: HashMap<u64, SequenceId>,
    /// Models whose costs are measured, one after the other.
    additions: VecDeque<Addition>,
    /// Models that are being removed.
    removals: Vec<Removal>,
    is_stopping: bool,
    /// How the last device was lost.
    lost: Option<ExecuteError>,
}

/// A model that is being added.
struct Addition {
    model: ModelId,
    config: ModelConfig,
    /// Devices that have not measured it yet; none before it is this one's turn.
    devices: Option<usize>,
    added: oneshot::Sender<Result<(), ConfigError>>,
}

/// A model that is being removed.
struct Removal {
    model: ModelId,
    /// Devices that have not forgotten it yet; none before nothing of it waits or runs, and it is this one's
    /// turn.
    devices: Option<usize>,
    removed: oneshot::Sender<()>,
}

impl<I, O> SchedulingThread<I, O> {
    pub(super) fn new(
        scheduler: Scheduler<Payload<I, O>>,
        commands: Receiver<Command<I, O>>,
        reports: Receiver<DeviceReport<I, O>>,
        devices: Vec<Sender<Order<I, O>>>,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            scheduler,
            commands,
            reports,
            devices,
            surroundings,
            queued: HashMap::new(),
            additions: VecDeque::new(),
            removals: Vec::new(),
            is_stopping: false,
            lost: None,
        }
    }

    pub(super) fn run(mut self) {
        let _sentinel = self.surroundings.sentinel();
        loop {
            self.give_up();
            let wake = self.dispatch();
            self.surroundings.publish(&self.scheduler);
            // After the snapshot, so that whoever is told finds nothing of the model there.
            self.forget_next();
            if self.is_stopping && self.scheduler.is_idle() && self.commands.is_empty() {
                debug_assert!(self.queued.is_empty(), "whoever waits is known to the scheduler");
                return;
            }
            self.wait(wake);
        }
    }

    /// Blocks until something happens or it is time, then takes all that has arrived.
    fn wait(&mut self, wake: Option<Timestamp>) {
        let now = self.surroundings.clock.now();
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
        // Everything that has arrived is seen before the next decision, so that batches form; bounded, so
        // that a flood of submissions cannot keep devices waiting.
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
            Command::Submit(call) => self.enqueue(call),
            Command::Cancel(job) => {
                if let Some(entry) = self.queued.remove(&job).and_then(|id| self.scheduler.cancel(id)) {
                    self.surroundings.observer.on_event(&Event::Cancelled { model: entry.sequence.model });
                }
            }
            Command::AddModel { model, config, added } => {
                match self.scheduler.add_model(model, config.clone()) {
                    Ok(()) => {
                        self.additions.push_back(Addition { model, config, devices: None, added });
                        self.measure_next();
                    }
                    // Who does not wait for it does not want to know.
                    Err(error) => drop(added.send(Err(error))),
                }
            }
            Command::RemoveModel { model, removed } => {
                self.scheduler.remove_model(model);
                self.removals.push(Removal { model, devices: None, removed });
            }
            Command::Shutdown => self.is_stopping = true,
        }
    }

    /// Lets all devices measure the model that was added first.
    fn measure_next(&mut self) {
        while let Some(first) = self.additions.front_mut() {
            if first.devices.is_none() {
                let order = || Order::Measure { model: first.model, config: first.config.clone() };
                // There is room: one model is measured at a time. A device thread that is gone measures
                // nothing.
                first.devices =
                    Some(self.devices.iter().filter(|device| device.send(order()).is_ok()).count());
            }
            if first.devices > Some(0) {
                return;
            }
            if let Some(done) = self.additions.pop_front() {
                let _ = done.added.send(Ok(()));
            }
        }
    }

    /// Lets all devices forget a model of which nothing waits or runs any more, and tells who waits for that.
    fn forget_next(&mut self) {
        let scheduler = &self.scheduler;
        loop {
            for removal in self.removals.extract_if(.., |removal| removal.devices == Some(0)) {
                let _ = removal.removed.send(());
            }
            // One after the other, so that there is room for the orders.
            let is_busy = self.removals.iter().any(|removal| removal.devices.is_some());
            let next = self.removals.iter_mut().find(|removal| !scheduler.has_model(removal.model));
            let Some(next) = next.filter(|_| !is_busy) else { return };
            let order = || Order::Forget { model: next.model };
            // A device thread that is gone holds nothing.
            next.devices = Some(self.devices.iter().filter(|device| device.send(order()).is_ok()).count());
        }
    }

    fn enqueue(&mut self, mut call: Vec<Sequence<Payload<I, O>>>) {
        call.retain(|Sequence { model, tenant, priority, tokens, payload, .. }| {
            let has_left = payload.answer.is_canceled();
            if has_left {
                // Left before it was seen: it was accepted and cancelled.
                let (model, tenant, priority, tokens) = (*model, *tenant, *priority, *tokens);
                self.surroundings.observer.on_event(&Event::Enqueued { model, tenant, priority, tokens });
                self.surroundings.observer.on_event(&Event::Cancelled { model });
            }
            !has_left
        });
        let Some(&Sequence { model, tenant, priority, .. }) = call.first() else { return };
        let queued: Vec<_> = call.iter().map(|sequence| (sequence.payload.job, sequence.tokens)).collect();
        match self.scheduler.enqueue_all(self.surroundings.clock.now(), call) {
            Ok(ids) => {
                for ((job, tokens), id) in queued.into_iter().zip(ids) {
                    let other = self.queued.insert(job, id);
                    debug_assert!(other.is_none(), "a job's number is used once");
                    self.surroundings.observer.on_event(&Event::Enqueued { model, tenant, priority, tokens });
                }
            }
            Err(EnqueueError { rejection, payload }) => {
                for payload in payload {
                    self.surroundings.observer.on_event(&Event::Rejected { model, reason: rejection.reason });
                    let _ = payload.answer.send(Err(Failure::Rejected(rejection)));
                }
            }
        }
    }

    fn hear(&mut self, report: DeviceReport<I, O>) {
        let now = self.surroundings.clock.now();
        match report {
            DeviceReport::Done { batch, compute } => self.scheduler.complete(now, batch, compute),
            DeviceReport::Lost { batch, members, error } => {
                self.surroundings.state.ail();
                if let Some(device) = self.scheduler.device_of(batch) {
                    self.scheduler.lose(device);
                }
                for member in members {
                    self.try_elsewhere(now, member, &error);
                }
                self.scheduler.complete(now, batch, None);
                self.lost = Some(error);
            }
            DeviceReport::Measured { device, model, costs } => {
                for Observation { work, compute } in costs {
                    self.scheduler.calibrate(device, model, work, compute);
                }
                if let Some(Addition { devices: Some(devices), .. }) = self.additions.front_mut() {
                    *devices = devices.saturating_sub(1);
                }
                self.measure_next();
            }
            DeviceReport::Forgotten { model } => {
                let removal = self
                    .removals
                    .iter_mut()
                    .find(|removal| removal.model == model && removal.devices.is_some());
                if let Some(Removal { devices: Some(devices), .. }) = removal {
                    *devices = devices.saturating_sub(1);
                }
            }
        }
    }

    /// Queues a sequence of a lost device again if that can help.
    fn try_elsewhere(&mut self, now: Timestamp, mut entry: Entry<Payload<I, O>>, error: &ExecuteError) {
        let payload = &mut entry.sequence.payload;
        let failure = if payload.losses >= LOSSES_MAX || !self.scheduler.has_devices() {
            Failure::Execution(error.clone())
        } else if entry.sequence.deadline <= now {
            Failure::DeadlineExceeded
        } else {
            payload.losses += 1;
            let (job, model) = (payload.job, entry.sequence.model);
            let id = self.scheduler.requeue(entry);
            self.queued.insert(job, id);
            self.surroundings.observer.on_event(&Event::Requeued { model });
            return;
        };
        let _ = entry.sequence.payload.answer.send(Err(failure));
    }

    /// Answers all that waits when there is nothing left to compute it.
    fn give_up(&mut self) {
        let Some(error) = self.lost.as_ref().filter(|_| !self.scheduler.has_devices()) else { return };
        let failure = Failure::Execution(error.clone());
        for entry in self.scheduler.abandon() {
            let model = entry.sequence.model;
            self.queued.remove(&entry.sequence.payload.job);
            self.surroundings.observer.on_event(&Event::Cancelled { model });
            let _ = entry.sequence.payload.answer.send(Err(failure.clone()));
        }
    }

    /// Expires what is late and gives every device all it may have. Returns when to look again.
    fn dispatch(&mut self) -> Option<Timestamp> {
        let now = self.surroundings.clock.now();
        self.surroundings.state.tell_refused(now, &mut self.scheduler);
        for (entry, why) in self.scheduler.ended(now) {
            self.ended(entry, why);
        }
        let mut wake: Option<Timestamp> = None;
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
        // After the polls, which may end sequences too.
        match (wake, self.scheduler.next_end()) {
            (Some(wake), Some(end)) => Some(wake.min(end)),
            (wake, end) => wake.or(end),
        }
    }

    fn ended(&mut self, entry: Entry<Payload<I, O>>, why: EndReason) {
        let model = entry.sequence.model;
        self.queued.remove(&entry.sequence.payload.job);
        let failure = match why {
            EndReason::DeadlineExceeded => {
                self.surroundings.observer.on_event(&Event::Expired { model });
                Failure::DeadlineExceeded
            }
            EndReason::Shed => {
                self.surroundings.observer.on_event(&Event::Shed { model });
                let retry_after = self.scheduler.retry_after();
                Failure::Rejected(Rejection { reason: RejectReason::QueueFull, retry_after })
            }
        };
        let _ = entry.sequence.payload.answer.send(Err(failure));
    }

    fn send(&mut self, now: Timestamp, batch: DeviceBatch<I, O>) {
        let Batch { model, device, tokens, .. } = batch;
        for entry in &batch.members {
            self.queued.remove(&entry.sequence.payload.job);
            let queue_delay = now.saturating_duration_since(entry.enqueued_at);
            self.surroundings.observer.on_event(&Event::Dequeued { model, queue_delay });
        }
        self.surroundings.observer.on_event(&Event::Dispatched {
            model,
            device,
            sequences: batch.members.len(),
            tokens,
        });
        let id = batch.id;
        // There is room: the scheduler dispatches no more than the channel holds. A device thread that is
        // gone drops the batch, and with it the ways back: its tickets resolve as shut down.
        if self.devices[device.index()].send(Order::Run(batch)).is_err() {
            self.scheduler.complete(now, id, None);
        }
    }
}
