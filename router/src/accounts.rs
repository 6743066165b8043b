//! Tenants and their keys as they are stored, and the log of who changed what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::{KeyHash, Mode, RandomError, random};
use crate::plan::Plan;
use crate::principal::Role;
use units::WallTime;

/// Name of the development tenant.
pub(crate) const DEVELOPMENT_TENANT: &str = "development";

/// Name of a tenant: 1 to 63 lower-case letters, digits and hyphens, a letter or digit first and last, as a
/// DNS label (RFC 1123, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct TenantName(String);

/// Text that names no tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 63 lower-case letters, digits and hyphens, a letter or digit first and last")]
pub struct TenantNameError;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantRecord {
    /// Its name, which never changes.
    pub name: TenantName,
    /// What it may use.
    pub plan: Plan,
    /// Whether its credentials are refused for the time being.
    #[serde(default)]
    pub is_suspended: bool,
    /// Since when it exists.
    pub created_at: WallTime,
    /// Since when it has its plan.
    #[serde(default)]
    pub plan_set_at: WallTime,
    /// Since when it is suspended or is not.
    #[serde(default)]
    pub suspension_set_at: WallTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Public name of the key, `key_…`.
    pub id: String,
    pub tenant: TenantName,
    /// What its owner calls it.
    pub label: String,
    /// Where it is good for.
    pub mode: Mode,
    /// What it may do.
    pub role: Role,
    pub hash: KeyHash,
    /// The key's last characters.
    pub ending: String,
    /// Since when it exists.
    pub created_at: WallTime,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<WallTime>,
    /// Since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<WallTime>,
    /// The key that it was rotated to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// When it was changed last.
    #[serde(default)]
    pub changed_at: WallTime,
}

/// How a model is to be, if that was changed while servers ran: it is the same on all that share a store. Of
/// other models their cards and the configuration decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    pub name: String,
    /// Whether it is to be loaded.
    pub is_wanted: bool,
    /// How often it was asked to be loaded: a server that has loaded it for an earlier one loads it anew.
    pub loads: u64,
    /// The checkpoint that it is loaded from, as the option `--model` has it. None: its card, or what the
    /// configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// When it was changed last.
    #[serde(default)]
    pub changed_at: WallTime,
}

/// A key as it may be shown: without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    pub id: String,
    pub tenant: TenantName,
    pub label: String,
    pub mode: Mode,
    pub role: Role,
    pub ending: String,
    /// Whether it is accepted, and if not, why.
    pub state: KeyState,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: WallTime,
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<WallTime>,
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub revoked_at: Option<WallTime>,
    pub replaced_by: Option<String>,
    /// Whether it is older than keys should become.
    pub is_rotation_due: bool,
}

/// Whether a key is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    Active,
    /// Its time is over.
    Expired,
    Revoked,
}

/// Names one state of the accounts, and no other. Servers compare versions for being the same, never for
/// being newer: a store that was set back gives its next change a number that was there before, and an id
/// that was not. Written as `number:id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Version {
    pub number: u64,
    /// Random, of the change that made it. None of accounts that never were changed, or by a server that knew
    /// no ids.
    pub id: Option<Arc<str>>,
}

/// All tenants, keys and changed models at one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Which state it is.
    pub version: Version,
    pub tenants: BTreeMap<TenantName, TenantRecord>,
    /// Keys by id.
    pub keys: BTreeMap<String, KeyRecord>,
    /// Models by name.
    pub models: BTreeMap<String, ModelRecord>,
    /// Names of tenants and ids of keys whose records are damaged. Nobody is let in by them.
    pub unreadable: BTreeSet<String>,
}

/// One change of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new or changed tenant.
    Tenant(TenantRecord),
    /// A new or changed key.
    Key(KeyRecord),
    /// A model that is to be otherwise.
    Model(ModelRecord),
}

/// One line of the audit log: who changed what, when, from what to what. Never holds a key or its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: WallTime,
    /// The operator, or `<tenant>/<key id>`; `server` for what it does by itself.
    pub actor: String,
    /// Such as `key.revoke`.
    pub action: String,
    /// Name of the tenant or the model, or id of the key.
    pub subject: String,
    /// The record before; none if it is new.
    pub before: Option<serde_json::Value>,
    /// The record after.
    pub after: Option<serde_json::Value>,
}

