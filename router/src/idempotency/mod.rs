//! Requests that may be sent again: an answer is kept for a while under a key of the caller's choice, and
//! whoever sends the same request with the same key gets it again, without anything being computed or charged
//! again (IETF draft "The Idempotency-Key HTTP Header Field", draft-ietf-httpapi-idempotency-key-header).
//!
//! The same request is one of the same principal to the same route with the same body: for anybody else the
//! key is used already. A server still makes every check of a repetition that it made of the first request.
//! Of an answer that shows a secret only the rest is kept. A tenant's kept answers are bounded, in number and
//! in bytes, and who is at the bound is refused before anything is computed: an answer that was promised to
//! be kept is not dropped for another.
//!
//! What is kept may be a customer's text, so it is sealed with AES-256-GCM under a key of the tenant's own,
//! which is derived from the deployment's secret; of the request only a keyed hash is kept.

mod embedded;
mod later;
mod owed;
mod redis;
mod room;
mod writer;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};

pub(crate) use writer::Writer;

use crate::key::{KeySecret, RandomError, random};
use crate::store::StoreError;
use units::WallTime;

use later::Later;
pub use owed::{Owed, StoredOwed, Unrecorded};
pub use room::{AnswerRoom, Room};

/// How long answers are kept.
pub const KEPT: Duration = Duration::from_secs(86_400);
/// How long an answer waits until it is noted that it is recorded.
const NOTING: Duration = Duration::from_millis(100);
/// How long what is known of a tenant's kept answers is good enough.
const ROOM_FRESH: Duration = Duration::from_secs(5);
/// Tenants whose kept answers are remembered; beyond that they are asked for again.
const ROOMS_MAX: usize = 10_000;
/// Length of a nonce before what it seals (NIST SP 800-38D, section 8.2).
const NONCE_LENGTH: usize = 12;

/// An answer, as it went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    pub body: Vec<u8>,
}

/// A request with a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyedRequest<'a> {
    /// The tenant. Keys of different tenants have nothing to do with each other.
    pub tenant: &'a str,
    /// Who of the tenant sends it: the id of its API key, or the subject of its token. Nobody else may have
    /// the answer.
    pub principal: &'a str,
    /// The caller's key.
    pub key: &'a str,
    /// Where it goes to.
    pub route: &'a str,
    pub body: &'a [u8],
}

/// What becomes of a request with a key.
#[derive(Debug)]
pub enum KeyState {
    /// It is the first of its key: it is to be answered, and the answer to be kept.
    First(Attempt),
    /// It was answered before.
    Again(Answer),
    /// It was answered before, and whether that was recorded is to be found out first.
    Unrecorded(Box<Unrecorded>),
    /// The first of its key is being answered.
    Running {
        /// Whether by this server; else by another one, or by one that was killed, and none can tell which.
        is_here: bool,
        /// When it is over at the latest: its key is free again then.
        left: Duration,
    },
    /// The key was used for another request.
    Different,
    /// It was answered before, and the answer was too large to be kept.
    TooLarge,
}

/// A request that is being answered, and whose answer nobody else may keep.
#[derive(Debug, Clone)]
pub struct Attempt {
    name: Name,
    owner: [u8; 16],
    print: [u8; 32],
    _here: Arc<Here>,
}

/// Digests and owners of the requests that this server begins or answers.
type OpenRequests = Mutex<BTreeSet<(String, [u8; 16])>>;

/// One of them, as long as it is.
#[derive(Debug)]
struct Here {
    all: Arc<OpenRequests>,
    own: (String, [u8; 16]),
}

impl Here {
    fn new(all: &Arc<OpenRequests>, name: &Name, owner: [u8; 16]) -> Self {
        let own = (name.digest.clone(), owner);
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(own.clone());
        Self { all: Arc::clone(all), own }
    }

    /// Whether there is another one under the same key.
    fn has_others(&self) -> bool {
        let (digest, owner) = &self.own;
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let same = all.range((digest.clone(), [0; 16])..=(digest.clone(), [u8::MAX; 16]));
        same.into_iter().any(|(_, other)| other != owner)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.own);
    }
}

