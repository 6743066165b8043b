//! Answers in the embedded store, and a table of when each is to go.

use async_trait::async_trait;

use super::writer::{Done, Work};
use super::{AnswerStore, Kept, Name};
use crate::store::{EmbeddedStore, StoreError};
use units::WallTime;

#[async_trait]
impl AnswerStore for EmbeddedStore {
    async fn begin(
        &self,
        now: WallTime,
        name: &Name,
        print: [u8; 32],
        owner: [u8; 16],
        until: WallTime,
    ) -> Result<Option<Kept>, StoreError> {
        match self.answers.order(name, Work::Begin { now, print, owner, until }).await? {
            Done::Begun(found) => Ok(found),
            Done::Changed(_) => Err(StoreError::Corrupt("an idempotency key's answer".to_owned())),
        }
    }

    async fn keep(
        &self,
        now: WallTime,
        name: &Name,
        owner: [u8; 16],
        (answer, owed): (&[u8], Option<&[u8]>),
        until: WallTime,
    ) -> Result<bool, StoreError> {
        let owed = owed.map(<[u8]>::to_vec);
        let work = Work::Keep { now, owner, answer: answer.to_vec(), owed, until };
        let done = self.answers.order(name, work).await?;
        Ok(matches!(done, Done::Changed(true)))
    }

    /// A transaction that fails is not there when the file is opened again, or it is, with what is owed for
    /// the answer; and what the requests had entered may be gone, so that telling it again would be in vain.
    fn is_own(&self) -> bool {
        true
    }

    async fn owe(&self, name: &Name, before: &[u8], after: Option<&[u8]>) -> Result<bool, StoreError> {
        let work = Work::Owe { before: before.to_vec(), after: after.map(<[u8]>::to_vec) };
        let done = self.answers.order(name, work).await?;
        Ok(matches!(done, Done::Changed(true)))
    }

    async fn release(&self, name: &Name, owner: [u8; 16]) -> Result<(), StoreError> {
        self.answers.order(name, Work::Release { owner }).await.map(|_| ())
    }
}
