//! One thread writes the answers of a file: whatever waits for it goes into one transaction, so that many
//! callers cost one write to the disk and no thread each. What only says that somebody has begun, or has
//! given up, is not waited for: with a power failure it may be lost, and is then as if it had not been.

use std::sync::Arc;
use std::thread::JoinHandle;

use redb::{Database, Durability, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};

use super::{Kept, Name};
use crate::store::{ANSWER_ENDS, ANSWERS, AnswerRow, File, StoreError, unavailable};
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
    Keep { now: WallTime, owner: [u8; 16], answer: Vec<u8>, until: WallTime },
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

type Answers<'t> = Table<'t, &'static str, AnswerRow<'static>>;
type Ends<'t> = Table<'t, (u64, &'static str), ()>;

/// Carries out orders one after the other, in one transaction.
fn carry_out(database: &Database, orders: &[Order]) -> Result<Vec<Done>, StoreError> {
    let mut write = database.begin_write().map_err(unavailable)?;
    let mut must_last = false;
    let done: Result<Vec<Done>, StoreError> = {
        let mut answers = write.open_table(ANSWERS).map_err(unavailable)?;
        let mut ends = write.open_table(ANSWER_ENDS).map_err(unavailable)?;
        let carried = orders.iter().map(|Order { key, work, .. }| match work {
            Work::Begin { now, print, owner, until } => {
                begin(&mut answers, &mut ends, *now, key, (print, owner, until.0, None)).map(Done::Begun)
            }
            Work::Keep { now, owner, answer, until } => {
                must_last = true;
                let answer = Some((answer.as_slice(), *until));
                change(&mut answers, &mut ends, key, *owner, answer, *now).map(Done::Changed)
            }
            Work::Release { owner } => {
                // An answer that must not be given again must not come back either.
                let row = answers.get(key.as_str()).map_err(unavailable)?;
                must_last |= row.is_some_and(|row| row.value().3.is_some());
                change(&mut answers, &mut ends, key, *owner, None, WallTime(0)).map(Done::Changed)
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

fn begin(
    answers: &mut Answers<'_>,
    ends: &mut Ends<'_>,
    now: WallTime,
    key: &str,
    new: AnswerRow<'_>,
) -> Result<Option<Kept>, StoreError> {
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
    Ok(found)
}

fn kept((print, _, until, answer): AnswerRow<'_>) -> Result<Kept, StoreError> {
    let print = print.try_into().map_err(|_| StoreError::Corrupt("an idempotency key's hash".to_owned()))?;
    Ok(Kept { print, until: WallTime(until), answer: answer.map(<[u8]>::to_vec) })
}

/// Gives a request its answer and a new end, or removes it without one; if it is its owner's and its time is
/// not over. Says whether it was.
fn change(
    answers: &mut Answers<'_>,
    ends: &mut Ends<'_>,
    key: &str,
    owner: [u8; 16],
    answer: Option<(&[u8], WallTime)>,
    now: WallTime,
) -> Result<bool, StoreError> {
    let found = answers.get(key).map_err(unavailable)?.and_then(|row| {
        let (print, old_owner, end, _) = row.value();
        (old_owner == owner && end > now.0).then(|| (print.to_vec(), end))
    });
    let Some((print, end)) = found else { return Ok(false) };
    ends.remove((end, key)).map_err(unavailable)?;
    if let Some((answer, until)) = answer {
        let row: AnswerRow<'_> = (&print, &owner, until.0, Some(answer));
        answers.insert(key, row).map_err(unavailable)?;
        ends.insert((until.0, key), ()).map_err(unavailable)?;
    } else {
        answers.remove(key).map_err(unavailable)?;
    }
    Ok(true)
}
