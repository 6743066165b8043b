//! Moves records from the journal into the shared sums.
//!
//! How far a tenant's sums contain the journal is for the store to say. The shipper keeps what the store said last; where the
//! store turns out to be behind that (a backup was restored, Redis lost writes or all it had), it reads the journal again from
//! there. Whether it is behind is asked at the start, whenever an answer says so, and regularly, a number of tenants at a time:
//! in a cluster tenants go back one by one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::checkpoint::Checkpoint;
use super::follower::{Follower, Followers};
use super::journal::JournalError;
use super::{Applied, Batch, Sum, SumKey, UsageRecord, UsageStore, segments};
use crate::store::StoreError;

/// Records moved at once.
const RECORDS_MAX: usize = 10_000;
/// Tenants whose positions are asked for at once.
const TENANTS_MAX: usize = 256;
/// How often in a row the store may be elsewhere than it was thought to be.
const ATTEMPTS_MAX: usize = 4;
/// Name of the file that says up to which record everything is shipped. Only saves work: if it is old or missing, records
/// are looked at again, and the store knows that it has them.
pub(super) const POSITION_FILE: &str = "shipped";

/// Why records were not moved; they will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else moves the same journal.
    #[error("the sums change while they are added to: is there another server with this journal?")]
    Contended,
    /// The position cannot be kept.
    #[error("cannot keep the shipping position: {0}")]
    Position(#[from] std::io::Error),
}

/// Moves one journal's records.
pub struct Shipper {
    store: Arc<dyn UsageStore>,
    /// Name of the journal, unique among the servers.
    journal: String,
    follower: Follower,
    /// Records read and not yet in the store.
    held: Vec<(u64, UsageRecord)>,
    /// How far the journal is in each tenant's sums, as the store said last.
    contained: HashMap<Arc<str>, u64>,
    /// The store's life.
    life: Option<String>,
    /// Number of the first record that was never shipped.
    frontier: u64,
    /// The store has records that this folder never had.
    is_foreign: bool,
    /// Whose position is yet to be asked for in this round.
    unchecked: VecDeque<Arc<str>>,
    /// Something was found: the whole round is gone through at once.
    is_suspicious: bool,
    /// Tenants whose sums lack records that the journal no longer has.
    incomplete: BTreeSet<Arc<str>>,
    /// Something is not in the checkpoint yet, which says that all before `checkpointed` is in the store.
    is_changed: bool,
    checkpointed: u64,
    state: Arc<ShipperState>,
}

/// How shipping does, for whoever watches.
#[derive(Debug, Default)]
pub struct ShipperState {
    went_back: AtomicU64,
    incomplete: AtomicU64,
    lost: AtomicU64,
}

impl ShipperState {
    /// How often the store turned out to be behind what it had, and records were summed again.
    pub fn went_back(&self) -> u64 {
        self.went_back.load(Ordering::Relaxed)
    }

    /// Tenants whose sums may lack records that the store lost and the journal no longer has.
    pub fn incomplete(&self) -> u64 {
        self.incomplete.load(Ordering::Relaxed)
    }

    /// Records that could not be summed again, because the journal is damaged there.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Shipper {
    /// A shipper of the journal's records, which the store knows by the name `journal`. Blocks.
    pub fn new(store: Arc<dyn UsageStore>, journal: String, followers: Arc<Followers>) -> Self {
        let mut follower = Follower::new(followers, POSITION_FILE);
        let frontier = follower.next();
        // A file that cannot be read is one that is not there.
        let checkpoint = Checkpoint::read(follower.folder()).ok().flatten().filter(|c| c.journal == journal);
        let (next, life, contained) = match checkpoint {
            Some(Checkpoint { life, next, tenants, .. }) => {
                let contained = tenants.into_iter().map(|(tenant, at)| (Arc::from(tenant), at)).collect();
                (next.min(frontier), life, contained)
            }
            // Whatever the position says: the store is asked.
            None => (0, None, HashMap::new()),
        };
        follower.go_to(next, frontier);
        Self {
            store,
            journal,
            follower,
            held: Vec::new(),
            unchecked: contained.keys().cloned().collect(),
            contained,
            life,
            frontier,
            is_foreign: false,
            is_suspicious: true,
            incomplete: BTreeSet::new(),
            is_changed: false,
            checkpointed: next,
            state: Arc::default(),
        }
    }

