//! Callers that wait for their answers, and others that do not, beside each other on a virtual clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use batching::{BatchId, Config, Decision, ModelConfig, Policy, Scheduler, Sequence, Snapshot, Work};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};

/// How a flow asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loop {
    /// So many connections, each of which asks again so long after its answer.
    Closed(u32, Duration),
    /// So many calls by the second, whatever becomes of them.
    Open(f64),
}

/// Callers that ask alike.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Their tenant; if none is named they have one of their own.
    pub(crate) tenant: Option<u32>,
    pub(crate) weight: u32,
    pub(crate) priority: Priority,
    pub(crate) kind: Loop,
    /// Models that it asks, at random.
    pub(crate) models: Vec<u16>,
    /// Sequences of one call, and their shortest and longest length.
    pub(crate) inputs: u32,
    pub(crate) tokens: (u32, u32),
    /// How long they wait for an answer.
    pub(crate) timeout: Duration,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            tenant: None,
            weight: 1,
            priority: Priority::Normal,
            kind: Loop::Closed(1, Duration::from_millis(1)),
            models: vec![0],
            inputs: 1,
            tokens: (60, 150),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Times that a batch takes which is held up.
const STALL: u32 = 4;

/// What computes: devices whose batches take `overhead + slope * tokens`.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) targets_ms: Vec<u64>,
    pub(crate) devices: u16,
    pub(crate) overhead: Duration,
    pub(crate) slope: f64,
    /// Share of batches that are held up.
    pub(crate) stalls: f64,
    pub(crate) policy: Policy,
}

/// What became of some callers' calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Calls answered, and how long they took, in seconds.
    pub(crate) latencies: Vec<f64>,
    /// For each of these, how long it would have taken if all had been served as they came, as predicted when
    /// it came.
    pub(crate) as_they_came: Vec<f64>,
    /// Calls of which nothing was answered.
    pub(crate) ended: usize,
    /// Device seconds.
    pub(crate) service: f64,
    /// The longest time without an answer, in seconds, and the last of them.
    pub(crate) pause: f64,
    answered_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Complete(u16),
    Ask(u32, u32),
    Wake,
}

/// A call that is not answered yet.
struct Call {
    caller: u32,
    at: Timestamp,
    left: u32,
    as_they_came: f64,
}

struct Running {
    id: BatchId,
    members: Vec<u64>,
    time: Duration,
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    callers: Vec<Caller>,
    scheduler: Scheduler<u64>,
    rng: ChaCha8Rng,
    events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    devices: Vec<VecDeque<Running>>,
    calls: HashMap<u64, Call>,
    next_call: u64,
    now: Timestamp,
    queued: usize,
    snapshot: Snapshot,
    pub(crate) outcomes: Vec<Outcome>,
}

impl World {
    pub(crate) fn new(setup: Setup, callers: Vec<Caller>, seed: u64) -> Self {
        let model = |target: &u64| ModelConfig {
            batch_tokens_max: Tokens(16_384),
            batch_sequences_max: 256,
            queue_sequences_max: 4096,
            queue_tokens_max: Tokens(1 << 20),
            latency_target: Duration::from_millis(*target),
            is_target_hard: false,
            attention: 0.0,
        };
        let config = Config {
            models: setup.targets_ms.iter().map(model).collect(),
            devices: setup.devices,
            batches_in_flight_max: 2,
            policy: setup.policy.clone(),
        };
        let mut scheduler = Scheduler::new(config).unwrap();
        for device in 0..setup.devices {
            for model in 0..setup.targets_ms.len() as u16 {
                for tokens in [16.0, 256.0, 1024.0, 4096.0] {
                    let time = setup.overhead + Duration::from_secs_f64(setup.slope * tokens);
                    scheduler.calibrate(DeviceId(device), ModelId(model), Work(tokens), time);
                }
            }
        }
        let mut world = Self {
            devices: (0..setup.devices).map(|_| VecDeque::new()).collect(),
            outcomes: vec![Outcome::default(); callers.len()],
            setup,
            scheduler,
            rng: ChaCha8Rng::seed_from_u64(seed),
            events: BinaryHeap::new(),
            calls: HashMap::new(),
            next_call: 0,
            now: Timestamp::ZERO,
            queued: 0,
            snapshot: Snapshot::default(),
            callers,
        };
        for (index, caller) in (0u32..).zip(world.callers.clone()) {
            let asking = if let Loop::Closed(connections, _) = caller.kind { connections } else { 1 };
            for connection in 0..asking {
                let at = Timestamp::from_nanos(world.rng.random_range(0..5_000_000));
                world.events.push(Reverse((at, Event::Ask(index, connection))));
            }
        }
        world
    }

    /// Lets the time pass until `until`.
    pub(crate) fn run(&mut self, until: Timestamp) {
        while let Some(Reverse((at, event))) = self.events.peek().copied() {
            if at > until {
                break;
            }
            self.events.pop();
            self.now = at;
            match event {
                Event::Complete(device) => self.complete(device),
                Event::Ask(caller, connection) => self.ask(caller, connection),
                Event::Wake => {}
            }
            if self.events.peek().is_none_or(|Reverse((next, _))| *next > at) {
                self.end(at);
                for device in 0..self.setup.devices {
                    self.poll(device);
                }
                let idle = self.devices.iter().any(VecDeque::is_empty);
                assert!(!idle || self.queued == 0, "a device is idle beside {} sequences", self.queued);
            }
        }
    }

