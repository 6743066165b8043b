//! The scheduler: a state machine that is told the time.

mod admission;
mod config;
mod cost;
mod decision;
mod fleet;
mod heap;
mod models;
mod policy;
mod sequence;
mod slots;
mod snapshot;
mod standing;
mod state;

use std::time::Duration;

use units::{DeviceId, ModelId, Timestamp};

pub use config::{
    Config, ConfigError, DeadlinePolicy, ModelConfig, Order, Policy, PreferredSize, TokenBudget,
};
pub use cost::Work;
pub use decision::{Batch, BatchId, Decision, EndReason, EnqueueError, RejectReason, Rejection};
pub use sequence::{Entry, RefusedWork, Sequence, SequenceId};
pub use snapshot::{DeviceSnapshot, ModelSnapshot, OfferedLoad, Snapshot};

use policy::PolicyState;
use standing::Claim;
use state::State;

/// The scheduler. See the crate's documentation for the policy.
#[derive(Debug)]
pub struct Scheduler<P> {
    state: State<P>,
    policy: PolicyState,
    batches_in_flight_max: usize,
}

impl<P> Scheduler<P> {
    /// A scheduler of empty queues.
    ///
    /// # Errors
    /// A bound that makes no sense; see [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let Config { models, devices, batches_in_flight_max, policy } = config;
        let (state, policy) = (State::new(devices), PolicyState::new(policy));
        let mut scheduler = Self { state, policy, batches_in_flight_max };
        for (number, model) in (0..).zip(models) {
            scheduler.add_model(ModelId(number), model)?;
        }
        Ok(scheduler)
    }

    /// Takes sequences of one more model from now on, under a number that no model had before. What batches
    /// of it cost is unknown until [`calibrate`](Self::calibrate) or [`complete`](Self::complete) tell.
    ///
    /// # Errors
    /// A bound that makes no sense, or a number that was used before.
    pub fn add_model(&mut self, model: ModelId, config: ModelConfig) -> Result<(), ConfigError> {
        config.check(model)?;
        if !self.state.models.open(model, config) {
            return Err(ConfigError::ModelNumber(model));
        }
        self.state.fleet.open(model);
        self.policy.models_changed(&self.state);
        Ok(())
    }

    /// Takes nothing more for a model. What waits is still computed; then the model is forgotten, and
    /// [`has_model`](Self::has_model) says so. Returns whether it took anything before.
    pub fn remove_model(&mut self, model: ModelId) -> bool {
        let was_open = self.state.models.close(model);
        self.policy.models_changed(&self.state);
        was_open
    }

    /// Whether a model is there, or anything of it waits or runs yet.
    pub fn has_model(&self, model: ModelId) -> bool {
        self.state.models.get(model).is_some()
    }

    /// Takes a sequence into its queue. If the queue is full, one with a weaker claim may have to make place:
    /// see [`ended`](Self::ended).
    ///
    /// # Errors
    /// Hands the payload back with the reason and a retry hint; nothing is kept of what is refused.
    pub fn enqueue(
        &mut self,
        now: Timestamp,
        mut sequence: Sequence<P>,
    ) -> Result<SequenceId, EnqueueError<P>> {
        match self.admit(now, std::slice::from_mut(&mut sequence)) {
            Ok(claim) => Ok(self.take_in(now, sequence, claim)),
            Err(rejection) => Err(EnqueueError { rejection, payload: sequence.payload }),
        }
    }

    /// Takes in the sequences of one call, all with the same claim, or none of them: a call of which some
    /// cannot be computed in time is of no use to its caller. The model, tenant, weight and class of the
    /// first hold for all.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), with the payloads of all.
    pub fn enqueue_all(
        &mut self,
        now: Timestamp,
        mut call: Vec<Sequence<P>>,
    ) -> Result<Vec<SequenceId>, EnqueueError<Vec<P>>> {
        let Some(&Sequence { model, tenant, weight, priority, .. }) = call.first() else {
            return Ok(Vec::new());
        };
        for sequence in &mut call {
            (sequence.model, sequence.tenant) = (model, tenant);
            (sequence.weight, sequence.priority) = (weight, priority);
        }
        match self.admit(now, &mut call) {
            Ok(claim) => Ok(call.into_iter().map(|sequence| self.take_in(now, sequence, claim)).collect()),
            Err(rejection) => {
                let payload = call.into_iter().map(|sequence| sequence.payload).collect();
                Err(EnqueueError { rejection, payload })
            }
        }
    }

    /// Counts what was refused elsewhere for want of capacity, as demand that was not met.
    pub fn refused_before(&mut self, now: Timestamp, refused: &RefusedWork) {
        if self.state.models.get_open(refused.model).is_none() {
            return;
        }
        let queue = &mut self.state.models[refused.model];
        queue.offered.sequences += refused.calls;
        queue.offered.shed += refused.calls;
        queue.offered.seconds += refused.seconds;
        self.policy.refused_before(&self.state, now, refused);
    }

    /// Whether so much is asked for, for seconds on end, that not everybody can be answered.
    pub fn is_overloaded(&self) -> bool {
        self.policy.is_overloaded()
    }

    fn take_in(&mut self, now: Timestamp, sequence: Sequence<P>, claim: Claim) -> SequenceId {
        let id = self.state.slots.next_id();
        self.policy.queue(&mut self.state, Entry { id, enqueued_at: now, sequence }, claim);
        id
    }

    /// Takes a queued sequence out, its place free at once. `None` if it is not queued (any more).
    pub fn cancel(&mut self, id: SequenceId) -> Option<Entry<P>> {
        let entry = self.policy.remove(&mut self.state, id)?;
        self.state.models.forget_if_done(entry.sequence.model);
        Some(entry)
    }

    /// Gives back what will not be dispatched: every queued sequence whose deadline is not after `now`, or
    /// that was found unable to meet it, or that had to make place.
    pub fn ended(&mut self, now: Timestamp) -> Vec<(Entry<P>, EndReason)> {
        while let Some((deadline, id)) = self.state.first_deadline() {
            if deadline > now {
                break;
            }
            self.policy.end(&mut self.state, id, EndReason::DeadlineExceeded);
        }
        self.state.take_returned()
    }

    /// The first moment at which [`ended`](Self::ended) would give something back.
    pub fn next_end(&self) -> Option<Timestamp> {
        if self.state.has_returned() {
            return Some(Timestamp::ZERO);
        }
        self.state.first_deadline().map(|(deadline, _)| deadline)
    }

    /// Tells that a batch is done, and the time its device took for it, or nothing if it failed. Unknown
    /// batches are ignored.
    pub fn complete(&mut self, now: Timestamp, batch: BatchId, compute: Option<Duration>) {
        let Some(landed) = self.state.fleet.land(now, batch) else { return };
        let queue = &mut self.state.models[landed.model];
        debug_assert!(queue.in_flight >= landed.sequences, "more came back than was sent");
        queue.in_flight -= landed.sequences;
        if let Some(compute) = compute {
            self.state.fleet.devices[landed.device.index()].computed += compute;
            self.calibrate(landed.device, landed.model, landed.work, compute);
        }
        self.state.models.forget_if_done(landed.model);
    }

    /// Teaches the cost model: so much work of `model` took `device` so long.
    pub fn calibrate(&mut self, device: DeviceId, model: ModelId, work: Work, compute: Duration) {
        self.state.fleet.observe(device, model, work, compute);
        self.policy.models_changed(&self.state);
    }

    /// The device that was given a batch that is not completed.
    pub fn device_of(&self, batch: BatchId) -> Option<DeviceId> {
        self.state.fleet.device_of(batch)
    }

    /// Tells that a device is gone: it is given nothing more.
    pub fn lose(&mut self, device: DeviceId) {
        if let Some(device) = self.state.fleet.devices.get_mut(device.index()) {
            device.is_lost = true;
        }
    }

    /// Whether any device is left.
    pub fn has_devices(&self) -> bool {
        self.state.fleet.present().next().is_some()
    }

    /// Gives back everything that is queued.
    pub fn abandon(&mut self) -> Vec<Entry<P>> {
        let mut entries = Vec::new();
        while let Some((_, id)) = self.state.first_deadline() {
            entries.extend(self.cancel(id));
        }
        entries.extend(self.state.take_returned().into_iter().map(|(entry, _)| entry));
        entries
    }

    /// Queues a dispatched sequence again, with the place that its age and deadline give it. It was admitted
    /// once and is not refused. Its batch must not be completed before.
    pub fn requeue(&mut self, entry: Entry<P>) -> SequenceId {
        let id = self.state.slots.next_id();
        self.policy.queue(&mut self.state, Entry { id, ..entry }, Claim::Entitled);
        id
    }

    /// Whether nothing is queued and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.state.slots.len() == 0 && self.state.fleet.is_idle() && !self.state.has_returned()
    }

    /// What `device` should run next.
    ///
    /// Sequences past their deadline are not dispatched, but stay until [`ended`](Self::ended) gives them
    /// back.
    pub fn poll(&mut self, now: Timestamp, device: DeviceId) -> Decision<P> {
        let Some(holder) = self.state.fleet.get(device) else { return Decision::Idle };
        let is_full = holder.in_flight >= self.batches_in_flight_max;
        if holder.is_lost || is_full || self.state.slots.len() == 0 {
            return Decision::Idle;
        }
        self.policy.poll(&mut self.state, now, device)
    }
}
