//! What a caller holds while its sequence is with the engine.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_channel::oneshot;

use super::answer::{Answer, Failure};
use super::message::Command;
use super::sync::Sender;

/// A future of a sequence's output, for any async runtime. Dropping it before it resolves cancels the
/// sequence.
#[must_use = "dropping a ticket cancels its sequence"]
pub struct Ticket<O> {
    answer: oneshot::Receiver<Answer<O>>,
    canceller: Option<Box<dyn Cancel>>,
}

/// Tells the scheduler that a caller has left.
pub(super) struct Canceller<I, O> {
    id: u64,
    commands: Sender<Command<I, O>>,
}

/// Hides the input's type, which is none of a ticket's business.
trait Cancel: Send + Sync {
    fn cancel(&self);
}

impl<O> Ticket<O> {
    pub(super) fn new<I: Send + 'static>(
        answer: oneshot::Receiver<Answer<O>>,
        canceller: Canceller<I, O>,
    ) -> Self
    where
        O: Send + 'static,
    {
        Self { answer, canceller: Some(Box::new(canceller)) }
    }
}

impl<O> Future for Ticket<O> {
    type Output = Answer<O>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| {
            self.canceller = None;
            answer.unwrap_or(Err(Failure::ShutDown))
        })
    }
}

impl<O> Drop for Ticket<O> {
    fn drop(&mut self) {
        if let Some(canceller) = self.canceller.take() {
            self.answer.close();
            canceller.cancel();
        }
    }
}

impl<I, O> Canceller<I, O> {
    pub(super) fn new(id: u64, commands: &Sender<Command<I, O>>) -> Self {
        Self { id, commands: commands.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> Cancel for Canceller<I, O> {
    fn cancel(&self) {
        // If there is no room for it, the closed answer channel still keeps the sequence from being computed:
        // only its place in the queue is freed later.
        let _ = self.commands.try_send(Command::Cancel(self.id));
    }
}