impl Attempt {
    /// A number of the request's own: the same whenever it is sent again, another for any other request.
    pub fn request(&self) -> u128 {
        let (low, _) = self.print.split_first_chunk().unwrap_or((&[0; 16], &[]));
        u128::from_le_bytes(*low)
    }

    /// Names this attempt, and no other one at the same request.
    pub fn id(&self) -> String {
        self.owner.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The key of a stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub tenant: String,
    /// A keyed hash of the key, in hexadecimal digits.
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Keyed hash of the request.
    pub print: [u8; 32],
    /// Until when.
    pub until: WallTime,
    /// The sealed answer, once there is one.
    pub answer: Option<Vec<u8>>,
    /// What is owed for it: see [`Owed`].
    pub owed: Option<Vec<u8>>,
}

/// Where answers are kept.
#[async_trait]
pub trait AnswerStore: Send + Sync {
    /// Enters a request by its name, owned by `owner` until `until`, unless there is one already: then says
    /// what is there.
    async fn begin(
        &self,
        now: WallTime,
        name: &Name,
        print: [u8; 32],
        owner: [u8; 16],
        until: WallTime,
    ) -> Result<Option<Kept>, StoreError>;

    /// Keeps the answer of a request until `until`, and what is owed for it, both or neither, if it is still
    /// its owner's. Says whether it was.
    async fn keep(
        &self,
        now: WallTime,
        name: &Name,
        owner: [u8; 16],
        answer: (&[u8], Option<&[u8]>),
        until: WallTime,
    ) -> Result<bool, StoreError>;

    /// Takes what is owed for an answer away, or puts something else there, if it is still `before`. Says
    /// whether it was.
    async fn owe(&self, name: &Name, before: &[u8], after: Option<&[u8]>) -> Result<bool, StoreError>;

    /// Forgets a request, if it is its owner's; not one whose answer was recorded.
    async fn release(&self, name: &Name, owner: [u8; 16]) -> Result<(), StoreError>;

    /// Whether it is a file of this server alone: then what it did not do is known not to be done.
    fn is_own(&self) -> bool {
        false
    }

    /// Tells whoever has a journal what is owed to it. A store of one server has nobody to tell: a journal
    /// that is not the server's is gone.
    async fn hand_over(&self, journal: &str, name: &Name, owed: &[u8]) -> Result<(), StoreError> {
        let _ = (journal, name, owed);
        Ok(())
    }

    /// What the others found to be owed to a journal.
    async fn handed_over(&self, journal: &str) -> Result<Vec<(Name, Vec<u8>)>, StoreError> {
        let _ = journal;
        Ok(Vec::new())
    }

    /// What is owed for an answer now; nothing where nothing is handed over.
    async fn owed(&self, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = name;
        Ok(None)
    }

    /// It was seen to.
    async fn taken_over(&self, journal: &str, name: &Name) -> Result<(), StoreError> {
        let _ = (journal, name);
        Ok(())
    }
}

/// Why a key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Answering took longer than the key was held for, and another request has it.
    #[error("the idempotency key was lost to another request")]
    Lost,
    /// The tenant's kept answers are at their bound.
    #[error(
        "no more answers can be kept under Idempotency-Keys: {answers_max} or {bytes_max} bytes are kept for a day; send the request \
         without one, or retry later",
        answers_max = .0.answers,
        bytes_max = .0.bytes
    )]
    Full(Room),
    /// An answer cannot be sealed or opened.
    #[error("the answer kept under an idempotency key cannot be used")]
    Seal,
}

/// Keeps answers.
pub struct Idempotency {
    store: Arc<dyn AnswerStore>,
    secret: KeySecret,
    /// How long a request may take to be answered.
    lease: Duration,
    /// Largest answer that is kept, in bytes.
    answer_bytes_max: usize,
    /// What the store did not confirm.
    later: Later,
    room: Option<BoundedRoom>,
    running: Arc<OpenRequests>,
    /// Digests of those whose answer is kept and not charged yet.
    unsettled: Mutex<HashSet<String>>,
}

