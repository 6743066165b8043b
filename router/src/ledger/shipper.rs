//! Moves records from the journal into the shared sums.
//!
//! How far a tenant's sums of a day contain an epoch of the journal is for the store to say. The shipper
//! keeps what the store said last; where the store turns out to be behind that (a backup was restored, Redis
//! lost writes, a key or all it had), it reads the journal again from there. Whether it is behind is asked at
//! the start, whenever an answer says so, and regularly, a number of days at a time: in a cluster, and where
//! keys are evicted, they go back one by one. Where sums are not what was added to them, and all their
//! records are in this journal, they are forgotten and summed again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::checkpoint::{Checkpoint, Row};
use super::error::JournalError;
use super::follower::{Follower, Followers};
use super::line::Entry;
use super::{Batch, BatchOutcome, DayState, Sum, SumKey, TenantDay, UsageStore, segments};
use crate::store::StoreError;

/// Records moved at once.
const RECORDS_MAX: usize = 10_000;
/// Days whose positions are asked for at once, and of those, whose sums are looked at.
const DAYS_MAX: usize = 256;
const DAYS_LOOKED_AT_MAX: usize = 16;
/// Days of tenants that are followed though the journal no longer has their records.
const OLD_DAYS_MAX: usize = 5_000;
/// How often in a row the store may be elsewhere than it was thought to be.
const ATTEMPTS_MAX: usize = 4;
/// Name of the file that says up to which record everything is shipped. Only saves work: if it is old or
/// missing, records are looked at again, and the store knows that it has them.
pub(super) const POSITION_FILE: &str = "shipped";

/// What sums lack for good is remembered of so many epochs of days.
const LACKING_MAX: usize = 1_000;

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

/// What the store has of one epoch's records of a tenant and day, as it said last.
#[derive(Debug, Clone, Copy)]
struct StoredEpoch {
    /// Number of the first record.
    first: u64,
    /// Number after the last.
    next: u64,
    /// Number after the last that was in this journal.
    own: u64,
}

/// Where the store is behind: up to which record it has an epoch.
type Behind = (TenantDay, Arc<str>, u64);

/// Moves one journal's records.
pub struct Shipper {
    store: Arc<dyn UsageStore>,
    /// Name of the journal, for records without an epoch.
    journal: Arc<str>,
    follower: Follower,
    /// Records read and not yet in the store.
    held: Vec<Entry>,
    contained: BTreeMap<TenantDay, BTreeMap<Arc<str>, StoredEpoch>>,
    life: Option<String>,
    /// Number of the first record that was never shipped.
    frontier: u64,
    /// Which days are yet to be asked for in this round.
    unchecked: VecDeque<TenantDay>,
    /// Something was found: the whole round is gone through at once.
    is_suspicious: bool,
    /// What sums lack for good, since the journal no longer has it.
    lacking: Vec<Row>,
    /// Days whose sums are not what was added, and which cannot be summed again from this journal.
    unsound: BTreeSet<TenantDay>,
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
    unsound: AtomicU64,
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

    /// Days of tenants whose sums are not what was added to them, and could not be summed again.
    pub fn unsound(&self) -> u64 {
        self.unsound.load(Ordering::Relaxed)
    }
}

/// How many tenants lack something.
fn tenants(lacking: &[Row]) -> u64 {
    lacking.iter().map(|row| &row.tenant).collect::<BTreeSet<_>>().len() as u64
}

