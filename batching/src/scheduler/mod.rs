//! The scheduler: a state machine that is told the time and asked what a device should run next.

mod config;
mod dispatch;
mod fairness;
mod queue;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub use config::{Config, ConfigError, ModelConfig};
pub use dispatch::Decision;

use crate::units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};
use dispatch::Device;
use queue::ModelQueue;

/// A queued request; increasing in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A dispatched batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// One sequence to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<P> {
    /// The model that is to compute it.
    pub model: ModelId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its class of service.
    pub priority: Priority,
    /// Its cost.
    pub tokens: Tokens,
    /// It is not dispatched at or after this moment.
    pub deadline: Timestamp,
    /// Whatever the caller wants back with it.
    pub payload: P,
}

/// A request the scheduler holds, or hands back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<P> {
    /// Its number.
    pub id: RequestId,
    /// When it arrived.
    pub enqueued_at: Timestamp,
    /// What was asked.
    pub request: Request<P>,
}

/// What a device is to run next.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<P> {
    /// Its number, to be given to [`Scheduler::complete`].
    pub id: BatchId,
    /// The model of every member.
    pub model: ModelId,
    /// The device.
    pub device: DeviceId,
    /// Sum of the members' tokens.
    pub tokens: Tokens,
    /// At least one.
    pub members: Vec<Entry<P>>,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The model's queue holds as many requests or tokens as it may.
    QueueFull,
    /// The request has no tokens, or more than a batch may have.
    TooLarge,
    /// Its deadline is not in the future.
    DeadlinePassed,
    /// There is no such model.
    UnknownModel,
    /// No new work is taken: the engine is being stopped.
    Draining,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refused: {}", .reason.name())]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// When to try again: about how long what is queued will take.
    pub retry_after: Duration,
}

/// A refused request's payload, handed back with the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected<P> {
    /// Why, and when to try again.
    pub rejection: Rejection,
    /// The request's payload.
    pub payload: P,
}

/// What waits for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelSnapshot {
    /// Requests waiting.
    pub queued_requests: usize,
    /// Their tokens.
    pub queued_tokens: Tokens,
    /// How long the oldest has waited.
    pub oldest_wait: Duration,
    /// Requests dispatched and not completed.
    pub in_flight_requests: usize,
}

/// What waits, by model, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Indexed by [`ModelId`].
    pub models: Vec<ModelSnapshot>,
}

/// The scheduler. See the crate's documentation for the policy.
pub struct Scheduler<P> {
    config: Config,
    queues: Vec<ModelQueue>,
    entries: HashMap<RequestId, Entry<P>>,
    /// Every queued request by deadline.
    deadlines: BTreeSet<(Timestamp, RequestId)>,
    devices: Vec<Device>,
    in_flight: HashMap<BatchId, InFlight>,
    /// Tokens a second, all devices together, smoothed; zero until the first batch completes.
    token_rate: f64,
    next_request: u64,
    next_batch: u64,
}

struct InFlight {
    model: ModelId,
    device: DeviceId,
    tokens: Tokens,
    requests: usize,
    dispatched_at: Timestamp,
}

/// Weight of the newest batch in the smoothed token rate.
const RATE_SMOOTHING: f64 = 0.1;
/// Bounds of a retry hint, whatever the estimate says.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl RejectReason {
    /// Name with underscores, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::DeadlinePassed => "deadline_passed",
            Self::UnknownModel => "unknown_model",
            Self::Draining => "draining",
        }
    }
}

