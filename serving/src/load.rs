//! What the calls in flight are predicted to take, and whether one more can be answered in time: asked before
//! any work is done for it, so that in overload a refusal costs nothing and the devices' time goes to calls
//! that are answered.
//!
//! A call's work is predicted by the bytes of its texts, at the rate at which calls of its model were worked
//! off of late, and at first by what the devices were measured to take for a token. The devices are shared by
//! weight between the tenants that have work, and no time is left unused: so a call is done at the latest
//! when all that is in flight is, and at the latest when its own tenant's work is, at the tenant's share. The
//! lesser of the two decides. A tenant with nothing in flight is never refused, so predictions that were too
//! high are found out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use units::{ModelId, TenantId, Timestamp};

use crate::config;

/// Weight of a call in the mean of rates, by its bytes: so many bytes make half of it.
const LEARN_BYTES: f64 = 16_384.0;
/// Tokens of a byte of English, before calls have shown what a model's texts are like.
const TOKENS_PER_BYTE: f64 = 0.2;
/// Calls with fewer bytes say nothing of the rate: what a batch takes beside its work is most of what they
/// take.
const LEARN_BYTES_MIN: u64 = 1024;

/// Windows of one call that the scheduler may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightMax {
    pub sequences: usize,
    /// Their tokens; a longer window is given alone.
    pub tokens: u64,
}

/// The calls in flight.
#[derive(Debug)]
pub struct Load {
    state: Mutex<State>,
    /// The share of the time to its deadline that a call may be predicted to take.
    share_max: f64,
    devices: u32,
    /// Time between refusals that are answered.
    refusal_every: Duration,
}

#[derive(Debug)]
struct State {
    /// Seconds that a byte takes all devices and threads, by model.
    rates: Vec<f64>,
    tenants: HashMap<TenantId, Share>,
    all: Bytes,
    /// When the next refusal may be answered.
    next_refusal: Timestamp,
}

/// Bytes of text that are to be worked off, by model: what they take is said by the rates of the present.
#[derive(Debug, Clone)]
struct Bytes(Vec<f64>);

#[derive(Debug)]
struct Share {
    weight: u32,
    work: Bytes,
    calls: usize,
}

/// A call's part in the load, until it is dropped.
#[derive(Debug)]
pub struct Part {
    load: Arc<Load>,
    model: ModelId,
    tenant: TenantId,
    bytes: u64,
    /// Bytes that are not worked off.
    left: f64,
    computed: Duration,
}

impl Bytes {
    fn none(models: usize) -> Self {
        Self(vec![0.0; models])
    }

    /// So many more for a model, or fewer. Sums of differences drift; what is below nothing is nothing.
    fn add(&mut self, model: ModelId, bytes: f64) {
        if let Some(sum) = self.0.get_mut(usize::from(model.0)) {
            *sum = (*sum + bytes).max(0.0);
        }
    }

    fn seconds(&self, rates: &[f64]) -> f64 {
        self.0.iter().zip(rates).map(|(bytes, rate)| bytes * rate).sum()
    }
}

/// There is more in flight than can be done in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// When there should be less.
    pub retry_after: Duration,
}

