//! A workload run through a policy on a virtual clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use batching::Work;
use units::{Timestamp, Tokens};

use super::hardware::{Hardware, Noise};
use super::policies::{Policy, Step};
use super::workload::{Arrival, Workload};

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was computed, so long after its arrival.
    Computed(Duration),
    /// It was refused, or dropped.
    Dropped,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// By arrival.
    pub ends: Vec<End>,
    /// Time that devices computed, together.
    pub busy: Duration,
    pub batches: u64,
    /// From the first arrival to the last completion.
    pub span: Duration,
    /// Device time given to each tenant: each batch's time by its members' work.
    pub tenant_time: Vec<f64>,
}

struct Running {
    members: Vec<u32>,
    time: Duration,
    ends_at: Timestamp,
}

/// Runs `arrivals` through `policy` until all have ended.
pub fn replay(
    workload: &Workload,
    hardware: &Hardware,
    arrivals: &[Arrival],
    policy: &mut dyn Policy,
    seed: u64,
) -> Outcome {
    Replay::new(workload, hardware, arrivals, seed).run(policy)
}

struct Replay<'a> {
    workload: &'a Workload,
    hardware: &'a Hardware,
    arrivals: &'a [Arrival],
    noise: Noise,
    devices: Vec<VecDeque<Running>>,
    /// Ends of running batches and moments at which to ask again.
    events: BinaryHeap<Reverse<(Timestamp, Option<u16>)>>,
    wake: Option<Timestamp>,
    outcome: Outcome,
}

impl<'a> Replay<'a> {
    fn new(workload: &'a Workload, hardware: &'a Hardware, arrivals: &'a [Arrival], seed: u64) -> Self {
        let outcome = Outcome {
            ends: vec![End::Dropped; arrivals.len()],
            busy: Duration::ZERO,
            batches: 0,
            span: Duration::ZERO,
            tenant_time: vec![0.0; workload.tenants as usize + 1],
        };
        Self {
            workload,
            hardware,
            arrivals,
            noise: Noise::new(hardware, seed),
            devices: (0..hardware.devices).map(|_| VecDeque::new()).collect(),
            events: BinaryHeap::new(),
            wake: None,
            outcome,
        }
    }

    fn run(mut self, policy: &mut dyn Policy) -> Outcome {
        let mut next = 0;
        loop {
            let arrival = self.arrivals.get(next).map(|arrival| arrival.at);
            let event = self.events.peek().map(|Reverse((at, _))| *at);
            let Some(now) = [arrival, event].into_iter().flatten().min() else { break };
            if arrival == Some(now) {
                policy.arrive(now, &self.arrivals[next], next as u32);
                next += 1;
            } else if let Some(Reverse((_, device))) = self.events.pop() {
                match device {
                    Some(device) => self.complete(now, device, policy),
                    None => self.wake = None,
                }
            }
            // All that happens at one moment is seen before the next decision.
            let same_arrival = self.arrivals.get(next).is_some_and(|arrival| arrival.at == now);
            let same_event = self.events.peek().is_some_and(|Reverse((at, _))| *at == now);
            if !same_arrival && !same_event {
                self.poll(now, policy);
            }
            self.outcome.span = now.saturating_duration_since(Timestamp::ZERO);
        }
        self.outcome
    }

    fn poll(&mut self, now: Timestamp, policy: &mut dyn Policy) {
        policy.expire(now);
        let mut wake: Option<Timestamp> = None;
        for device in 0..self.hardware.devices {
            loop {
                match policy.poll(now, device) {
                    Step::Dispatch { members } => self.dispatch(now, device, members),
                    Step::WaitUntil(at) => {
                        wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
                        break;
                    }
                    Step::Idle => break,
                }
            }
        }
        if let Some(at) = wake
            && self.wake.is_none_or(|earlier| at < earlier)
        {
            self.wake = Some(at);
            self.events.push(Reverse((at.max(now + Duration::from_nanos(1)), None)));
        }
    }

    fn work(&self, members: &[u32]) -> Work {
        let work =
            |member: &u32| Work::of(Tokens(self.arrivals[*member as usize].tokens), self.workload.attention);
        members.iter().map(work).fold(Work::default(), std::ops::Add::add)
    }

    fn dispatch(&mut self, now: Timestamp, device: u16, members: Vec<u32>) {
        let time = self.noise.time(self.hardware, device, self.work(&members));
        let queue = &mut self.devices[usize::from(device)];
        let starts = queue.back().map_or(now, |before| before.ends_at);
        let ends_at = starts + time;
        queue.push_back(Running { members, time, ends_at });
        self.events.push(Reverse((ends_at, Some(device))));
    }

    fn complete(&mut self, now: Timestamp, device: u16, policy: &mut dyn Policy) {
        let Some(done) = self.devices[usize::from(device)].pop_front() else { return };
        let total = self.work(&done.members).0;
        for member in &done.members {
            let arrival = &self.arrivals[*member as usize];
            self.outcome.ends[*member as usize] = End::Computed(now.saturating_duration_since(arrival.at));
            let work = Work::of(Tokens(arrival.tokens), self.workload.attention).0;
            self.outcome.tenant_time[arrival.tenant as usize] += done.time.as_secs_f64() * work / total;
        }
        self.outcome.busy += done.time;
        self.outcome.batches += 1;
        policy.complete(now, device, done.time);
    }
}
