//! Why tenants and keys were not changed.

use super::{COUNTED_AFTER_END, LABEL_LENGTH_MAX};
use crate::accounts::KeyView;
use crate::key::RandomError;
use crate::plan::TermsError;
use crate::store::StoreError;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// There is no tenant of that name.
    #[error("no such tenant")]
    NoTenant,
    /// There is no key of that id.
    #[error("no such key")]
    NoKey,
    /// The tenant is known by its JWTs or is the development tenant: no keys can be made for it.
    #[error("this tenant has no keys of its own here; the operator makes tenants that have")]
    NoAccount,
    /// The tenant has as many keys as it may.
    #[error(
        "a tenant may have {limit} keys, and one more by a rotation; those that were revoked or expired in the last {days} days count",
        days = COUNTED_AFTER_END.as_secs() / 86_400
    )]
    TooManyKeys {
        /// How many it may have.
        limit: usize,
    },
    /// Test keys are refused here, so none are made.
    #[error("mode: test keys are not accepted here")]
    TestKey,
    /// The same request made this key before; the key itself was shown then.
    #[error("this request has made its key already")]
    AlreadyMade(Box<KeyView>),
    /// The key may do more than whoever would make, rotate or revoke it.
    #[error("a key above one's own role cannot be managed")]
    AboveRole,
    /// There is a tenant of that name already.
    #[error("there is a tenant of that name already")]
    TenantExists,
    /// The name is one of the server's own.
    #[error("this name is reserved")]
    Reserved,
    /// The plan makes no sense.
    #[error("plan: {0}")]
    Plan(#[from] TermsError),
    /// The label is too long.
    #[error("label: at most {LABEL_LENGTH_MAX} characters, none of them a control character")]
    Label,
    /// A moment that should be yet to come.
    #[error("expires_at: must be in the future")]
    Past,
    /// A key that is not accepted cannot be rotated.
    #[error("only an active key that was not rotated yet can be rotated")]
    NotActive,
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The store did not take the change.
    #[error(transparent)]
    Store(#[from] StoreError),
}
