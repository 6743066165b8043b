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
        answer: &[u8],
        until: WallTime,
    ) -> Result<bool, StoreError> {
        let work = Work::Keep { now, owner, answer: answer.to_vec(), until };
        let done = self.answers.order(name, work).await?;
        Ok(matches!(done, Done::Changed(true)))
    }

    async fn release(&self, name: &Name, owner: [u8; 16]) -> Result<(), StoreError> {
        self.answers.order(name, Work::Release { owner }).await.map(|_| ())
    }
}