impl Load {
    /// No calls of models, for each of which a token takes so many seconds, on so many devices.
    pub fn new(
        token_seconds: impl IntoIterator<Item = f64>,
        devices: u32,
        limits: &config::Limits,
    ) -> Arc<Self> {
        let per_byte = TOKENS_PER_BYTE / f64::from(devices.max(1));
        let rates: Vec<f64> = token_seconds.into_iter().map(|seconds| seconds * per_byte).collect();
        let state = State {
            all: Bytes::none(rates.len()),
            rates,
            tenants: HashMap::new(),
            next_refusal: Timestamp::ZERO,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            share_max: limits.predicted_wait_share_max,
            devices: devices.max(1),
            refusal_every: Duration::from_secs(1) / limits.refusals_per_second_max.max(1),
        })
    }

    /// Takes a call in, if it can be predicted to be done within `left`.
    ///
    /// # Errors
    /// It can not.
    pub fn enter(
        self: &Arc<Self>,
        (tenant, weight): (TenantId, u32),
        model: ModelId,
        bytes: u64,
        left: Duration,
    ) -> Result<Part, Excess> {
        let mut state = self.state();
        let State { rates, tenants, all, .. } = &mut *state;
        let own = tenants.get(&tenant).map_or(0.0, |share| share.work.seconds(rates));
        if own > 0.0 {
            let others = tenants.iter().filter(|(other, _)| **other != tenant);
            let others: f64 = others.map(|(_, share)| f64::from(share.weight)).sum();
            let weight = f64::from(weight.max(1));
            let seconds = rates.get(usize::from(model.0)).copied().unwrap_or(0.0) * bytes as f64;
            let at_share = (own + seconds) * (weight + others) / weight;
            let predicted = (all.seconds(rates) + seconds).min(at_share);
            let allowed = left.as_secs_f64() * self.share_max;
            if predicted > allowed {
                let retry_after = Duration::try_from_secs_f64(predicted - allowed).unwrap_or(Duration::MAX);
                return Err(Excess { retry_after: retry_after.clamp(RETRY_MIN, RETRY_MAX) });
            }
        }
        all.add(model, bytes as f64);
        let none = || Share { weight, work: Bytes::none(rates.len()), calls: 0 };
        let share = tenants.entry(tenant).or_insert_with(none);
        share.weight = weight.max(1);
        share.work.add(model, bytes as f64);
        share.calls += 1;
        Ok(Part {
            load: Arc::clone(self),
            model,
            tenant,
            bytes,
            left: bytes as f64,
            computed: Duration::ZERO,
        })
    }

    /// How long the answer of a call that is refused for want of capacity waits: so many a second are
    /// answered at once, and a burst of as many as a tenth of a second brings. A caller who comes again at
    /// once is slowed down by it, one who heeds `Retry-After` is not.
    pub fn refusal_wait(&self, now: Timestamp) -> Duration {
        let mut state = self.state();
        let at = state.next_refusal.max(now - REFUSALS_BURST);
        let wait = at.saturating_duration_since(now);
        if wait >= REFUSAL_WAIT_MAX {
            return REFUSAL_WAIT_MAX;
        }
        state.next_refusal = at + self.refusal_every;
        wait
    }

    /// Predicted seconds of all calls in flight.
    pub fn seconds(&self) -> f64 {
        let state = self.state();
        state.all.seconds(&state.rates)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was not used of the time for refusals is kept for so long, and a refusal waits no longer than this.
const REFUSALS_BURST: Duration = Duration::from_millis(100);
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(3);
/// Shortest and longest hint to a refused caller.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Part {
    /// Bytes of the call's texts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A device worked on it for so long, and this much of it is left to do, from 1 to 0.
    pub fn computed(&mut self, time: Duration, share: f64) {
        self.computed += time;
        let left = self.bytes as f64 * share.clamp(0.0, 1.0);
        self.take_off((self.left - left).max(0.0));
    }

    /// The call is worked off; to prepare it, all threads took so many seconds.
    pub fn done(&self, prepared: f64) {
        let seconds = self.computed.as_secs_f64() / f64::from(self.load.devices) + prepared;
        if self.bytes < LEARN_BYTES_MIN || !seconds.is_finite() {
            return;
        }
        let (bytes, mut state) = (self.bytes as f64, self.load.state());
        if let Some(rate) = state.rates.get_mut(usize::from(self.model.0)) {
            *rate += (seconds / bytes - *rate) * (bytes / (bytes + LEARN_BYTES)).min(0.2);
        }
    }

    fn take_off(&mut self, bytes: f64) {
        self.left -= bytes;
        let mut state = self.load.state();
        state.all.add(self.model, -bytes);
        if let Some(share) = state.tenants.get_mut(&self.tenant) {
            share.work.add(self.model, -bytes);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.take_off(self.left);
        let mut state = self.load.state();
        if let Some(share) = state.tenants.get_mut(&self.tenant) {
            share.calls -= 1;
            if share.calls == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
        if state.tenants.is_empty() {
            state.all = Bytes::none(state.rates.len());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MODEL: ModelId = ModelId(0);
    const ONE: (TenantId, u32) = (TenantId(1), 1);
    const EIGHT: (TenantId, u32) = (TenantId(2), 8);

    /// A load of a model that takes a millisecond a byte.
    fn load() -> Arc<Load> {
        let limits = config::Limits {
            predicted_wait_share_max: 0.5,
            refusals_per_second_max: 100,
            ..config::Limits::default()
        };
        let load = Load::new([0.01], 2, &limits);
        let mut part = load.enter(ONE, MODEL, 10_000, Duration::from_secs(1)).unwrap();
        part.computed(Duration::from_secs(18), 0.0);
        part.done(1.0);
        drop(part);
        // A short text takes long for its length, and is not learned from.
        let mut part = load.enter(ONE, MODEL, 10, Duration::from_secs(1)).unwrap();
        part.computed(Duration::from_secs(1), 0.0);
        part.done(1.0);
        drop(part);
        load
    }

    #[test]
    fn what_cannot_be_done_in_time_is_refused() {
        let load = load();
        let enter = |tenant, bytes, seconds| load.enter(tenant, MODEL, bytes, Duration::from_secs(seconds));
        // Whoever has nothing in flight is taken, whatever is predicted.
        let first = enter(ONE, 9000, 1).unwrap();
        assert_eq!(enter(ONE, 1000, 19).unwrap_err(), Excess { retry_after: Duration::from_millis(500) });
        let second = enter(ONE, 1000, 20).unwrap();
        assert!((load.seconds() - 10.0).abs() < 1e-9);
        drop((first, second));
        assert_eq!(load.seconds(), 0.0);
        enter(ONE, 1000, 3).unwrap();
    }

    #[test]
    fn a_tenant_is_held_to_its_share_and_others_are_not_held_up_by_it() {
        let load = load();
        let enter = |tenant, bytes, seconds| load.enter(tenant, MODEL, bytes, Duration::from_secs(seconds));
        let _hog = enter(ONE, 60_000, 30).unwrap();
        // 60 s are in flight, but eight ninths of the devices are this one's: two seconds take 2.25.
        let _first = enter(EIGHT, 1000, 5).unwrap();
        let _second = enter(EIGHT, 1000, 5).unwrap();
        assert!(enter(EIGHT, 1000, 5).is_err());
        assert!(enter(ONE, 1000, 100).is_err());
    }

    #[test]
    fn refusals_are_answered_at_a_rate() {
        let (load, now) = (load(), Timestamp::ZERO + Duration::from_secs(9));
        let waits: Vec<u128> = (0..400).map(|_| load.refusal_wait(now).as_millis()).collect();
        // Ten at once and then one every 10 ms, none later than in three seconds.
        let expected = (0..400u128).map(|i| (i * 10).saturating_sub(100).min(3000));
        assert_eq!(waits, expected.collect::<Vec<_>>());
        assert_eq!(load.refusal_wait(now + Duration::from_secs(4)), Duration::ZERO);
    }

    #[test]
    fn rates_are_learned_from_calls() {
        let rate = |prior: f64, bytes: u64, calls: u64| {
            let load = Load::new([prior], 1, &config::Limits::default());
            for _ in 0..calls {
                let mut part = load.enter(ONE, MODEL, bytes, Duration::from_secs(1)).unwrap();
                part.computed(Duration::from_millis(bytes), 0.0);
                part.done(0.0);
            }
            load.state().rates[0]
        };
        // A token of 5 bytes takes 5 ms, as it turns out; or its time was not known.
        assert!((rate(0.005, 2000, 0) - 0.001).abs() < 1e-12);
        assert!((rate(0.005, 2000, 9) - 0.001).abs() < 1e-12);
        assert!((rate(0.0, 1_000_000, 1) - 0.0002).abs() < 1e-12);
        assert!((rate(0.0, 1_000_000, 60) - 0.001).abs() < 1e-5);
    }

    #[test]
    fn what_is_done_is_taken_off() {
        let load = load();
        let mut part = load.enter(ONE, MODEL, 10_000, Duration::from_secs(1)).unwrap();
        part.computed(Duration::from_secs(1), 0.25);
        assert!((load.seconds() - 2.5).abs() < 1e-9);
        part.computed(Duration::from_secs(1), 0.0);
        assert!(load.seconds().abs() < 1e-9);
        drop(part);
        assert!(load.state().tenants.is_empty());
    }
}
