//! What the store of answers did not confirm, told again until it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{AnswerStore, KEPT, Name};
use crate::store::StoreError;
use units::WallTime;

/// How often the store is told again.
const AGAIN_EVERY: Duration = Duration::from_millis(500);
/// Bytes of answers that wait to be told again. What is beyond that is given up.
const BYTES_MAX: usize = 64 << 20;
/// What each takes beside its answer, in bytes.
const OVERHEAD: usize = 512;

/// Tells the store again, each on a task of its own, within bounds.
pub(super) struct Later {
    store: Arc<dyn AnswerStore>,
    bytes: Arc<Semaphore>,
    given_up: Arc<AtomicU64>,
}

/// What is told.
enum Message {
    Keep { now: WallTime, answer: Vec<u8>, owed: Option<Vec<u8>> },
    Release,
}

impl Later {
    pub(super) fn new(store: Arc<dyn AnswerStore>) -> Self {
        Self { store, bytes: Arc::new(Semaphore::new(BYTES_MAX)), given_up: Arc::default() }
    }

    /// Keeps an answer until the store says that it has it or that the request is not its owner's, for at
    /// most `patience`.
    pub(super) fn keep(
        &self,
        now: WallTime,
        name: Name,
        owner: [u8; 16],
        (answer, owed): (Vec<u8>, Option<Vec<u8>>),
        patience: Duration,
    ) {
        self.tell(name, owner, Message::Keep { now, answer, owed }, patience);
    }

    /// Forgets a request, trying for at most `patience`.
    pub(super) fn release(&self, name: Name, owner: [u8; 16], patience: Duration) {
        self.tell(name, owner, Message::Release, patience);
    }

    /// Answers that were given up.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    fn tell(&self, name: Name, owner: [u8; 16], message: Message, patience: Duration) {
        let size = OVERHEAD
            + match &message {
                Message::Keep { answer, .. } => answer.len(),
                Message::Release => 0,
            };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let (store, given_up) = (Arc::clone(&self.store), Arc::clone(&self.given_up));
        let give_up = move |message: &Message| {
            if matches!(message, Message::Keep { .. }) {
                given_up.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("an answer could not be kept: its request would be charged again");
            }
        };
        let Ok(place) = Arc::clone(&self.bytes).try_acquire_many_owned(size) else {
            give_up(&message);
            return;
        };
        tokio::spawn(async move {
            let _place = place;
            for _ in 0..patience.as_millis() / AGAIN_EVERY.as_millis() {
                tokio::time::sleep(AGAIN_EVERY).await;
                let told = match &message {
                    Message::Keep { now, answer, owed } => {
                        let until = now.plus(KEPT);
                        store.keep(*now, &name, owner, (answer, owed.as_deref()), until).await
                    }
                    Message::Release => store.release(&name, owner).await.map(|()| true),
                };
                match told {
                    Err(StoreError::Unavailable(_)) => {}
                    Ok(true) => return,
                    // Its owner's time is over.
                    Ok(false) | Err(_) => break,
                }
            }
            give_up(&message);
        });
    }
}