    /// Forgets what was counted so far.
    pub(crate) fn start_counting(&mut self) {
        self.outcomes.fill(Outcome { answered_at: self.now, ..Outcome::default() });
    }

    fn ask(&mut self, index: u32, connection: u32) {
        let caller = self.callers[index as usize].clone();
        let number = self.next_call;
        self.next_call += 1;
        let model = ModelId(caller.models[self.rng.random_range(0..caller.models.len())]);
        let sequences = (0..caller.inputs).map(|_| Sequence {
            model,
            tenant: TenantId(caller.tenant.unwrap_or(index)),
            weight: caller.weight,
            priority: caller.priority,
            tokens: Tokens(self.rng.random_range(caller.tokens.0..=caller.tokens.1)),
            deadline: self.now + caller.timeout,
            payload: number,
        });
        let sequences = sequences.collect();
        let left = self.scheduler.enqueue_all(self.now, sequences).map_or(0, |ids| ids.len() as u32);
        self.queued += left as usize;
        self.scheduler.snapshot(self.now, &mut self.snapshot);
        let as_they_came = self.snapshot.drain.as_secs_f64();
        self.calls.insert(number, Call { caller: index, at: self.now, left, as_they_came });
        if let Loop::Open(rate) = caller.kind {
            let gap = -(1.0 - self.rng.random::<f64>()).ln() / rate;
            let next = self.now + Duration::from_secs_f64(gap);
            self.events.push(Reverse((next, Event::Ask(index, connection))));
        }
    }

    fn poll(&mut self, device: u16) {
        loop {
            match self.scheduler.poll(self.now, DeviceId(device)) {
                Decision::Dispatch(batch) => {
                    let tokens: Vec<_> = batch.members.iter().map(|entry| entry.sequence.tokens.0).collect();
                    let sum = f64::from(tokens.iter().sum::<u32>());
                    let time = self.setup.overhead + Duration::from_secs_f64(self.setup.slope * sum);
                    let stalls = self.setup.stalls > 0.0 && self.rng.random::<f64>() < self.setup.stalls;
                    let time = if stalls { time * STALL } else { time };
                    let share = |tokens: u32| time.as_secs_f64() * f64::from(tokens) / sum;
                    let members = batch.members.iter().map(|entry| {
                        let sequence = &entry.sequence;
                        let caller = self.calls[&sequence.payload].caller as usize;
                        self.outcomes[caller].service += share(sequence.tokens.0);
                        sequence.payload
                    });
                    let members: Vec<_> = members.collect();
                    self.queued -= members.len();
                    let queue = &mut self.devices[usize::from(device)];
                    queue.push_back(Running { id: batch.id, members, time });
                    if queue.len() == 1 {
                        self.events.push(Reverse((self.now + time, Event::Complete(device))));
                    }
                }
                Decision::WaitUntil(at) => {
                    let at = at.max(self.now + Duration::from_nanos(1));
                    self.events.push(Reverse((at, Event::Wake)));
                    return;
                }
                Decision::Idle => return,
            }
        }
    }

    fn complete(&mut self, device: u16) {
        let queue = &mut self.devices[usize::from(device)];
        let done = queue.pop_front().unwrap();
        if let Some(next) = queue.front() {
            self.events.push(Reverse((self.now + next.time, Event::Complete(device))));
        }
        self.scheduler.complete(self.now, done.id, Some(done.time));
        for number in done.members {
            let call = self.calls.get_mut(&number).unwrap();
            call.left -= 1;
            if call.left > 0 {
                continue;
            }
            let call = self.calls.remove(&number).unwrap();
            let took = self.now.saturating_duration_since(call.at);
            let outcome = &mut self.outcomes[call.caller as usize];
            outcome.latencies.push(took.as_secs_f64());
            outcome.as_they_came.push(call.as_they_came);
            let pause = self.now.saturating_duration_since(outcome.answered_at);
            outcome.pause = outcome.pause.max(pause.as_secs_f64());
            outcome.answered_at = self.now;
            if let Loop::Closed(_, think) = self.callers[call.caller as usize].kind {
                let think = think.mul_f64(self.rng.random_range(0.5..1.5));
                self.events.push(Reverse((self.now + think, Event::Ask(call.caller, 0))));
            }
        }
    }

    /// Calls whose sequences ended without having been computed are over, and asked again.
    fn end(&mut self, now: Timestamp) {
        for (entry, _) in self.scheduler.ended(now) {
            self.queued -= 1;
            let Some(call) = self.calls.get_mut(&entry.sequence.payload) else { continue };
            call.left -= 1;
            if call.left == 0 {
                let caller = call.caller;
                self.calls.remove(&entry.sequence.payload);
                self.outcomes[caller as usize].ended += 1;
                if let Loop::Closed(..) = self.callers[caller as usize].kind {
                    self.events.push(Reverse((now, Event::Ask(caller, 0))));
                }
            }
        }
    }
}
