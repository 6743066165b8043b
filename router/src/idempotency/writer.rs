//! One thread writes the answers of a file: whatever waits for it goes into one transaction, so that many
//! callers cost one write to the disk and no thread each. What only says that somebody has begun, or has
//! given up, is not waited for: with a power failure it may be lost, and is then as if it had not been.

use std::sync::Arc;
use std::thread::JoinHandle;

use redb::{Database, Durability, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};

use super::{Kept, Name};
use crate::store::{ANSWER_ENDS, ANSWERS, AnswerRow, File, OWED, StoreError, unavailable};
use units::WallTime;

/// Answers whose time is over that are removed whenever one is entered: more than one, so that they do not
/// pile up.
const REMOVED_AT_ONCE: usize = 8;
/// Orders that wait for the writer, and that it does in one transaction; more wait with their callers.
const ORDERS_MAX: usize = 256;

/// The thread that writes answers.
pub(crate) struct Writer {
    /// Gone once it is told to end.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

struct Order {
    key: String,
    work: Work,
    reply: oneshot::Sender<Result<Done, StoreError>>,
}

pub(super) enum Work {
    Begin { now: WallTime, print: [u8; 32], owner: [u8; 16], until: WallTime },
    Keep { now: WallTime, owner: [u8; 16], answer: Vec<u8>, owed: Option<Vec<u8>>, until: WallTime },
    Owe { before: Vec<u8>, after: Option<Vec<u8>> },
    Release { owner: [u8; 16] },
}

pub(super) enum Done {
    /// What was there already.
    Begun(Option<Kept>),
    /// Whether the request was its owner's.
    Changed(bool),
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(crate) fn start(file: Arc<File>) -> Result<Self, StoreError> {
        let (orders, mut queue) = mpsc::channel::<Order>(ORDERS_MAX);
        let write = move || {
            let mut batch = Vec::with_capacity(ORDERS_MAX);
            // None at the end.
            while queue.blocking_recv_many(&mut batch, ORDERS_MAX) > 0 {
                let done = file.run(|database| carry_out(database, &batch));
                answer(batch.drain(..), done);
            }
        };
        let thread = std::thread::Builder::new().name("answers".to_owned()).spawn(write);
        Ok(Self { orders: Some(orders), thread: Some(thread.map_err(unavailable)?) })
    }

