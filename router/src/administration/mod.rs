//! Changing tenants and keys. Every change is checked, stored together with its line in the audit log, and in
//! force on this server when it is confirmed; on the others as soon as they look (see
//! [`follow`](Administration::follow)).
//!
//! What this server knows is kept in memory. A store that has lost some of it gets it back (see the
//! `restoration` module), so that a revoked key stays revoked as long as one server knows of it.

mod declared;
mod error;
mod models;
mod restoration;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use ulid::Ulid;

use crate::accounts::{Accounts, AuditEntry, Change, KeyRecord, KeyState, KeyView, TenantName, TenantRecord};
use crate::authentication::Directory;
use crate::key::{ApiKey, Mode, random};
use crate::plan::Plan;
use crate::principal::Role;
use crate::store::{AccountStore, Commit, StoreError};
use units::WallTime;

pub use declared::{DeclaredKey, DeclaredTenant};
pub use error::AdministrationError;
pub use models::{ModelChange, Models};

/// How often a change is tried when others change the accounts at the same moment.
const ATTEMPTS_MAX: usize = 8;
/// Longest label of a key, in characters.
const LABEL_LENGTH_MAX: usize = 100;

/// How long a key that is no longer good counts against the bound of its tenant's keys. So a tenant that
/// makes and revokes keys all day does not fill the store.
const COUNTED_AFTER_END: Duration = Duration::from_secs(30 * 86_400);
/// How many more keys there may be if it is for a rotation: a tenant at its bound can still change a key that
/// leaked, once.
const ROTATION_ROOM: usize = 1;

type Result<T> = std::result::Result<T, AdministrationError>;

/// What somebody who manages keys may manage: the operator every key, a tenant's administrator the keys of
/// its tenant that may do no more than it may itself.
#[derive(Debug, Clone)]
pub struct Scope {
    pub tenant: TenantName,
    /// The administrator's own role.
    pub role: Role,
}

impl Scope {
    /// Whether the administrator may manage keys of a role.
    ///
    /// # Errors
    /// It is above the administrator's own.
    pub fn check(&self, role: Role) -> Result<()> {
        check_scope(Some(self), &self.tenant, role)
    }
}

/// Who changes something, and by which request.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// How the audit log names it.
    pub name: &'a str,
    /// Tells a request from others, if it may be sent again. The key that it makes is named by this, so there
    /// is one however often it is sent, and whatever is killed in between.
    pub request: Option<u128>,
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub tenant: TenantName,
    /// What its owner calls it.
    pub label: String,
    /// Where it is good for.
    pub mode: Mode,
    /// What it may do.
    pub role: Role,
    /// From when on it is refused.
    pub expires_at: Option<WallTime>,
}

/// A key that was just made. The only place where the key itself is shown.
#[derive(Debug, Clone)]
pub struct MadeKey {
    pub key: ApiKey,
    /// All that will be shown of it from now on.
    pub view: KeyView,
}

/// What an edit makes of the accounts; no changes, nothing is stored.
#[derive(Default)]
struct Edit<T> {
    changes: Vec<Change>,
    action: &'static str,
    subject: String,
    before: Option<Value>,
    after: Option<Value>,
    result: T,
}

pub struct Administration {
    store: Arc<dyn AccountStore>,
    directory: Arc<Directory>,
    rotate_after: Duration,
    keys_max: usize,
    /// The accounts as they were last seen in the store; none before they were seen once.
    known: tokio::sync::Mutex<Option<Arc<Accounts>>>,
    /// Why the accounts may neither be read nor changed yet.
    held: Mutex<Option<String>>,
    restorations: AtomicU64,
    /// How models are to be, for whoever loads them.
    models: watch::Sender<Models>,
}

impl<'a> From<&'a str> for Actor<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, request: None }
    }
}

impl Administration {
    /// Administration of what is in `store`, which keeps `directory` up to date. Keys older than
    /// `rotate_after` are shown as due to be rotated.
    pub fn new(store: Arc<dyn AccountStore>, directory: Arc<Directory>, rotate_after: Duration) -> Self {
        let (known, restorations) = (tokio::sync::Mutex::default(), AtomicU64::new(0));
        let (held, models) = (Mutex::default(), watch::Sender::new(Models::default()));
        Self { store, directory, rotate_after, keys_max: usize::MAX, known, held, restorations, models }
    }

