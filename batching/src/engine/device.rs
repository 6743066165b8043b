//! The thread that drives one device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use futures_channel::oneshot;

use super::clock::Clock;
use super::executor::{ExecuteError, Executor};
use super::scheduling::DeviceBatch;
use super::ticket::{Answer, Completion, Failure};
use super::{Sentinel, State};
use crate::event::{Event, Observer};
use crate::scheduler::{Batch, BatchId};
use crate::units::{DeviceId, ModelId, Timestamp};

pub(super) struct DeviceThread<I, O> {
    pub(super) id: DeviceId,
    pub(super) executor: Box<dyn Executor<Input = I, Output = O>>,
    pub(super) batches: Receiver<DeviceBatch<I, O>>,
    pub(super) completed: Sender<(BatchId, Option<Duration>)>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) state: Arc<State>,
}

/// A member of a batch, without its input.
struct Member<O> {
    answer: oneshot::Sender<Answer<O>>,
    enqueued_at: Timestamp,
}

/// What members are told when their batch is not computed because the device is lost, or the executor broke its word.
#[derive(Debug, thiserror::Error)]
enum DeviceFault {
    #[error("the executor panicked")]
    Panicked,
    #[error("the device was lost earlier")]
    Lost,
    #[error("the executor gave {outputs} outputs for {inputs} inputs")]
    Outputs { outputs: usize, inputs: usize },
}

impl<I: Send + 'static, O: Send + 'static> DeviceThread<I, O> {
    /// Runs batches until there are no more.
    pub(super) fn run(mut self) {
        let _sentinel = Sentinel(Arc::clone(&self.state));
        let mut is_lost = false;
        while let Ok(batch) = self.batches.recv() {
            let id = batch.id;
            let (lost, compute) = self.run_batch(batch, is_lost);
            is_lost |= lost;
            if is_lost {
                self.state.is_healthy.store(false, Ordering::Release);
            }
            if self.completed.send((id, compute)).is_err() {
                return;
            }
        }
    }

    /// Answers every member. Returns whether the device was lost.
    fn run_batch(&mut self, batch: DeviceBatch<I, O>, is_lost: bool) -> (bool, Option<Duration>) {
        let Batch { model, members, .. } = batch;
        let mut inputs = Vec::with_capacity(members.len());
        let mut waiting = Vec::with_capacity(members.len());
        for entry in members {
            let payload = entry.request.payload;
            // Whoever left after the batch was made is not computed.
            if !payload.answer.is_canceled() {
                inputs.push(payload.input);
                waiting.push(Member { answer: payload.answer, enqueued_at: entry.enqueued_at });
            }
        }
        if inputs.is_empty() {
            return (false, None);
        }
        let began = self.clock.now();
        let result = if is_lost { Err(fatal(DeviceFault::Lost)) } else { self.execute(model, inputs) };
        let compute = self.clock.now().saturating_duration_since(began);
        match result {
            Ok(outputs) => {
                self.observer.on_event(&Event::Completed { model, device: self.id, compute });
                answer(waiting, outputs, began, compute);
                (false, Some(compute))
            }
            Err(error) => {
                let is_fatal = error.is_fatal;
                self.observer.on_event(&Event::Failed { model, device: self.id, is_fatal });
                for member in waiting {
                    let _ = member.answer.send(Err(Failure::Execution(error.clone())));
                }
                (is_fatal, None)
            }
        }
    }

    fn execute(&mut self, model: ModelId, inputs: Vec<I>) -> Result<Vec<O>, ExecuteError> {
        let count = inputs.len();
        // After a panic nothing more is run on this executor, so nobody sees what it left half done.
        let result = catch_unwind(AssertUnwindSafe(|| self.executor.execute(model, inputs)));
        let outputs = result.unwrap_or_else(|_| Err(fatal(DeviceFault::Panicked)))?;
        if outputs.len() == count {
            return Ok(outputs);
        }
        Err(fatal(DeviceFault::Outputs { outputs: outputs.len(), inputs: count }))
    }
}

fn answer<O>(members: Vec<Member<O>>, outputs: Vec<O>, began: Timestamp, compute: Duration) {
    let batch_sequences = members.len();
    for (Member { answer, enqueued_at }, output) in members.into_iter().zip(outputs) {
        let queue = began.saturating_duration_since(enqueued_at);
        // A caller who has just left does not want it.
        let _ = answer.send(Ok(Completion { output, queue, compute, batch_sequences }));
    }
}

fn fatal(fault: DeviceFault) -> ExecuteError {
    ExecuteError { source: Arc::new(fault), is_fatal: true }
}
