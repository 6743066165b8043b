//! What a device runs next: the policy by deadlines.

use std::time::Duration;

use super::config::DeadlinePolicy;
use super::cost::Work;
use super::fairness::FlowId;
use super::queue::Rank;
use super::{Batch, Decision, Entry, Scheduler};
use crate::units::{DeviceId, ModelId, Timestamp, Tokens};

/// How many requests that do not fit a batch are passed over before it is closed.
const LOOK_AHEAD: usize = 32;

/// A model with work that a device could run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    model: ModelId,
    /// When its first request is due; the end of time if all are late.
    due: Timestamp,
    /// Planned time of a batch of what can still be on time.
    time: Duration,
    target: Duration,
    overhead: Duration,
}

impl<P> Scheduler<P> {
    pub(super) fn poll_by_deadline(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        policy: &DeadlinePolicy,
    ) -> Decision<P> {
        let state = &self.devices[usize::from(device.0)];
        if state.in_flight > 0 {
            let lead = policy.handover_lead;
            if state.free_at > now + lead {
                let wait = state.free_at.saturating_duration_since(now).saturating_sub(lead);
                return Decision::WaitUntil(now + wait);
            }
        }
        let start = state.free_at.max(now);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        for index in 0..self.queues.len() {
            let model = ModelId(index as u16);
            self.demote(start, device, model, policy);
            candidates.extend(self.candidate(device, model, policy));
        }
        let decision = self.choose(start, device, &candidates, policy);
        self.candidates = candidates;
        match decision.and_then(|(model, end_max)| self.fill(now, start, device, model, end_max)) {
            Some(batch) => Decision::Dispatch(batch),
            None => Decision::Idle,
        }
    }

    /// Moves the first requests of a model that can no longer meet their target out of the way of the others, and those
    /// that can no longer meet their deadline out of the queue.
    fn demote(&mut self, start: Timestamp, device: DeviceId, model: ModelId, policy: &DeadlinePolicy) {
        let index = usize::from(model.0);
        while let Some((flow, rank)) = self.queues[index].on_time.first(&self.flows) {
            let Some(waiting) = self.slots.get(rank.id()) else { break };
            let (work, deadline) = (waiting.work, waiting.entry.request.deadline);
            let alone = start + self.fastest(model).map_or(Duration::ZERO, |cost| cost.predict(work));
            let cost = &self.devices[usize::from(device.0)].costs[index];
            let needed = cost.plan(self.queues[index].on_time.work).min(cost.overhead().mul_f64(policy.overheads_min));
            let end = alone.max(start + needed);
            if end <= rank.due {
                break;
            }
            if alone > deadline {
                let entry = self.remove(rank.id());
                self.ended.extend(entry);
            } else {
                self.make_late(model, flow, rank, work);
            }
        }
        while let Some((_, rank)) = self.queues[index].late.first(&self.flows) {
            let Some(waiting) = self.slots.get(rank.id()) else { break };
            let end = start + self.fastest(model).map_or(Duration::ZERO, |cost| cost.predict(waiting.work));
            if end <= waiting.entry.request.deadline {
                break;
            }
            let entry = self.remove(rank.id());
            self.ended.extend(entry);
        }
    }

    fn make_late(&mut self, model: ModelId, flow: FlowId, rank: Rank, work: Work) {
        if let Some(waiting) = self.slots.get_mut(rank.id()) {
            waiting.is_late = true;
        }
        let slots = &self.slots;
        let queue = &mut self.queues[usize::from(model.0)];
        queue.on_time.remove(flow, work, |rank| slots.get(rank.id()).is_some_and(|waiting| !waiting.is_late));
        queue.late.insert(flow, rank, work);
    }

    fn candidate(&mut self, device: DeviceId, model: ModelId, policy: &DeadlinePolicy) -> Option<Candidate> {
        let index = usize::from(model.0);
        let queue = &mut self.queues[index];
        let bounds = &self.config.models[index];
        let cost = &self.devices[usize::from(device.0)].costs[index];
        let target = bounds.latency_target;
        let overhead = cost.overhead();
        if let Some((_, rank)) = queue.on_time.first(&self.flows) {
            let longest = overhead.mul_f64(policy.overheads_max);
            let mut time = cost.plan(queue.on_time.work);
            if !longest.is_zero() {
                time = time.min(longest);
            }
            return Some(Candidate { model, due: rank.due, time, target, overhead });
        }
        let _ = queue.late.first(&self.flows)?;
        Some(Candidate { model, due: Timestamp::MAX, time: overhead, target, overhead })
    }

