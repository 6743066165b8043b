//! The scheduler: a state machine that is told the time.

mod admission;
mod config;
mod cost;
mod demand;
mod dispatch;
mod fairness;
mod first_come;
mod heap;
mod queue;
mod slots;

use std::collections::HashMap;
use std::time::Duration;

pub use config::{
    Config, ConfigError, DeadlinePolicy, ModelConfig, Order, Policy, PreferredSize, TokenBudget,
};
pub use cost::Work;

use crate::units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};
use cost::CostModel;
use demand::Demand;
use dispatch::Candidate;
use fairness::Flows;
use heap::LazyHeap;
use queue::{Claim, ModelQueue, Rank};
use slots::{Slots, Waiting};

/// A queued request; increasing in the order of arrival, and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    number: u64,
    slot: u32,
}

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
    /// The tenant's share of device time beside the others', at least 1.
    pub weight: u32,
    /// Its class of service.
    pub priority: Priority,
    /// Its length.
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

impl<P> Entry<P> {
    /// The entry with another payload, and what was left of the one it had.
    pub(crate) fn map<Q, R>(self, change: impl FnOnce(P) -> (Q, R)) -> (Entry<Q>, R) {
        let Self { id, enqueued_at, request } = self;
        let Request { model, tenant, weight, priority, tokens, deadline, payload } = request;
        let (payload, rest) = change(payload);
        let request = Request { model, tenant, weight, priority, tokens, deadline, payload };
        (Entry { id, enqueued_at, request }, rest)
    }
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
    /// How long it is expected to take; zero while nothing is known of the model on this device.
    pub predicted: Duration,
    /// At least one.
    pub members: Vec<Entry<P>>,
}

/// What a device should do.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<P> {
    /// Run this.
    Dispatch(Batch<P>),
    /// Ask again at this moment, or when something arrives or completes.
    WaitUntil(Timestamp),
    /// Ask again when something arrives or completes.
    Idle,
}

/// Why a queued request was given back without having been dispatched or cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its deadline passed, or cannot be met any more.
    DeadlineExceeded,
    /// The queue was full, and a request with a better claim came.
    Shed,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The model's queue holds as many requests or tokens as it may.
    QueueFull,
    /// Its deadline cannot be met with what is queued before it.
    Infeasible,
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
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ModelSnapshot {
    /// Requests waiting.
    pub queued_requests: usize,
    /// Their tokens.
    pub queued_tokens: Tokens,
    /// How long the oldest has waited.
    pub oldest_wait: Duration,
    /// Device time that what waits will take, as predicted.
    pub queued_time: Duration,
    /// Requests dispatched and not completed.
    pub in_flight_requests: usize,
    /// What was asked for since the start.
    pub offered: Offered,
    /// Time of a batch beside its work, as predicted.
    pub batch_overhead: Duration,
    /// Seconds of a device that a token of a short sequence takes, as predicted.
    pub token_seconds: f64,
}

/// What was asked for, whether it was accepted or refused for want of capacity. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Offered {
    /// Requests.
    pub requests: u64,
    /// Of these, requests that were refused, made to give way, or ended by their deadline.
    pub shed: u64,
    /// Seconds of a device that their work takes, beside the batches' overhead.
    pub seconds: f64,
}

/// What a device does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceSnapshot {
    /// How long what it holds is predicted to take yet.
    pub busy_for: Duration,
    /// How long it has computed since the start.
    pub computed: Duration,
    /// Whether it is gone.
    pub is_lost: bool,
    /// Mean of |actual / predicted - 1| of late for batches of each model, indexed by [`ModelId`].
    pub prediction_errors: Vec<f64>,
}

/// What waits and what runs, at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Indexed by [`ModelId`].
    pub models: Vec<ModelSnapshot>,
    /// Indexed by [`DeviceId`].
    pub devices: Vec<DeviceSnapshot>,
    /// How long all that waits and runs is predicted to take all devices.
    pub drain: Duration,
}

/// The scheduler. See the crate's documentation for the policy.
pub struct Scheduler<P> {
    config: Config,
    queues: Vec<ModelQueue>,
    slots: Slots<P>,
    /// Every queued request by hard deadline.
    deadlines: LazyHeap<(Timestamp, RequestId)>,
    flows: Flows,
    demand: Demand,
    /// The fluid limit of all devices.
    capacity: f64,
    /// Device time that requests without a claim may still take before others.
    owed: Duration,
    devices: Vec<Device>,
    in_flight: HashMap<BatchId, InFlight>,
    /// What was taken out of the queues because it cannot be computed in time.
    ended: Vec<(Entry<P>, Ended)>,
    candidates: Vec<Candidate>,
    next_batch: u64,
    /// Whose turn it is where models take turns.
    turn: usize,
}

