//! From the inputs of a call to its results, the same for every task: each input is read by itself, and where
//! the caller wants it so, one that cannot be read has an error in the place of its result.

use models_core::tasks::{DecodeError, Input, InputError, OnError, Refusals, TaskResult};
use std::future::Future;

use super::reading::{Jobs, Outputs, check_visible};
use super::{Context, Decode};

/// A task, its parameters checked: how one input is read, and what its outputs come to.
pub(super) trait Reader: Send + Sync + 'static {
    /// What is kept of an input until its outputs are there.
    type Input: Send;
    /// What all inputs share of the outputs.
    type Shared: Default;

    /// Reads one input and adds its jobs.
    ///
    /// # Errors
    /// The input's own fault: whatever is wrong with the call was found when the task was made.
    fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
    ) -> impl Future<Output = Result<Self::Input, InputError>> + Send;

    /// Reads what all inputs share, if there is one that can be read.
    ///
    /// # Errors
    /// A fault of the call.
    fn read_shared(
        &mut self,
        _: &Context<'_>,
        _: &mut Jobs<'_>,
    ) -> impl Future<Output = Result<(), InputError>> + Send {
        std::future::ready(Ok(()))
    }

    /// What all inputs share of the outputs.
    ///
    /// # Errors
    /// Outputs that are not what the model's head should give.
    fn share(&self, _: &Outputs) -> Result<Self::Shared, DecodeError> {
        Ok(Self::Shared::default())
    }

    /// The result of one input.
    ///
    /// # Errors
    /// Outputs that are not what the model's head should give.
    fn decode(
        &self,
        input: &Self::Input,
        shared: &Self::Shared,
        outputs: &Outputs,
    ) -> Result<TaskResult, DecodeError>;
}

/// The inputs of a call.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    pub(super) texts: &'a [Input],
    pub(super) on_error: OnError,
}

/// Inputs that were read, or why not, in order.
struct Readings<R: Reader> {
    reader: R,
    inputs: Vec<Result<R::Input, InputError>>,
}

/// Reads the inputs of a call.
///
/// # Errors
/// An input cannot be read and the call fails with it, or a fault of the call.
pub(super) async fn read<R: Reader>(
    mut reader: R,
    context: Context<'_>,
    jobs: &mut Jobs<'_>,
    Texts { texts, on_error }: Texts<'_>,
) -> Result<(Box<dyn Decode>, Refusals), InputError> {
    if on_error == OnError::Fail {
        // Before work on any.
        texts.iter().enumerate().try_for_each(|(index, input)| match input {
            Input::Text(text) => no_nul(index, text),
            Input::Tokens(_) => Ok(()),
        })?;
    }
    let mut inputs = Vec::with_capacity(texts.len());
    let mut refusals = Refusals::default();
    for (index, input) in texts.iter().enumerate() {
        let (begun, spent) = (jobs.count_of(), jobs.pace().spent());
        let seen = match input {
            Input::Text(text) => no_nul(index, text).and_then(|()| check_visible(index, text)),
            Input::Tokens(_) => Ok(()),
        };
        let input = match seen {
            Ok(()) => reader.read(&context, jobs, index, input).await,
            Err(error) => Err(error),
        };
        match (&input, on_error) {
            (Ok(_), _) => {}
            (Err(error), OnError::Fail) => return Err(error.clone()),
            (Err(_), OnError::Partial) => {
                jobs.forget(begun);
                refusals.add(jobs.pace().spent() > spent);
            }
        }
        inputs.push(input);
    }
    if inputs.iter().any(Result::is_ok) {
        reader.read_shared(&context, jobs).await?;
    }
    Ok((Box::new(Readings { reader, inputs }), refusals))
}

/// The text of an input, for tasks that need one: they give offsets in it, or its sentences.
///
/// # Errors
/// It is token ids.
pub(super) fn text(index: usize, input: &Input) -> Result<&str, InputError> {
    match input {
        Input::Text(text) => Ok(text),
        Input::Tokens(_) => Err(InputError::Form { index, found: "token ids", needed: "a text" }),
    }
}

/// The token ids of an input, for the task that needs them.
///
/// # Errors
/// It is a text.
pub(super) fn tokens(index: usize, input: &Input) -> Result<&[u32], InputError> {
    match input {
        Input::Text(_) => Err(InputError::Form { index, found: "a text", needed: "token ids" }),
        Input::Tokens(ids) => Ok(ids),
    }
}

fn no_nul(index: usize, text: &str) -> Result<(), InputError> {
    match text.chars().position(|c| c == '\0') {
        Some(offset) => Err(InputError::Nul { index, offset }),
        None => Ok(()),
    }
}

impl<R: Reader> Decode for Readings<R> {
    fn decode(
        self: Box<Self>,
        outputs: &Outputs,
    ) -> Result<Vec<Result<TaskResult, InputError>>, DecodeError> {
        let Self { reader, inputs } = *self;
        if inputs.iter().all(Result::is_err) {
            return Ok(inputs.into_iter().filter_map(Result::err).map(Err).collect());
        }
        let shared = reader.share(outputs)?;
        let result = |input: Result<R::Input, InputError>| match input {
            Ok(input) => reader.decode(&input, &shared, outputs).map(Ok),
            Err(error) => Ok(Err(error)),
        };
        inputs.into_iter().map(result).collect()
    }
}