impl<P> Scheduler<P> {
    /// An empty scheduler.
    ///
    /// # Errors
    /// A bound that makes no sense; see [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            queues: config.models.iter().map(|_| ModelQueue::default()).collect(),
            devices: (0..config.devices).map(|_| Device::default()).collect(),
            config,
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            in_flight: HashMap::new(),
            token_rate: 0.0,
            next_request: 0,
            next_batch: 0,
        })
    }

    /// Takes a request into its queue.
    ///
    /// # Errors
    /// Hands the payload back with the reason and a retry hint; nothing is kept of a refused request.
    pub fn enqueue(&mut self, now: Timestamp, request: Request<P>) -> Result<RequestId, Rejected<P>> {
        if let Err(reason) = self.admit(now, &request) {
            let rejection = Rejection { reason, retry_after: self.retry_after() };
            return Err(Rejected { rejection, payload: request.payload });
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.queues[usize::from(request.model.0)].insert(id, now, &request);
        self.deadlines.insert((request.deadline, id));
        self.entries.insert(id, Entry { id, enqueued_at: now, request });
        Ok(id)
    }

    /// Takes a queued request out, its place free at once. `None` if it is not queued (any more).
    pub fn cancel(&mut self, id: RequestId) -> Option<Entry<P>> {
        self.remove(id)
    }

    /// Takes out every queued request whose deadline is not after `now`.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Entry<P>> {
        let mut expired = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            expired.extend(self.remove(id));
        }
        expired
    }

    /// The first moment at which [`expire`](Self::expire) would take something out.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Tells that a batch is done, well or not. Unknown batches are ignored.
    pub fn complete(&mut self, now: Timestamp, batch: BatchId) {
        let Some(done) = self.in_flight.remove(&batch) else { return };
        let device = &mut self.devices[usize::from(done.device.0)];
        device.in_flight -= 1;
        // A prepared batch waits for the one before it: its own time begins when that one ended.
        let began = done.dispatched_at.max(device.last_completion);
        device.last_completion = now;
        self.queues[usize::from(done.model.0)].in_flight -= done.requests;
        let seconds = now.saturating_duration_since(began).as_secs_f64();
        if seconds > 0.0 {
            let rate = f64::from(done.tokens.0) / seconds * self.devices.len() as f64;
            let is_first = self.token_rate == 0.0;
            let weight = if is_first { 1.0 } else { RATE_SMOOTHING };
            self.token_rate += weight * (rate - self.token_rate);
        }
    }

    /// What waits at `now`.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        Snapshot { models: self.queues.iter().map(|queue| queue.snapshot(now)).collect() }
    }

    /// What waits for one model; all zero for an unknown one.
    pub fn model_snapshot(&self, now: Timestamp, model: ModelId) -> ModelSnapshot {
        self.queues.get(usize::from(model.0)).map(|queue| queue.snapshot(now)).unwrap_or_default()
    }

    /// Whether nothing is queued and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.in_flight.is_empty()
    }

    /// About how long what is queued will take.
    pub fn retry_after(&self) -> Duration {
        let queued: Tokens = self.queues.iter().map(|queue| queue.tokens).sum();
        let seconds = if self.token_rate > 0.0 { f64::from(queued.0) / self.token_rate } else { 0.0 };
        Duration::from_secs_f64(seconds.min(RETRY_MAX.as_secs_f64())).max(RETRY_MIN)
    }

    fn admit(&self, now: Timestamp, request: &Request<P>) -> Result<(), RejectReason> {
        let model = usize::from(request.model.0);
        let (Some(bounds), Some(queue)) = (self.config.models.get(model), self.queues.get(model)) else {
            return Err(RejectReason::UnknownModel);
        };
        if request.tokens.0 == 0 || request.tokens > bounds.batch_tokens_max {
            return Err(RejectReason::TooLarge);
        }
        if request.deadline <= now {
            return Err(RejectReason::DeadlinePassed);
        }
        let is_full = queue.requests() >= bounds.queue_requests_max
            || queue.tokens + request.tokens > bounds.queue_tokens_max;
        if is_full { Err(RejectReason::QueueFull) } else { Ok(()) }
    }

    /// Takes a request out of every structure it is in.
    fn remove(&mut self, id: RequestId) -> Option<Entry<P>> {
        let entry = self.entries.remove(&id)?;
        self.deadlines.remove(&(entry.request.deadline, id));
        self.queues[usize::from(entry.request.model.0)].remove(&entry);
        Some(entry)
    }
}
