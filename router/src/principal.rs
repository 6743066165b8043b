//! Who is asking: a tenant, its plan, the key used and the roles it carries.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TenantId;

use crate::plan::Plan;

/// A customer of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Dense index of the tenant in this process, what the scheduler's fairness works with.
    pub id: TenantId,
    /// Stable name, as it appears in logs, metrics and bills.
    pub name: Arc<str>,
    pub plan: Plan,
}

/// Public name of a credential: what logs and bills may show of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyId(pub Arc<str>);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a principal may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads: models and usage.
    Viewer,
    /// Invokes models: what a credential does where nothing else is said.
    #[default]
    Editor,
    Admin,
    /// Admin, and billing and users.
    Owner,
}

impl Role {
    /// The name used in configuration, requests and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// An authenticated caller. Only [`Gatekeeper::authenticate`](crate::Gatekeeper::authenticate) makes one, so
/// a function that takes a principal cannot be reached without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub(crate) tenant: Tenant,
    pub(crate) key: KeyId,
    pub(crate) role: Role,
    pub(crate) is_sandboxed: bool,
}

impl Principal {
    /// The tenant that is asking, and that pays.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// What it showed: in bills and logs.
    pub fn key(&self) -> &KeyId {
        &self.key
    }

    /// The highest that it holds.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it showed a test key: what it uses is recorded and has no price.
    pub fn is_sandboxed(&self) -> bool {
        self.is_sandboxed
    }

    /// Whether the principal holds `role` or one that includes it.
    pub fn has(&self, role: Role) -> bool {
        self.role >= role
    }
}
