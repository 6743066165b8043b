//! The thread that drives one device.

mod halving;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use units::{DeviceId, ModelId, Timestamp};

use super::answer::Completion;
use super::executor::{ExecuteError, Executor, Overlap, UNDER_WAY_MAX};
use super::message::{DeviceBatch, DeviceReport, Order};
use super::state::Surroundings;
use super::sweep::Sweep;
use super::sync::{Receiver, Sender, thread};

use crate::event::Event;
use crate::scheduler::{Batch, BatchId};
use halving::{Member, join, split};

pub(super) struct DeviceThread<I, O> {
    id: DeviceId,
    executor: Box<dyn Executor<Input = I, Output = O>>,
    orders: Receiver<Order<I, O>>,
    reports: Sender<DeviceReport<I, O>>,
    pub(super) surroundings: Surroundings,
    /// When the batch before this one ended.
    free_since: Timestamp,
    /// What is measured of a model that is added, in the pauses between batches.
    sweep: Option<Sweep>,
    /// How the device was lost.
    lost: Option<ExecuteError>,
}

/// Why an executor is not trusted with anything more.
#[derive(Debug, thiserror::Error)]
enum DeviceFault {
    #[error("the executor panicked")]
    Panicked,
    #[error("the executor gave {outputs} outputs for {inputs} inputs")]
    Outputs { outputs: usize, inputs: usize },
}

/// A batch on its way through the executor.
struct UnderWay<I, O> {
    id: BatchId,
    model: ModelId,
    inputs: Vec<I>,
    members: Vec<Member<O>>,
    /// Nobody had left before it began.
    is_whole: bool,
    began: Timestamp,
    /// Whether the executor computes it already, or why it refused it.
    begun: Result<bool, ExecuteError>,
}

impl<I: Send + 'static, O: Send + 'static> DeviceThread<I, O> {
    pub(super) fn new(
        id: DeviceId,
        executor: Box<dyn Executor<Input = I, Output = O>>,
        orders: Receiver<Order<I, O>>,
        reports: Sender<DeviceReport<I, O>>,
        surroundings: Surroundings,
    ) -> Self {
        let (free_since, sweep, lost) = (Timestamp::ZERO, None, None);
        Self { id, executor, orders, reports, surroundings, free_since, sweep, lost }
    }

    /// Runs batches until there are no more, or until the device is lost; what comes after that is given
    /// back.
    pub(super) fn run(mut self) {
        let _sentinel = self.surroundings.sentinel();
        let mut under_way = VecDeque::with_capacity(UNDER_WAY_MAX);
        while let Some(batch) = self.next(&mut under_way) {
            self.settle(batch, &mut under_way);
            // Whatever load there is, what is measured comes to its end; and what is measured must not share
            // the device.
            if under_way.is_empty() {
                self.measure();
            }
        }
    }

    /// The batch that began first, to be ended. While it computes, those that come are begun.
    fn next(&mut self, under_way: &mut VecDeque<UnderWay<I, O>>) -> Option<UnderWay<I, O>> {
        loop {
            let Some(first) = under_way.front() else {
                match self.sweep {
                    None => {
                        let order = self.orders.recv().ok()?;
                        self.obey(order, under_way);
                    }
                    Some(_) => match self.orders.try_recv() {
                        Ok(order) => self.obey(order, under_way),
                        Err(_) => self.measure(),
                    },
                }
                continue;
            };
            if self.sweep.is_some() || !self.computes(first) || under_way.len() >= UNDER_WAY_MAX {
                return under_way.pop_front();
            }
            match self.orders.try_recv() {
                Ok(order) => self.obey(order, under_way),
                // Whoever waits for a GPU by its driver turns in the same way: sleeping would cost what a
                // small batch takes.
                Err(_) => thread::yield_now(),
            }
        }
    }

    fn obey(&mut self, order: Order<I, O>, under_way: &mut VecDeque<UnderWay<I, O>>) {
        match order {
            Order::Run(batch) => {
                let begun = self.begin(batch);
                under_way.push_back(begun);
                debug_assert!(under_way.len() <= UNDER_WAY_MAX, "more is begun than an executor holds");
            }
            Order::Measure { model, config } => {
                debug_assert!(self.sweep.is_none(), "one model is measured at a time");
                self.sweep = Some(Sweep::new(model, config));
            }
            Order::Forget { model } => {
                let forgotten = self.guarded(|executor| {
                    executor.forget(model);
                    Ok(())
                });
                if let Err(error) = forgotten {
                    self.failed(model, &error);
                    self.lost.get_or_insert(error);
                }
                self.report(DeviceReport::Forgotten { model });
            }
        }
    }

    /// Measures one batch of a model that is added, if there is one.
    fn measure(&mut self) {
        let Some(sweep) = &mut self.sweep else { return };
        let model = sweep.model;
        let costs = match &self.lost {
            Some(_) => Some(Vec::new()),
            None => sweep.step(self.executor.as_mut(), self.surroundings.clock.as_ref()),
        };
        if let Some(costs) = costs {
            self.sweep = None;
            self.report(DeviceReport::Measured { device: self.id, model, costs });
        }
    }