/// What the scheduler knows of a device.
#[derive(Debug, Default)]
struct Device {
    /// Indexed by model.
    costs: Vec<CostModel>,
    /// Batches dispatched and not completed, and their planned time.
    in_flight: usize,
    planned: Duration,
    /// When what it holds should be done.
    free_at: Timestamp,
    /// How long its batches took.
    computed: Duration,
    is_lost: bool,
}

struct InFlight {
    model: ModelId,
    device: DeviceId,
    work: Work,
    requests: usize,
    planned: Duration,
}

impl RejectReason {
    /// Name with underscores, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Infeasible => "infeasible",
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
        let device = || Device {
            costs: config.models.iter().map(|_| CostModel::default()).collect(),
            ..Device::default()
        };
        let (flows, feasible) = match &config.policy {
            Policy::Deadline(policy) => (Flows::new(policy.spread, policy.lag_max), policy.feasible),
            Policy::PreferredSize(_) | Policy::TokenBudget(_) => {
                (Flows::new(Duration::MAX, Duration::MAX), f64::INFINITY)
            }
        };
        Ok(Self {
            queues: config.models.iter().map(|_| ModelQueue::new()).collect(),
            devices: (0..config.devices).map(|_| device()).collect(),
            config,
            slots: Slots::default(),
            deadlines: LazyHeap::default(),
            flows,
            demand: Demand::new(feasible),
            capacity: f64::INFINITY,
            owed: Duration::ZERO,
            in_flight: HashMap::new(),
            ended: Vec::new(),
            candidates: Vec::new(),
            next_batch: 0,
            turn: 0,
        })
    }

    /// Takes a request into its queue. If the queue is full, one with a weaker claim may have to make place: see
    /// [`ended`](Self::ended).
    ///
    /// # Errors
    /// Hands the payload back with the reason and a retry hint; nothing is kept of a refused request.
    pub fn enqueue(&mut self, now: Timestamp, mut request: Request<P>) -> Result<RequestId, Rejected<P>> {
        match self.admit(now, std::slice::from_mut(&mut request)) {
            Ok(claim) => Ok(self.take_in(now, request, claim)),
            Err(reason) => {
                let rejection = self.refused(request.model, reason, 1);
                Err(Rejected { rejection, payload: request.payload })
            }
        }
    }

    /// Takes in requests of one call, all with the same claim, or none of them: a call of which some cannot be computed in time
    /// is of no use to its caller. The model, tenant, weight and class of the first hold for all.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), with the payloads of all.
    pub fn enqueue_all(
        &mut self,
        now: Timestamp,
        mut requests: Vec<Request<P>>,
    ) -> Result<Vec<RequestId>, Rejected<Vec<P>>> {
        let Some(&Request { model, tenant, weight, priority, .. }) = requests.first() else {
            return Ok(Vec::new());
        };
        for request in &mut requests {
            (request.model, request.tenant) = (model, tenant);
            (request.weight, request.priority) = (weight, priority);
        }
        match self.admit(now, &mut requests) {
            Ok(claim) => Ok(requests.into_iter().map(|request| self.take_in(now, request, claim)).collect()),
            Err(reason) => {
                let rejection = self.refused(model, reason, requests.len() as u64);
                let payload = requests.into_iter().map(|request| request.payload).collect();
                Err(Rejected { rejection, payload })
            }
        }
    }

    fn take_in(&mut self, now: Timestamp, request: Request<P>, claim: Claim) -> RequestId {
        let id = self.slots.next_id();
        self.queue(Entry { id, enqueued_at: now, request }, claim);
        id
    }

    fn refused(&mut self, model: ModelId, reason: RejectReason, requests: u64) -> Rejection {
        if matches!(reason, RejectReason::Infeasible | RejectReason::QueueFull) {
            self.queues[usize::from(model.0)].offered.shed += requests;
        }
        Rejection { reason, retry_after: self.retry_after() }
    }

    /// Takes a queued request out, its place free at once. `None` if it is not queued (any more).
    pub fn cancel(&mut self, id: RequestId) -> Option<Entry<P>> {
        self.remove(id)
    }

    /// Gives back what will not be dispatched: every queued request whose deadline is not after `now`, or that was found
    /// unable to meet it, or that had to make place.
    pub fn ended(&mut self, now: Timestamp) -> Vec<(Entry<P>, Ended)> {
        while let Some((deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.end(id, Ended::DeadlineExceeded);
        }
        std::mem::take(&mut self.ended)
    }

    /// The first moment at which [`ended`](Self::ended) would give something back.
    pub fn next_end(&self) -> Option<Timestamp> {
        if self.ended.is_empty() {
            self.deadlines.first().map(|(deadline, _)| deadline)
        } else {
            Some(Timestamp::ZERO)
        }
    }

    /// Tells that a batch is done, and the time its device took for it, or nothing if it failed. Unknown batches are
    /// ignored.
    pub fn complete(&mut self, now: Timestamp, batch: BatchId, compute: Option<Duration>) {
        let Some(done) = self.in_flight.remove(&batch) else { return };
        let device = &mut self.devices[usize::from(done.device.0)];
        device.in_flight -= 1;
        device.planned = device.planned.saturating_sub(done.planned);
        device.free_at = now + device.planned;
        self.queues[usize::from(done.model.0)].in_flight -= done.requests;
        if let Some(compute) = compute {
            device.computed += compute;
            self.calibrate(done.device, done.model, done.work, compute);
        }
    }

    /// Teaches the cost model: so much work of `model` took `device` so long.
    pub fn calibrate(&mut self, device: DeviceId, model: ModelId, work: Work, compute: Duration) {
        let device = self.devices.get_mut(usize::from(device.0));
        if let Some(cost) = device.and_then(|device| device.costs.get_mut(usize::from(model.0))) {
            cost.observe(work, compute);
        }
        self.capacity = self.fluid_limit();
    }

    /// The device that was given a batch that is not completed.
    pub fn device_of(&self, batch: BatchId) -> Option<DeviceId> {
        self.in_flight.get(&batch).map(|in_flight| in_flight.device)
    }

    /// Tells that a device is gone: it is given nothing more.
    pub fn lose(&mut self, device: DeviceId) {
        if let Some(device) = self.devices.get_mut(usize::from(device.0)) {
            device.is_lost = true;
        }
    }

    /// Whether any device is left.
    pub fn has_devices(&self) -> bool {
        self.devices.iter().any(|device| !device.is_lost)
    }

    /// Gives back everything that is queued.
    pub fn abandon(&mut self) -> Vec<Entry<P>> {
        let mut entries = Vec::new();
        while let Some((_, id)) = self.deadlines.first() {
            entries.extend(self.remove(id));
        }
        entries.extend(self.ended.drain(..).map(|(entry, _)| entry));
        entries
    }

    /// Queues dispatched requests again, with the place that their age and deadline give them. They were admitted once and
    /// are not refused.
    pub fn requeue(&mut self, entry: Entry<P>) -> RequestId {
        let id = self.slots.next_id();
        self.queue(Entry { id, ..entry }, Claim::Entitled);
        id
    }

    /// What waits and runs at `now`, written over an earlier snapshot to use its memory again.
    pub fn snapshot(&self, now: Timestamp, into: &mut Snapshot) {
        into.models.clear();
        into.models
            .extend((0..self.queues.len()).map(|index| self.model_snapshot(now, ModelId(index as u16))));
        into.devices.resize_with(self.devices.len(), DeviceSnapshot::default);
        for (device, into) in self.devices.iter().zip(&mut into.devices) {
            into.busy_for = device.free_at.saturating_duration_since(now);
            into.computed = device.computed;
            into.is_lost = device.is_lost;
            into.prediction_errors.clear();
            into.prediction_errors.extend(device.costs.iter().map(CostModel::error));
        }
        into.drain = self.drain();
    }

    /// What waits for one model; all zero for an unknown one.
    pub fn model_snapshot(&self, now: Timestamp, model: ModelId) -> ModelSnapshot {
        let Some(queue) = self.queues.get(usize::from(model.0)) else { return ModelSnapshot::default() };
        let oldest = queue.arrivals.first().and_then(|id| self.slots.get(id));
        ModelSnapshot {
            queued_requests: queue.requests,
            queued_tokens: queue.tokens,
            oldest_wait: oldest
                .map(|oldest| now.saturating_duration_since(oldest.entry.enqueued_at))
                .unwrap_or_default(),
            queued_time: self.queued_time(model),
            in_flight_requests: queue.in_flight,
            offered: queue.offered,
            batch_overhead: self.fastest(model).map_or(Duration::ZERO, |cost| cost.predict(Work(0.0))),
            token_seconds: self.seconds(model, Work(1.0)),
        }
    }

    /// Whether nothing is queued and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.slots.len() == 0 && self.in_flight.is_empty() && self.ended.is_empty()
    }

    /// What `device` should run next.
    ///
    /// Requests past their deadline are not dispatched, but stay until [`ended`](Self::ended) gives them back.
    pub fn poll(&mut self, now: Timestamp, device: DeviceId) -> Decision<P> {
        let Some(state) = self.devices.get(usize::from(device.0)) else { return Decision::Idle };
        if state.is_lost || state.in_flight >= self.config.batches_in_flight_max || self.slots.len() == 0 {
            return Decision::Idle;
        }
        match &self.config.policy {
            Policy::Deadline(policy) => {
                let policy = policy.clone();
                self.poll_by_deadline(now, device, &policy)
            }
            Policy::PreferredSize(policy) => {
                let policy = policy.clone();
                self.poll_preferred_size(now, device, &policy)
            }
            Policy::TokenBudget(policy) => {
                let policy = policy.clone();
                self.poll_token_budget(now, device, &policy)
            }
        }
    }

    /// When a request that takes so many seconds is answered if it is late, by the policy that promises it.
    fn promise(&mut self, at: Timestamp, seconds: f64, target: Duration) -> Timestamp {
        let Policy::Deadline(DeadlinePolicy { stretch, .. }) = self.config.policy else { return at + target };
        let drain = self.drain();
        self.demand.backlog(at, drain.as_secs_f64());
        at + (drain + Duration::from_secs_f64(seconds)).mul_f64(stretch).max(target)
    }

    /// Puts a request into every structure that it belongs to.
    fn queue(&mut self, entry: Entry<P>, claim: Claim) {
        let Request { model, tenant, weight, priority, tokens, deadline, .. } = entry.request;
        let bounds = &self.config.models[usize::from(model.0)];
        let (id, work) = (entry.id, Work::of(tokens, bounds.attention));
        let target = bounds.latency_target;
        let due = deadline.min(entry.enqueued_at + target);
        let seconds = self.seconds(model, work);
        let promise = self.promise(entry.enqueued_at, seconds, target);
        let flow = self.flows.of(entry.enqueued_at, tenant, priority, weight);
        let waiting = Waiting { entry, flow, work, seconds, due, promise, claim };
        let queue = &mut self.queues[usize::from(model.0)];
        queue.band_mut(claim).insert(flow, Rank::new(&waiting), work);
        queue.arrivals.push(id);
        queue.requests += 1;
        queue.tokens += tokens;
        if !claim.is_entitled() {
            self.flows.waits(flow);
        }
        if claim == Claim::Late {
            self.demand.held_up(flow, seconds / target.as_secs_f64());
        }
        self.deadlines.push((deadline, id));
        self.slots.put(waiting);
    }

    /// Takes a request out, to be given back.
    fn end(&mut self, id: RequestId, why: Ended) {
        let Some(entry) = self.remove(id) else { return };
        self.queues[usize::from(entry.request.model.0)].offered.shed += 1;
        self.ended.push((entry, why));
    }

    /// Takes a request out of every structure it is in.
    fn remove(&mut self, id: RequestId) -> Option<Entry<P>> {
        let Waiting { entry, flow, work, seconds, claim, .. } = self.slots.take(id)?;
        let slots = &self.slots;
        let is_alive = |id: RequestId| slots.get(id).is_some();
        let queue = &mut self.queues[usize::from(entry.request.model.0)];
        queue.band_mut(claim).remove(flow, work, |rank| slots.is_in(rank.id(), claim));
        queue.arrivals.bury(|id| is_alive(*id));
        queue.requests -= 1;
        queue.tokens -= entry.request.tokens;
        if !claim.is_entitled() {
            self.flows.left(flow);
        }
        if claim == Claim::Late {
            let target = self.config.models[usize::from(entry.request.model.0)].latency_target;
            self.demand.held_up(flow, -seconds / target.as_secs_f64());
        }
        self.deadlines.bury(|(_, id)| is_alive(*id));
        Some(entry)
    }

    /// Makes a batch of entries that have left the queues.
    fn sent(&mut self, now: Timestamp, device: DeviceId, model: ModelId, members: Vec<Entry<P>>) -> Batch<P> {
        let attention = self.config.models[usize::from(model.0)].attention;
        let tokens = members.iter().map(|entry| entry.request.tokens).sum();
        let work = members
            .iter()
            .map(|entry| Work::of(entry.request.tokens, attention))
            .fold(Work::default(), std::ops::Add::add);
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        let state = &mut self.devices[usize::from(device.0)];
        let cost = &state.costs[usize::from(model.0)];
        let (planned, predicted) = (cost.plan(work), cost.predict(work));
        state.in_flight += 1;
        state.planned += planned;
        state.free_at = state.free_at.max(now) + planned;
        self.queues[usize::from(model.0)].in_flight += members.len();
        let requests = members.len();
        self.in_flight.insert(id, InFlight { model, device, work, requests, planned });
        Batch { id, model, device, tokens, predicted, members }
    }
}
