//! Answers in the embedded store, and a table of when each is to go.

use async_trait::async_trait;
use redb::{Database, Durability, ReadableTable};

use super::{AnswerStore, Kept, Name};
use crate::store::{ANSWER_ENDS, ANSWERS, AnswerRow, EmbeddedStore, StoreError, unavailable};
use crate::wall_time::WallTime;

/// Answers whose time is over that are removed whenever one is entered: more than one, so that they do not pile up.
const REMOVED_AT_ONCE: usize = 8;

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
        let key = key(name);
        self.run(move |database| begin(database, now, &key, (&print, &owner, until.0, None))).await
    }

    async fn keep(
        &self,
        now: WallTime,
        name: &Name,
        owner: [u8; 16],
        answer: &[u8],
        until: WallTime,
    ) -> Result<bool, StoreError> {
        let (key, answer) = (key(name), answer.to_vec());
        self.run(move |database| change(database, &key, owner, Some((&answer, until)), now)).await
    }

    async fn release(&self, name: &Name, owner: [u8; 16]) -> Result<(), StoreError> {
        let key = key(name);
        self.run(move |database| change(database, &key, owner, None, WallTime(0))).await.map(|_| ())
    }
}

fn key(name: &Name) -> String {
    format!("{}/{}", name.tenant, name.digest)
}

fn begin(
    database: &Database,
    now: WallTime,
    key: &str,
    new: AnswerRow<'_>,
) -> Result<Option<Kept>, StoreError> {
    let mut write = database.begin_write().map_err(unavailable)?;
    // What is lost with a power failure is only that somebody had begun.
    write.set_durability(Durability::None).map_err(unavailable)?;
    let found = {
        let mut answers = write.open_table(ANSWERS).map_err(unavailable)?;
        let mut ends = write.open_table(ANSWER_ENDS).map_err(unavailable)?;
        for _ in 0..REMOVED_AT_ONCE {
            let first = ends.first().map_err(unavailable)?.map(|(end, _)| {
                let (at, key) = end.value();
                (at, key.to_owned())
            });
            let Some((at, old)) = first.filter(|(at, _)| *at <= now.0) else { break };
            ends.remove((at, old.as_str())).map_err(unavailable)?;
            answers.remove(old.as_str()).map_err(unavailable)?;
        }
        let found = answers.get(key).map_err(unavailable)?.map(|row| kept(row.value())).transpose()?;
        let found = found.filter(|kept| kept.until > now);
        if found.is_none() {
            answers.insert(key, new).map_err(unavailable)?;
            ends.insert((new.2, key), ()).map_err(unavailable)?;
        }
        found
    };
    write.commit().map_err(unavailable)?;
    Ok(found)
}

fn kept((print, _, until, answer): AnswerRow<'_>) -> Result<Kept, StoreError> {
    let print = print.try_into().map_err(|_| StoreError::Corrupt("an idempotency key's hash".to_owned()))?;
    Ok(Kept { print, until: WallTime(until), answer: answer.map(<[u8]>::to_vec) })
}

/// Gives an unanswered request its answer and a new end, or removes it without one; if it is its owner's and its time is not over.
/// Says whether it was.
fn change(
    database: &Database,
    key: &str,
    owner: [u8; 16],
    answer: Option<(&[u8], WallTime)>,
    now: WallTime,
) -> Result<bool, StoreError> {
    let write = database.begin_write().map_err(unavailable)?;
    {
        let mut answers = write.open_table(ANSWERS).map_err(unavailable)?;
        let mut ends = write.open_table(ANSWER_ENDS).map_err(unavailable)?;
        let found = answers.remove(key).map_err(unavailable)?.and_then(|row| {
            let (print, old_owner, end, _) = row.value();
            (old_owner == owner && end > now.0).then(|| (print.to_vec(), end))
        });
        let Some((print, end)) = found else {
            // Nothing is committed.
            return Ok(false);
        };
        ends.remove((end, key)).map_err(unavailable)?;
        if let Some((answer, until)) = answer {
            let row: AnswerRow<'_> = (&print, &owner, until.0, Some(answer));
            answers.insert(key, row).map_err(unavailable)?;
            ends.insert((until.0, key), ()).map_err(unavailable)?;
        }
    }
    write.commit().map_err(unavailable)?;
    Ok(true)
}
