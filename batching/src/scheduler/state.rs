//! What every policy decides about: what waits, and the devices.

use std::time::Duration;

use units::{DeviceId, ModelId, Timestamp, Tokens};

use super::cost::{Rate, Seconds, Work};
use super::decision::{Batch, EndReason};
use super::fleet::Fleet;
use super::heap::LazyHeap;
use super::models::{ModelQueue, Models};
use super::sequence::{Entry, SequenceId};
use super::slots::{Slots, Waiting};
use super::standing::Standing;

#[derive(Debug)]
pub(super) struct State<P> {
    pub(super) models: Models,
    pub(super) slots: Slots<P>,
    /// Every queued sequence by hard deadline.
    deadlines: LazyHeap<(Timestamp, SequenceId)>,
    pub(super) fleet: Fleet,
    /// What was taken out of the queues because it will not be computed.
    returned: Vec<(Entry<P>, EndReason)>,
}

impl<P> State<P> {
    pub(super) fn new(devices: u16) -> Self {
        Self {
            models: Models::default(),
            slots: Slots::default(),
            deadlines: LazyHeap::default(),
            fleet: Fleet::new(devices),
            returned: Vec::new(),
        }
    }

    /// A sequence with what is known of it before the policy has seen it.
    pub(super) fn appraise(&self, entry: Entry<P>) -> Waiting<P> {
        let model = entry.sequence.model;
        let config = &self.models[model].config;
        let work = Work::of(entry.sequence.tokens, config.attention);
        let due = entry.sequence.deadline.min(entry.enqueued_at + config.latency_target);
        Waiting {
            work,
            seconds: self.fleet.seconds(model, work),
            due,
            standing: Standing::first_come(due),
            entry,
        }
    }

    /// Puts a sequence into every structure that is not the policy's.
    pub(super) fn put(&mut self, waiting: Waiting<P>) {
        let (id, sequence) = (waiting.entry.id, &waiting.entry.sequence);
        self.models[sequence.model].enter(id, sequence.tokens, waiting.work);
        self.deadlines.push((sequence.deadline, id));
        self.slots.put(waiting);
    }

    /// Takes a sequence out of all these.
    pub(super) fn take(&mut self, id: SequenceId) -> Option<Waiting<P>> {
        let waiting = self.slots.take(id)?;
        let (slots, sequence) = (&self.slots, &waiting.entry.sequence);
        let is_alive = |id: &SequenceId| slots.get(*id).is_some();
        self.models[sequence.model].leave(sequence.tokens, waiting.work, is_alive);
        self.deadlines.bury(|(_, id)| is_alive(id));
        Some(waiting)
    }

    /// Keeps a sequence that was taken out until its caller is told why.
    pub(super) fn give_back(&mut self, entry: Entry<P>, why: EndReason) {
        self.models[entry.sequence.model].offered.shed += 1;
        self.models.forget_if_done(entry.sequence.model);
        self.returned.push((entry, why));
    }

    pub(super) fn take_returned(&mut self) -> Vec<(Entry<P>, EndReason)> {
        std::mem::take(&mut self.returned)
    }

    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// The earliest hard deadline of what waits, and whose it is.
    pub(super) fn first_deadline(&self) -> Option<(Timestamp, SequenceId)> {
        self.deadlines.first()
    }

    /// Gives a device a batch of entries that have left the queues.
    pub(super) fn dispatch(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        model: ModelId,
        members: Vec<Entry<P>>,
    ) -> Batch<P> {
        let queue = &mut self.models[model];
        let attention = queue.config.attention;
        let tokens = members.iter().map(|entry| entry.sequence.tokens).sum::<Tokens>();
        let work = members.iter().map(|entry| Work::of(entry.sequence.tokens, attention)).sum();
        queue.in_flight += members.len();
        let (id, predicted) = self.fleet.launch(now, device, model, work, members.len());
        Batch { id, model, device, tokens, predicted, members }
    }

    /// How long all that waits and runs is predicted to take all devices.
    pub(super) fn drain(&self) -> Duration {
        self.fleet.running() + self.queued_time_of_all()
    }

    /// How long all that waits will take all devices.
    pub(super) fn queued_time_of_all(&self) -> Duration {
        self.shared_by_devices(self.models.present().iter().map(|model| self.queued_time(*model)).sum())
    }

    /// Device time that what waits for a model will take.
    pub(super) fn queued_time(&self, model: ModelId) -> Duration {
        let queue = &self.models[model];
        let batches = queue.batches();
        if batches == 0 {
            return Duration::ZERO;
        }
        let Some(cost) = self.fleet.fastest(model) else { return Duration::ZERO };
        cost.predict(queue.work) + cost.predict(Work::default()) * (batches - 1)
    }

    /// How long what waits for a model takes all devices if all models that have work take turns.
    pub(super) fn line_of(&self, model: ModelId) -> Duration {
        let waiting = self.models.iter().filter(|(_, queue)| queue.sequences > 0).count().max(1);
        self.shared_by_devices(self.queued_time(model)) * waiting as u32
    }

    pub(super) fn shared_by_devices(&self, time: Duration) -> Duration {
        time / self.fleet.count()
    }

    /// The fluid limit of all devices.
    pub(super) fn fluid_limit(&self) -> Rate {
        let overhead = |(model, queue): (ModelId, &ModelQueue)| {
            let overhead = self.fleet.fastest(model).map_or(0.0, |cost| cost.overhead().as_secs_f64());
            overhead / (queue.config.latency_target.as_secs_f64() - overhead).max(overhead)
        };
        let devices = self.fleet.present().count() as f64;
        let overheads: f64 = self.models.iter().map(overhead).sum();
        Rate((devices - overheads).max(0.1 * devices))
    }

    /// Device seconds by the second for which a sequence stands that its caller asks for again at every
    /// target.
    pub(super) fn rate(&self, model: ModelId, seconds: Seconds) -> Rate {
        Rate(seconds.0 / self.models[model].config.latency_target.as_secs_f64())
    }
}
