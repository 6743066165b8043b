//! What the calls in flight are predicted to take, and whether one more can be answered in time: asked before
//! any work is done for it, so that in overload a refusal costs nothing and the devices' time goes to calls
//! that are answered.
//!
//! A call's work is predicted by the bytes of its texts: all are read, at the rate of the threads that do it,
//! and those that can be computed are, at the rate of its model of late, and at first by what the devices
//! were measured to take for a token. What a caller has cut off of a text is read alone. The devices are
//! shared by weight between the tenants that have work, and no time is left unused: so a call is done at the
//! latest when all that is in flight is, and at the latest when its own tenant's work is, at the tenant's
//! share. The lesser of the two decides. A tenant with nothing in flight is never refused, so predictions
//! that were too high are found out.

use std::collections::HashMap;
use std::iter::Sum;
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
    /// Seconds that a call may be predicted to take in an overload.
    overload_wait_max: f64,
    devices: u32,
    /// Time between refusals that are answered.
    refusal_every: Duration,
}

#[derive(Debug)]
struct State {
    rates: Rates,
    tenants: HashMap<TenantId, Share>,
    all: Sums,
    /// Seconds of all calls in flight that others wait for in an overload.
    ahead: f64,
    /// When the next refusal may be answered.
    next_refusal: Timestamp,
}

/// Seconds that a byte takes.
#[derive(Debug)]
struct Rates {
    /// All threads, to read it.
    read: f64,
    /// All devices, to compute it, by model.
    computed: Vec<f64>,
}

/// Bytes of the texts of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// All.
    pub read: u64,
    /// Those that may be computed.
    pub computed: u64,
}

impl Bytes {
    /// Of a text of so many bytes, of which so many tokens are computed at most.
    pub fn of_text(bytes: usize, computed_tokens_max: usize) -> Self {
        let computed = (computed_tokens_max as f64 / TOKENS_PER_BYTE) as u64;
        Self { read: bytes as u64, computed: computed.min(bytes as u64) }
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            read: sum.read.saturating_add(one.read),
            computed: sum.computed.saturating_add(one.computed),
        })
    }
}

/// Bytes that are to be worked off: what they take is said by the rates of the present.
#[derive(Debug, Clone)]
struct Sums {
    read: f64,
    /// By model.
    computed: Vec<f64>,
}

#[derive(Debug)]
struct Share {
    weight: u32,
    work: Sums,
    /// As of all.
    ahead: f64,
    calls: usize,
    /// The model and the texts of its latest call.
    latest: (ModelId, Bytes),
}

/// A call's part in the load, until it is dropped.
#[derive(Debug)]
pub struct Part {
    load: Arc<Load>,
    model: ModelId,
    tenant: TenantId,
    bytes: Bytes,
    /// Bytes that are not read.
    unread: f64,
    /// Bytes that are not computed.
    uncomputed: f64,
    /// Its seconds that others wait for in an overload.
    ahead: f64,
    computed: Duration,
}

/// What is kept of a model; models may have come since there was room for all.
fn at(values: &mut Vec<f64>, model: ModelId) -> &mut f64 {
    let index = usize::from(model.0);
    if values.len() <= index {
        values.resize(index + 1, 0.0);
    }
    &mut values[index]
}

impl Sums {
    fn none(models: usize) -> Self {
        Self { read: 0.0, computed: vec![0.0; models] }
    }

    /// So many more to read and to compute for a model, or fewer. Sums of differences drift; what is below
    /// nothing is nothing.
    fn add(&mut self, model: ModelId, read: f64, computed: f64) {
        self.read = (self.read + read).max(0.0);
        let sum = at(&mut self.computed, model);
        *sum = (*sum + computed).max(0.0);
    }

    fn seconds(&self, rates: &Rates) -> f64 {
        let computed = self.computed.iter().zip(&rates.computed).map(|(bytes, rate)| bytes * rate);
        self.read * rates.read + computed.sum::<f64>()
    }
}

impl Rates {
    fn seconds(&self, model: ModelId, bytes: Bytes) -> f64 {
        let computed = self.computed.get(usize::from(model.0)).copied().unwrap_or(0.0);
        bytes.read as f64 * self.read + bytes.computed as f64 * computed
    }
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Time to its deadline.
    pub left: Duration,
    /// Not everybody can be answered, so whoever is taken is to be answered soon.
    pub is_overloaded: bool,
}

/// There is more in flight than can be done in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    /// When there should be less.
    pub retry_after: Duration,
    /// Seconds of a device that the call would have taken.
    pub seconds: f64,
    /// It could not be done by its deadline; else it would wait longer than anybody does in overload.
    pub is_infeasible: bool,
}