impl Shipper {
    /// A shipper of the journal's records, which has the name `journal`. Blocks.
    pub fn new(store: Arc<dyn UsageStore>, journal: String, followers: Arc<Followers>) -> Self {
        let mut follower = Follower::new(followers, POSITION_FILE);
        let frontier = follower.next();
        // A file that cannot be read is one that is not there.
        let checkpoint = Checkpoint::read(follower.folder()).ok().flatten();
        let mut contained: BTreeMap<TenantDay, BTreeMap<_, _>> = BTreeMap::new();
        let mut lacking = Vec::new();
        let (next, life) = match checkpoint {
            Some(Checkpoint { life, next, sums, lacking: known, .. }) => {
                lacking = known;
                for Row { tenant, day, epoch, first, next, own } in sums {
                    let epochs = contained.entry(TenantDay { tenant, day }).or_default();
                    epochs.insert(epoch, StoredEpoch { first, next, own });
                }
                (next.min(frontier), life)
            }
            // Whatever the position says: the store is asked.
            None => (0, None),
        };
        follower.go_to(next, frontier);
        Self {
            store,
            journal: Arc::from(journal),
            follower,
            held: Vec::new(),
            unchecked: contained.keys().cloned().collect(),
            contained,
            life,
            frontier,
            is_suspicious: true,
            state: Arc::new(ShipperState { incomplete: tenants(&lacking).into(), ..ShipperState::default() }),
            lacking,
            unsound: BTreeSet::new(),
            is_changed: false,
            checkpointed: next,
        }
    }

    pub fn state(&self) -> Arc<ShipperState> {
        Arc::clone(&self.state)
    }

    /// Whether [`check`](Self::check) should not wait.
    pub fn is_suspicious(&self) -> bool {
        self.is_suspicious
    }

