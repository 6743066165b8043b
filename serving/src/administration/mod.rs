//! What tenants manage themselves, their keys and what they used; and the bodies of requests that change
//! tenants and keys, the same for the operator and for a tenant's own administrators.

mod openapi;
mod own_keys;
mod own_usage;
mod page;
mod posted;

use std::sync::Arc;
use std::time::Duration;

use api::Kept;
use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::{delete, get, post};
use protocols::Bounds;
use protocols::v1::rest::{errors, replay};
use router::accounts::{KeyView, TenantName};
use router::{AdministrationError, MadeKey, Mode, NewKey, Places, Plan, Role, WallTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, TableError};
use crate::idempotency::Once;
use crate::tenancy::Tenancy;
use posted::answer_once;

pub(crate) use openapi::describe;
pub(crate) use page::Page;
pub(crate) use posted::{Changes, PostOutcome, answer, posted};

/// Longest time for which two keys are good after a rotation.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 86_400);

/// What tenants manage themselves.
pub(crate) struct OwnAdministration {
    pub(crate) tenancy: Arc<Tenancy>,
    pub(crate) places: Arc<Places>,
    /// How much is read of a change.
    pub(crate) bounds: Bounds,
    /// From the place of a call to the last byte of its body.
    pub(crate) body_timeout: Duration,
}

impl OwnAdministration {
    fn changes(&self) -> Changes<'_> {
        Changes { tenancy: &self.tenancy, bounds: &self.bounds }
    }
}

/// The routes of what tenants manage themselves.
pub(crate) fn routes(own: OwnAdministration) -> Router {
    Router::new()
        .route("/v1/ml/usage", get(own_usage::own))
        .route("/v1/ml/keys", get(own_keys::own_keys).post(own_keys::create_own_key))
        .route("/v1/ml/keys/{id}", delete(own_keys::revoke_own_key))
        .route("/v1/ml/keys/{id}/rotate", post(own_keys::rotate_own_key))
        .layer(from_fn(errors::explain))
        .with_state(Arc::new(own))
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

/// A key that was just made.
#[derive(Debug, Serialize, JsonSchema)]
struct CreatedKey<'a> {
    /// The key itself, shown this once.
    key: &'a str,
    #[serde(flatten)]
    view: &'a KeyView,
}

/// A key that the same request made before: all but the key itself.
#[derive(Debug, Serialize, JsonSchema)]
struct KnownKey<'a> {
    /// Tells that the key is missing, and why.
    code: &'static str,
    #[serde(flatten)]
    view: &'a KeyView,
}

impl<'a> KnownKey<'a> {
    fn of(view: &'a KeyView) -> Self {
        Self { code: "secret_shown_once", view }
    }
}

/// Answers a request for a new key. The key itself is in the first answer alone, and never kept.
///
/// # Errors
/// None was made.
pub(crate) async fn show_made(once: Once, made: Result<MadeKey, AdministrationError>) -> errors::Answer {
    match made {
        Ok(MadeKey { key, view }) => {
            let shown = CreatedKey { key: key.expose(), view: &view };
            Ok(answer_once(once, (StatusCode::CREATED, &shown), (StatusCode::OK, &KnownKey::of(&view)))
                .await?)
        }
        Err(AdministrationError::AlreadyMade(view)) => {
            let body = serde_json::to_vec(&KnownKey::of(&view)).map_err(ApiError::internal)?;
            Ok(replay(Kept { status: StatusCode::OK.as_u16(), body: body.into() }))
        }
        Err(error) => Err(error.refused().into()),
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
