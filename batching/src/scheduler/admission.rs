//! Who is let in, and when to come back.

use std::time::Duration;

use super::cost::{CostModel, Work};
use super::fairness::FlowId;
use super::queue::Claim;
use super::{Ended, RejectReason, Request, Scheduler};
use crate::units::{ModelId, Timestamp, Tokens};

/// Bounds of a retry hint, whatever the estimate says.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What a call asks for.
#[derive(Debug)]
struct Asked {
    requests: usize,
    tokens: Tokens,
    /// Of all requests, and of the longest.
    work: Work,
    longest: Work,
    /// The earliest.
    deadline: Timestamp,
}

impl Default for Asked {
    fn default() -> Self {
        let (work, longest) = (Work::default(), Work::default());
        Self { requests: 0, tokens: Tokens(0), work, longest, deadline: Timestamp::MAX }
    }
}

impl Asked {
    fn add<P>(&mut self, request: &Request<P>, work: Work) {
        self.requests += 1;
        self.tokens += request.tokens;
        self.work = self.work + work;
        self.longest = if work > self.longest { work } else { self.longest };
        self.deadline = self.deadline.min(request.deadline);
    }
}

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
        self.shared_by_devices(models.sum())
    }

    /// Device time that what is within shares and can meet its target will take.
    fn entitled_time(&self) -> Duration {
        let time = |(index, queue): (usize, &super::ModelQueue)| {
            let work = queue.band(Claim::Entitled).work + queue.band(Claim::Capped).work;
            self.fastest(ModelId(index as u16)).filter(|_| work.0 > 0.0).map(|cost| cost.predict(work))
        };
        self.queues.iter().enumerate().filter_map(time).sum()
    }

    fn shared_by_devices(&self, time: Duration) -> Duration {
        time / self.devices.iter().filter(|device| !device.is_lost).count().max(1) as u32
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

    /// Whether the requests of a call may be queued, and with what claim. Makes the target their deadline where targets are
    /// hard, and place for them where the queue is full and something with a weaker claim waits.
    pub(super) fn admit(&mut self, now: Timestamp, call: &mut [Request<P>]) -> Result<Claim, RejectReason> {
        let Some(&Request { model, tenant, weight, priority, .. }) = call.first() else {
            return Err(RejectReason::TooLarge);
        };
        let bounds = self.config.models.get(usize::from(model.0)).ok_or(RejectReason::UnknownModel)?;
        let mut asked = Asked::default();
        for request in call {
            if request.tokens.0 == 0 || request.tokens > bounds.batch_tokens_max {
                return Err(RejectReason::TooLarge);
            }
            if request.deadline <= now {
                return Err(RejectReason::DeadlinePassed);
            }
            if bounds.is_target_hard {
                request.deadline = request.deadline.min(now + bounds.latency_target);
            }
            asked.add(request, Work::of(request.tokens, bounds.attention));
        }
        let flow = self.flows.of(now, tenant, priority, weight);
        let in_time = now + bounds.latency_target;
        let claim = self.ask(now, model, flow, &asked);
        let end = self.earliest_end(now, model, claim, &asked);
        if end > asked.deadline {
            return Err(RejectReason::Infeasible);
        }
        // Some of it in time helps nobody who waits for all of it.
        let is_late = claim.is_entitled()
            && asked.requests > 1
            && end + self.shared_by_devices(self.entitled_time()) > in_time;
        let claim = if is_late { Claim::Late } else { claim };
        self.make_place(model, claim, &asked)?;
        Ok(claim)
    }

    /// Counts a call as asked for.
    fn ask(&mut self, now: Timestamp, model: ModelId, flow: FlowId, asked: &Asked) -> Claim {
        let seconds = self.seconds(model, asked.work);
        let offered = &mut self.queues[usize::from(model.0)].offered;
        offered.requests += asked.requests as u64;
        offered.seconds += seconds;
        let claim = self.demand.asked(now, flow, self.flows.weight(flow), seconds, self.capacity);
        self.flows.is_enforced = self.demand.is_enforced();
        claim
    }

    /// When a call could be done by all devices. An entitled one goes before whatever has a weaker claim, so that only what the
    /// devices hold is certain to be before it; another one waits for all that is queued.
    fn earliest_end(&self, now: Timestamp, model: ModelId, claim: Claim, asked: &Asked) -> Timestamp {
        let devices = self.devices.iter().filter(|device| !device.is_lost);
        let free = devices.clone().map(|device| device.free_at).min().unwrap_or(Timestamp::MAX).max(now);
        let share = Work(asked.work.0 / devices.count().max(1) as f64);
        let work = if share > asked.longest { share } else { asked.longest };
        let alone = self.fastest(model).map_or(Duration::ZERO, |cost| cost.predict(work));
        let before = if claim.is_entitled() { Duration::ZERO } else { self.queued_time_of_all() };
        free + before + alone
    }

    /// Makes place for a call: of those with a weaker claim the weakest goes, of the flow that was served most.
    fn make_place(&mut self, model: ModelId, claim: Claim, asked: &Asked) -> Result<(), RejectReason> {
        let index = usize::from(model.0);
        loop {
            let (bounds, queue) = (&self.config.models[index], &self.queues[index]);
            let is_full = queue.requests + asked.requests > bounds.queue_requests_max
                || queue.tokens + asked.tokens > bounds.queue_tokens_max;
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
}
