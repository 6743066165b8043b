//! From the load of all servers to the number of servers.
//!
//! With `A_6` and `A_60` the device seconds asked for by the second in the last 6 and 60 s, `W` the device
//! seconds that wait, `C` the cold start, `c` the devices of a server and `u` the share of them that should
//! be used:
//!
//! ```text
//! A+      = max(A_6, A_60) + C * damped slope + sigma
//! W'      = W + C * max(0, A_6 - c * ready)
//! desired = ceil(max(A+ / u, A_6 + W' / drain target) / c), within bounds,
//!           and one more than are ready while fewer than 99 % are in time
//! ```
//!
//! More servers are asked for when two readings in a row say so, or at once when twice as much is asked for
//! as should be (the panic mode of Knative's autoscaler,
//! <https://knative.dev/docs/serving/autoscaling/kpa-specific>). Fewer are asked for one by one, and only as
//! few as the most that any reading of the last five minutes called for, as the stabilisation window of
//! Kubernetes' horizontal pod autoscaler does it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use units::Timestamp;

use super::Load;

/// The windows of demand.
const SHORT: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);
/// The window of attainment.
const ATTAINMENT: Duration = Duration::from_secs(10);
/// Requests in it from which on it counts: 1 % of fewer is no request.
const ATTAINMENT_REQUESTS_MIN: f64 = 100.0;
/// How much of the slope of the last minute is believed to go on.
const SLOPE_DAMPING: f64 = 0.5;
/// Demand over what should be asked of the servers that are ready, from which on there is no waiting.
const PANIC: f64 = 2.0;
/// How many standard deviations of the demand from its trend are expected on top.
const SIGMAS: f64 = 1.0;
/// How long there is no going down after a panic.
const PANIC_TIME: Duration = Duration::from_secs(60);
/// One server fewer must leave this much of the utilization's target free.
const DOWN_MARGIN: f64 = 0.85;

/// How servers are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingConfig {
    /// Fewest servers.
    pub replicas_min: u32,
    /// Most servers.
    pub replicas_max: u32,
    /// Devices of a server.
    pub devices_per_replica: u32,
    /// Share of its devices' time that a server should be asked for.
    pub utilization_target: f64,
    /// What waits should be computed within this time.
    pub drain_target: Duration,
    /// From asking for a server to its being ready.
    pub cold_start: Duration,
    /// How far back the most servers called for are looked for before there are fewer.
    pub stabilization: Duration,
    /// The least time between two steps down.
    pub down_period: Duration,
    /// Share of requests that should be in time.
    pub attainment_min: f64,
}

impl Default for ScalingConfig {
    fn default() -> Self {
        Self {
            replicas_min: 2,
            replicas_max: 8,
            devices_per_replica: 1,
            utilization_target: 0.7,
            drain_target: Duration::from_secs(30),
            cold_start: Duration::from_secs(30),
            stabilization: Duration::from_secs(300),
            down_period: Duration::from_secs(60),
            attainment_min: 0.99,
        }
    }
}

/// Why so many servers are desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// As many as before.
    Steady,
    /// What is asked for needs more.
    Demand,
    /// What waits needs more.
    Backlog,
    /// Too few requests are in time.
    Attainment,
    /// Twice as much is asked for as should be.
    Panic,
    /// Fewer are enough, and were for a while.
    Down,
}

/// What there is to scale on, at one moment, of all servers together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Signals {
    /// Servers that should be there.
    pub desired_replicas: u32,
    pub reason: Reason,
    /// Servers that are ready.
    pub ready_replicas: u32,
    /// Device seconds asked for by the second, of late, refused ones included.
    pub offered_6s: f64,
    /// The same over a minute.
    pub offered_60s: f64,
    /// The same as it is expected to be, at most, when a server asked for now is ready.
    pub offered_expected: f64,
    /// Device seconds that wait.
    pub queued_seconds: f64,
    pub queued_requests: u64,
    pub queued_tokens: u64,
    /// How long it will take the ready servers to compute what waits, in seconds.
    pub drain_seconds: f64,
    /// Share of the sequences of the last 6 s that were refused or dropped for want of capacity.
    pub shed_ratio: f64,
    /// The same, by the second.
    pub shed_per_second: f64,
    /// Share of the ready servers' devices that computed in the last 6 s.
    pub busy_ratio: f64,
    /// Share of the requests of the last 10 s that were in time; none if there were hardly any.
    pub attainment: Option<f64>,
}

#[derive(Debug)]
pub struct Autoscaler {
    config: ScalingConfig,
    readings: VecDeque<(Timestamp, Load)>,
    /// Servers called for, of late.
    called_for: VecDeque<(Timestamp, u32)>,
    desired: Option<u32>,
    down_at: Timestamp,
    panic_until: Timestamp,
}

