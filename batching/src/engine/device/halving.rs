//! What is done with a batch that fails: it is halved until the input that spoils it is alone.

use units::ModelId;

use super::super::answer::Failure;
use super::super::executor::ExecuteError;
use super::super::message::Payload;
use super::DeviceThread;
use crate::scheduler::Entry;

/// A member of a batch without its input.
pub(super) type Member<O> = Entry<Payload<(), O>>;

/// Members without an answer, and how their device was lost.
pub(super) type Lost<I, O> = (Vec<Entry<Payload<I, O>>>, ExecuteError);

/// Parts an entry from its input.
pub(super) fn split<I, O>(entry: Entry<Payload<I, O>>) -> (I, Member<O>) {
    let (member, input) = entry
        .map(|Payload { job, input, answer, losses }| (Payload { job, input: (), answer, losses }, input));
    (input, member)
}

/// Undoes [`split`].
pub(super) fn join<I, O>(inputs: Vec<I>, members: Vec<Member<O>>) -> Vec<Entry<Payload<I, O>>> {
    debug_assert_eq!(inputs.len(), members.len(), "an input for each member");
    let whole = |(input, member): (I, Member<O>)| {
        member.map(|Payload { job, answer, losses, .. }| (Payload { job, input, answer, losses }, ())).0
    };
    inputs.into_iter().zip(members).map(whole).collect()
}

impl<I: Send + 'static, O: Send + 'static> DeviceThread<I, O> {
    /// Runs some members together, and if that fails, each half alone: so that of a batch with an input that
    /// cannot be computed, or for which there is no memory, only that one fails.
    fn run_part(
        &mut self,
        model: ModelId,
        inputs: Vec<I>,
        members: Vec<Member<O>>,
    ) -> Result<(), Lost<I, O>> {
        let began = self.surroundings.clock.now();
        let result = self.guarded(|executor| executor.execute(model, &inputs));
        match self.counted(result, inputs.len()) {
            Ok(outputs) => {
                self.answer(model, began, members, outputs);
                Ok(())
            }
            Err(error) if error.is_fatal => Err((join(inputs, members), error)),
            Err(error) => self.run_halves(model, inputs, members, &error),
        }
    }

    /// What is left to do for members who cannot be computed together.
    pub(super) fn run_halves(
        &mut self,
        model: ModelId,
        mut inputs: Vec<I>,
        mut members: Vec<Member<O>>,
        error: &ExecuteError,
    ) -> Result<(), Lost<I, O>> {
        self.failed(model, error);
        if inputs.len() == 1 {
            for member in members {
                let _ = member.sequence.payload.answer.send(Err(Failure::Execution(error.clone())));
            }
            return Ok(());
        }
        debug_assert!(inputs.len() == members.len() && inputs.len() > 1, "there are two halves");
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
        let now = self.surroundings.clock.now();
        let (in_time, late): (Vec<_>, Vec<_>) =
            inputs.into_iter().zip(members).partition(|(_, member)| member.sequence.deadline > now);
        for (_, member) in late {
            let _ = member.sequence.payload.answer.send(Err(Failure::DeadlineExceeded));
        }
        if in_time.is_empty() {
            return Ok(());
        }
        let (inputs, members) = in_time.into_iter().unzip();
        self.run_part(model, inputs, members)
    }
}
