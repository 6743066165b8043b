//! Telling of a key that was made. The key itself is in the first answer alone, and never kept: what makes
//! the answer that is kept is not given it.

use api::Kept;
use axum::http::StatusCode;
use axum::response::Response;
use protocols::v1::rest::{json, replay};
use router::accounts::KeyView;
use router::{AdministrationError, MadeKey};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{ApiError, TableError};
use crate::idempotency::Once;

/// How a protocol tells of keys that were made.
pub(crate) trait KeyForm {
    /// What it answers with.
    type Answer;

    /// The first answer.
    ///
    /// # Errors
    /// It cannot be written. Likewise below.
    fn first(made: &MadeKey) -> Result<Self::Answer, ApiError>;

    /// What is kept to be told again.
    fn kept(view: &KeyView) -> Result<Kept, ApiError>;

    /// Tells again what was kept.
    fn again(kept: Kept) -> Result<Self::Answer, ApiError>;
}

/// As JSON.
pub(crate) struct JsonKey;

/// A key that was just made.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CreatedKey<'a> {
    /// The key itself, shown this once.
    key: &'a str,
    #[serde(flatten)]
    view: &'a KeyView,
}

/// A key that the same request made before: all but the key itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KnownKey<'a> {
    /// Tells that the key is missing, and why.
    code: &'static str,
    #[serde(flatten)]
    view: &'a KeyView,
}

impl KeyForm for JsonKey {
    type Answer = Response;

    fn first(MadeKey { key, view }: &MadeKey) -> Result<Response, ApiError> {
        let body = serde_json::to_vec(&CreatedKey { key: key.expose(), view });
        Ok(json(StatusCode::CREATED, body.map_err(ApiError::internal)?.into()))
    }

    fn kept(view: &KeyView) -> Result<Kept, ApiError> {
        let body = serde_json::to_vec(&KnownKey { code: "secret_shown_once", view });
        Ok(Kept { status: StatusCode::OK.as_u16(), body: body.map_err(ApiError::internal)?.into() })
    }

    fn again(kept: Kept) -> Result<Response, ApiError> {
        Ok(replay(kept))
    }
}

/// Answers a request for a new key.
///
/// # Errors
/// None was made.
pub(crate) async fn show_made<F: KeyForm>(
    mut once: Once,
    made: Result<MadeKey, AdministrationError>,
) -> Result<F::Answer, ApiError> {
    match made {
        Ok(made) => {
            let (first, kept) = (F::first(&made)?, F::kept(&made.view)?);
            once.keep_if_possible(kept.status, &kept.body).await;
            Ok(first)
        }
        Err(AdministrationError::AlreadyMade(view)) => F::again(F::kept(&view)?),
        Err(error) => Err(error.refused()),
    }
}
