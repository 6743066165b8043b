//! The scheduler's promises under random use: a small world of callers and devices, with options and faults
//! drawn by seed.
//!
//! Safety at every step: each sequence ends exactly once; no batch is over a budget, mixes models, or has a
//! member past its deadline; no queue is over its bounds; what the scheduler counts is what there is; models
//! that come and go take what they should and lose nothing. Then liveness: once callers and faults stop,
//! everything drains, and no tenant's sequence is left, nor a removed model.
//!
//! Which options are on is drawn too, so that some seeds use few of them and those heavily (Groce et al.,
//! "Swarm Testing", ISSTA 2012). A failing seed is printed; `SEED=n` runs it alone, `SEEDS=n` so many of
//! them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use batching::{
    Batch, Config, ConfigError, DeadlinePolicy, Decision, EnqueueError, Entry, ModelConfig, Policy,
    PreferredSize, Scheduler, Sequence, SequenceId, Snapshot, TokenBudget, Work,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use units::{DeviceId, ModelId, Priority, TenantId, Timestamp, Tokens};

/// Seeds that `cargo test` runs.
const SEEDS: u64 = 2000;
const STEPS: usize = 400;
/// Seeds after which a long run says that it is alive.
const PROGRESS_EVERY: u64 = 100_000;

#[test]
fn promises_hold_for_every_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = seeds.clone();
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == thread) {
                    if seed > 0 && seed % PROGRESS_EVERY == 0 {
                        eprintln!("{seed} seeds");
                    }
                    let result = std::panic::catch_unwind(|| World::new(seed).run());
                    assert!(result.is_ok(), "failed with SEED={seed}");
                }
            });
        }
    });
}

/// What a seed may do. Each chance is by step, and zero where the seed leaves it out.
#[derive(Debug)]
struct Options {
    arrive: f64,
    burst: f64,
    cancel: f64,
    fail: f64,
    lose: f64,
    /// Chance that a model comes, and that one goes.
    change: f64,
    /// Whether callers set deadlines of their own.
    deadlines: bool,
    tenants: u32,
    /// Standard deviation of batch times over their mean.
    noise: f64,
    /// Chance that a batch takes ten times as long.
    stall: f64,
    /// Longest time between two steps.
    pause: Duration,
}

/// A sequence as its caller knows it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    model: ModelId,
    tokens: Tokens,
    deadline: Timestamp,
}

struct Running {
    batch: Batch<u64>,
    ends_at: Timestamp,
    compute: Duration,
}

