//! What tenants manage themselves, their keys and what they used; and the bodies of requests that change
//! tenants and keys, the same for the operator and for a tenant's own administrators.

mod made;
mod openapi;
mod own;
mod page;
mod posted;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use router::accounts::TenantName;
use router::{Mode, NewKey, Plan, Role, WallTime};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::ApiError;

pub(crate) use made::{JsonKey, show_made};
pub(crate) use openapi::describe;
pub(crate) use own::OwnAdministration;
pub(crate) use page::Page;
pub(crate) use posted::{Changes, PostOutcome, answer, posted};

/// Longest time for which two keys are good after a rotation.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 86_400);

/// The routes of what tenants manage themselves, over REST and gRPC.
pub(crate) fn routes(own: OwnAdministration) -> Router {
    let own = Arc::new(own);
    own::rest::routes(Arc::clone(&own)).merge(own::grpc::routes(own))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTenant {
    pub(crate) name: TenantName,
    pub(crate) plan: Plan,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeTenant {
    pub(crate) plan: Option<Plan>,
    pub(crate) is_suspended: Option<bool>,
}

/// A key to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// What its owner calls it, without control characters.
    #[serde(default)]
    #[schemars(length(max = 100), regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"))]
    label: String,
    #[serde(default = "live")]
    mode: Mode,
    /// None above the role of who makes it.
    #[serde(default)]
    role: Role,
    /// In the future. None: never.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    expires_at: Option<WallTime>,
}

/// How to rotate a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// For how long the old key stays good, in seconds.
    #[serde(default = "day")]
    #[schemars(range(max = OVERLAP_MAX.as_secs()))]
    overlap_seconds: u64,
}

impl Default for RotateKey {
    fn default() -> Self {
        Self { overlap_seconds: day() }
    }
}

fn live() -> Mode {
    Mode::Live
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
