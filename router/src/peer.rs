//! The other end of a connection, and the services of the platform that are known by it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::accounts::TenantName;
use crate::principal::Role;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The SPIFFE id of the certificate that it showed and that was verified (SPIFFE-ID and X509-SVID standards,
    /// <https://spiffe.io/docs/latest/spiffe-specs>).
    pub service: Option<Arc<str>>,
}

/// For whom a service asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The tenant that pays.
    pub tenant: TenantName,
    /// What the service may do.
    pub role: Role,
}