struct World {
    rng: ChaCha8Rng,
    options: Options,
    config: Config,
    scheduler: Scheduler<u64>,
    now: Timestamp,
    queued: BTreeMap<SequenceId, Asked>,
    /// Numbers of sequences that were accepted and have not ended.
    open: BTreeSet<u64>,
    next_number: u64,
    devices: Vec<VecDeque<Running>>,
    lost: BTreeSet<usize>,
    /// Models that were removed.
    removed: BTreeSet<ModelId>,
    snapshot: Snapshot,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let options = options(&mut rng);
        let config = config(&mut rng);
        let mut scheduler = Scheduler::new(config.clone()).unwrap();
        let devices = usize::from(config.devices);
        if rng.random_bool(0.8) {
            for device in 0..devices {
                for model in 0..config.models.len() {
                    for tokens in [8.0, 64.0, 512.0] {
                        let time = mean_time(device, tokens);
                        scheduler.calibrate(
                            DeviceId(device as u16),
                            ModelId(model as u16),
                            Work(tokens),
                            time,
                        );
                    }
                }
            }
        }
        Self {
            rng,
            options,
            config,
            scheduler,
            now: Timestamp::ZERO,
            queued: BTreeMap::new(),
            open: BTreeSet::new(),
            next_number: 0,
            devices: (0..devices).map(|_| VecDeque::new()).collect(),
            lost: BTreeSet::new(),
            removed: BTreeSet::new(),
            snapshot: Snapshot::default(),
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check();
        }
        self.drain();
    }

    fn step(&mut self) {
        let pause = self.options.pause.as_secs_f64() * self.rng.random::<f64>();
        self.now = self.now + Duration::from_secs_f64(pause);
        self.complete();
        if self.chance(self.options.arrive) {
            self.arrive();
        }
        if self.chance(self.options.burst) {
            for _ in 0..self.rng.random_range(1..60) {
                self.arrive();
            }
        }
        self.collect_ended();
        if self.chance(self.options.cancel)
            && let Some(id) = self.any_queued()
        {
            let entry = self.scheduler.cancel(id).expect("it is queued");
            assert!(self.scheduler.cancel(id).is_none(), "cancelled twice");
            self.end(&entry);
        }
        if self.chance(self.options.lose) && self.lost.len() + 1 < self.devices.len() {
            self.lose();
        }
        if self.chance(self.options.change) {
            self.add_model();
        }
        if self.chance(self.options.change) {
            self.remove_model();
        }
        self.collect_ended();
        self.poll();
        self.collect_ended();
    }

    /// A sequence comes, or a call of several, of which some ask for what cannot be.
    fn arrive(&mut self) {
        let model = ModelId(self.rng.random_range(0..self.config.models.len() as u16 + 1));
        let (tenant, weight) =
            (TenantId(self.rng.random_range(0..self.options.tenants)), self.rng.random_range(0..4));
        let priority = Priority::ALL[self.rng.random_range(0..4)];
        let count = if self.chance(0.2) { self.rng.random_range(2..6) } else { 1 };
        let mut sequences = Vec::new();
        for _ in 0..count {
            let tokens = Tokens(self.rng.random_range(0..120));
            let lasts = if self.options.deadlines { self.rng.random_range(0..60) } else { 30_000 };
            let (deadline, payload) = (self.now + Duration::from_millis(lasts), self.next_number);
            self.next_number += 1;
            sequences.push(Sequence { model, tenant, weight, priority, tokens, deadline, payload });
        }
        let asked: Vec<_> = sequences.iter().map(|sequence| (sequence.tokens, sequence.deadline)).collect();
        let first = sequences[0].payload;
        let taken = if count == 1 {
            let refused = |refused: EnqueueError<u64>| vec![refused.payload];
            self.scheduler.enqueue(self.now, sequences.remove(0)).map(|id| vec![id]).map_err(refused)
        } else {
            self.scheduler.enqueue_all(self.now, sequences).map_err(|refused| refused.payload)
        };
        let ids = match taken {
            Ok(ids) => {
                assert!(!self.removed.contains(&model), "taken for a model that was removed");
                ids
            }
            Err(payloads) => {
                assert_eq!(payloads, (first..first + count).collect::<Vec<_>>(), "none of a call is kept");
                return;
            }
        };
        assert_eq!(ids.len() as u64, count);
        let bounds = &self.config.models[usize::from(model.0)];
        for ((id, (tokens, deadline)), number) in ids.into_iter().zip(asked).zip(first..) {
            let target = self.now + bounds.latency_target;
            let deadline = if bounds.is_target_hard { deadline.min(target) } else { deadline };
            let asked = Asked { model, tokens, deadline };
            assert!(self.queued.insert(id, asked).is_none(), "{id:?} was used before");
            self.open.insert(number);
        }
    }

    fn collect_ended(&mut self) {
        for (entry, _) in self.scheduler.ended(self.now) {
            self.end(&entry);
        }
        assert!(self.queued.values().all(|asked| asked.deadline > self.now), "kept past its deadline");
    }

    /// A queued sequence ended without being computed.
    fn end(&mut self, entry: &Entry<u64>) {
        assert!(self.queued.remove(&entry.id).is_some(), "{:?} was not queued", entry.id);
        assert!(self.open.remove(&entry.sequence.payload), "sequence {} ended twice", entry.sequence.payload);
    }

    fn poll(&mut self) {
        for device in 0..self.devices.len() {
            while let Decision::Dispatch(batch) = self.scheduler.poll(self.now, DeviceId(device as u16)) {
                self.dispatched(device, batch);
            }
        }
    }

    fn dispatched(&mut self, device: usize, batch: Batch<u64>) {
        assert!(!self.lost.contains(&device), "dispatched to a lost device");
        let bounds = &self.config.models[usize::from(batch.model.0)];
        assert!((1..=bounds.batch_sequences_max).contains(&batch.members.len()));
        assert_eq!(batch.tokens, batch.members.iter().map(|entry| entry.sequence.tokens).sum());
        assert!(batch.tokens <= bounds.batch_tokens_max, "over its budget");
        for entry in &batch.members {
            assert_eq!(entry.sequence.model, batch.model, "a batch mixes no models");
            assert!(entry.sequence.deadline > self.now, "dispatched past its deadline");
            assert!(self.queued.remove(&entry.id).is_some(), "{:?} was not queued", entry.id);
        }
        let noise = (1.0 + self.options.noise * (self.rng.random::<f64>() - 0.5)).max(0.1);
        let stall = if self.chance(self.options.stall) { 10.0 } else { 1.0 };
        let compute = mean_time(device, f64::from(batch.tokens.0)).mul_f64(noise * stall);
        let starts = self.devices[device].back().map_or(self.now, |before| before.ends_at);
        self.devices[device].push_back(Running { batch, ends_at: starts + compute, compute });
        assert!(self.devices[device].len() <= self.config.batches_in_flight_max);
    }

    fn complete(&mut self) {
        for device in 0..self.devices.len() {
            while self.devices[device].front().is_some_and(|running| running.ends_at <= self.now) {
                let Running { batch, compute, .. } = self.devices[device].pop_front().unwrap();
                let has_failed = self.chance(self.options.fail);
                self.scheduler.complete(self.now, batch.id, (!has_failed).then_some(compute));
                self.scheduler.complete(self.now, batch.id, Some(compute));
                for entry in batch.members {
                    assert!(self.open.remove(&entry.sequence.payload), "ended twice");
                }
            }
        }
    }

    /// A device vanishes with its batches, whose members are queued again if they still have time.
    fn lose(&mut self) {
        let device = self.rng.random_range(0..self.devices.len());
        if !self.lost.insert(device) {
            return;
        }
        self.scheduler.lose(DeviceId(device as u16));
        for Running { batch, .. } in std::mem::take(&mut self.devices[device]) {
            for entry in batch.members {
                if entry.sequence.deadline <= self.now {
                    assert!(self.open.remove(&entry.sequence.payload));
                    continue;
                }
                let Sequence { model, tokens, deadline, .. } = entry.sequence;
                let id = self.scheduler.requeue(entry);
                assert!(self.queued.insert(id, Asked { model, tokens, deadline }).is_none());
            }
            self.scheduler.complete(self.now, batch.id, None);
        }
    }

    /// One more model, under the next number; numbers that were used are refused.
    fn add_model(&mut self) {
        let model = model_config(&mut self.rng);
        let next = self.config.models.len() as u16;
        let used = ModelId(self.rng.random_range(0..next));
        assert_eq!(self.scheduler.add_model(used, model.clone()), Err(ConfigError::ModelNumber(used)));
        self.scheduler.add_model(ModelId(next), model.clone()).unwrap();
        self.config.models.push(model);
    }

    /// A model takes nothing more; what waits is computed yet.
    fn remove_model(&mut self) {
        let model = ModelId(self.rng.random_range(0..self.config.models.len() as u16 + 1));
        let is_known = usize::from(model.0) < self.config.models.len() && !self.removed.contains(&model);
        assert_eq!(self.scheduler.remove_model(model), is_known);
        if is_known {
            self.removed.insert(model);
        }
    }

    /// The scheduler's counts are right and within its bounds.
    fn check(&mut self) {
        self.scheduler.snapshot(self.now, &mut self.snapshot);
        for (index, bounds) in self.config.models.iter().enumerate() {
            let model = &self.snapshot.models[index];
            let mine = || self.queued.values().filter(|asked| usize::from(asked.model.0) == index);
            assert_eq!(model.queued_sequences, mine().count());
            assert_eq!(model.queued_tokens, mine().map(|asked| asked.tokens).sum());
            // What a lost device gives back may be beyond the bounds.
            if self.lost.is_empty() {
                assert!(model.queued_sequences <= bounds.queue_sequences_max);
                assert!(model.queued_tokens <= bounds.queue_tokens_max);
            }
            let batches =
                self.devices.iter().flatten().filter(|running| usize::from(running.batch.model.0) == index);
            assert_eq!(
                model.in_flight_sequences,
                batches.map(|running| running.batch.members.len()).sum::<usize>()
            );
        }
        for number in 0..self.config.models.len() {
            let (model, counts) = (ModelId(number as u16), &self.snapshot.models[number]);
            let has_work = counts.queued_sequences + counts.in_flight_sequences > 0;
            assert_eq!(
                self.scheduler.has_model(model),
                !self.removed.contains(&model) || has_work,
                "{model:?}"
            );
        }
        let is_idle = self.queued.is_empty() && self.devices.iter().all(VecDeque::is_empty);
        assert_eq!(self.scheduler.is_idle(), is_idle);
        let first = self.queued.values().map(|asked| asked.deadline).min();
        assert_eq!(self.scheduler.next_end(), first);
    }

    /// Callers and faults stop: everything ends.
    fn drain(&mut self) {
        self.options = Options { arrive: 0.0, burst: 0.0, cancel: 0.0, ..quiet() };
        let until = self.now + Duration::from_secs(20);
        while self.now < until && !self.scheduler.is_idle() {
            self.now = self.now + Duration::from_millis(2);
            self.complete();
            self.collect_ended();
            self.poll();
            self.collect_ended();
        }
        assert!(self.scheduler.is_idle(), "{} wait, {} open", self.queued.len(), self.open.len());
        self.check();
        assert!(self.open.is_empty(), "lost without an end: {:?}", self.open);
    }

    fn any_queued(&mut self) -> Option<SequenceId> {
        let nth = self.rng.random_range(0..self.queued.len().max(1));
        self.queued.keys().nth(nth).copied()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }
}