impl Load {
    /// No calls of models, for each of which a token takes so many seconds, on so many devices.
    pub fn new(
        token_seconds: impl IntoIterator<Item = f64>,
        devices: u32,
        limits: &config::Limits,
    ) -> Arc<Self> {
        let computed: Vec<f64> =
            token_seconds.into_iter().map(|seconds| byte_seconds(seconds, devices.max(1))).collect();
        let state = State {
            all: Sums::none(computed.len()),
            rates: Rates { read: 0.0, computed },
            tenants: HashMap::new(),
            ahead: 0.0,
            next_refusal: Timestamp::ZERO,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            share_max: limits.predicted_wait_share_max,
            overload_wait_max: limits.overload_wait_max_ms as f64 / 1e3,
            devices: devices.max(1),
            refusal_every: Duration::from_secs(1) / limits.refusals_per_second_max.max(1),
        })
    }

    /// One more model, for which a token takes so many seconds.
    pub fn add_model(&self, model: ModelId, token_seconds: f64) {
        *at(&mut self.state().rates.computed, model) = byte_seconds(token_seconds, self.devices);
    }

    /// Takes a call in, if it can be predicted to be done in time.
    ///
    /// # Errors
    /// It can not.
    pub fn enter(
        self: &Arc<Self>,
        (tenant, weight): (TenantId, u32),
        model: ModelId,
        bytes: Bytes,
        patience: Patience,
    ) -> Result<Part, Excess> {
        let mut state = self.state();
        let State { rates, tenants, all, ahead: all_ahead, .. } = &mut *state;
        let seconds = rates.seconds(model, bytes);
        let own = tenants.get(&tenant).map(|share| (share.work.seconds(rates), share.ahead));
        if let Some((own, own_ahead)) = own.filter(|(own, _)| *own > 0.0) {
            let others = tenants.iter().filter(|(other, _)| **other != tenant);
            let others: f64 = others.map(|(_, share)| f64::from(share.weight)).sum();
            let weight = f64::from(weight.max(1));
            let at_share = |own: f64| (own + seconds) * (weight + others) / weight;
            let in_time = patience.left.as_secs_f64() * self.share_max;
            let late = (all.seconds(rates) + seconds).min(at_share(own)) - in_time;
            let waits = (*all_ahead + seconds).min(at_share(own_ahead)) - self.overload_wait_max;
            let excess = if patience.is_overloaded { late.max(waits) } else { late };
            if excess > 0.0 {
                let retry_after = Duration::try_from_secs_f64(excess).unwrap_or(Duration::MAX);
                let retry_after = retry_after.clamp(RETRY_MIN, RETRY_MAX);
                let seconds = seconds * f64::from(self.devices);
                return Err(Excess { retry_after, seconds, is_infeasible: late > 0.0 });
            }
        }
        let ahead = seconds.min(self.overload_wait_max * AHEAD_SHARE_MAX);
        let (unread, uncomputed) = (bytes.read as f64, bytes.computed as f64);
        all.add(model, unread, uncomputed);
        let latest = (model, bytes);
        let none = || Share { weight, work: Sums::none(rates.computed.len()), ahead: 0.0, calls: 0, latest };
        let share = tenants.entry(tenant).or_insert_with(none);
        *all_ahead += ahead;
        share.ahead += ahead;
        (share.weight, share.latest) = (weight.max(1), latest);
        share.work.add(model, unread, uncomputed);
        share.calls += 1;
        let load = Arc::clone(self);
        Ok(Part { load, model, tenant, bytes, unread, uncomputed, ahead, computed: Duration::ZERO })
    }

    /// What a call that is refused unread would have asked for, if it is like its tenant's latest: the model
    /// and seconds of a device. None if nothing of the tenant is in flight.
    pub fn like_latest(&self, tenant: TenantId) -> Option<(ModelId, f64)> {
        let state = self.state();
        let (model, bytes) = state.tenants.get(&tenant)?.latest;
        let seconds = state.rates.seconds(model, bytes) * f64::from(self.devices);
        Some((model, seconds))
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

/// Seconds that so many devices take for a byte.
fn byte_seconds(token_seconds: f64, devices: u32) -> f64 {
    token_seconds * TOKENS_PER_BYTE / f64::from(devices)
}

/// What was not used of the time for refusals is kept for so long, and a refusal waits no longer than this.
const REFUSALS_BURST: Duration = Duration::from_millis(100);
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(3);
/// What others wait for one call in an overload, of the time that anybody may wait then: a call that takes
/// longer is passed by shorter ones, so one of thousand texts does not turn away a single text.
const AHEAD_SHARE_MAX: f64 = 0.25;
/// Shortest and longest hint to a refused caller.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Part {
    /// Bytes of the call's texts.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// The texts are read, as all threads read so many bytes in this time of late.
    pub fn prepared(&mut self, time: Duration) {
        if self.bytes.read >= LEARN_BYTES_MIN {
            self.load.state().rates.read = time.as_secs_f64() / self.bytes.read as f64;
        }
        self.take_off(self.unread, 0.0);
    }

    /// A device worked on it for so long, and this much of it is left to do, from 1 to 0.
    pub fn computed(&mut self, time: Duration, share: f64) {
        self.computed += time;
        let left = self.bytes.computed as f64 * share.clamp(0.0, 1.0);
        self.take_off(0.0, (self.uncomputed - left).max(0.0));
    }

    /// The call is worked off.
    pub fn done(&self) {
        if self.bytes.computed < LEARN_BYTES_MIN {
            return;
        }
        let seconds = self.computed.as_secs_f64() / f64::from(self.load.devices);
        let (bytes, mut state) = (self.bytes.computed as f64, self.load.state());
        if let Some(rate) = state.rates.computed.get_mut(usize::from(self.model.0)) {
            *rate += (seconds / bytes - *rate) * (bytes / (bytes + LEARN_BYTES)).min(0.2);
        }
    }

    fn take_off(&mut self, read: f64, computed: f64) {
        self.unread -= read;
        self.uncomputed -= computed;
        let mut state = self.load.state();
        state.all.add(self.model, -read, -computed);
        if let Some(share) = state.tenants.get_mut(&self.tenant) {
            share.work.add(self.model, -read, -computed);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.take_off(self.unread, self.uncomputed);
        let mut state = self.load.state();
        // Sums of differences drift.
        state.ahead = (state.ahead - self.ahead).max(0.0);
        if let Some(share) = state.tenants.get_mut(&self.tenant) {
            share.ahead = (share.ahead - self.ahead).max(0.0);
            share.calls -= 1;
            if share.calls == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
        if state.tenants.is_empty() {
            state.all = Sums::none(state.rates.computed.len());
            state.ahead = 0.0;
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

    const PATIENT: Patience = within(1);

    const fn within(seconds: u64) -> Patience {
        Patience { left: Duration::from_secs(seconds), is_overloaded: false }
    }

    fn bytes(count: u64) -> Bytes {
        Bytes { read: count, computed: count }
    }

    /// A load of a model that takes a millisecond a byte.
    fn load() -> Arc<Load> {
        let limits = config::Limits {
            predicted_wait_share_max: 0.5,
            refusals_per_second_max: 100,
            ..config::Limits::default()
        };
        let load = Load::new([0.01], 2, &limits);
        let mut part = load.enter(ONE, MODEL, bytes(10_000), PATIENT).unwrap();
        part.computed(Duration::from_secs(20), 0.0);
        part.done();
        drop(part);
        // A short text takes long for its length, and is not learned from.
        let mut part = load.enter(ONE, MODEL, bytes(10), PATIENT).unwrap();
        part.computed(Duration::from_secs(1), 0.0);
        part.done();
        drop(part);
        load
    }

    #[test]
    fn what_cannot_be_done_in_time_is_refused() {
        let load = load();
        let enter = |tenant, count, seconds| load.enter(tenant, MODEL, bytes(count), within(seconds));
        // Whoever has nothing in flight is taken, whatever is predicted.
        let first = enter(ONE, 9000, 1).unwrap();
        let retry_after = Duration::from_millis(500);
        let refused = Excess { retry_after, seconds: 2.0, is_infeasible: true };
        assert_eq!(enter(ONE, 1000, 19).unwrap_err(), refused);
        let second = enter(ONE, 1000, 20).unwrap();
        assert!((load.seconds() - 10.0).abs() < 1e-9);
        drop((first, second));
        assert_eq!(load.seconds(), 0.0);
        enter(ONE, 1000, 3).unwrap();
    }

    /// A second is in flight, and in overload nobody waits for more than one.
    #[test]
    fn in_overload_whoever_is_taken_is_answered_soon() {
        let load = load();
        let _first: Vec<_> =
            (0..10).map(|_| load.enter(ONE, MODEL, bytes(100), within(100)).unwrap()).collect();
        let long = Patience { left: Duration::from_secs(100), is_overloaded: true };
        let refused = load.enter(ONE, MODEL, bytes(100), long).unwrap_err();
        assert!(!refused.is_infeasible && (refused.seconds - 0.2).abs() < 1e-9, "{refused:?}");
        assert_eq!(refused.retry_after, RETRY_MIN);
        // Of equal tenants this one's share takes a fifth of a second.
        let second = load.enter((TenantId(3), 1), MODEL, bytes(100), long).unwrap();
        assert!(load.enter((TenantId(3), 1), MODEL, bytes(300), long).is_ok());
        drop(second);
        assert!(load.enter(ONE, MODEL, bytes(100), Patience { is_overloaded: false, ..long }).is_ok());
    }

    /// Who is refused for want of a place was not read: it is taken to ask for what its tenant asked for
    /// last.
    #[test]
    fn what_is_refused_unread_is_like_the_latest() {
        let (load, other) = (load(), ModelId(1));
        load.add_model(other, 0.04);
        assert_eq!(load.like_latest(ONE.0), None);
        let first = load.enter(ONE, MODEL, bytes(2000), PATIENT).unwrap();
        let (model, seconds) = load.like_latest(ONE.0).unwrap();
        // A millisecond a byte on two devices together.
        assert!(model == MODEL && (seconds - 4.0).abs() < 1e-9, "{seconds}");
        // A fifth of a token a byte.
        let second = load.enter(ONE, other, bytes(1000), within(60)).unwrap();
        let (model, seconds) = load.like_latest(ONE.0).unwrap();
        assert!(model == other && (seconds - 8.0).abs() < 1e-9, "{seconds}");
        assert_eq!(load.like_latest(EIGHT.0), None);
        drop((first, second));
        assert_eq!(load.like_latest(ONE.0), None);
    }

    /// One call of 20 s is passed by shorter ones; four of them are an overload of their own.
    #[test]
    fn in_overload_one_large_call_turns_nobody_away() {
        let load = load();
        let long = Patience { left: Duration::from_secs(200), is_overloaded: true };
        let large = || load.enter(ONE, MODEL, bytes(20_000), within(200)).unwrap();
        let first = large();
        drop(load.enter(ONE, MODEL, bytes(100), long).unwrap());
        let _others = [large(), large(), large()];
        assert!(!load.enter(ONE, MODEL, bytes(100), long).unwrap_err().is_infeasible);
        drop(first);
        drop(load.enter(ONE, MODEL, bytes(100), long).unwrap());
    }

    #[test]
    fn a_tenant_is_held_to_its_share_and_others_are_not_held_up_by_it() {
        let load = load();
        let enter = |tenant, count, seconds| load.enter(tenant, MODEL, bytes(count), within(seconds));
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
        let rate = |prior: f64, count: u64, calls: u64| {
            let load = Load::new([prior], 1, &config::Limits::default());
            for _ in 0..calls {
                let mut part = load.enter(ONE, MODEL, bytes(count), PATIENT).unwrap();
                part.computed(Duration::from_millis(count), 0.0);
                part.done();
            }
            load.state().rates.computed[0]
        };
        // A token of 5 bytes takes 5 ms, as it turns out; or its time was not known.
        assert!((rate(0.005, 2000, 0) - 0.001).abs() < 1e-12);
        assert!((rate(0.005, 2000, 9) - 0.001).abs() < 1e-12);
        assert!((rate(0.0, 1_000_000, 1) - 0.0002).abs() < 1e-12);
        assert!((rate(0.0, 1_000_000, 60) - 0.001).abs() < 1e-5);
    }

    #[test]
    fn models_come_later() {
        let (load, later) = (load(), ModelId(3));
        load.add_model(later, 0.01);
        let patience = Patience { left: Duration::from_secs(60), is_overloaded: false };
        let part = load.enter(ONE, later, bytes(9000), patience).unwrap();
        // A fifth of a token a byte, on two devices.
        assert!((load.seconds() - 9.0).abs() < 1e-9);
        drop(part);
        assert_eq!(load.seconds(), 0.0);
    }

    #[test]
    fn what_is_cut_off_is_read_alone() {
        let cases = [((2_000_000, 256), 1280), ((100, 256), 100), ((2_000_000, 0), 0)];
        for ((length, tokens_max), computed) in cases {
            assert_eq!(Bytes::of_text(length, tokens_max), Bytes { read: length as u64, computed });
        }
        // A second a byte of the model and a microsecond a byte to read.
        let load = Load::new([5.0], 1, &config::Limits::default());
        let one = Bytes { read: 1_000_000, computed: 10 };
        let mut part = load.enter(ONE, MODEL, one, PATIENT).unwrap();
        assert!((load.seconds() - 10.0).abs() < 1e-9);
        part.prepared(Duration::from_secs(1));
        assert!((load.seconds() - 10.0).abs() < 1e-9, "it is read");
        let _other = load.enter(ONE, MODEL, one, within(60)).unwrap();
        assert!((load.seconds() - 21.0).abs() < 1e-9, "{}", load.seconds());
    }

    #[test]
    fn what_is_done_is_taken_off() {
        let load = load();
        let mut part = load.enter(ONE, MODEL, bytes(10_000), PATIENT).unwrap();
        part.computed(Duration::from_secs(1), 0.25);
        assert!((load.seconds() - 2.5).abs() < 1e-9);
        part.computed(Duration::from_secs(1), 0.0);
        assert!(load.seconds().abs() < 1e-9);
        drop(part);
        assert!(load.state().tenants.is_empty());
    }
}
