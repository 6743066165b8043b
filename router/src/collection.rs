//! Sees to it that a kept answer is recorded before anybody gets it, and once: see [`Owed`].

use units::WallTime;

use crate::Gatekeeper;
use crate::idempotency::{Idempotency, IdempotencyError, Owed, StoredOwed, Unrecorded};
use crate::ledger::JournalError;

/// How it stands with the record of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// It is in a journal, or whoever has the journal was told to write it.
    Yes,
    /// Somebody is about to write it.
    Underway {
        /// Whether this server is.
        is_here: bool,
        /// Until when at the latest.
        left: std::time::Duration,
    },
}

/// Why the record of an answer was not written; it will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
}

impl Gatekeeper {
    /// Has an answer recorded that may not be; `own` is the name of this server's journal.
    ///
    /// # Errors
    /// It is not recorded, and must not be given to anybody.
    pub async fn collect(
        &self,
        now: WallTime,
        own: &str,
        answers: &Idempotency,
        unrecorded: &Unrecorded,
    ) -> Result<Collected, CollectError> {
        let Unrecorded { owed, until, .. } = unrecorded;
        if owed.owed.journal != own {
            if *until > now {
                return Ok(Collected::Underway { is_here: false, left: until.since(now) });
            }
            answers.hand_over(owed).await?;
            return Ok(Collected::Yes);
        }
        let is_recorded = self.settle(answers, owed).await? == Some(true);
        let underway = Collected::Underway { is_here: true, left: std::time::Duration::ZERO };
        Ok(if is_recorded { Collected::Yes } else { underway })
    }

    /// Writes what other servers found to be owed to this one's journal. To be called every few seconds.
    ///
    /// # Errors
    /// The store or the journal does not do it; what is left is seen to later.
    pub async fn collect_handed_over(&self, own: &str, answers: &Idempotency) -> Result<(), CollectError> {
        for (name, owed) in answers.handed_over(own).await? {
            let is_open = match &owed {
                Some(owed) => self.settle(answers, owed).await? != Some(true),
                // It was seen to, or is gone with its answer.
                None => false,
            };
            if !is_open {
                answers.taken_over(own, &name).await?;
            }
        }
        Ok(())
    }

    /// Writes a record if it is not in the journal. Returns whether it is there: not if what is owed is
    /// something else by now, and none if somebody else is about to write it.
    async fn settle(&self, answers: &Idempotency, owed: &StoredOwed) -> Result<Option<bool>, CollectError> {
        let Some(_alone) = answers.settle_alone(&owed.name) else { return Ok(None) };
        let journal = self.journal();
        let Owed { journal: name, epoch, from, record } = &owed.owed;
        if journal.has(epoch, *from, record).await? {
            answers.recorded(owed).await;
            return Ok(Some(true));
        }
        // Were it written and this not noted, it would be looked for where it is not.
        let (epoch, from) = (journal.epoch().to_owned(), journal.written());
        let again = Owed { journal: name.clone(), epoch, from, record: record.clone() };
        let Some(owed) = answers.owe_again(owed, again).await? else { return Ok(Some(false)) };
        tracing::warn!(request_id = %record.request_id, "the record of a kept answer was not written before; it is now");
        self.record(record.clone()).await?;
        answers.recorded(&owed).await;
        Ok(Some(true))
    }
}
