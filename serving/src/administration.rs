//! The bodies of requests that change tenants and keys, the same for the operator and for a tenant's own administrators.

use std::time::Duration;

use router::accounts::{KeyView, TenantName};
use router::{MadeKey, Mode, NewKey, Plan, Role, WallTime};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// Longest time for which two keys are good after a rotation.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 86_400);

/// A new tenant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTenant {
    pub(crate) name: TenantName,
    pub(crate) plan: Plan,
}

/// What to change of a tenant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeTenant {
    pub(crate) plan: Option<Plan>,
    pub(crate) is_suspended: Option<bool>,
}

/// A new key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    #[serde(default)]
    label: String,
    #[serde(default = "live")]
    mode: Mode,
    #[serde(default = "editor")]
    role: Role,
    expires_at: Option<WallTime>,
}

/// How to rotate a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// For how long the old key stays good, in seconds.
    #[serde(default = "day")]
    overlap_seconds: u64,
}

/// A key that was just made.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedKey {
    /// The key itself, shown this once.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

fn live() -> Mode {
    Mode::Live
}

fn editor() -> Role {
    Role::Editor
}

fn day() -> u64 {
    86_400
}

impl CreateKey {
    /// The key to make for a tenant.
    pub(crate) fn of(self, tenant: TenantName) -> NewKey {
        let Self { label, mode, role, expires_at } = self;
        NewKey { tenant, label, mode, role, expires_at }
    }
}

impl RotateKey {
    /// For how long two keys are good.
    ///
    /// # Errors
    /// Longer than is allowed.
    pub(crate) fn overlap(&self) -> Result<Duration, ApiError> {
        let overlap = Duration::from_secs(self.overlap_seconds);
        if overlap <= OVERLAP_MAX {
            return Ok(overlap);
        }
        let problem = format!("must be at most {}", OVERLAP_MAX.as_secs());
        Err(ApiError::InvalidRequest { field: "overlap_seconds".to_owned(), problem })
    }
}

impl From<MadeKey> for CreatedKey {
    fn from(made: MadeKey) -> Self {
        Self { key: made.key.expose().to_owned(), view: made.view }
    }
}