    pub(super) async fn order(&self, name: &Name, work: Work) -> Result<Done, StoreError> {
        let ended = || StoreError::Unavailable("the writer of answers has ended".to_owned());
        let (reply, done) = oneshot::channel();
        let order = Order { key: format!("{}/{}", name.tenant, name.digest), work, reply };
        self.orders.as_ref().ok_or_else(ended)?.send(order).await.map_err(|_| ended())?;
        done.await.map_err(|_| ended())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        // It has little to do, and the file is to be closed when the store is gone.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Tells each caller what became of its order.
fn answer(orders: impl Iterator<Item = Order>, done: Result<Vec<Done>, StoreError>) {
    match done {
        Ok(done) => orders.zip(done).for_each(|(order, done)| {
            // Who has left wants to know nothing.
            let _ = order.reply.send(Ok(done));
        }),
        Err(error) => orders.for_each(|order| {
            let error = match &error {
                StoreError::Corrupt(problem) => StoreError::Corrupt(problem.clone()),
                other => unavailable(other),
            };
            let _ = order.reply.send(Err(error));
        }),
    }
}

/// An answer, what is owed for it, and until when it is kept.
type Given<'a> = (&'a [u8], Option<&'a [u8]>, WallTime);

/// The answers, when each is to go, and what is owed for them.
struct Tables<'t> {
    answers: Table<'t, &'static str, AnswerRow<'static>>,
    ends: Table<'t, (u64, &'static str), ()>,
    owed: Table<'t, &'static str, &'static [u8]>,
}

/// Carries out orders one after the other, in one transaction.
fn carry_out(database: &Database, orders: &[Order]) -> Result<Vec<Done>, StoreError> {
    let mut write = database.begin_write().map_err(unavailable)?;
    let mut must_last = false;
    let done: Result<Vec<Done>, StoreError> = {
        let mut tables = Tables {
            answers: write.open_table(ANSWERS).map_err(unavailable)?,
            ends: write.open_table(ANSWER_ENDS).map_err(unavailable)?,
            owed: write.open_table(OWED).map_err(unavailable)?,
        };
        let carried = orders.iter().map(|Order { key, work, .. }| match work {
            Work::Begin { now, print, owner, until } => {
                tables.begin(*now, key, (print, owner, until.0, None)).map(Done::Begun)
            }
            Work::Keep { now, owner, answer, owed, until } => {
                must_last = true;
                let answer = Some((answer.as_slice(), owed.as_deref(), *until));
                tables.change(key, *owner, answer, *now).map(Done::Changed)
            }
            Work::Owe { before, after } => {
                // What is noted no more is looked for in the journal.
                must_last |= after.is_some();
                tables.owe(key, before, after.as_deref()).map(Done::Changed)
            }
            Work::Release { owner } => {
                // An answer that must not be given again must not come back either.
                let row = tables.answers.get(key.as_str()).map_err(unavailable)?;
                must_last |= row.is_some_and(|row| row.value().3.is_some());
                tables.change(key, *owner, None, WallTime(0)).map(Done::Changed)
            }
        });
        carried.collect()
    };
    let done = done?;
    if !must_last {
        write.set_durability(Durability::None).map_err(unavailable)?;
    }
    write.commit().map_err(unavailable)?;
    Ok(done)
}

impl Tables<'_> {
    fn begin(&mut self, now: WallTime, key: &str, new: AnswerRow<'_>) -> Result<Option<Kept>, StoreError> {
        for _ in 0..REMOVED_AT_ONCE {
            let first = self.ends.first().map_err(unavailable)?.map(|(end, _)| {
                let (at, key) = end.value();
                (at, key.to_owned())
            });
            let Some((at, old)) = first.filter(|(at, _)| *at <= now.0) else { break };
            self.ends.remove((at, old.as_str())).map_err(unavailable)?;
            self.answers.remove(old.as_str()).map_err(unavailable)?;
            self.owed.remove(old.as_str()).map_err(unavailable)?;
        }
        let found = self.answers.get(key).map_err(unavailable)?.map(|row| kept(row.value())).transpose()?;
        let found = found.filter(|kept| kept.until > now);
        let Some(mut found) = found else {
            self.answers.insert(key, new).map_err(unavailable)?;
            self.ends.insert((new.2, key), ()).map_err(unavailable)?;
            self.owed.remove(key).map_err(unavailable)?;
            return Ok(None);
        };
        found.owed = self.owed.get(key).map_err(unavailable)?.map(|owed| owed.value().to_vec());
        Ok(Some(found))
    }

    /// Gives a request its answer, what is owed for it and a new end, or removes it without one; if it is its
    /// owner's and its time is not over. Says whether it was.
    fn change(
        &mut self,
        key: &str,
        owner: [u8; 16],
        answer: Option<Given<'_>>,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let found = self.answers.get(key).map_err(unavailable)?.and_then(|row| {
            let (print, old_owner, end, kept) = row.value();
            (old_owner == owner && end > now.0).then(|| (print.to_vec(), end, kept.is_some()))
        });
        let Some((print, end, is_answered)) = found else { return Ok(false) };
        if answer.is_none() && is_answered && self.owed.get(key).map_err(unavailable)?.is_none() {
            return Ok(false);
        }
        self.ends.remove((end, key)).map_err(unavailable)?;
        if let Some((answer, owed, until)) = answer {
            let row: AnswerRow<'_> = (&print, &owner, until.0, Some(answer));
            self.answers.insert(key, row).map_err(unavailable)?;
            self.ends.insert((until.0, key), ()).map_err(unavailable)?;
            if let Some(owed) = owed {
                self.owed.insert(key, owed).map_err(unavailable)?;
            }
        } else {
            self.answers.remove(key).map_err(unavailable)?;
            self.owed.remove(key).map_err(unavailable)?;
        }
        Ok(true)
    }

    fn owe(&mut self, key: &str, before: &[u8], after: Option<&[u8]>) -> Result<bool, StoreError> {
        let is_same = self.owed.get(key).map_err(unavailable)?.is_some_and(|owed| owed.value() == before);
        if is_same {
            match after {
                Some(after) => self.owed.insert(key, after).map_err(unavailable)?,
                None => self.owed.remove(key).map_err(unavailable)?,
            };
        }
        Ok(is_same)
    }
}

fn kept((print, _, until, answer): AnswerRow<'_>) -> Result<Kept, StoreError> {
    let print = print.try_into().map_err(|_| StoreError::Corrupt("an idempotency key's hash".to_owned()))?;
    Ok(Kept { print, until: WallTime(until), answer: answer.map(<[u8]>::to_vec), owed: None })
}