/// While it lives, whoever repeats the request on this server is told that it is being answered: its answer
/// may be kept, and whether it is charged is not known yet.
#[must_use]
pub struct SettlementGuard<'a> {
    idempotency: &'a Idempotency,
    digest: String,
}

impl Drop for SettlementGuard<'_> {
    fn drop(&mut self) {
        self.idempotency.unsettled().remove(&self.digest);
    }
}

/// What a tenant may keep, and what is known of what each does.
struct BoundedRoom {
    store: Arc<dyn AnswerRoom>,
    max: Room,
    known: Mutex<HashMap<String, (WallTime, Room)>>,
}

impl Idempotency {
    /// Keeps answers in `store`. A key is held for `lease` while its request is answered.
    pub fn new(
        store: Arc<dyn AnswerStore>,
        secret: KeySecret,
        lease: Duration,
        answer_bytes_max: usize,
    ) -> Self {
        let later = Later::new(Arc::clone(&store));
        let (running, unsettled) = (Arc::default(), Mutex::default());
        Self { store, secret, lease, answer_bytes_max, later, room: None, running, unsettled }
    }

    /// The same, which keeps no more for a tenant than `max`.
    #[must_use]
    pub fn with_room(self, store: Arc<dyn AnswerRoom>, max: Room) -> Self {
        Self { room: Some(BoundedRoom { store, max, known: Mutex::default() }), ..self }
    }

    /// Finds out what becomes of a request with a key.
    ///
    /// # Errors
    /// The store does not answer: the request must not be, or it could be charged twice. Or the tenant's kept
    /// answers are at their bound.
    pub async fn begin(&self, now: WallTime, keyed: &KeyedRequest<'_>) -> Result<KeyState, IdempotencyError> {
        let KeyedRequest { tenant, principal, key, route, body } = *keyed;
        let digest = self.secret.derive(&[b"idempotency key", tenant.as_bytes(), key.as_bytes()]);
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = Name { tenant: tenant.to_owned(), digest };
        let (whose, route) = ([tenant.as_bytes(), principal.as_bytes()], route.as_bytes());
        let print = self.secret.derive(&[b"idempotent request", whose[0], whose[1], route, body]);
        let owner = random()?;
        let here = Here::new(&self.running, &name, owner);
        let found = match self.store.begin(now, &name, print, owner, now.plus(self.lease)).await {
            Ok(found) => found,
            Err(error) => {
                // It may have been entered all the same.
                self.later.release(name, owner, self.lease);
                return Err(error.into());
            }
        };
        let Some(kept) = found else {
            let attempt = Attempt { name, owner, print, _here: Arc::new(here) };
            if let Err(error) = self.check_room(now, tenant).await {
                self.release(&attempt).await;
                return Err(error);
            }
            return Ok(KeyState::First(attempt));
        };
        if kept.print != print {
            return Ok(KeyState::Different);
        }
        let Some(sealed) = kept.answer else {
            let is_here = here.has_others();
            return Ok(KeyState::Running { is_here, left: kept.until.since(now) });
        };
        if self.unsettled().contains(&name.digest) {
            return Ok(KeyState::Running { is_here: true, left: Duration::ZERO });
        }
        let answer = self.open(&name, &sealed)?;
        if let Some(owed) = kept.owed.and_then(|owed| StoredOwed::parse(name, owed)) {
            let kept_at = WallTime(kept.until.0.saturating_sub(KEPT.as_millis() as u64));
            return Ok(KeyState::Unrecorded(Box::new(Unrecorded {
                answer,
                owed,
                until: kept_at.plus(self.lease),
            })));
        }
        Ok(answer.map_or(KeyState::TooLarge, KeyState::Again))
    }

