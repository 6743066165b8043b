//! What servers are asked for and what they do, by the second.

use std::ops::AddAssign;
use std::time::Duration;

use async_trait::async_trait;
use batching::Snapshot;
use serde::{Deserialize, Serialize};
use units::Timestamp;

use crate::store::StoreError;

/// The load of one server, or of several together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Servers that are ready.
    pub ready: u32,
    /// Device seconds asked for by the second: the work of all requests, refused ones included, and the
    /// overhead of as many batches as the targets ask for.
    pub offered: f64,
    /// Device seconds computed by the second.
    pub computed: f64,
    /// Device seconds that what waits will take.
    pub queued_seconds: f64,
    pub queued_requests: u64,
    pub queued_tokens: u64,
    /// Sequences by the second.
    pub arrived: f64,
    /// Of these, refused or dropped for want of capacity.
    pub shed: f64,
    /// Requests by the second that were answered within their model's target.
    pub in_time: f64,
    /// Requests by the second that were answered later, or not for want of capacity.
    pub late: f64,
}

/// How requests ended since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Answered within their model's target.
    pub in_time: u64,
    /// Answered later, or refused or ended for want of capacity.
    pub late: u64,
    /// Of the late ones, those that were turned away before the scheduler saw them.
    pub turned_away: u64,
}

/// Where servers that share a store show each other their load.
#[async_trait]
pub trait LoadBoard: Send + Sync {
    /// Puts up this server's load, and returns that of the others that were put up within the last `age_max`.
    async fn exchange(&self, server: &str, load: &Load, age_max: Duration) -> Result<Vec<Load>, StoreError>;
}

/// Reads a server's load from its scheduler.
#[derive(Debug)]
pub struct Meter {
    /// Of each model.
    latency_targets: Vec<Duration>,
    last: Option<Totals>,
}

#[derive(Debug, Clone)]
struct Totals {
    at: Timestamp,
    models: Vec<batching::OfferedLoad>,
    computed: Duration,
    ends: Ends,
}

impl Meter {
    /// A meter of a server whose models have these targets, in the scheduler's order.
    pub fn new(latency_targets: Vec<Duration>) -> Self {
        Self { latency_targets, last: None }
    }

    /// Other targets from now on, in the scheduler's order.
    pub fn set_targets(&mut self, latency_targets: Vec<Duration>) {
        self.latency_targets = latency_targets;
    }

    /// The load since the last reading; none the first time.
    pub fn read(&mut self, now: Timestamp, snapshot: &Snapshot, ends: Ends, is_ready: bool) -> Option<Load> {
        let totals = Totals {
            at: now,
            models: snapshot.models.iter().map(|model| model.offered).collect(),
            computed: snapshot.devices.iter().map(|device| device.computed).sum(),
            ends,
        };
        let last = self.last.replace(totals.clone())?;
        let elapsed = now.saturating_duration_since(last.at).as_secs_f64();
        if elapsed <= 0.0 {
            return None;
        }
        let mut load = Load {
            ready: u32::from(is_ready),
            computed: totals.computed.saturating_sub(last.computed).as_secs_f64() / elapsed,
            in_time: (ends.in_time - last.ends.in_time) as f64 / elapsed,
            late: (ends.late - last.ends.late) as f64 / elapsed,
            ..Load::default()
        };
        for (index, model) in snapshot.models.iter().enumerate() {
            let before = last.models.get(index).copied().unwrap_or_default();
            // A model that was removed counts from nothing again.
            let arrived = model.offered.sequences.saturating_sub(before.sequences) as f64 / elapsed;
            load.arrived += arrived;
            load.shed += model.offered.shed.saturating_sub(before.shed) as f64 / elapsed;
            load.offered += (model.offered.seconds - before.seconds).max(0.0) / elapsed;
            load.offered += self.overhead(index, model.batch_overhead, arrived);
            load.queued_seconds += model.queued_time.as_secs_f64();
            load.queued_requests += model.queued_sequences as u64;
            load.queued_tokens += u64::from(model.queued_tokens.0);
        }
        load.turn_away((ends.turned_away - last.ends.turned_away) as f64 / elapsed);
        Some(load)
    }