    /// The model to run, and when its batch must have ended for the sake of the others.
    fn choose(
        &self,
        start: Timestamp,
        device: DeviceId,
        candidates: &[Candidate],
        policy: &DeadlinePolicy,
    ) -> Option<(ModelId, Timestamp)> {
        let urgency = |candidate: &Candidate| {
            if candidate.due == Timestamp::MAX {
                // Late work after all that is in time; the least overdue... by model order.
                return f64::MAX;
            }
            let latest = candidate.due.saturating_duration_since(start).as_secs_f64();
            if policy.edf { latest } else { (latest - candidate.time.as_secs_f64()) / candidate.target.as_secs_f64() }
        };
        let first = candidates.iter().min_by(|a, b| urgency(a).total_cmp(&urgency(b)))?;
        let limit = self.limit(start, device, first, candidates, policy);
        let needed = first.time.min(first.overhead.mul_f64(policy.overheads_min));
        if start + needed <= limit {
            return Some((first.model, limit));
        }
        // What stands in the way is more urgent than it seemed.
        let urgent = candidates.iter().min_by_key(|candidate| candidate.due)?;
        let limit = self.limit(start, device, urgent, candidates, policy);
        let needed = urgent.time.min(urgent.overhead.mul_f64(policy.overheads_min));
        Some((urgent.model, limit.max(start + needed)))
    }

    /// When a batch must have ended so that every other model's first requests can still be answered in time, by this
    /// device or another, and so that no model finds all devices busy for too long.
    fn limit(
        &self,
        start: Timestamp,
        device: DeviceId,
        chosen: &Candidate,
        candidates: &[Candidate],
        policy: &DeadlinePolicy,
    ) -> Timestamp {
        let mut others: Vec<Timestamp> = self
            .devices
            .iter()
            .enumerate()
            .filter(|(index, other)| *index != usize::from(device.0) && !other.is_lost)
            .map(|(_, other)| other.free_at.max(start))
            .collect();
        let mut waiting: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.model != chosen.model && candidate.due != Timestamp::MAX)
            .collect();
        waiting.sort_unstable_by_key(|candidate| candidate.due);
        // Forward: what other devices can take in time, they take.
        waiting.retain(|candidate| {
            let Some(free) = others.iter_mut().min() else { return true };
            let end = *free + candidate.time;
            let fits = end <= candidate.due;
            if fits {
                *free = end;
            }
            !fits
        });
        // Backward: the rest is this device's, after this batch.
        let mut limit = Timestamp::MAX;
        for candidate in waiting.iter().rev() {
            limit = back(limit.min(candidate.due), candidate.time);
        }
        let longest = chosen.overhead.mul_f64(policy.overheads_max);
        if !longest.is_zero() {
            limit = limit.min(start + longest);
        }
        // Nobody who is yet to come may find all devices busy for too long.
        let blocking = self.config.models.iter().map(|model| model.latency_target).min();
        let blocking = blocking.unwrap_or_default().mul_f64(policy.blocking_max);
        let is_other_free = others.iter().any(|free| *free <= start + blocking);
        if is_other_free { limit } else { limit.min(start + blocking) }
    }

    /// Takes a batch out of a model's queue that ends by `end_max`, or as soon after as its first request allows.
    fn fill(
        &mut self,
        now: Timestamp,
        start: Timestamp,
        device: DeviceId,
        model: ModelId,
        end_max: Timestamp,
    ) -> Option<Batch<P>> {
        let index = usize::from(model.0);
        let cost = &self.devices[usize::from(device.0)].costs[index];
        let (overhead, slope) = (cost.overhead(), cost.slope());
        let bounds = &self.config.models[index];
        let (tokens_max, sequences_max) = (bounds.batch_tokens_max, bounds.batch_sequences_max);
        let mut members: Vec<(FlowId, Entry<P>)> = Vec::new();
        let mut tokens = Tokens(0);
        let mut work = Work::default();
        let mut end_max = end_max;
        for is_late in [false, true] {
            let mut aside: Vec<FlowId> = Vec::new();
            while members.len() < sequences_max && aside.len() < LOOK_AHEAD {
                let queue = &mut self.queues[index];
                let band = if is_late { &mut queue.late } else { &mut queue.on_time };
                let Some((flow, rank)) = band.first(&self.flows) else { break };
                let Some(waiting) = self.slots.get(rank.id()) else { break };
                let request = &waiting.entry.request;
                let end = start + overhead + Duration::from_secs_f64(slope * (work + waiting.work).0);
                let due = if is_late { request.deadline } else { rank.due };
                let is_first = members.is_empty();
                let fits = tokens + request.tokens <= tokens_max && (is_first || (end <= end_max && end <= due));
                if request.deadline <= now || !fits {
                    band.set_aside(flow);
                    aside.push(flow);
                    continue;
                }
                if due >= end {
                    end_max = end_max.min(due);
                }
                tokens += request.tokens;
                work = work + waiting.work;
                let time = Duration::from_secs_f64(slope * waiting.work.0);
                // Before it leaves, so that whoever leaves the field empty leaves this charge's level behind.
                self.flows.charge(flow, time);
                let Some(entry) = self.remove(rank.id()) else { break };
                members.push((flow, entry));
            }
            let queue = &mut self.queues[index];
            let band = if is_late { &mut queue.late } else { &mut queue.on_time };
            for flow in aside {
                band.resume(flow);
            }
        }
        if members.is_empty() {
            return None;
        }
        let share = overhead / members.len() as u32;
        for (flow, _) in &members {
            self.flows.charge(*flow, share);
        }
        let members = members.into_iter().map(|(_, entry)| entry).collect();
        Some(self.sent(now, device, model, members))
    }
}

fn back(moment: Timestamp, duration: Duration) -> Timestamp {
    Timestamp::from_nanos(moment.as_nanos().saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
}