    /// Moves records up to number `until`, at most some thousand. Returns how many were looked at: none means
    /// all.
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
        // More than once where the store is not where it was thought to be.
        for _ in 0..ATTEMPTS_MAX {
            let batches = self.batches();
            let results = self.store.apply(&batches).await?;
            let mut behind = Vec::new();
            let mut is_done = true;
            for (Batch { epoch, place, from, to, first, .. }, result) in batches.into_iter().zip(&results) {
                match *result {
                    BatchOutcome::Yes => self.contains(place, epoch, first, (to, to)),
                    // It has what was not known to be there.
                    BatchOutcome::At(at) if at > from => {
                        is_done = false;
                        self.contains(place, epoch, first, (at, to));
                    }
                    BatchOutcome::At(at) => behind.push((place, epoch, at)),
                }
            }
            self.is_changed = true;
            if !behind.is_empty() {
                self.go_back(behind).await?;
                return Ok(looked_at);
            }
            if is_done {
                self.held.clear();
                self.frontier = self.frontier.max(self.follower.next());
                self.follower.keep(self.follower.next(), self.checkpointed).await?;
                return Ok(looked_at);
            }
        }
        Err(ShipError::Contended)
    }

    /// The store has an epoch's records of a day, from `first` on, up to `next`, and this journal has them up
    /// to `own`.
    fn contains(&mut self, place: TenantDay, epoch: Arc<str>, first: u64, (next, own): (u64, u64)) {
        let contained = self.contained.entry(place).or_default().entry(epoch);
        let contained = contained.or_insert(StoredEpoch { first, next, own });
        *contained = StoredEpoch { first: contained.first.min(first), next, own: contained.own.max(own) };
    }

    /// Asks the store whether it still has what it had, of some days at a time, and of all where there is
    /// reason to; and keeps what it said. To be called every few seconds.
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
                    "the store is another one than before, or was emptied: tenants and keys that no other server knows and no \
                     file declares are lost; what was used is summed again from the journal"
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
            let count = self.unchecked.len().min(DAYS_MAX);
            let asked: Vec<TenantDay> = self.unchecked.drain(..count).collect();
            behind.extend(self.ask(&asked).await?);
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
            self.go_back(behind).await?;
            self.is_suspicious = false;
        }
        self.keep().await
    }

    /// Asks the store for some days. Returns where it is behind.
    async fn ask(&mut self, places: &[TenantDay]) -> Result<Vec<Behind>, ShipError> {
        let epochs = |place| self.contained.get(place).into_iter().flat_map(|epochs| epochs.keys().cloned());
        let asked: Vec<_> = places.iter().map(|place| (place.clone(), epochs(place).collect())).collect();
        // All where there is reason to; else some.
        let looked_at = if self.is_suspicious { asked.len() } else { asked.len().min(DAYS_LOOKED_AT_MAX) };
        let mut states = self.store.days(&asked[..looked_at], true).await?;
        states.extend(self.store.days(&asked[looked_at..], false).await?);
        let mut behind = Vec::new();
        for (index, ((place, epochs), state)) in asked.into_iter().zip(states).enumerate() {
            if index < looked_at && self.has_to_be_summed_again(&place, &state).await? {
                behind.extend(epochs.into_iter().map(|epoch| (place.clone(), epoch, 0)));
                continue;
            }
            for (epoch, at) in epochs.into_iter().zip(state.positions) {
                let Some(contained) =
                    self.contained.get_mut(&place).and_then(|epochs| epochs.get_mut(&epoch))
                else {
                    continue;
                };
                if at < contained.next {
                    behind.push((place.clone(), epoch, at));
                } else if at > contained.next {
                    contained.next = at;
                    self.is_changed = true;
                }
            }
        }
        Ok(behind)
    }

    /// Whether a day's sums were not what was added, and have been forgotten, since all of their records are
    /// in this journal.
    async fn has_to_be_summed_again(
        &mut self,
        place: &TenantDay,
        state: &DayState,
    ) -> Result<bool, ShipError> {
        if state.is_sound {
            if self.unsound.remove(place) {
                self.state.unsound.store(self.unsound.len() as u64, Ordering::Relaxed);
            }
            return Ok(false);
        }
        if self.unsound.contains(place) {
            return Ok(false);
        }
        let epochs = self.contained.get(place).cloned().unwrap_or_default();
        let (folder, journal, asked) =
            (self.follower.folder().to_owned(), Arc::clone(&self.journal), place.clone());
        let counted = tokio::task::spawn_blocking(move || {
            let mut counted = 0;
            segments::walk(&folder, |entry| {
                let epoch = entry.epoch.as_ref().unwrap_or(&journal);
                let is_in = epochs.get(epoch).is_some_and(|contained| entry.number < contained.next);
                counted += u64::from(is_in && TenantDay::of(&entry.record) == asked);
                Ok(())
            })?;
            std::io::Result::Ok(counted)
        });
        let counted = counted.await.map_err(std::io::Error::other)??;
        if state.records == Some(counted) && self.store.forget(place, counted).await? {
            tracing::error!(
                tenant = %place.tenant,
                day = %place.day,
                "sums were changed by somebody else; they are summed again from the journal"
            );
            return Ok(true);
        }
        tracing::error!(
            tenant = %place.tenant,
            day = %place.day,
            records = state.records,
            in_journal = counted,
            "sums were changed by somebody else, and this server's journal does not have all of their records: look at them \
             with `ml-inference usage verify`"
        );
        self.unsound.insert(place.clone());
        self.state.unsound.store(self.unsound.len() as u64, Ordering::Relaxed);
        Ok(false)
    }

    /// Keeps what the store said.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn keep(&mut self) -> Result<(), ShipError> {
        if self.is_changed {
            if self.contained.len() > OLD_DAYS_MAX {
                let oldest = self.oldest().await?.unwrap_or(0);
                self.contained.retain(|_, epochs| epochs.values().any(|contained| contained.next > oldest));
            }
            let row = |place: &TenantDay, (epoch, contained): (&Arc<str>, &StoredEpoch)| Row {
                tenant: Arc::clone(&place.tenant),
                day: place.day,
                epoch: Arc::clone(epoch),
                first: contained.first,
                next: contained.next,
                own: contained.own,
            };
            let places = self.contained.iter();
            let sums = places.flat_map(|(place, epochs)| epochs.iter().map(move |epoch| row(place, epoch)));
            let (journal, life, next) = (self.journal.to_string(), self.life.clone(), self.position());
            let home = Some(self.store.home().to_owned());
            let (sums, lacking) = (sums.collect(), self.lacking.clone());
            let folder = self.follower.folder().to_owned();
            let checkpoint = Checkpoint { journal, home, life, next, sums, lacking };
            let written = tokio::task::spawn_blocking(move || checkpoint.write(&folder)).await;
            written.map_err(std::io::Error::other)??;
            self.checkpointed = next;
            self.is_changed = false;
            self.follower.keep(next, next).await?;
        }
        Ok(())
    }

    /// Number of the first record that is not in the store.
    pub fn position(&self) -> u64 {
        self.held.first().map_or(self.follower.next(), |entry| entry.number)
    }

    /// Number of the oldest record that the journal has.
    async fn oldest(&self) -> std::io::Result<Option<u64>> {
        let folder = self.follower.folder().to_owned();
        let listed = tokio::task::spawn_blocking(move || segments::list(&folder)).await;
        Ok(listed.map_err(std::io::Error::other)??.first().map(|segment| segment.first))
    }

    /// Reads again what these days' sums lack.
    async fn go_back(&mut self, behind: Vec<Behind>) -> Result<(), ShipError> {
        let oldest = self.oldest().await?;
        let (before, days) = (self.lacking.len(), behind.len());
        let position = self.position();
        let mut to = position;
        for (place, epoch, at) in behind {
            let contained = self.contained.get_mut(&place).and_then(|epochs| epochs.get_mut(&epoch));
            let first = contained.as_ref().map_or(0, |contained| contained.first);
            to = to.min(at.max(first));
            if let Some(contained) = contained {
                let known = std::mem::replace(&mut contained.next, at).max(at);
                let (first, next) = (at.max(first), oldest.map_or(known, |oldest| oldest.min(known)));
                let TenantDay { tenant, day } = place;
                let row = Row { tenant, day, epoch, first, next, own: next };
                if first < next && !self.lacking.contains(&row) {
                    self.lacking.push(row);
                }
            }
        }
        tracing::error!(
            days,
            from = to,
            position,
            "the store of sums is behind what it had: it was set back, restored or emptied. Records are summed again"
        );
        if self.lacking.len() > before {
            tracing::error!(
                days = self.lacking.len() - before,
                oldest_record = oldest,
                "sums of these tenants' days may lack records for good: the store lost them, and the journal no longer has \
                 them (usage.shipped_segments_kept)"
            );
        }
        self.state.went_back.fetch_add(1, Ordering::Relaxed);
        self.lacking.truncate(LACKING_MAX);
        self.state.incomplete.store(tenants(&self.lacking), Ordering::Relaxed);
        self.held.clear();
        self.frontier = self.frontier.max(position);
        self.follower.go_to(to, self.frontier);
        // Who else is behind is found out at the next check.
        (self.is_suspicious, self.is_changed) = (true, true);
        Ok(())
    }

    /// What is held and not in the store yet.
    fn batches(&self) -> Vec<Batch> {
        let mut batches: BTreeMap<(TenantDay, &Arc<str>), Batch> = BTreeMap::new();
        for Entry { number, epoch, record } in &self.held {
            let (place, epoch) = (TenantDay::of(record), epoch.as_ref().unwrap_or(&self.journal));
            let contained = self.contained.get(&place).and_then(|epochs| epochs.get(epoch));
            let from = contained.map_or(0, |contained| contained.next);
            if *number < from {
                continue;
            }
            let batch = batches.entry((place, epoch)).or_insert_with_key(|(place, epoch)| Batch {
                epoch: Arc::clone(epoch),
                place: place.clone(),
                from,
                to: from,
                first: *number,
                records: 0,
                sums: BTreeMap::default(),
            });
            batch.to = number + 1;
            batch.records += 1;
            *batch.sums.entry(SumKey::of(record)).or_default() += Sum::of(record);
        }
        // Each adds records that the store has not, and each record once.
        debug_assert!(
            batches.values().all(|batch| {
                let Batch { from, to, first, records, .. } = *batch;
                from <= first && first < to && records <= to - first
            }),
            "{batches:?}"
        );
        batches.into_values().collect()
    }
}
