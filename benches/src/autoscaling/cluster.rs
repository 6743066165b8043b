//! Servers that come, go and fail, each with the scheduler of the real one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use batching::{Batch, Config, ConfigError, Decision, ModelConfig, Scheduler, Sequence, Snapshot, Work};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use router::scaling::{Ends, Load, Meter};
use units::{DeviceId, ModelId, TenantId, Timestamp, Tokens};

use super::day::Day;
use super::sizing::{Observed, Sizing};
use crate::simulation::hardware::{Hardware, Noise};
use crate::simulation::workload::{Arrival, Workload};

/// How the cluster behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// Servers at the beginning.
    pub size: u32,
    /// Shortest and longest time in seconds from asking for a server to its being ready, uniform between.
    pub cold_start: (f64, f64),
    /// Servers lost in the whole time, with all they hold.
    pub losses: usize,
    /// Age of what a policy says when it is acted upon.
    pub metric_lag: Duration,
    /// How often it is acted upon.
    pub sync_period: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            size: 2,
            cold_start: (25.0, 40.0),
            losses: 4,
            metric_lag: Duration::from_secs(15),
            sync_period: Duration::from_secs(15),
        }
    }
}

/// What came of a day.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Texts answered within their target, by model.
    pub in_time: Vec<u64>,
    /// Texts answered later, refused, expired or lost, by model.
    pub late: Vec<u64>,
    /// The same by minute: in time, and late.
    pub minutes: Vec<(u64, u64)>,
    /// Servers asked for, by second at which that changed.
    pub sizes: Vec<(f64, u32)>,
    /// Seconds of servers, from asking for them to their end.
    pub server_seconds: f64,
}

impl Outcome {
    /// Share of texts in time.
    pub fn attainment(&self) -> f64 {
        let (in_time, late) = (self.in_time.iter().sum::<u64>(), self.late.iter().sum::<u64>());
        in_time as f64 / (in_time + late).max(1) as f64
    }

    /// The same of the model that fares worst.
    pub fn worst_model(&self) -> f64 {
        let shares = self.in_time.iter().zip(&self.late);
        shares.map(|(good, bad)| *good as f64 / (good + bad).max(1) as f64).fold(1.0, f64::min)
    }

    /// Minutes in which fewer than 99 % were in time.
    pub fn bad_minutes(&self) -> usize {
        self.minutes.iter().filter(|(good, bad)| *bad * 99 > *good).count()
    }

    pub fn server_hours(&self) -> f64 {
        self.server_seconds / 3600.0
    }

    /// How often asking for more was followed by asking for fewer, or the other way round.
    pub fn reversals(&self) -> usize {
        let steps: Vec<bool> = self.sizes.windows(2).map(|pair| pair[1].1 > pair[0].1).collect();
        steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A device has computed its batch.
    Done(u32),
    /// A server's scheduler wants to be asked again.
    Wake(u32),
    /// A server is ready.
    Ready(u32),
    /// A server is lost, any.
    Loss,
    /// The load is read.
    Read,
    /// What the policy said is acted upon.
    Sync,
}

/// One server with one device.
struct Server {
    scheduler: Scheduler<()>,
    running: Option<Batch<()>>,
    /// Texts that wait or run.
    holds: usize,
    computing: Duration,
    wake: Option<Timestamp>,
    meter: Meter,
    ends: Ends,
    state: State,
    asked_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Draining,
    Gone,
}

pub struct Cluster<'a> {
    workload: &'a Workload,
    hardware: &'a Hardware,
    config: ClusterConfig,
    noise: Noise,
    rng: ChaCha8Rng,
    /// By number; the ones that are gone stay.
    servers: Vec<Server>,
    /// Numbers of those that are ready.
    ready: Vec<u32>,
    events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    /// What the policy said, and when.
    said: VecDeque<(Timestamp, u32)>,
    size: u32,
    snapshot: Snapshot,
    outcome: Outcome,
}

