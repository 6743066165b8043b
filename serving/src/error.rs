//! What inner crates refuse, as rows of the one error table.
//!
//! Inner crates know nothing of transports. Their errors are matched exhaustively here, so that a new failure
//! does not compile until it has a row of [`ErrorKind`].

use std::time::Duration;

use api::error::ReachedLimit;
use api::{Exceeded, Refusal};
use router::idempotency::IdempotencyError;
use router::limit::LimitError;
use router::store::StoreError;
use router::{AdministrationError, AuthenticationError, CollectError, CredentialError, JwtError, PlaceError};

pub use api::error::{ApiError, DOCS_PATH, ErrorCode, ErrorKind, Retry, Row, set_docs_url};

/// When to come again, where only that is known that it is soon.
const SOON: Duration = Duration::from_secs(1);
/// Kept answers are forgotten by the hour.
const HOUR: Duration = Duration::from_secs(3600);

/// An error that has a row of the table.
pub trait TableError {
    /// The error as callers see it.
    fn refused(self) -> ApiError;
}

/// What may be refused.
pub trait OrRefused<T> {
    /// The same with the error as callers see it.
    ///
    /// # Errors
    /// It was refused.
    fn or_refused(self) -> Result<T, ApiError>;
}

impl<T, E: TableError> OrRefused<T> for Result<T, E> {
    fn or_refused(self) -> Result<T, ApiError> {
        self.map_err(E::refused)
    }
}

impl TableError for AuthenticationError {
    fn refused(self) -> ApiError {
        use AuthenticationError as E;
        use ErrorKind as Kind;
        let kind = match &self {
            E::Credential(CredentialError::Missing) => Kind::MissingCredentials,
            E::Credential(CredentialError::Scheme | CredentialError::Malformed) => Kind::MalformedCredentials,
            E::UnknownKey
            | E::RevokedKey
            | E::ExpiredKey
            | E::UnknownService
            | E::NotLoopback
            | E::NotLocalHost
            | E::JwtNotConfigured => Kind::InvalidCredentials,
            E::TestKey => Kind::TestKeyRefused,
            E::Jwt(JwtError::NoKeys) => Kind::IssuerUnavailable,
            E::Jwt(_) => Kind::InvalidToken,
            E::AccountsUnread => Kind::StoreUnavailable,
            E::UnknownTenant => Kind::UnknownTenant,
            E::Suspended => Kind::AccountSuspended,
        };
        let retry_after = matches!(self, E::AccountsUnread).then_some(SOON);
        Refusal { kind, message: self.to_string(), retry_after, limit: None }.into()
    }
}

impl TableError for LimitError {
    fn refused(self) -> ApiError {
        let (kind, retry_after) = match self {
            Self::Exceeded { retry_after, .. } => (ErrorKind::RateLimitExceeded, Some(retry_after)),
            Self::Concurrency { .. } => (ErrorKind::ConcurrencyLimitExceeded, Some(SOON)),
            Self::TooMuch { .. } => (ErrorKind::OverPlanLimit, None),
            Self::Unavailable => (ErrorKind::LimitsUnavailable, Some(SOON)),
        };
        let exceeded = match self {
            Self::Exceeded { unit, period, limit, left, retry_after } => {
                Some(Exceeded { unit, period, limit, left, retry_after })
            }
            _ => None,
        };
        let limit = Some(ReachedLimit { name: self.limit(), exceeded });
        Refusal { kind, message: self.to_string(), retry_after, limit }.into()
    }
}

impl TableError for PlaceError {
    fn refused(self) -> ApiError {
        self.limit().map_or(ApiError::Overloaded { retry_after: SOON }, LimitError::refused)
    }
}

impl TableError for AdministrationError {
    fn refused(self) -> ApiError {
        use AdministrationError as E;
        use ErrorKind as Kind;
        let kind = match &self {
            E::NoTenant => Kind::TenantNotFound,
            E::NoAccount => Kind::TenantNotManaged,
            E::TooManyKeys { .. } => Kind::TooManyKeys,
            E::AlreadyMade(_) => Kind::SecretShownOnce,
            E::NoKey => Kind::KeyNotFound,
            E::AboveRole => Kind::Forbidden,
            E::TenantExists => Kind::TenantExists,
            E::NotActive => Kind::KeyNotActive,
            E::Reserved | E::Plan(_) | E::Label | E::TestKey | E::Past => Kind::InvalidRequest,
            E::Store(StoreError::Conflict) => Kind::Conflict,
            E::Store(StoreError::Unavailable(detail)) => {
                return ApiError::StoreUnavailable { detail: detail.clone() };
            }
            E::Random(_) | E::Store(StoreError::Corrupt(_)) => return ApiError::internal(self),
        };
        Refusal { kind, message: self.to_string(), retry_after: None, limit: None }.into()
    }
}

impl TableError for CollectError {
    fn refused(self) -> ApiError {
        match self {
            Self::Journal(error) => ApiError::StoreUnavailable { detail: error.to_string() },
            Self::Idempotency(error) => error.refused(),
        }
    }
}

impl TableError for IdempotencyError {
    fn refused(self) -> ApiError {
        match self {
            Self::Store(StoreError::Unavailable(detail)) => ApiError::StoreUnavailable { detail },
            Self::Full(_) => {
                let (kind, message) = (ErrorKind::IdempotencyFull, self.to_string());
                Refusal { kind, message, retry_after: Some(HOUR), limit: None }.into()
            }
            Self::Store(_) | Self::Random(_) | Self::Lost | Self::Seal => ApiError::internal(self),
        }
    }
}
