//! Who may ask, how much, and at what price.
//!
//! Everything between a credential and the scheduler. The order is enforced by types rather than by
//! convention: [`Router::authenticate`] turns a credential into a [`Principal`], [`Router::admit`]
//! turns a principal and a [`Demand`] into a [`Reservation`], and a reservation becomes exactly one
//! [`UsageRecord`] however the request ends, because recording hangs on its drop.
//!
//! ```text
//! Authorization header -> Credential -> Principal -> Reservation -> UsageRecord
//!                         credential    principal    admission      metering
//! ```
//!
//! The crate knows nothing of HTTP, gRPC or models: a price and a model name are told to it. What is
//! served so far is the one development tenant; plans and records already carry what tenants,
//! limits and billing need.

mod admission;
mod authentication;
mod credential;
mod metering;
mod plan;
mod principal;

pub use admission::{Demand, Reservation};
pub use authentication::{AuthenticationError, DEVELOPMENT_KEY, Directory};
pub use credential::{Credential, CredentialError};
pub use metering::{MicroDollars, Outcome, UsageRecord, UsageSink};
pub use plan::{Plan, PlanLimits};
pub use principal::{KeyId, Principal, Role, Tenant};

use std::net::IpAddr;
use std::sync::Arc;

/// Authenticates callers, admits their requests and records what they used.
pub struct Router {
    directory: Directory,
    usage: Arc<dyn UsageSink>,
}

impl Router {
    /// A router over a directory of tenants; every admitted request ends as one record in `usage`.
    pub fn new(directory: Directory, usage: Arc<dyn UsageSink>) -> Self {
        Self { directory, usage }
    }

    /// Turns the value of an `Authorization` header, if there was one, into a principal.
    ///
    /// # Errors
    /// No credential, one that is not `Bearer <key or JWT>`, or one that names nobody.
    pub fn authenticate(
        &self,
        authorization: Option<&str>,
        peer: IpAddr,
    ) -> Result<Principal, AuthenticationError> {
        let credential = Credential::parse(authorization)?;
        self.directory.find(&credential, peer)
    }

    /// Reserves room for a request. The reservation must be settled to be charged.
    pub fn admit(&self, principal: &Principal, demand: Demand) -> Reservation {
        Reservation::new(principal.clone(), demand, Arc::clone(&self.usage))
    }
}