const READ_EVERY: Duration = Duration::from_secs(2);
/// Longest a caller waits.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Work of the batches of the sweep by which a server's cost model is made when it starts.
const SWEEP: [f64; 4] = [16.0, 256.0, 1024.0, 4096.0];
const DEVICE: DeviceId = DeviceId(0);

impl<'a> Cluster<'a> {
    /// A cluster of servers with one such device each.
    ///
    /// # Errors
    /// A configuration that the scheduler refuses.
    pub fn new(
        workload: &'a Workload,
        hardware: &'a Hardware,
        config: ClusterConfig,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let models = workload.models.len();
        let outcome = Outcome { in_time: vec![0; models], late: vec![0; models], ..Outcome::default() };
        let mut cluster = Self {
            workload,
            hardware,
            noise: Noise::new(hardware, seed),
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0xc1a5_7e12),
            servers: Vec::new(),
            ready: Vec::new(),
            events: BinaryHeap::new(),
            said: VecDeque::new(),
            size: config.size,
            snapshot: Snapshot::default(),
            outcome,
            config,
        };
        for number in 0..cluster.config.size {
            let server = cluster.server(Timestamp::ZERO, State::Ready)?;
            cluster.servers.push(server);
            cluster.ready.push(number);
        }
        Ok(cluster)
    }

    /// Lives through a day whose size `sizing` decides.
    pub fn run(mut self, day: &Day, sizing: &mut dyn Sizing) -> Outcome {
        let end = Timestamp::ZERO + Duration::from_secs(day.rates.len() as u64);
        self.outcome.minutes = vec![(0, 0); day.rates.len().div_ceil(60)];
        self.outcome.sizes.push((0.0, self.size));
        self.plan(Timestamp::ZERO + READ_EVERY, Event::Read);
        self.plan(Timestamp::ZERO + self.config.sync_period, Event::Sync);
        for _ in 0..self.config.losses {
            let at = end.saturating_duration_since(Timestamp::ZERO).mul_f64(self.rng.random());
            self.plan(Timestamp::ZERO + at, Event::Loss);
        }
        let mut texts = day.texts().peekable();
        loop {
            let arrival = texts.peek().map(|text| text.at);
            let event = self.events.peek().map(|Reverse((at, _))| *at);
            let Some(now) = [arrival, event].into_iter().flatten().min().filter(|now| *now < end) else {
                break;
            };
            if event == Some(now) {
                if let Some(Reverse((_, event))) = self.events.pop() {
                    self.happen(now, event, sizing);
                }
            } else if let Some(text) = texts.next() {
                self.arrive(now, &text);
            }
        }
        for server in &self.servers {
            if server.state != State::Gone {
                self.outcome.server_seconds += end.saturating_duration_since(server.asked_at).as_secs_f64();
            }
        }
        self.outcome
    }

    fn plan(&mut self, at: Timestamp, event: Event) {
        self.events.push(Reverse((at, event)));
    }

    fn happen(&mut self, now: Timestamp, event: Event, sizing: &mut dyn Sizing) {
        match event {
            Event::Done(number) => self.done(now, number),
            Event::Wake(number) => {
                self.servers[number as usize].wake = None;
                self.poll(now, number);
            }
            Event::Ready(number) => {
                let server = &mut self.servers[number as usize];
                if server.state == State::Starting {
                    server.state = State::Ready;
                    self.ready.push(number);
                }
            }
            Event::Loss => self.lose(now),
            Event::Read => {
                self.read(now, sizing);
                self.plan(now + READ_EVERY, Event::Read);
            }
            Event::Sync => {
                self.sync(now, sizing.is_oracle());
                self.plan(now + self.config.sync_period, Event::Sync);
            }
        }
    }

    /// Sends a text to the less loaded of two servers drawn at random (Mitzenmacher, "The Power of Two
    /// Choices in Randomized Load Balancing", 2001).
    fn arrive(&mut self, now: Timestamp, arrival: &Arrival) {
        let model = ModelId(arrival.model);
        if self.ready.is_empty() {
            self.ended(now, model, None);
            return;
        }
        let [first, second] =
            [(); 2].map(|()| self.ready[self.rng.random_range(0..self.ready.len())] as usize);
        let is_first = self.servers[first].holds <= self.servers[second].holds;
        let number = if is_first { first } else { second };
        let request = Sequence {
            model,
            tenant: TenantId(arrival.tenant),
            weight: 1,
            priority: arrival.priority,
            tokens: Tokens(arrival.tokens),
            deadline: now + TIMEOUT,
            payload: (),
        };
        let server = &mut self.servers[number];
        if server.scheduler.enqueue(now, request).is_err() {
            server.ends.late += 1;
            self.ended(now, model, None);
            return;
        }
        server.holds += 1;
        if server.running.is_none() {
            self.poll(now, number as u32);
        }
    }

    fn poll(&mut self, now: Timestamp, number: u32) {
        for (entry, _) in self.servers[number as usize].scheduler.ended(now) {
            let server = &mut self.servers[number as usize];
            server.holds -= 1;
            server.ends.late += 1;
            self.ended(now, entry.sequence.model, None);
        }
        match self.servers[number as usize].scheduler.poll(now, DEVICE) {
            Decision::Dispatch(batch) => {
                let attention = self.workload.attention;
                let works = batch.members.iter().map(|member| Work::of(member.sequence.tokens, attention));
                let work = works.fold(Work::default(), std::ops::Add::add);
                let time = self.noise.time(self.hardware, 0, work);
                let server = &mut self.servers[number as usize];
                (server.running, server.computing) = (Some(batch), time);
                self.plan(now + time, Event::Done(number));
            }
            Decision::WaitUntil(at) => {
                let server = &mut self.servers[number as usize];
                if server.wake.is_none_or(|earlier| at < earlier) {
                    server.wake = Some(at);
                    self.plan(at.max(now + Duration::from_nanos(1)), Event::Wake(number));
                }
            }
            Decision::Idle => {}
        }
    }

    fn done(&mut self, now: Timestamp, number: u32) {
        let server = &mut self.servers[number as usize];
        let Some(batch) = server.running.take() else { return };
        server.scheduler.complete(now, batch.id, Some(server.computing));
        server.holds -= batch.members.len();
        for member in &batch.members {
            let model = member.sequence.model;
            let target = self.workload.models[usize::from(model.0)].target;
            let latency = now.saturating_duration_since(member.enqueued_at);
            let ends = &mut self.servers[number as usize].ends;
            if latency <= target {
                ends.in_time += 1;
            } else {
                ends.late += 1;
            }
            self.ended(now, model, Some(latency));
        }
        self.poll(now, number);
        let server = &self.servers[number as usize];
        if server.state == State::Draining && server.holds == 0 {
            self.remove(now, number);
        }
    }

    fn ended(&mut self, now: Timestamp, model: ModelId, latency: Option<Duration>) {
        let index = usize::from(model.0);
        let is_in_time = latency.is_some_and(|latency| latency <= self.workload.models[index].target);
        let minute = (now.as_nanos() / 60_000_000_000) as usize;
        let counts = &mut self.outcome.minutes[minute];
        if is_in_time {
            self.outcome.in_time[index] += 1;
            counts.0 += 1;
        } else {
            self.outcome.late[index] += 1;
            counts.1 += 1;
        }
    }

    /// A server is lost with all it holds; the orchestrator starts another at once.
    fn lose(&mut self, now: Timestamp) {
        if self.ready.is_empty() {
            return;
        }
        let number = self.ready[self.rng.random_range(0..self.ready.len())];
        let server = &mut self.servers[number as usize];
        let running = server.running.take().into_iter().flat_map(|batch| batch.members);
        for entry in server.scheduler.abandon().into_iter().chain(running) {
            self.ended(now, entry.sequence.model, None);
        }
        self.remove(now, number);
        self.start(now);
    }

    fn start(&mut self, now: Timestamp) {
        let Ok(server) = self.server(now, State::Starting) else { return };
        let (least, most) = self.config.cold_start;
        let ready_at = now + Duration::from_secs_f64(self.rng.random_range(least..most));
        self.plan(ready_at, Event::Ready(self.servers.len() as u32));
        self.servers.push(server);
    }

    fn remove(&mut self, now: Timestamp, number: u32) {
        let server = &mut self.servers[number as usize];
        server.state = State::Gone;
        self.outcome.server_seconds += now.saturating_duration_since(server.asked_at).as_secs_f64();
        self.ready.retain(|other| *other != number);
    }

    fn read(&mut self, now: Timestamp, sizing: &mut dyn Sizing) {
        let (mut load, mut concurrency) = (Load::default(), 0);
        for server in self.servers.iter_mut().filter(|server| server.state != State::Gone) {
            server.scheduler.snapshot(now, &mut self.snapshot);
            let is_ready = server.state == State::Ready;
            if let Some(one) = server.meter.read(now, &self.snapshot, server.ends, is_ready) {
                load += &one;
            }
            concurrency += server.holds;
        }
        let said = sizing.observe(now, &Observed { load, concurrency: concurrency as u64 });
        self.said.push_back((now, said));
    }

    /// Starts and stops servers until there are as many as the policy said, the metrics' lag ago.
    fn sync(&mut self, now: Timestamp, is_oracle: bool) {
        let lag = if is_oracle { Duration::ZERO } else { self.config.metric_lag };
        let mut newest = None;
        while self.said.front().is_some_and(|(at, _)| *at + lag <= now) {
            newest = self.said.pop_front();
        }
        let Some((_, size)) = newest else { return };
        if size != self.size {
            self.size = size;
            self.outcome.sizes.push((now.as_nanos() as f64 / 1e9, size));
        }
        let is_kept = |server: &Server| matches!(server.state, State::Starting | State::Ready);
        let mut count = self.servers.iter().filter(|server| is_kept(server)).count() as u32;
        while count < size {
            self.start(now);
            count += 1;
        }
        // The newest go first: those that are not ready yet.
        let mut numbers = (0..self.servers.len() as u32).rev();
        while count > size {
            let Some(number) = numbers.find(|number| is_kept(&self.servers[*number as usize])) else { break };
            self.ready.retain(|other| *other != number);
            let server = &mut self.servers[number as usize];
            server.state = State::Draining;
            if server.holds == 0 {
                self.remove(now, number);
            }
            count -= 1;
        }
    }

    /// A server with its cost model warm.
    fn server(&mut self, now: Timestamp, state: State) -> Result<Server, ConfigError> {
        let model = |traffic: &crate::simulation::workload::ModelTraffic| ModelConfig {
            batch_tokens_max: Tokens(1024),
            batch_sequences_max: 64,
            queue_sequences_max: 16_384,
            queue_tokens_max: Tokens(262_144),
            latency_target: traffic.target,
            is_target_hard: false,
            attention: self.workload.attention,
        };
        let mut scheduler = Scheduler::new(Config {
            models: self.workload.models.iter().map(model).collect(),
            devices: 1,
            batches_in_flight_max: 1,
            policy: batching::Policy::Deadline(batching::DeadlinePolicy::default()),
        })?;
        for model in 0..self.workload.models.len() {
            for work in SWEEP.map(Work) {
                let time = self.noise.time(self.hardware, 0, work);
                scheduler.calibrate(DEVICE, ModelId(model as u16), work, time);
            }
        }
        let targets = self.workload.models.iter().map(|model| model.target).collect();
        Ok(Server {
            scheduler,
            running: None,
            holds: 0,
            computing: Duration::ZERO,
            wake: None,
            meter: Meter::new(targets),
            ends: Ends::default(),
            state,
            asked_at: now,
        })
    }
}
