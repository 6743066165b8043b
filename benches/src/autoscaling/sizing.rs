//! How many servers there should be: ours, and what others do.

use std::collections::VecDeque;
use std::time::Duration;

use router::scaling::{Autoscaler, Load, ScalingConfig};
use units::Timestamp;

/// The cluster, every two seconds.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// Of all servers together.
    pub load: Load,
    /// Requests that wait or run.
    pub concurrency: u64,
}

pub trait Sizing {
    /// Sees the cluster and says how many servers there should be.
    fn observe(&mut self, now: Timestamp, observed: &Observed) -> u32;

    /// Whether it is obeyed at once: an oracle needs no metrics.
    fn is_oracle(&self) -> bool {
        false
    }
}

/// Bounds of every policy.
const MIN: u32 = 2;
const MAX: u32 = 8;

/// Always as many.
pub struct Fixed(pub u32);

impl Sizing for Fixed {
    fn observe(&mut self, _: Timestamp, _: &Observed) -> u32 {
        self.0
    }
}

pub struct Ours(Autoscaler);

impl Ours {
    pub fn new(config: ScalingConfig) -> Self {
        Self(Autoscaler::new(config))
    }
}

impl Sizing for Ours {
    fn observe(&mut self, now: Timestamp, observed: &Observed) -> u32 {
        self.0.observe(now, &observed.load).desired_replicas
    }
}

/// Values of a window.
#[derive(Debug, Default)]
struct Window(VecDeque<(Timestamp, f64)>);

impl Window {
    fn push(&mut self, now: Timestamp, value: f64, length: Duration) {
        self.0.push_back((now, value));
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= length) {
            self.0.pop_front();
        }
    }

    fn mean(&self) -> f64 {
        self.0.iter().map(|(_, value)| value).sum::<f64>() / self.0.len().max(1) as f64
    }

    fn max(&self) -> f64 {
        self.0.iter().map(|(_, value)| *value).fold(0.0, f64::max)
    }
}

/// What the horizontal pod autoscaler of Kubernetes does with a metric: as many servers as keep it at its
/// target for each, if that is more than 10 % away, and no fewer than the most of the last five minutes
/// called for (<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale>, "Algorithm
/// details" and "Stabilization window").
pub struct PodAutoscaler {
    metric: fn(&Observed) -> f64,
    /// The metric's value for one server.
    target: f64,
    recent: Window,
    called_for: Window,
}

/// The window over which the metric is averaged.
const METRIC_WINDOW: Duration = Duration::from_secs(30);
const STABILIZATION: Duration = Duration::from_secs(300);
const TOLERANCE: f64 = 0.1;

impl PodAutoscaler {
    /// On the busy share of the servers' devices.
    pub fn busy(target: f64) -> Self {
        Self::on(|observed| observed.load.computed, target)
    }

    /// On the requests that wait, as with most of KEDA's scalers.
    pub fn queue(target: f64) -> Self {
        Self::on(|observed| observed.load.queued_requests as f64, target)
    }

    fn on(metric: fn(&Observed) -> f64, target: f64) -> Self {
        Self { metric, target, recent: Window::default(), called_for: Window::default() }
    }
}

impl Sizing for PodAutoscaler {
    fn observe(&mut self, now: Timestamp, observed: &Observed) -> u32 {
        self.recent.push(now, (self.metric)(observed), METRIC_WINDOW);
        let ready = f64::from(observed.load.ready.max(1));
        let ratio = self.recent.mean() / (self.target * ready);
        let wanted = if (ratio - 1.0).abs() <= TOLERANCE { ready } else { (ratio * ready).ceil() };
        self.called_for.push(now, wanted, STABILIZATION);
        (self.called_for.max() as u32).clamp(MIN, MAX)
    }
}

/// What Knative's autoscaler does: as many servers as keep the requests that each works on at a target, on
/// average over 60 s; over 6 s, and without going down, while that calls for twice as many as there are
/// (<https://knative.dev/docs/serving/autoscaling/kpa-specific>).
pub struct Knative {
    target: f64,
    stable: Window,
    panic: Window,
    panic_until: Timestamp,
    panic_size: u32,
}

impl Knative {
    /// With so many requests for one server.
    pub fn new(target: f64) -> Self {
        Self {
            target,
            stable: Window::default(),
            panic: Window::default(),
            panic_until: Timestamp::ZERO,
            panic_size: 0,
        }
    }
}

impl Sizing for Knative {
    fn observe(&mut self, now: Timestamp, observed: &Observed) -> u32 {
        let concurrency = observed.concurrency as f64;
        self.stable.push(now, concurrency, Duration::from_secs(60));
        self.panic.push(now, concurrency, Duration::from_secs(6));
        let wanted = |window: &Window| (window.mean() / self.target).ceil() as u32;
        let (stable, panic) = (wanted(&self.stable), wanted(&self.panic));
        if panic >= 2 * observed.load.ready.max(1) {
            if now >= self.panic_until {
                self.panic_size = 0;
            }
            self.panic_until = now + Duration::from_secs(60);
        }
        if now < self.panic_until {
            self.panic_size = self.panic_size.max(panic).max(observed.load.ready);
            return self.panic_size.clamp(MIN, MAX);
        }
        stable.clamp(MIN, MAX)
    }
}

/// Knows what will be asked for when a server that it asks for now is ready, and is obeyed at once. It has to
/// learn only what a request costs.
pub struct Oracle {
    /// Texts a second, for each second.
    rates: Vec<f64>,
    utilization: f64,
    costs: Window,
}

impl Oracle {
    /// An oracle of a day that wants servers to be used so much.
    pub fn new(rates: Vec<f64>, utilization: f64) -> Self {
        Self { rates, utilization, costs: Window::default() }
    }
}

/// The slowest cold start, and the time between two decisions.
const HORIZON: usize = 42;

impl Sizing for Oracle {
    fn observe(&mut self, now: Timestamp, observed: &Observed) -> u32 {
        if observed.load.arrived > 0.0 {
            self.costs.push(now, observed.load.offered / observed.load.arrived, Duration::from_secs(600));
        }
        let second = (now.as_nanos() / 1_000_000_000) as usize;
        let ahead = self.rates.iter().skip(second).take(HORIZON);
        let most = ahead.copied().fold(0.0, f64::max);
        ((most * self.costs.mean() / self.utilization).ceil() as u32).clamp(MIN, MAX)
    }

    fn is_oracle(&self) -> bool {
        true
    }
}