    /// How it does.
    pub fn state(&self) -> Arc<ShipperState> {
        Arc::clone(&self.state)
    }

    /// Whether [`check`](Self::check) should not wait.
    pub fn is_suspicious(&self) -> bool {
        self.is_suspicious
    }

    /// Moves records up to number `until`, at most some thousand. Returns how many were looked at: none means all.
    ///
    /// # Errors
    /// See [`ShipError`]; nothing is lost or counted twice.
    pub async fn ship(&mut self, until: u64) -> Result<usize, ShipError> {
        if self.held.is_empty() {
            self.held = self.follower.read(until, RECORDS_MAX).await?;
            let lost = self.follower.take_passed();
            if lost > 0 {
                tracing::error!(
                    records = lost,
                    "the usage journal is damaged: these records cannot be summed again"
                );
                self.state.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        if self.held.is_empty() {
            return Ok(0);
        }
        let looked_at = self.held.len();
        let was_foreign = self.is_foreign;
        // More than once where the store is not where it was thought to be.
        for _ in 0..ATTEMPTS_MAX {
            let batches = self.batches();
            let results = self.store.apply(&self.journal, &batches).await?;
            let mut behind = Vec::new();
            let mut is_done = true;
            for (batch, result) in batches.iter().zip(&results) {
                let tenant: Arc<str> = Arc::from(batch.tenant.as_str());
                match *result {
                    Applied::Yes => {
                        self.contained.insert(tenant, batch.to);
                    }
                    // It has what was not known to be there.
                    Applied::At(at) if at > batch.from => {
                        is_done = false;
                        self.is_foreign |= at > until;
                        self.contained.insert(tenant, at);
                    }
                    Applied::At(at) => behind.push((tenant, at)),
                }
            }
            self.is_changed = true;
            if self.is_foreign && !was_foreign {
                tracing::error!(
                    journal = self.journal,
                    "the store has records of this journal that are not in its folder: another server has a copy of the \
                     folder and adds to the same sums, and what one of them records may not be summed"
                );
            }
            if !behind.is_empty() {
                self.go_back(&behind).await?;
                return Ok(looked_at);
            }
            if is_done {
                self.held.clear();
                self.frontier = self.frontier.max(self.follower.next());
                self.follower.keep(self.follower.next(), self.checkpointed)?;
                return Ok(looked_at);
            }
        }
        Err(ShipError::Contended)
    }

    /// Asks the store whether it still has what it had, of some tenants at a time, and of all where there is reason to; and keeps
    /// what it said. To be called every few seconds.
    ///
    /// # Errors
    /// See [`ShipError`].
    pub async fn check(&mut self) -> Result<(), ShipError> {
        let life = self.store.life().await?;
        if self.life.as_ref() != Some(&life) {
            if let Some(old) = &self.life {
                tracing::error!(
                    old,
                    new = life,
                    "the store of sums is another one than before: what it lacks is summed again from the journal"
                );
            }
            self.life = Some(life);
            (self.is_suspicious, self.is_changed) = (true, true);
        }
        if self.is_suspicious {
            self.unchecked = self.contained.keys().cloned().collect();
        }
        let mut behind = Vec::new();
        loop {
            if self.unchecked.is_empty() && !self.is_suspicious {
                self.unchecked = self.contained.keys().cloned().collect();
            }
            let count = self.unchecked.len().min(TENANTS_MAX);
            let asked: Vec<Arc<str>> = self.unchecked.drain(..count).collect();
            let positions = self.store.positions(&self.journal, &asked).await?;
            for (tenant, at) in asked.into_iter().zip(positions) {
                let known = self.contained.get(&tenant).copied().unwrap_or(0);
                if at < known {
                    behind.push((tenant, at));
                } else if at > known {
                    self.contained.insert(tenant, at);
                    self.is_changed = true;
                }
            }
            if !self.is_suspicious && behind.is_empty() {
                break;
            }
            // One that is behind is seldom alone.
            if !self.is_suspicious {
                self.is_suspicious = true;
                self.unchecked = self.contained.keys().cloned().collect();
                behind.clear();
            } else if self.unchecked.is_empty() {
                self.is_suspicious = false;
                break;
            }
        }
        if !behind.is_empty() {
            self.go_back(&behind).await?;
            self.is_suspicious = false;
        }
        self.keep()
    }

    /// Keeps what the store said.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&mut self) -> Result<(), ShipError> {
        if self.is_changed {
            let tenants = self.contained.iter().map(|(tenant, at)| (tenant.to_string(), *at)).collect();
            let (journal, life, next) = (self.journal.clone(), self.life.clone(), self.position());
            Checkpoint { journal, life, next, tenants }.write(self.follower.folder())?;
            self.checkpointed = next;
            self.is_changed = false;
            self.follower.keep(next, next)?;
        }
        Ok(())
    }

    /// Number of the first record that is not in the store.
    pub fn position(&self) -> u64 {
        self.held.first().map_or(self.follower.next(), |(number, _)| *number)
    }

    /// Reads again what these tenants' sums lack.
    async fn go_back(&mut self, behind: &[(Arc<str>, u64)]) -> Result<(), ShipError> {
        let Some(to) = behind.iter().map(|(_, at)| *at).min() else { return Ok(()) };
        let folder = self.follower.folder().to_owned();
        let listed = tokio::task::spawn_blocking(move || segments::list(&folder)).await;
        let oldest =
            listed.map_err(std::io::Error::other)??.first().map_or(u64::MAX, |segment| segment.first);
        let before = self.incomplete.len();
        for (tenant, at) in behind {
            let known = self.contained.insert(Arc::clone(tenant), *at).unwrap_or(0);
            if *at < oldest.min(known) {
                self.incomplete.insert(Arc::clone(tenant));
            }
        }
        let position = self.position();
        tracing::error!(
            tenants = behind.len(),
            from = to,
            position,
            "the store of sums is behind what it had: it was set back, restored or emptied. Records are summed again"
        );
        if self.incomplete.len() > before {
            tracing::error!(
                tenants = self.incomplete.len() - before,
                oldest_record = oldest,
                "sums of these tenants may lack records for good: the store lost them, and the journal no longer has them \
                 (usage.shipped_segments_kept)"
            );
        }
        self.state.went_back.fetch_add(1, Ordering::Relaxed);
        self.state.incomplete.store(self.incomplete.len() as u64, Ordering::Relaxed);
        self.held.clear();
        self.frontier = self.frontier.max(position);
        self.follower.go_to(to.min(position), self.frontier);
        // Who else is behind is found out at the next check.
        (self.is_suspicious, self.is_changed) = (true, true);
        Ok(())
    }

    /// What is held and not in the store yet, by tenant.
    fn batches(&self) -> Vec<Batch> {
        let mut batches: HashMap<&Arc<str>, Batch> = HashMap::new();
        for (number, record) in &self.held {
            let from = self.contained.get(&record.tenant).copied().unwrap_or(0);
            if *number < from {
                continue;
            }
            let batch = batches.entry(&record.tenant).or_insert_with(|| Batch {
                tenant: record.tenant.to_string(),
                from,
                to: from,
                sums: Default::default(),
            });
            batch.to = number + 1;
            *batch.sums.entry(SumKey::of(record)).or_default() += Sum::of(record);
        }
        batches.into_values().collect()
    }
}
