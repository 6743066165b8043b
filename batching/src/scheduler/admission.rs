//! Who is let in, and when to come back.

use std::time::Duration;

use super::cost::{CostModel, Work};
use super::queue::Claim;
use super::{Ended, RejectReason, Request, Scheduler};
use crate::units::{ModelId, Timestamp};

/// Bounds of a retry hint, whatever the estimate says.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl<P> Scheduler<P> {
    /// When a refused caller should come again: about when what is queued and running will be computed.
    pub fn retry_after(&self) -> Duration {
        self.drain().clamp(RETRY_MIN, RETRY_MAX)
    }

    /// How long all that waits and runs is predicted to take all devices.
    pub(super) fn drain(&self) -> Duration {
        let devices = self.devices.iter().filter(|device| !device.is_lost);
        let running =
            devices.clone().map(|device| device.planned).sum::<Duration>() / devices.count().max(1) as u32;
        running + self.queued_time_of_all()
    }

    /// How long all that waits will take all devices.
    fn queued_time_of_all(&self) -> Duration {
        let models = (0..self.queues.len()).map(|index| self.queued_time(ModelId(index as u16)));
        let devices = self.devices.iter().filter(|device| !device.is_lost).count();
        models.sum::<Duration>() / devices.max(1) as u32
    }

    /// Device time that what waits for a model will take.
    pub(super) fn queued_time(&self, model: ModelId) -> Duration {
        let index = usize::from(model.0);
        let (queue, bounds) = (&self.queues[index], &self.config.models[index]);
        if queue.requests == 0 {
            return Duration::ZERO;
        }
        let by_tokens = queue.tokens.0.div_ceil(bounds.batch_tokens_max.0);
        let by_requests = queue.requests.div_ceil(bounds.batch_sequences_max);
        let batches = by_tokens.max(by_requests as u32).max(1);
        let Some(cost) = self.fastest(model) else { return Duration::ZERO };
        cost.predict(queue.work()) + cost.predict(Work(0.0)) * (batches - 1)
    }

    /// The cost model of the device that computes a short batch of the model fastest.
    pub(super) fn fastest(&self, model: ModelId) -> Option<&CostModel> {
        let costs = self
            .devices
            .iter()
            .filter(|device| !device.is_lost)
            .map(|device| &device.costs[usize::from(model.0)]);
        costs.min_by_key(|cost| cost.predict(Work(100.0)))
    }

    /// The fluid limit of all devices, in device seconds of work by the second.
    pub(super) fn fluid_limit(&self) -> f64 {
        let overhead = |(index, bounds): (usize, &super::ModelConfig)| {
            let overhead =
                self.fastest(ModelId(index as u16)).map_or(0.0, |cost| cost.overhead().as_secs_f64());
            overhead / (bounds.latency_target.as_secs_f64() - overhead).max(overhead)
        };
        let devices = self.devices.iter().filter(|device| !device.is_lost).count() as f64;
        let overheads: f64 = self.config.models.iter().enumerate().map(overhead).sum();
        (devices - overheads).max(0.1 * devices)
    }

    /// Whether a request may be queued, and with what claim. Makes the target its deadline where targets are hard, and
    /// place for it where the queue is full and something with a weaker claim waits.
    pub(super) fn admit(&mut self, now: Timestamp, request: &mut Request<P>) -> Result<Claim, RejectReason> {
        let index = usize::from(request.model.0);
        let bounds = self.config.models.get(index).ok_or(RejectReason::UnknownModel)?;
        if request.tokens.0 == 0 || request.tokens > bounds.batch_tokens_max {
            return Err(RejectReason::TooLarge);
        }
        if request.deadline <= now {
            return Err(RejectReason::DeadlinePassed);
        }
        if bounds.is_target_hard {
            request.deadline = request.deadline.min(now + bounds.latency_target);
        }
        let claim = self.ask(now, request);
        if self.earliest_end(now, request, claim) > request.deadline {
            return Err(RejectReason::Infeasible);
        }
        self.make_place(request, claim)?;
        Ok(claim)
    }

    /// Counts a request as asked for.
    fn ask(&mut self, now: Timestamp, request: &Request<P>) -> Claim {
        let seconds = self.seconds(request.model, self.work(request));
        let offered = &mut self.queues[usize::from(request.model.0)].offered;
        offered.requests += 1;
        offered.seconds += seconds;
        let flow = self.flows.of(request.tenant, request.priority, request.weight);
        let claim = self.demand.asked(now, flow, self.flows.weight(flow), seconds, self.capacity);
        self.flows.is_enforced = self.demand.is_enforced();
        claim
    }

    /// When a request could be done. An entitled one goes before whatever has a weaker claim, so that only what the devices
    /// hold is certain to be before it; another one waits for all that is queued.
    fn earliest_end(&self, now: Timestamp, request: &Request<P>, claim: Claim) -> Timestamp {
        let devices = self.devices.iter().filter(|device| !device.is_lost);
        let free = devices.map(|device| device.free_at).min().unwrap_or(Timestamp::MAX).max(now);
        let alone =
            self.fastest(request.model).map_or(Duration::ZERO, |cost| cost.predict(self.work(request)));
        let before = if claim.is_entitled() { Duration::ZERO } else { self.queued_time_of_all() };
        free + before + alone
    }

    /// Makes place for a request: of those with a weaker claim the weakest goes, of the flow that was served most.
    fn make_place(&mut self, request: &Request<P>, claim: Claim) -> Result<(), RejectReason> {
        let index = usize::from(request.model.0);
        loop {
            let (bounds, queue) = (&self.config.models[index], &self.queues[index]);
            let is_full = queue.requests >= bounds.queue_requests_max
                || queue.tokens + request.tokens > bounds.queue_tokens_max;
            if !is_full {
                return Ok(());
            }
            let weakest = queue.weakest(claim, &self.flows).ok_or(RejectReason::QueueFull)?;
            self.end(weakest, Ended::Shed);
        }
    }

    /// Device time of a request's work, beside its batch's overhead.
    pub(super) fn seconds(&self, model: ModelId, work: Work) -> f64 {
        self.fastest(model).map_or(0.0, |cost| cost.slope() * work.0)
    }

    fn work(&self, request: &Request<P>) -> Work {
        Work::of(request.tokens, self.config.models[usize::from(request.model.0)].attention)
    }
}
