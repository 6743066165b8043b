//! The thread that drives one device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::executor::{ExecuteError, Executor};
use super::scheduling::{DeviceBatch, DeviceReport, Payload};
use super::sync::{Receiver, Sender};
use super::ticket::{Completion, Failure};
use super::{Sentinel, State};
use crate::event::{Event, Observer};
use crate::scheduler::{Batch, Entry};
use crate::units::{DeviceId, ModelId, Timestamp};

pub(super) struct DeviceThread<I, O> {
    pub(super) id: DeviceId,
    pub(super) executor: Box<dyn Executor<Input = I, Output = O>>,
    pub(super) batches: Receiver<DeviceBatch<I, O>>,
    pub(super) reports: Sender<DeviceReport<I, O>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) state: Arc<State>,
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

impl<I: Send + 'static, O: Send + 'static> DeviceThread<I, O> {
    /// Runs batches until there are no more, or until the device is lost; what comes after that is given back.
    pub(super) fn run(mut self) {
        let _sentinel = Sentinel(Arc::clone(&self.state));
        let mut lost: Option<ExecuteError> = None;
        while let Ok(batch) = self.batches.recv() {
            let id = batch.id;
            let report = match &lost {
                Some(error) => DeviceReport::Lost { batch: id, members: batch.members, error: error.clone() },
                None => match self.run_batch(batch) {
                    Ok(compute) => DeviceReport::Done { batch: id, compute },
                    Err((members, error)) => {
                        lost = Some(error.clone());
                        DeviceReport::Lost { batch: id, members, error }
                    }
                },
            };
            if self.reports.send(report).is_err() {
                return;
            }
        }
    }

    /// Answers every member. Returns the time that the batch took, if it was computed as it was.
    ///
    /// # Errors
    /// The device is lost; with it come the members that have no answer.
    fn run_batch(&mut self, batch: DeviceBatch<I, O>) -> Result<Option<Duration>, Lost<I, O>> {
        let Batch { model, members, .. } = batch;
        let asked = members.len();
        // Whoever left after the batch was made is not computed.
        let members = members.into_iter().filter(|entry| !entry.request.payload.answer.is_canceled());
        let (inputs, members): (Vec<I>, Vec<Member<O>>) = members.map(split).unzip();
        if inputs.is_empty() {
            return Ok(None);
        }
        let is_whole = inputs.len() == asked;
        let compute = self.run_part(model, inputs, members)?;
        Ok(compute.filter(|_| is_whole))
    }

    /// Runs some members together, and if that fails, each half alone: so that of a batch with an input that cannot be
    /// computed only that one fails.
    fn run_part(
        &mut self,
        model: ModelId,
        mut inputs: Vec<I>,
        mut members: Vec<Member<O>>,
    ) -> Result<Option<Duration>, Lost<I, O>> {
        let began = self.clock.now();
        let result = self.execute(model, &inputs);
        let compute = self.clock.now().saturating_duration_since(began);
        let error = match result {
            Ok(outputs) => {
                self.observer.on_event(&Event::Completed { model, device: self.id, compute });
                answer(members, outputs, began, compute);
                return Ok(Some(compute));
            }
            Err(error) => error,
        };
        self.observer.on_event(&Event::Failed { model, device: self.id, is_fatal: error.is_fatal });
        if error.is_fatal {
            return Err((join(inputs, members), error));
        }
        if inputs.len() == 1 {
            for member in members {
                let _ = member.request.payload.answer.send(Err(Failure::Execution(error.clone())));
            }
            return Ok(None);
        }
        let middle = inputs.len() / 2;
        let (last_inputs, last_members) = (inputs.split_off(middle), members.split_off(middle));
        let first = self.run_in_time(model, inputs, members);
        let last = match first {
            Ok(()) => self.run_in_time(model, last_inputs, last_members),
            Err((mut left, error)) => {
                left.extend(join(last_inputs, last_members));
                Err((left, error))
            }
        };
        last.map(|()| None)
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
        self.run_part(model, inputs, members).map(|_| ())
    }

    fn execute(&mut self, model: ModelId, inputs: &[I]) -> Result<Vec<O>, ExecuteError> {
        // After a panic nothing more is run on this executor, so nobody sees what it left half done.
        let result = catch_unwind(AssertUnwindSafe(|| self.executor.execute(model, inputs)));
        let outputs = result.unwrap_or_else(|_| Err(fatal(DeviceFault::Panicked)))?;
        if outputs.len() == inputs.len() {
            return Ok(outputs);
        }
        Err(fatal(DeviceFault::Outputs { outputs: outputs.len(), inputs: inputs.len() }))
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

fn answer<O>(members: Vec<Member<O>>, outputs: Vec<O>, began: Timestamp, compute: Duration) {
    let batch_sequences = members.len();
    for (member, output) in members.into_iter().zip(outputs) {
        let queue = began.saturating_duration_since(member.enqueued_at);
        // A caller who has just left does not want it.
        let _ =
            member.request.payload.answer.send(Ok(Completion { output, queue, compute, batch_sequences }));
    }
}

fn fatal(fault: DeviceFault) -> ExecuteError {
    ExecuteError { source: Arc::new(fault), is_fatal: true }
}
