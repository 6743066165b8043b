//! Who may ask, how much, and at what price.
//!
//! Everything between a credential and the scheduler. The order is enforced by types rather than by
//! convention: [`Gatekeeper::authenticate`] turns a credential into a [`Principal`], [`Places::take`] gives
//! it a place before its request is read, [`Gatekeeper::admit`] turns a principal and a [`Demand`] into a
//! [`Reservation`], and a reservation becomes exactly one [`UsageRecord`] however the request ends, because
//! recording hangs on its drop.
//!
//! ```text
//! Authorization header -> Credential -> Principal -> Reservation -> UsageRecord -> journal -> sums
//!                         credential    principal    admission      ledger
//!                                       authentication  limit
//! ```
//!
//! Tenants and keys ([`accounts`]) are changed through [`Administration`]; they, the limits' counts and the
//! sums of what was used live in a [`store`], which is a file of this process or Redis. The crate knows
//! nothing of HTTP, gRPC or models: a price and a model name are told to it.
//!
//! # Invariants
//! Each names what holds it; client tests are in `serving/tests/clients`.
//!
//! - Every admitted request leaves one usage record, which is kept if the request was answered and summed
//!   once, whatever is killed, set back, emptied, copied or moved. (`router/src/admission.rs`, property test;
//!   `router/tests/ledger.rs`; `test_tenants.py`, `test_ledger.py`, `test_money.py`)
//! - No window of 60 s and no day sees more than a plan's limit, over all servers, whatever a calendar is set
//!   to; who was refused is let in when it was told. (`router/src/limit/tests.rs`, property test;
//!   `test_tenants.py`)
//! - What is stored of a key is its hash under a secret; no key is in a log, the audit log or a kept answer.
//!   What was revoked stays revoked while one server knows of it, whatever its store loses.
//!   (`router/src/key.rs`, the stores in `router/tests`, `test_identity.py`)
//! - The public development key works on loopback only and for local host names.
//!   (`router/src/authentication.rs`, `router/src/peer.rs`)
//! - A JWT is accepted only with the signature, algorithm, header, issuer, audience, times and claims that it
//!   must have. (`test_jwt.py`, `test_identity.py`)
//! - Every record reaches every sink, in order, whatever fails or is killed; a Redis stream has it once.
//!   (`router/src/ledger/sink.rs`, `test_sinks.py`)
//! - Of the requests with one idempotency key one is charged, if any is answered, whatever is killed; nobody
//!   but its principal gets the answer, and no answer is readable in the store. (the stores in
//!   `router/tests`, `test_idempotency.py`, `test_owed.py`)
//! - Desired servers are within their bounds, fall one by one, and not before five minutes called for fewer.
//!   (`router/src/scaling/autoscaler.rs`, property test)

// Standard error may be full or gone: what is to be said is logged.
#![deny(clippy::print_stderr)]

pub mod accounts;
mod administration;
mod admission;
mod aside;
mod authentication;
mod collection;
mod credential;
mod distinct;
pub mod idempotency;
mod jwt;
mod key;
pub mod ledger;
pub mod limit;
mod moment;
mod peer;
mod places;
mod plan;
mod principal;
pub mod scaling;
pub mod store;

use std::sync::Arc;

pub use administration::{
    Actor, Administration, AdministrationError, DeclaredKey, DeclaredTenant, MadeKey, ModelChange, Models,
    NewKey, Scope,
};
pub use admission::{Demand, RefusedInputs, Reservation};
pub use aside::{Aside, FileFaults};
pub use authentication::{AuthenticationError, DEVELOPMENT_KEY, Directory};
pub use collection::{CollectError, Collected};
pub use credential::{Credential, CredentialError, bearer_token};
pub use jwt::{JwtConfig, JwtError, JwtVerifier, KeySource};
pub use key::{ApiKey, KeyHash, KeySecret, Mode, RandomError, ShortSecret};
pub use ledger::{Outcome, UsageObserver, UsageRecord};
pub use moment::Moment;
pub use peer::{Peer, Service};
pub use places::{Place, PlaceError, PlaceMeter, Places, PlacesConfig};
pub use plan::{Plan, Terms, TermsError};
pub use principal::{KeyId, Principal, Role, Tenant};
pub use units::{Day, MicroDollars, TimeFormatError, WallTime};

use admission::Desk;
use ledger::Journal;
use limit::{LimitError, Limiter, Quota};
use units::MonotonicClock;

/// Authenticates callers, admits their requests and records what they used. Cheap to clone.
#[derive(Clone)]
pub struct Gatekeeper {
    directory: Arc<Directory>,
    desk: Arc<Desk>,
}

impl Gatekeeper {
    /// A gatekeeper over a directory of tenants; every admitted request ends as one record in `journal`,
    /// which `observer` sees too. Limits are measured by `uptime`.
    pub fn new(
        directory: Arc<Directory>,
        limiter: Limiter,
        journal: Journal,
        observer: Arc<dyn UsageObserver>,
        uptime: MonotonicClock,
    ) -> Self {
        let desk = Desk {
            limiter,
            journal,
            observer,
            clock: WallTime::now,
            uptime,
            directory: Arc::clone(&directory),
        };
        Self { directory, desk: Arc::new(desk) }
    }

    /// Turns the value of an `Authorization` header, or without one the certificate of the peer, into a
    /// principal.
    ///
    /// # Errors
    /// No credential, one that is not `Bearer <key or JWT>`, or one that names nobody.
    pub async fn authenticate(
        &self,
        now: WallTime,
        authorization: Option<&str>,
        peer: &Peer,
    ) -> Result<Principal, AuthenticationError> {
        if let (None, Some(service)) = (authorization, &peer.service) {
            return self.directory.find_service(service);
        }
        let credential = Credential::parse(authorization)?;
        self.directory.authenticate(&credential, peer, now).await
    }

    /// Reserves room for a request within its tenant's limits.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn admit(
        &self,
        now: WallTime,
        principal: &Principal,
        demand: Demand,
    ) -> Result<Reservation, LimitError> {
        self.desk.admit(now, principal, demand).await
    }

    /// Counts a call whose answer was given before against its tenant's limit: it takes one and is not
    /// charged. Returns what is left.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn admit_replay(
        &self,
        now: WallTime,
        principal: &Principal,
    ) -> Result<Option<Quota>, LimitError> {
        self.desk.admit_replay(now, principal).await
    }

    /// Asks whether anything is left of the limit of a caller's tenant, and takes nothing.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn check_limit(&self, now: WallTime, principal: &Principal) -> Result<(), LimitError> {
        self.desk.check_limit(now, principal).await
    }

    async fn record(&self, record: UsageRecord) -> Result<(), ledger::JournalError> {
        self.desk.record(record).await
    }

    /// Whether the public development key would be accepted.
    pub fn has_development_tenant(&self) -> bool {
        self.directory.has_development_tenant()
    }

    /// Takes that this server decided by its part of the limit, because the store did not answer.
    pub fn limits_degraded(&self) -> u64 {
        self.desk.limiter.limits_degraded()
    }

    /// Tells the servers that share the limits what this one let through, and hears what they did. To be
    /// called every second.
    pub async fn exchange_limits(&self, now: WallTime) {
        self.desk.exchange_limits(now).await;
    }

    /// The journal of what is used.
    pub fn journal(&self) -> &Journal {
        &self.desk.journal
    }
}