    /// Keeps everybody from reading and changing the accounts, and the directory from knowing them, for this
    /// reason: while it is not certain that their keys are hashed under this server's secret, each would be
    /// taken for unknown, and new ones would be unknown to others. None lets them be used.
    pub fn hold(&self, reason: Option<String>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// The same, for which a tenant may have `keys_max` keys.
    #[must_use]
    pub fn with_keys_max(self, keys_max: usize) -> Self {
        Self { keys_max, ..self }
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// The name is taken or reserved, the plan makes no sense, or the store does not answer.
    pub async fn create_tenant(
        &self,
        now: WallTime,
        actor: &str,
        name: &TenantName,
        plan: Plan,
    ) -> Result<TenantRecord> {
        plan.check()?;
        if name.is_reserved() {
            return Err(AdministrationError::Reserved);
        }
        self.edit(now, actor, |accounts| {
            if accounts.tenants.contains_key(name) {
                return Err(AdministrationError::TenantExists);
            }
            let tenant = TenantRecord {
                name: name.clone(),
                plan,
                is_suspended: false,
                created_at: now,
                plan_set_at: now,
                suspension_set_at: now,
            };
            Ok(tenant_edit("tenant.create", None, tenant))
        })
        .await
    }

    /// Changes a tenant's plan, or suspends it or lets it in again.
    ///
    /// # Errors
    /// There is none, the plan makes no sense, or the store does not answer.
    pub async fn change_tenant(
        &self,
        now: WallTime,
        actor: &str,
        name: &TenantName,
        plan: Option<Plan>,
        is_suspended: Option<bool>,
    ) -> Result<TenantRecord> {
        plan.map_or(Ok(()), Plan::check)?;
        self.edit(now, actor, |accounts| {
            let before = accounts.tenants.get(name).ok_or(AdministrationError::NoTenant)?;
            let mut after = before.clone();
            after.plan = plan.unwrap_or(after.plan);
            after.is_suspended = is_suspended.unwrap_or(after.is_suspended);
            Ok(tenant_edit("tenant.change", Some(before), after))
        })
        .await
    }

    /// Makes a key.
    ///
    /// # Errors
    /// There is no such tenant, it has too many keys, the label or the expiry makes no sense, the same
    /// request made it before, or the store does not answer.
    pub async fn create_key(
        &self,
        now: WallTime,
        actor: impl Into<Actor<'_>>,
        scope: Option<&Scope>,
        new: &NewKey,
    ) -> Result<MadeKey> {
        check_label(&new.label)?;
        check_scope(scope, &new.tenant, new.role)?;
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(AdministrationError::Past);
        }
        if new.mode == Mode::Test && !self.directory.has_sandbox() {
            return Err(AdministrationError::TestKey);
        }
        let Actor { name: actor, request } = actor.into();
        let (key, record) = self.make_key(now, new, request)?;
        self.edit(now, actor, |accounts| {
            if !accounts.tenants.contains_key(&record.tenant) {
                let by_itself = scope.is_some();
                let problem =
                    if by_itself { AdministrationError::NoAccount } else { AdministrationError::NoTenant };
                return Err(problem);
            }
            self.check_new(accounts, &record, now, 0)?;
            let view = self.view(&record, now);
            Ok(Edit {
                changes: vec![Change::Key(record.clone())],
                action: "key.create",
                subject: record.id.clone(),
                before: None,
                after: to_value(&view),
                result: MadeKey { key: key.clone(), view },
            })
        })
        .await
    }

    /// Whether an administrator may manage a key, if there is one of that id.
    ///
    /// # Errors
    /// It is another tenant's or above the administrator's role, or the store does not answer.
    pub async fn check_managed(&self, now: WallTime, scope: &Scope, id: &str) -> Result<()> {
        let accounts = self.current(now).await?;
        accounts.keys.get(id).map_or(Ok(()), |key| check_scope(Some(scope), &key.tenant, key.role))
    }

    /// Makes a key in place of another, which stays good for `overlap`.
    ///
    /// # Errors
    /// There is no such key, or it is not accepted or was rotated already, the same request made the new one
    /// before, or the store does not answer.
    pub async fn rotate_key(
        &self,
        now: WallTime,
        actor: impl Into<Actor<'_>>,
        scope: Option<&Scope>,
        id: &str,
        overlap: Duration,
    ) -> Result<MadeKey> {
        let Actor { name: actor, request } = actor.into();
        let old = find_key(&*self.current(now).await?, scope, id)?.clone();
        let (key, record) = self.make_key(now, &NewKey::from(&old), request)?;
        self.edit(now, actor, |accounts| {
            let before = find_key(accounts, scope, id)?;
            self.check_new(accounts, &record, now, ROTATION_ROOM)?;
            if before.state(now) != KeyState::Active || before.replaced_by.is_some() {
                return Err(AdministrationError::NotActive);
            }
            let end = now.plus(overlap);
            let after = KeyRecord {
                expires_at: Some(before.expires_at.map_or(end, |at| at.min(end))),
                replaced_by: Some(record.id.clone()),
                ..before.clone()
            };
            let view = self.view(&record, now);
            Ok(Edit {
                before: to_value(&self.view(before, now)),
                after: to_value(&self.view(&after, now)),
                changes: vec![Change::Key(record.clone()), Change::Key(after)],
                action: "key.rotate",
                subject: id.to_owned(),
                result: MadeKey { key: key.clone(), view },
            })
        })
        .await
    }

    /// Revokes a key, for good.
    ///
    /// # Errors
    /// There is no such key, or the store does not answer.
    pub async fn revoke_key(
        &self,
        now: WallTime,
        actor: &str,
        scope: Option<&Scope>,
        id: &str,
    ) -> Result<KeyView> {
        self.edit(now, actor, |accounts| {
            let before = find_key(accounts, scope, id)?;
            let after = KeyRecord { revoked_at: before.revoked_at.or(Some(now)), ..before.clone() };
            let view = self.view(&after, now);
            // One that is revoked stays so: there is nothing to store, and nothing to log again.
            let changes = if after == *before { Vec::new() } else { vec![Change::Key(after)] };
            Ok(Edit {
                before: to_value(&self.view(before, now)),
                after: to_value(&view),
                changes,
                action: "key.revoke",
                subject: id.to_owned(),
                result: view,
            })
        })
        .await
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn tenants(&self, now: WallTime) -> Result<Vec<TenantRecord>> {
        Ok(self.current(now).await?.tenants.values().cloned().collect())
    }

    /// The keys of one tenant or of all, by id.
    ///
    /// # Errors
    /// There is no such tenant, or the store does not answer.
    pub async fn keys(&self, now: WallTime, tenant: Option<&TenantName>) -> Result<Vec<KeyView>> {
        let accounts = self.current(now).await?;
        if tenant.is_some_and(|name| !accounts.tenants.contains_key(name)) {
            return Err(AdministrationError::NoTenant);
        }
        let keys = accounts.keys.values().filter(|key| tenant.is_none_or(|name| key.tenant == *name));
        Ok(keys.map(|key| self.view(key, now)).collect())
    }

    /// The newest lines of the audit log, newest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn audit(&self, entries_max: usize) -> Result<Vec<AuditEntry>> {
        Ok(self.store.audit(entries_max).await?)
    }

    /// Takes over what other servers changed, if anything, and gives back to the store what it lost.
    ///
    /// # Errors
    /// The store does not answer; what is known stays.
    pub async fn follow(&self, now: WallTime) -> Result<()> {
        self.current(now).await.map(|_| ())
    }

    /// How often the store had lost changes that this server gave back.
    pub fn restorations(&self) -> u64 {
        self.restorations.load(Ordering::Relaxed)
    }

    /// The accounts as the store has them.
    async fn current(&self, now: WallTime) -> Result<Arc<Accounts>> {
        self.look(&mut *self.known.lock().await, now).await
    }

    /// Makes `known` what the store has: reads it if it changed, and restores it if it lost what is known.
    async fn look(&self, known: &mut Option<Arc<Accounts>>, now: WallTime) -> Result<Arc<Accounts>> {
        if let Some(reason) = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(StoreError::Unavailable(reason).into());
        }
        let version = self.store.version().await?;
        if let Some(known) = known.as_ref().filter(|known| known.version == version) {
            return Ok(Arc::clone(known));
        }
        for _ in 0..ATTEMPTS_MAX {
            let before = known.clone().unwrap_or_default();
            let loaded = self.store.load(&before.version).await?;
            let mut accounts = loaded.accounts;
            if loaded.is_descendant {
                return Ok(self.learn(known, accounts));
            }
            let changes = restoration::lost(&before, &accounts);
            if changes.is_empty() {
                return Ok(self.learn(known, accounts));
            }
            let at = accounts.version.clone();
            accounts.apply(&changes);
            // In force here, whether the store takes it or not.
            self.directory.update(&accounts);
            let newest = if before.version.number > at.number { &before.version } else { &at };
            let next = newest.next()?;
            let audit = restoration::entry(now, &before, &at, &changes);
            let restored = Some(&before.version);
            let commit = Commit { expected: &at, next: &next, restored, changes: &changes, audit: &audit };
            match self.store.commit(commit).await {
                Ok(()) => {
                    self.restorations.fetch_add(1, Ordering::Relaxed);
                    let (lost, found) = (before.version.number, at.number);
                    let records = changes.len();
                    tracing::error!(
                        lost,
                        found,
                        records,
                        "the store had lost changes of tenants and keys; they are restored"
                    );
                    accounts.version = next;
                    return Ok(self.learn(known, accounts));
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn learn(&self, known: &mut Option<Arc<Accounts>>, accounts: Accounts) -> Arc<Accounts> {
        let accounts = Arc::new(accounts);
        self.directory.update(&accounts);
        self.tell_models(&accounts);
        *known = Some(Arc::clone(&accounts));
        accounts
    }

    /// Whether the record of a new key can be entered: its request did not make it already, and the tenant
    /// has room.
    fn check_new(&self, accounts: &Accounts, new: &KeyRecord, now: WallTime, room: usize) -> Result<()> {
        if let Some(made) = accounts.keys.get(&new.id) {
            return Err(AdministrationError::AlreadyMade(Box::new(self.view(made, now))));
        }
        let counts = |key: &&KeyRecord| {
            let end = key.revoked_at.into_iter().chain(key.expires_at).min();
            key.tenant == new.tenant && end.is_none_or(|end| end.plus(COUNTED_AFTER_END) > now)
        };
        let limit = self.keys_max;
        if accounts.keys.values().filter(counts).count() >= limit.saturating_add(room) {
            return Err(AdministrationError::TooManyKeys { limit });
        }
        Ok(())
    }

    fn make_key(&self, now: WallTime, new: &NewKey, request: Option<u128>) -> Result<(ApiKey, KeyRecord)> {
        let key = ApiKey::generate(new.mode)?;
        let id = match request {
            Some(request) => Ulid(request),
            None => Ulid::from_parts(now.0, u128::from_le_bytes(random()?)),
        };
        let record = KeyRecord {
            id: format!("key_{id}"),
            tenant: new.tenant.clone(),
            label: new.label.clone(),
            mode: new.mode,
            role: new.role,
            hash: key.hash(self.directory.secret()),
            ending: key.ending(),
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
            replaced_by: None,
            changed_at: now,
        };
        Ok((key, record))
    }

    fn view(&self, key: &KeyRecord, now: WallTime) -> KeyView {
        key.view(now, self.rotate_after)
    }

    /// Reads the accounts, lets `edit` decide, stores what it decided; again if somebody else was faster.
    async fn edit<T>(
        &self,
        now: WallTime,
        actor: &str,
        edit: impl Fn(&Accounts) -> Result<Edit<T>>,
    ) -> Result<T> {
        let mut known = self.known.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let accounts = self.look(&mut known, now).await?;
            let Edit { mut changes, action, subject, before, after, result } = edit(&accounts)?;
            if changes.is_empty() {
                return Ok(result);
            }
            restoration::stamp(&mut changes, &accounts, now);
            let (actor, action) = (actor.to_owned(), action.to_owned());
            let audit = AuditEntry { at: now, actor, action, subject, before, after };
            let next = accounts.version.next()?;
            let expected = &accounts.version;
            let commit = Commit { expected, next: &next, restored: None, changes: &changes, audit: &audit };
            match self.store.commit(commit).await {
                Ok(()) => {
                    self.directory.change(&accounts, &changes);
                    // Changed in place, unless somebody else looks at them.
                    drop(accounts);
                    let accounts = Arc::make_mut(known.get_or_insert_default());
                    accounts.apply(&changes);
                    accounts.version = next;
                    self.tell_models(accounts);
                    return Ok(result);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }
}

impl From<&KeyRecord> for NewKey {
    /// The key that takes another's place: the same but for its time, which begins anew.
    fn from(old: &KeyRecord) -> Self {
        Self {
            tenant: old.tenant.clone(),
            label: old.label.clone(),
            mode: old.mode,
            role: old.role,
            expires_at: None,
        }
    }
}

fn find_key<'a>(accounts: &'a Accounts, scope: Option<&Scope>, id: &str) -> Result<&'a KeyRecord> {
    let key = accounts.keys.get(id).ok_or(AdministrationError::NoKey)?;
    check_scope(scope, &key.tenant, key.role)?;
    Ok(key)
}

/// Whether a key of this tenant and role is within the scope. Of other tenants' keys nothing is told.
fn check_scope(scope: Option<&Scope>, tenant: &TenantName, role: Role) -> Result<()> {
    match scope {
        Some(scope) if scope.tenant != *tenant => Err(AdministrationError::NoKey),
        Some(scope) if scope.role < role => Err(AdministrationError::AboveRole),
        _ => Ok(()),
    }
}

fn tenant_edit(
    action: &'static str,
    before: Option<&TenantRecord>,
    after: TenantRecord,
) -> Edit<TenantRecord> {
    Edit {
        action,
        subject: after.name.to_string(),
        before: before.and_then(to_value),
        after: to_value(&after),
        changes: vec![Change::Tenant(after.clone())],
        result: after,
    }
}

fn check_label(label: &str) -> Result<()> {
    let is_good = label.chars().count() <= LABEL_LENGTH_MAX && !label.chars().any(char::is_control);
    if is_good { Ok(()) } else { Err(AdministrationError::Label) }
}

fn to_value(record: &impl Serialize) -> Option<Value> {
    serde_json::to_value(record).ok()
}