/// Devices differ: each next one is half as fast.
fn mean_time(device: usize, tokens: f64) -> Duration {
    Duration::from_secs_f64((0.001 + 2e-5 * tokens) * f64::from(1 << device))
}

fn quiet() -> Options {
    Options {
        arrive: 0.0,
        burst: 0.0,
        cancel: 0.0,
        fail: 0.0,
        lose: 0.0,
        change: 0.0,
        deadlines: false,
        tenants: 1,
        noise: 0.0,
        stall: 0.0,
        pause: Duration::from_millis(1),
    }
}

fn options(rng: &mut ChaCha8Rng) -> Options {
    let mut some = |chance: f64| if rng.random_bool(0.5) { chance * rng.random::<f64>() } else { 0.0 };
    let (burst, cancel, fail, lose) = (some(0.2), some(0.5), some(0.3), some(0.02));
    let (noise, stall, change) = (some(1.0), some(0.1), some(0.05));
    Options {
        arrive: rng.random::<f64>(),
        burst,
        cancel,
        fail,
        lose,
        change,
        deadlines: rng.random_bool(0.5),
        tenants: rng.random_range(1..8),
        noise,
        stall,
        pause: Duration::from_micros(rng.random_range(50..5000)),
    }
}

fn model_config(rng: &mut ChaCha8Rng) -> ModelConfig {
    ModelConfig {
        batch_tokens_max: Tokens(rng.random_range(50..300)),
        batch_sequences_max: rng.random_range(1..20),
        queue_sequences_max: rng.random_range(1..200),
        queue_tokens_max: Tokens(rng.random_range(300..3000)),
        latency_target: Duration::from_millis(rng.random_range(2..100)),
        is_target_hard: rng.random_bool(0.3),
        attention: if rng.random_bool(0.5) { 1.0 / 2304.0 } else { 0.0 },
    }
}

fn config(rng: &mut ChaCha8Rng) -> Config {
    let count = rng.random_range(1..=5);
    let models = (0..count).map(|_| model_config(rng)).collect();
    let policy = match rng.random_range(0..6) {
        0 => Policy::PreferredSize(PreferredSize {
            sequences: rng.random_range(1..20),
            queue_delay_max: Duration::from_millis(rng.random_range(0..20)),
        }),
        1 => Policy::TokenBudget(TokenBudget { tokens: Tokens(rng.random_range(16..300)) }),
        _ => Policy::Deadline(DeadlinePolicy {
            quantum: rng.random_range(0.1..1.0),
            quantum_max: rng.random_range(0.1..2.0),
            ..DeadlinePolicy::default()
        }),
    };
    Config { models, devices: rng.random_range(1..5), batches_in_flight_max: rng.random_range(1..3), policy }
}