    /// Begins to keep and to charge an answer: until what this returns is dropped, it is not given to
    /// anybody.
    pub fn settle(&self, attempt: &Attempt) -> SettlementGuard<'_> {
        let digest = attempt.name.digest.clone();
        self.unsettled().insert(digest.clone());
        SettlementGuard { idempotency: self, digest }
    }

    /// The same, unless somebody has begun already.
    pub(crate) fn settle_alone(&self, name: &Name) -> Option<SettlementGuard<'_>> {
        let digest = name.digest.clone();
        self.unsettled().insert(digest.clone()).then_some(SettlementGuard { idempotency: self, digest })
    }

    fn unsettled(&self) -> MutexGuard<'_, HashSet<String>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer, and what is owed for it, before it is charged and goes out. If the store does not say
    /// that it has it, it may have it all the same: then it is charged and goes out too, so that whoever
    /// finds it there finds what was charged; and it is told again until it says so, or as long as the
    /// request is its owner's.
    ///
    /// # Errors
    /// It is not kept, and must be neither charged nor go out.
    pub async fn keep(
        &self,
        now: WallTime,
        attempt: &Attempt,
        answer: &Answer,
        owed: Option<&Owed>,
    ) -> Result<(), IdempotencyError> {
        let Attempt { name, owner, .. } = attempt;
        let owed = owed.map(Owed::text).transpose().map_err(|_| IdempotencyError::Seal)?;
        let is_small = answer.body.len() <= self.answer_bytes_max;
        let sealed = self.seal(name, is_small.then_some(answer))?;
        match self.store.keep(now, name, *owner, (&sealed, owed.as_deref()), now.plus(KEPT)).await {
            Ok(true) => {
                self.count(now, &name.tenant, sealed.len() as u64).await;
                Ok(())
            }
            Ok(false) => Err(IdempotencyError::Lost),
            Err(StoreError::Unavailable(problem)) if !self.store.is_own() => {
                tracing::debug!(problem, "an answer is not known to be kept");
                self.later.keep(now, name.clone(), *owner, (sealed, owed), self.lease);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What was owed for an answer is in its journal. Not noted if the store does not answer: then it is
    /// looked for in the journal when somebody asks for the answer.
    pub async fn recorded(&self, owed: &StoredOwed) {
        if let Err(error) = self.store.owe(&owed.name, &owed.text, None).await {
            tracing::debug!(%error, "that an answer is recorded is not noted");
        }
    }

    /// The same, of what was kept with the answer of an attempt. Where other servers may be asked for the
    /// answer it is waited for, a moment.
    pub async fn attempt_recorded(self: &Arc<Self>, attempt: Attempt, owed: Owed) {
        let Ok(text) = owed.text() else { return };
        let (answers, is_own) = (Arc::clone(self), self.store.is_own());
        let noting = tokio::spawn(async move {
            answers.recorded(&StoredOwed { name: attempt.name.clone(), owed, text }).await;
        });
        if !is_own {
            let _ = tokio::time::timeout(NOTING, noting).await;
        }
    }

    /// Owes `again` in the place of something. None: that is not owed any more.
    pub(crate) async fn owe_again(
        &self,
        owed: &StoredOwed,
        again: Owed,
    ) -> Result<Option<StoredOwed>, IdempotencyError> {
        let text = again.text().map_err(|_| IdempotencyError::Seal)?;
        let is_owed = self.store.owe(&owed.name, &owed.text, Some(&text)).await?;
        Ok(is_owed.then(|| StoredOwed { name: owed.name.clone(), owed: again, text }))
    }

    pub(crate) async fn hand_over(&self, owed: &StoredOwed) -> Result<(), IdempotencyError> {
        Ok(self.store.hand_over(&owed.owed.journal, &owed.name, &owed.text).await?)
    }

    /// The answers of which others found something owed to a journal, each with what is owed for it now.
    pub(crate) async fn handed_over(
        &self,
        journal: &str,
    ) -> Result<Vec<(Name, Option<StoredOwed>)>, IdempotencyError> {
        let mut found = Vec::new();
        for (name, _) in self.store.handed_over(journal).await? {
            let owed = self.store.owed(&name).await?;
            let owed = owed.and_then(|text| StoredOwed::parse(name.clone(), text));
            found.push((name, owed));
        }
        Ok(found)
    }

    pub(crate) async fn taken_over(&self, journal: &str, name: &Name) -> Result<(), IdempotencyError> {
        Ok(self.store.taken_over(journal, name).await?)
    }

    /// Forgets a request that was not answered, so that it may be sent again.
    pub async fn release(&self, attempt: &Attempt) {
        if self.store.release(&attempt.name, attempt.owner).await.is_err() {
            // Its answer may be kept, and must not be given again.
            self.later.release(attempt.name.clone(), attempt.owner, KEPT);
        }
    }

    /// Answers that were charged and could not be kept, so that they are charged again if they are asked for
    /// again.
    pub fn unkept(&self) -> u64 {
        self.later.given_up()
    }

    /// Counts an answer that is kept.
    async fn count(&self, now: WallTime, tenant: &str, bytes: u64) {
        let Some(room) = &self.room else { return };
        match room.store.add(now, tenant, now.plus(KEPT), bytes).await {
            Ok(used) => room.learn(now, tenant, used),
            Err(error) => tracing::debug!(%error, "an answer that is kept is not counted"),
        }
    }

    /// Whether one more of the tenant's answers may be kept.
    async fn check_room(&self, now: WallTime, tenant: &str) -> Result<(), IdempotencyError> {
        let Some(room) = &self.room else { return Ok(()) };
        let used = match room.known(now, tenant) {
            Some(used) => used,
            None => {
                let used = room.store.used(now, tenant).await?;
                room.learn(now, tenant, used);
                used
            }
        };
        let has_room = used.answers < room.max.answers && used.bytes < room.max.bytes;
        if has_room { Ok(()) } else { Err(IdempotencyError::Full(room.max)) }
    }

    fn cipher(&self, name: &Name) -> Result<RandomizedNonceKey, IdempotencyError> {
        let key = self.secret.derive(&[b"idempotent answers", name.tenant.as_bytes()]);
        RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| IdempotencyError::Seal)
    }

    /// Nonce and sealed text: the status in two bytes, and the body; nothing for an answer that is not kept.
    fn seal(&self, name: &Name, answer: Option<&Answer>) -> Result<Vec<u8>, IdempotencyError> {
        let mut text = Vec::new();
        if let Some(Answer { status, body }) = answer {
            text.extend_from_slice(&status.to_be_bytes());
            text.extend_from_slice(body);
        }
        let nonce = self
            .cipher(name)?
            .seal_in_place_append_tag(Aad::from(name.digest.as_bytes()), &mut text)
            .map_err(|_| IdempotencyError::Seal)?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    fn open(&self, name: &Name, sealed: &[u8]) -> Result<Option<Answer>, IdempotencyError> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LENGTH).ok_or(IdempotencyError::Seal)?;
        let nonce =
            aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| IdempotencyError::Seal)?;
        let mut text = text.to_vec();
        let text = self
            .cipher(name)?
            .open_in_place(nonce, Aad::from(name.digest.as_bytes()), &mut text)
            .map_err(|_| IdempotencyError::Seal)?;
        Ok(text
            .split_first_chunk()
            .map(|(status, body)| Answer { status: u16::from_be_bytes(*status), body: body.to_vec() }))
    }
}

impl BoundedRoom {
    fn known(&self, now: WallTime, tenant: &str) -> Option<Room> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes it old, too.
        known.get(tenant).filter(|(at, _)| *at <= now && now.since(*at) < ROOM_FRESH).map(|(_, used)| *used)
    }

    fn learn(&self, now: WallTime, tenant: &str, used: Room) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ROOMS_MAX {
            known.clear();
        }
        known.insert(tenant.to_owned(), (now, used));
    }
}