    fn begin(&mut self, batch: DeviceBatch<I, O>) -> UnderWay<I, O> {
        let Batch { id, model, members, .. } = batch;
        let asked = members.len();
        // Whoever left after the batch was made is not computed.
        let members = members.into_iter().filter(|entry| !entry.sequence.payload.answer.is_canceled());
        let (inputs, members): (Vec<I>, Vec<Member<O>>) = members.map(split).unzip();
        let (is_whole, began) = (inputs.len() == asked, self.surroundings.clock.now());
        let begun = match &self.lost {
            Some(error) => Err(error.clone()),
            None if inputs.is_empty() => Ok(false),
            None => self.guarded(|executor| match executor.overlap() {
                Some(overlap) => overlap.begin(model, &inputs).map(|()| true),
                None => Ok(false),
            }),
        };
        UnderWay { id, model, inputs, members, is_whole, began, begun }
    }

    /// Whether the device is not done with a batch, the first of those that the executor has.
    fn computes(&mut self, first: &UnderWay<I, O>) -> bool {
        let has_it = matches!(first.begun, Ok(true)) && self.lost.is_none();
        has_it
            && self
                .guarded(|executor| Ok(executor.overlap().is_some_and(|overlap| !overlap.is_finished())))
                .unwrap_or(false)
    }

    /// Answers every member of a batch and reports it. What is lost is reported with the members that have no
    /// answer.
    fn settle(&mut self, batch: UnderWay<I, O>, others: &mut VecDeque<UnderWay<I, O>>) {
        let UnderWay { id, model, inputs, members, is_whole, began, begun } = batch;
        debug_assert_eq!(inputs.len(), members.len(), "an input for each member");
        if inputs.is_empty() {
            return self.report(DeviceReport::Done { batch: id, compute: None });
        }
        let result = match (&self.lost, begun) {
            (Some(error), _) => Err(error.clone()),
            (None, Ok(true)) => {
                self.guarded(|executor| executor.overlap().map_or_else(|| Ok(Vec::new()), Overlap::finish))
            }
            (None, Ok(false)) => self.guarded(|executor| executor.execute(model, &inputs)),
            (None, Err(error)) => Err(error),
        };
        let ended = match self.counted(result, inputs.len()) {
            Ok(outputs) => {
                // A batch that was begun early did not compute before its predecessor ended.
                let compute = self.answer(model, began.max(self.free_since), members, outputs);
                Ok(Some(compute).filter(|_| is_whole))
            }
            Err(error) if error.is_fatal => Err((join(inputs, members), error)),
            Err(error) => {
                // Its halves come after what the executor has begun already.
                while let Some(next) = others.pop_front() {
                    self.settle(next, others);
                }
                // The failure may have taken the device with it.
                match &self.lost {
                    Some(lost) => Err((join(inputs, members), lost.clone())),
                    None => self.run_halves(model, inputs, members, &error).map(|()| None),
                }
            }
        };
        match ended {
            Ok(compute) => self.report(DeviceReport::Done { batch: id, compute }),
            Err((members, error)) => {
                if self.lost.is_none() {
                    self.failed(model, &error);
                    self.lost = Some(error.clone());
                }
                self.report(DeviceReport::Lost { batch: id, members, error });
            }
        }
    }

    pub(super) fn failed(&self, model: ModelId, error: &ExecuteError) {
        let ExecuteError { source, is_fatal } = error;
        let reason = source.to_string();
        self.surroundings.observer.on_event(&Event::Failed {
            model,
            device: self.id,
            is_fatal: *is_fatal,
            reason,
        });
    }

    fn report(&self, report: DeviceReport<I, O>) {
        // A scheduler thread that is gone hears nothing, and sends no more batches.
        let _ = self.reports.send(report);
    }

    /// Asks the executor. A panic is the device's loss: nothing more is run on it, so nobody sees what it
    /// left half done.
    pub(super) fn guarded<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn Executor<Input = I, Output = O>) -> Result<T, ExecuteError>,
    ) -> Result<T, ExecuteError> {
        let result = catch_unwind(AssertUnwindSafe(|| ask(self.executor.as_mut())));
        result.unwrap_or_else(|_| Err(fatal(DeviceFault::Panicked)))
    }

    /// Refuses outputs that are not one for each input.
    pub(super) fn counted(
        &self,
        outputs: Result<Vec<O>, ExecuteError>,
        inputs: usize,
    ) -> Result<Vec<O>, ExecuteError> {
        let outputs = outputs?;
        if outputs.len() == inputs {
            return Ok(outputs);
        }
        Err(fatal(DeviceFault::Outputs { outputs: outputs.len(), inputs }))
    }

    /// Gives every member its output. Returns how long the device computed.
    pub(super) fn answer(
        &mut self,
        model: ModelId,
        began: Timestamp,
        members: Vec<Member<O>>,
        outputs: Vec<O>,
    ) -> Duration {
        self.free_since = self.surroundings.clock.now();
        let compute = self.free_since.saturating_duration_since(began);
        self.surroundings.observer.on_event(&Event::Completed { model, device: self.id, compute });
        let batch_sequences = members.len();
        debug_assert_eq!(batch_sequences, outputs.len(), "an output for each member");
        for (member, output) in members.into_iter().zip(outputs) {
            let queue = began.saturating_duration_since(member.enqueued_at);
            // A caller who has just left does not want it.
            let completion = Completion { output, queue, compute, batch_sequences };
            let _ = member.sequence.payload.answer.send(Ok(completion));
        }
        compute
    }
}

fn fatal(fault: DeviceFault) -> ExecuteError {
    ExecuteError { source: Arc::new(fault), is_fatal: true }
}