/// Demand as seen in the readings.
struct Demand {
    short: f64,
    long: f64,
    expected: f64,
}

impl Autoscaler {
    /// One that knows nothing yet.
    pub fn new(config: ScalingConfig) -> Self {
        Self {
            config,
            readings: VecDeque::new(),
            called_for: VecDeque::new(),
            desired: None,
            down_at: Timestamp::ZERO,
            panic_until: Timestamp::ZERO,
        }
    }

    /// Takes a reading of all servers together, and says what is desired. To be called every 2 s or so.
    pub fn observe(&mut self, now: Timestamp, load: &Load) -> Signals {
        self.readings.push_back((now, *load));
        while self.readings.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= LONG) {
            self.readings.pop_front();
        }
        let demand = self.demand(now);
        let attainment = self.attainment(now);
        let (called_for, reason) = self.call_for(&demand, load, attainment);
        let reason = self.decide(now, called_for, reason, &demand, load.ready);
        self.signals(now, reason, &demand, load, attainment)
    }

    fn demand(&self, now: Timestamp) -> Demand {
        let (short, long) =
            (self.mean(now, SHORT, |load| load.offered), self.mean(now, LONG, |load| load.offered));
        let (slope, sigma) = self.trend(now);
        let rise = self.config.cold_start.as_secs_f64() * (SLOPE_DAMPING * slope).max(0.0);
        Demand { short, long, expected: short.max(long) + rise + SIGMAS * sigma }
    }

    /// The servers that the formula calls for, and what makes them so many.
    fn call_for(&self, demand: &Demand, load: &Load, attainment: Option<f64>) -> (u32, Reason) {
        let config = &self.config;
        let per_replica = f64::from(config.devices_per_replica.max(1));
        let missing = (demand.short - per_replica * f64::from(load.ready)).max(0.0);
        let waiting = load.queued_seconds + config.cold_start.as_secs_f64() * missing;
        let by_demand = demand.expected / config.utilization_target;
        let by_backlog = demand.short + waiting / config.drain_target.as_secs_f64();
        let reason = if by_demand >= by_backlog { Reason::Demand } else { Reason::Backlog };
        // Saturates: a number of servers that no integer holds is above the bound anyway.
        let formula = (by_demand.max(by_backlog) / per_replica).ceil() as u32;
        let bounded = |replicas: u32| replicas.clamp(config.replicas_min, config.replicas_max);
        let one_more = bounded(load.ready.saturating_add(1));
        if attainment.is_some_and(|share| share < config.attainment_min) && one_more > bounded(formula) {
            return (one_more, Reason::Attainment);
        }
        (bounded(formula), reason)
    }

    /// Changes what is desired, if it is time to.
    fn decide(
        &mut self,
        now: Timestamp,
        called_for: u32,
        reason: Reason,
        demand: &Demand,
        ready: u32,
    ) -> Reason {
        let config = &self.config;
        let per_replica = f64::from(config.devices_per_replica.max(1)) * config.utilization_target;
        let bounded = ready.clamp(config.replicas_min, config.replicas_max);
        // What was before is not known: it is taken to have called for what there is.
        let desired = *self.desired.get_or_insert_with(|| {
            self.called_for.push_back((now, bounded));
            bounded
        });
        let before = self.called_for.back().map_or(desired, |(_, before)| *before);
        self.called_for.push_back((now, called_for));
        while self
            .called_for
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > config.stabilization)
        {
            self.called_for.pop_front();
        }
        let is_panic = ready > 0 && demand.short >= PANIC * per_replica * f64::from(ready);
        if is_panic {
            self.panic_until = now + PANIC_TIME;
        }
        let up = if is_panic { called_for } else { called_for.min(before) };
        if up > desired {
            self.desired = Some(up);
            return if is_panic { Reason::Panic } else { reason };
        }
        let most = self.called_for.iter().map(|(_, replicas)| *replicas).max().unwrap_or(desired);
        let is_due = now >= self.down_at + config.down_period && now >= self.panic_until;
        let fewer = f64::from(desired.saturating_sub(1));
        if most < desired && is_due && demand.expected <= DOWN_MARGIN * per_replica * fewer {
            self.down_at = now;
            self.desired = Some(desired - 1);
            return Reason::Down;
        }
        Reason::Steady
    }

    fn signals(
        &self,
        now: Timestamp,
        reason: Reason,
        demand: &Demand,
        load: &Load,
        attainment: Option<f64>,
    ) -> Signals {
        let devices = f64::from(load.ready) * f64::from(self.config.devices_per_replica.max(1));
        let of_devices = |value: f64| if devices > 0.0 { value / devices } else { 0.0 };
        let shed = self.mean(now, SHORT, |load| load.shed);
        let arrived = self.mean(now, SHORT, |load| load.arrived);
        Signals {
            desired_replicas: self.desired.unwrap_or(self.config.replicas_min),
            reason,
            ready_replicas: load.ready,
            offered_6s: demand.short,
            offered_60s: demand.long,
            offered_expected: demand.expected,
            queued_seconds: load.queued_seconds,
            queued_requests: load.queued_requests,
            queued_tokens: load.queued_tokens,
            drain_seconds: of_devices(load.queued_seconds),
            shed_ratio: if arrived > 0.0 { shed / arrived } else { 0.0 },
            shed_per_second: shed,
            busy_ratio: of_devices(self.mean(now, SHORT, |load| load.computed)),
            attainment,
        }
    }

    fn attainment(&self, now: Timestamp) -> Option<f64> {
        let in_time = self.mean(now, ATTAINMENT, |load| load.in_time);
        let ended = in_time + self.mean(now, ATTAINMENT, |load| load.late);
        let is_enough = ended * ATTAINMENT.as_secs_f64() >= ATTAINMENT_REQUESTS_MIN;
        is_enough.then(|| in_time / ended)
    }

    /// Mean over the readings of a window.
    fn mean(&self, now: Timestamp, window: Duration, of: impl Fn(&Load) -> f64) -> f64 {
        let within = |(at, _): &&(Timestamp, Load)| now.saturating_duration_since(*at) < window;
        let (mut sum, mut count) = (0.0, 0.0f64);
        for (_, load) in self.readings.iter().rev().take_while(within) {
            sum += of(load);
            count += 1.0;
        }
        sum / count.max(1.0)
    }

    /// Slope of the demand over the readings, by the second, and its standard deviation from that line.
    fn trend(&self, now: Timestamp) -> (f64, f64) {
        let count = self.readings.len() as f64;
        // Two points lie on a line, and three nearly.
        if count < 5.0 {
            return (0.0, 0.0);
        }
        let points = || {
            let age = |at: Timestamp| now.saturating_duration_since(at).as_secs_f64();
            self.readings.iter().map(move |(at, load)| (-age(*at), load.offered))
        };
        let (x, y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
        let (xx, xy) = points().fold((0.0, 0.0), |(xx, xy), point| {
            (xx + (point.0 - x).powi(2), xy + (point.0 - x) * (point.1 - y))
        });
        let slope = if xx > 0.0 { xy / xx } else { 0.0 };
        let squares: f64 = points().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
        (slope, (squares / (count - 2.0)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: u64 = 2;

    fn config() -> ScalingConfig {
        ScalingConfig { devices_per_replica: 8, ..ScalingConfig::default() }
    }

    /// An autoscaler that is run from second to second, with a number of ready servers that follows what is
    /// desired after the cold start.
    struct Run {
        autoscaler: Autoscaler,
        second: u64,
        ready: u32,
        desired: VecDeque<u32>,
        last: Option<Signals>,
    }

    impl Run {
        fn new(ready: u32) -> Self {
            let autoscaler = Autoscaler::new(config());
            Self { autoscaler, second: 0, ready, desired: VecDeque::new(), last: None }
        }

        fn go(&mut self, seconds: u64, load: impl Fn(u64) -> Load) -> Vec<(u64, u32)> {
            let mut changes = Vec::new();
            for _ in 0..seconds / TICK {
                let now = Timestamp::ZERO + Duration::from_secs(self.second);
                let signals = self.autoscaler.observe(now, &Load { ready: self.ready, ..load(self.second) });
                if self.last.is_some_and(|last| last.desired_replicas != signals.desired_replicas) {
                    changes.push((self.second, signals.desired_replicas));
                }
                self.last = Some(signals);
                self.desired.push_back(signals.desired_replicas);
                if self.desired.len() > 15 {
                    let started = self.desired.pop_front().unwrap_or(self.ready);
                    self.ready = started.min(signals.desired_replicas);
                }
                self.second += TICK;
            }
            changes
        }
    }

    fn offered(offered: f64) -> Load {
        Load { offered, in_time: 100.0, arrived: 100.0, ..Load::default() }
    }

    #[test]
    fn steady_demand_gets_what_it_needs_and_keeps_it() {
        // 16 devices at 0.7 is for 11.2.
        let mut run = Run::new(2);
        assert_eq!(run.go(600, |_| offered(11.0)), []);
        assert_eq!(run.go(600, |_| offered(11.4)).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [3]);
        assert_eq!(
            run.last.map(|signals| (signals.reason, signals.ready_replicas)),
            Some((Reason::Steady, 3))
        );
    }

    #[test]
    fn refused_work_is_demand_though_nothing_waits() {
        let mut run = Run::new(2);
        let load = Load { shed: 50.0, ..offered(30.0) };
        run.go(60, |_| load);
        let told =
            run.last.map(|signals| (signals.desired_replicas, signals.queued_requests, signals.shed_ratio));
        assert_eq!(told, Some((6, 0, 0.5)));
    }

    #[test]
    fn a_blip_of_one_reading_is_no_reason_but_a_flood_is() {
        let mut run = Run::new(4);
        run.go(120, |_| offered(20.0));
        // 6 s means of 21.3 for three readings call for no more than there is.
        assert_eq!(run.go(2, |_| offered(24.0)), []);
        assert_eq!(run.go(60, |_| offered(20.0)), []);
        let before = run.second;
        let changes = run.go(10, |_| offered(50.0));
        assert!(changes[0].0 <= before + 4 && changes.iter().any(|(_, n)| *n == 8), "{changes:?}");
    }

    #[test]
    fn what_waits_is_worked_off() {
        let mut run = Run::new(2);
        // 16 devices are enough for what comes, but not for half an hour of device time that waits.
        let changes = run.go(20, |_| Load { queued_seconds: 1800.0, ..offered(5.0) });
        assert_eq!(changes.last().map(|(_, n)| *n), Some(8));
        let mut run = Run::new(2);
        run.go(2, |_| offered(5.0));
        run.go(2, |_| Load { queued_seconds: 1800.0, ..offered(5.0) });
        run.go(2, |_| Load { queued_seconds: 1800.0, ..offered(5.0) });
        assert_eq!(run.last.map(|signals| signals.reason), Some(Reason::Backlog));
    }

    #[test]
    fn too_few_in_time_is_one_more_than_ready() {
        let mut run = Run::new(3);
        let late = Load { late: 3.0, ..offered(5.0) };
        let changes = run.go(20, |_| late);
        assert_eq!(changes.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [4]);
        // Three of thirty may be late by chance.
        let mut run = Run::new(3);
        let few = Load { late: 0.3, in_time: 2.7, ..offered(5.0) };
        assert_eq!(run.go(200, |_| few), []);
    }

    #[test]
    fn down_comes_late_and_one_by_one() {
        let mut run = Run::new(8);
        run.go(300, |_| offered(40.0));
        let begun = run.second;
        let changes = run.go(1200, |_| offered(4.0));
        assert_eq!(changes.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 2]);
        assert!(changes[0].0 >= begun + 300, "{changes:?} after {begun}");
        assert!(changes.windows(2).all(|pair| pair[1].0 >= pair[0].0 + 60), "{changes:?}");
    }

    #[test]
    fn a_rise_is_met_before_it_is_there() {
        let mut run = Run::new(2);
        run.go(120, |_| offered(8.0));
        let begun = run.second;
        // 0.05 devices more by the second, which 2 servers bear up to 11.2.
        let changes = run.go(120, |second| offered(8.0 + 0.05 * (second - begun) as f64));
        let at = changes[0].0 - begun;
        assert!(8.0 + 0.05 * (at as f64) < 11.2, "asked for the third server only after {at} s");
    }

    #[test]
    fn nobody_ready_is_no_reason_to_ask_for_nobody() {
        let mut run = Run::new(0);
        run.go(2, |_| Load::default());
        assert_eq!(run.last.map(|signals| signals.desired_replicas), Some(2));
    }

    proptest! {
        /// Whatever comes: within the bounds, and never fewer than what the last five minutes called for.
        #[test]
        fn bounds(loads in proptest::collection::vec((0.0f64..200.0, 0.0f64..1e6, 0u32..9, 0.0f64..50.0), 1..400)) {
            let mut autoscaler = Autoscaler::new(config());
            let mut desired = None;
            for (step, (offered, queued_seconds, ready, late)) in loads.into_iter().enumerate() {
                let now = Timestamp::ZERO + Duration::from_secs(TICK * step as u64);
                let load = Load { offered, queued_seconds, ready, late, in_time: 20.0, ..Load::default() };
                let signals = autoscaler.observe(now, &load);
                prop_assert!((2..=8).contains(&signals.desired_replicas));
                if let Some(before) = desired {
                    prop_assert!(signals.desired_replicas + 1 >= before);
                }
                desired = Some(signals.desired_replicas);
            }
        }
    }
}
