//! The thread that drives one device.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::executor::{ExecuteError, Executor, Overlap, UNDER_WAY_MAX};
use super::scheduling::{DeviceBatch, DeviceReport, Payload};
use super::sync::{Receiver, Sender, thread};
use super::ticket::{Completion, Failure};
use super::{Sentinel, State};
use crate::event::{Event, Observer};
use crate::scheduler::{Batch, BatchId, Entry};
use crate::units::{DeviceId, ModelId, Timestamp};

pub(super) struct DeviceThread<I, O> {
    pub(super) id: DeviceId,
    pub(super) executor: Box<dyn Executor<Input = I, Output = O>>,
    pub(super) batches: Receiver<DeviceBatch<I, O>>,
    pub(super) reports: Sender<DeviceReport<I, O>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) state: Arc<State>,
    /// When the batch before this one ended.
    pub(super) free_since: Timestamp,
    /// How the device was lost.
    pub(super) lost: Option<ExecuteError>,
}

/// A member of a batch without its input.
type Member<O> = Entry<Payload<(), O>>;

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
    /// Runs batches until there are no more, or until the device is lost; what comes after that is given back.
    pub(super) fn run(mut self) {
        let _sentinel = Sentinel(Arc::clone(&self.state));
        let mut under_way = VecDeque::with_capacity(UNDER_WAY_MAX);
        while let Some(batch) = self.next(&mut under_way) {
            self.settle(batch, &mut under_way);
        }
    }

    /// The batch that began first, to be ended. While it computes, those that come are begun.
    fn next(&mut self, under_way: &mut VecDeque<UnderWay<I, O>>) -> Option<UnderWay<I, O>> {
        if under_way.is_empty() {
            let batch = self.batches.recv().ok()?;
            under_way.push_back(self.begin(batch));
        }
        while under_way.len() < UNDER_WAY_MAX && under_way.front().is_some_and(|first| self.computes(first)) {
            match self.batches.try_recv() {
                Ok(batch) => under_way.push_back(self.begin(batch)),
                // Whoever waits for a GPU by its driver turns in the same way: sleeping would cost what a small batch takes.
                Err(_) => thread::yield_now(),
            }
        }
        under_way.pop_front()
    }

    fn begin(&mut self, batch: DeviceBatch<I, O>) -> UnderWay<I, O> {
        let Batch { id, model, members, .. } = batch;
        let asked = members.len();
        // Whoever left after the batch was made is not computed.
        let members = members.into_iter().filter(|entry| !entry.request.payload.answer.is_canceled());
        let (inputs, members): (Vec<I>, Vec<Member<O>>) = members.map(split).unzip();
        let (is_whole, began) = (inputs.len() == asked, self.clock.now());
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

    /// Answers every member of a batch and reports it. What is lost is reported with the members that have no answer.
    fn settle(&mut self, batch: UnderWay<I, O>, others: &mut VecDeque<UnderWay<I, O>>) {
        let UnderWay { id, model, inputs, members, is_whole, began, begun } = batch;
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
                let compute = self.answer((model, began.max(self.free_since)), members, outputs);
                Ok(Some(compute).filter(|_| is_whole))
            }
            Err(error) if error.is_fatal => Err((join(inputs, members), error)),
            Err(error) => {
                // Its halves come after what the executor has begun already.
                while let Some(next) = others.pop_front() {
                    self.settle(next, others);
                }
                // With which the device may have been lost.
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

    fn failed(&self, model: ModelId, error: &ExecuteError) {
        let ExecuteError { source, is_fatal } = error;
        let reason = source.to_string();
        self.observer.on_event(&Event::Failed { model, device: self.id, is_fatal: *is_fatal, reason });
    }

    fn report(&self, report: DeviceReport<I, O>) {
        // A scheduler thread that is gone hears nothing, and sends no more batches.
        let _ = self.reports.send(report);
    }

    /// Runs some members together, and if that fails, each half alone: so that of a batch with an input that cannot be
    /// computed, or for which there is no memory, only that one fails.
    fn run_part(
        &mut self,
        model: ModelId,
        inputs: Vec<I>,
        members: Vec<Member<O>>,
    ) -> Result<(), Lost<I, O>> {
        let began = self.clock.now();
        let result = self.guarded(|executor| executor.execute(model, &inputs));
        match self.counted(result, inputs.len()) {
            Ok(outputs) => {
                self.answer((model, began), members, outputs);
                Ok(())
            }
            Err(error) if error.is_fatal => Err((join(inputs, members), error)),
            Err(error) => self.run_halves(model, inputs, members, &error),
        }
    }

    /// What is left to do for members who cannot be computed together.
    fn run_halves(
        &mut self,
        model: ModelId,
        mut inputs: Vec<I>,
        mut members: Vec<Member<O>>,
        error: &ExecuteError,
    ) -> Result<(), Lost<I, O>> {
        self.failed(model, error);
        if inputs.len() == 1 {
            for member in members {
                let _ = member.request.payload.answer.send(Err(Failure::Execution(error.clone())));
            }
            return Ok(());
        }
        let middle = inputs.len() / 2;
        let (last_inputs, last_members) = (inputs.split_off(middle), members.split_off(middle));
        match self.run_in_time(model, inputs, members) {
            Ok(()) => self.run_in_time(model, last_inputs, last_members),
            Err((mut left, error)) => {
                left.extend(join(last_inputs, last_members));
                Err((left, error))
            }
        }
    }

    /// Runs those members whose deadline has not passed meanwhile.
    fn run_in_time(
        &mut self,
        model: ModelId,
        inputs: Vec<I>,
        members: Vec<Member<O>>,
    ) -> Result<(), Lost<I, O>> {
        let now = self.clock.now();
        let (in_time, late): (Vec<_>, Vec<_>) =
            inputs.into_iter().zip(members).partition(|(_, member)| member.request.deadline > now);
        for (_, member) in late {
            let _ = member.request.payload.answer.send(Err(Failure::DeadlineExceeded));
        }
        if in_time.is_empty() {
            return Ok(());
        }
        let (inputs, members) = in_time.into_iter().unzip();
        self.run_part(model, inputs, members)
    }

    /// Asks the executor. A panic is the device's loss: nothing more is run on it, so nobody sees what it left half done.
    fn guarded<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn Executor<Input = I, Output = O>) -> Result<T, ExecuteError>,
    ) -> Result<T, ExecuteError> {
        let result = catch_unwind(AssertUnwindSafe(|| ask(self.executor.as_mut())));
        result.unwrap_or_else(|_| Err(fatal(DeviceFault::Panicked)))
    }

    /// Refuses outputs that are not one for each input.
    fn counted(&self, outputs: Result<Vec<O>, ExecuteError>, inputs: usize) -> Result<Vec<O>, ExecuteError> {
        let outputs = outputs?;
        if outputs.len() == inputs {
            return Ok(outputs);
        }
        Err(fatal(DeviceFault::Outputs { outputs: outputs.len(), inputs }))
    }

    /// Gives every member its output. Returns how long the device computed.
    fn answer(
        &mut self,
        (model, began): (ModelId, Timestamp),
        members: Vec<Member<O>>,
        outputs: Vec<O>,
    ) -> Duration {
        self.free_since = self.clock.now();
        let compute = self.free_since.saturating_duration_since(began);
        self.observer.on_event(&Event::Completed { model, device: self.id, compute });
        let batch_sequences = members.len();
        for (member, output) in members.into_iter().zip(outputs) {
            let queue = began.saturating_duration_since(member.enqueued_at);
            // A caller who has just left does not want it.
            let completion = Completion { output, queue, compute, batch_sequences };
            let _ = member.request.payload.answer.send(Ok(completion));
        }
        compute
    }
}

/// Members without an answer, and how their device was lost.
type Lost<I, O> = (Vec<Entry<Payload<I, O>>>, ExecuteError);

/// Parts an entry from its input.
fn split<I, O>(entry: Entry<Payload<I, O>>) -> (I, Member<O>) {
    let (member, input) = entry
        .map(|Payload { job, input, answer, losses }| (Payload { job, input: (), answer, losses }, input));
    (input, member)
}

/// Undoes [`split`].
fn join<I, O>(inputs: Vec<I>, members: Vec<Member<O>>) -> Vec<Entry<Payload<I, O>>> {
    let whole = |(input, member): (I, Member<O>)| {
        member.map(|Payload { job, answer, losses, .. }| (Payload { job, input, answer, losses }, ())).0
    };
    inputs.into_iter().zip(members).map(whole).collect()
}

fn fatal(fault: DeviceFault) -> ExecuteError {
    ExecuteError { source: Arc::new(fault), is_fatal: true }
}