    /// Device seconds by the second that go into batches' overhead: a batch of a model need not come more
    /// often than its target asks, nor than its requests do.
    fn overhead(&self, model: usize, overhead: Duration, arrived: f64) -> f64 {
        let overhead = overhead.as_secs_f64();
        let target = self.latency_targets.get(model).map_or(1.0, Duration::as_secs_f64);
        let period = (target - overhead).max(overhead).max(1e-6);
        overhead * arrived.min(1.0 / period)
    }
}

impl Load {
    /// Adds requests that the scheduler did not see: each counts as much as one of those it saw.
    fn turn_away(&mut self, by_the_second: f64) {
        let seen = self.in_time + self.late - by_the_second;
        if by_the_second > 0.0 && seen > 0.0 {
            self.offered *= 1.0 + by_the_second / seen;
        }
        self.shed += by_the_second;
        self.arrived += by_the_second;
    }
}

impl AddAssign<&Self> for Load {
    fn add_assign(&mut self, other: &Self) {
        self.ready += other.ready;
        self.offered += other.offered;
        self.computed += other.computed;
        self.queued_seconds += other.queued_seconds;
        self.queued_requests += other.queued_requests;
        self.queued_tokens += other.queued_tokens;
        self.arrived += other.arrived;
        self.shed += other.shed;
        self.in_time += other.in_time;
        self.late += other.late;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use batching::{DeviceSnapshot, ModelSnapshot, OfferedLoad};

    use super::*;

    fn snapshot(requests: u64, shed: u64, seconds: f64, computed_ms: u64) -> Snapshot {
        let model = ModelSnapshot {
            offered: OfferedLoad { sequences: requests, shed, seconds },
            batch_overhead: Duration::from_millis(2),
            queued_time: Duration::from_millis(30),
            queued_sequences: 3,
            ..ModelSnapshot::default()
        };
        let device =
            DeviceSnapshot { computed: Duration::from_millis(computed_ms), ..DeviceSnapshot::default() };
        Snapshot { models: vec![model], devices: vec![device], drain: Duration::ZERO }
    }

    #[test]
    fn rates_are_of_the_time_between_readings() {
        let mut meter = Meter::new(vec![Duration::from_millis(22)]);
        let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
        assert_eq!(meter.read(at(10), &snapshot(100, 10, 1.0, 500), Ends::default(), true), None);
        let ends = Ends { in_time: 150, late: 50, turned_away: 0 };
        let load = meter.read(at(12), &snapshot(300, 30, 2.0, 1500), ends, true).unwrap();
        assert_eq!((load.ready, load.arrived, load.shed), (1, 100.0, 10.0));
        assert_eq!((load.in_time, load.late, load.computed), (75.0, 25.0, 0.5));
        // Half a second of work by the second, and a batch of 2 ms every 20 ms.
        assert!((load.offered - 0.6).abs() < 1e-9, "{load:?}");
        assert!((load.queued_seconds - 0.03).abs() < 1e-9 && load.queued_requests == 3);
        // Who is turned away at the door counts as much as the others: here as many again.
        let ends = Ends { in_time: 250, late: 150, turned_away: 100 };
        let load = meter.read(at(13), &snapshot(400, 30, 2.5, 2000), ends, false).unwrap();
        assert_eq!((load.ready, load.arrived, load.shed), (0, 200.0, 100.0));
        assert!((load.offered - 2.0 * 0.6).abs() < 1e-9, "{load:?}");
        // A model that is gone takes nothing back.
        let load = meter.read(at(14), &snapshot(0, 0, 0.0, 2000), ends, false).unwrap();
        assert_eq!((load.arrived, load.shed, load.offered), (0.0, 0.0, 0.0));
        meter.read(at(15), &snapshot(400, 30, 2.5, 2000), ends, false).unwrap();
        // Few requests need few batches.
        let load = meter.read(at(25), &snapshot(401, 30, 2.5, 2000), ends, true).unwrap();
        assert!((load.offered - 0.002 * 0.1).abs() < 1e-9, "{load:?}");
    }
}