impl Version {
    /// What the id of a version begins with whose accounts are not all there.
    pub(crate) const LOST: &str = "lost-";

    /// A version that never was before, for a change of this one.
    ///
    /// # Errors
    /// No random numbers.
    pub fn next(&self) -> Result<Self, RandomError> {
        let id: [u8; 16] = random()?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { number: self.number.saturating_add(1), id: Some(Arc::from(id)) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{}:{id}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

/// A stored version is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the accounts' version")]
pub struct MalformedVersion;

impl FromStr for Version {
    type Err = MalformedVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, id) = text.split_once(':').map_or((text, None), |(number, id)| (number, Some(id)));
        let number = number.parse().map_err(|_| MalformedVersion)?;
        Ok(Self { number, id: id.map(Arc::from) })
    }
}

impl Accounts {
    /// What of them is lost, as far as they show it themselves: keys whose tenants are gone, or what the
    /// store counted.
    pub fn lost(&self) -> Option<String> {
        let has_none = |key: &&KeyRecord| !self.tenants.contains_key(&key.tenant);
        let orphans = self.keys.values().filter(has_none).count();
        let is_counted = self.version.id.as_ref().is_some_and(|id| id.starts_with(Version::LOST));
        let damaged = self.unreadable.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let what = match orphans {
            _ if !damaged.is_empty() => format!("the records of {damaged} are damaged in the store"),
            0 if is_counted => "tenants or keys are gone from the store".to_owned(),
            0 => return None,
            _ => format!("the tenants of {orphans} keys are gone from the store"),
        };
        Some(format!("{what}, and their calls are refused: restore it from a backup, or make them again"))
    }

    pub(crate) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Tenant(tenant) => {
                    self.tenants.insert(tenant.name.clone(), tenant.clone());
                }
                Change::Key(key) => {
                    self.keys.insert(key.id.clone(), key.clone());
                }
                Change::Model(model) => {
                    self.models.insert(model.name.clone(), model.clone());
                }
            }
        }
        self.unreadable.retain(|name| {
            let is_tenant = name.parse().is_ok_and(|name: TenantName| self.tenants.contains_key(&name));
            !is_tenant && !self.keys.contains_key(name)
        });
    }
}

impl TenantName {
    /// Whether it is the development tenant's, which nobody else may have.
    pub fn is_reserved(&self) -> bool {
        self.0 == DEVELOPMENT_TENANT
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for TenantName {
    type Error = TenantNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let has_length = (1..=63).contains(&text.len());
        let is_good =
            has_length && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-');
        if is_good { Ok(Self(text)) } else { Err(TenantNameError) }
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> Self {
        name.0
    }
}

impl KeyRecord {
    /// Whether it is accepted now.
    pub fn state(&self, now: WallTime) -> KeyState {
        if self.revoked_at.is_some_and(|at| at <= now) {
            KeyState::Revoked
        } else if self.expires_at.is_some_and(|at| at <= now) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }

    /// The key as it may be shown.
    pub fn view(&self, now: WallTime, rotate_after: Duration) -> KeyView {
        let state = self.state(now);
        let is_old = now.since(self.created_at) >= rotate_after;
        let is_rotation_due = state == KeyState::Active && self.replaced_by.is_none() && is_old;
        KeyView {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            label: self.label.clone(),
            mode: self.mode,
            role: self.role,
            ending: self.ending.clone(),
            state,
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            replaced_by: self.replaced_by.clone(),
            is_rotation_due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check =
            |text: &str, is_good: bool| assert_eq!(text.parse::<TenantName>().is_ok(), is_good, "{text:?}");
        check("acme", true);
        check("a", true);
        check("acme-2", true);
        check(&"a".repeat(63), true);
        check("", false);
        check("Acme", false);
        check("-a", false);
        check("a-", false);
        check("a_b", false);
        check("a/b", false);
        check("é", false);
        check(&"a".repeat(64), false);
    }
}
