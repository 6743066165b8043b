//! Who is let in, and when to come back.

use std::time::Duration;

use super::{RejectReason, Rejection, Request, Scheduler};
use crate::scheduler::cost::{CostModel, Work};
use crate::units::{ModelId, Timestamp};

/// Bounds of a retry hint, whatever the estimate says.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl<P> Scheduler<P> {
    /// About how long what is queued and running will take.
    pub fn retry_after(&self) -> Duration {
        let models = (0..self.queues.len()).map(|index| self.queued_time(ModelId(index as u16)));
        let devices = self.devices.iter().filter(|device| !device.is_lost);
        let total = models.sum::<Duration>() + devices.clone().map(|device| device.planned).sum();
        (total / devices.count().max(1) as u32).clamp(RETRY_MIN, RETRY_MAX)
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
        cost.predict(queue.on_time.work + queue.late.work) + cost.predict(Work(0.0)) * (batches - 1)
    }

    /// The cost model of the device that computes a short batch of the model fastest.
    pub(super) fn fastest(&self, model: ModelId) -> Option<&CostModel> {
        let costs = self.devices.iter().filter(|device| !device.is_lost).map(|device| &device.costs[usize::from(model.0)]);
        costs.min_by_key(|cost| cost.predict(Work(100.0)))
    }

    /// Whether a request may be queued. Makes the target its deadline where targets are hard.
    pub(super) fn admit(&self, now: Timestamp, request: &mut Request<P>) -> Result<(), Rejection> {
        self.check(now, request).map_err(|reason| Rejection { reason, retry_after: self.retry_after() })
    }

    fn check(&self, now: Timestamp, request: &mut Request<P>) -> Result<(), RejectReason> {
        let index = usize::from(request.model.0);
        let (Some(bounds), Some(queue)) = (self.config.models.get(index), self.queues.get(index)) else {
            return Err(RejectReason::UnknownModel);
        };
        if request.tokens.0 == 0 || request.tokens > bounds.batch_tokens_max {
            return Err(RejectReason::TooLarge);
        }
        if request.deadline <= now {
            return Err(RejectReason::DeadlinePassed);
        }
        if bounds.is_target_hard {
            request.deadline = request.deadline.min(now + bounds.latency_target);
        }
        let is_full =
            queue.requests >= bounds.queue_requests_max || queue.tokens + request.tokens > bounds.queue_tokens_max;
        if is_full { Err(RejectReason::QueueFull) } else { Ok(()) }
    }
}
