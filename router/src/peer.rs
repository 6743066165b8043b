//! The other end of a connection, and the services of the platform that are known by it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::accounts::TenantName;
use crate::principal::Role;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// The SPIFFE id of the certificate that it showed and that was verified (SPIFFE-ID and X509-SVID
    /// standards, <https://spiffe.io/docs/latest/spiffe-specs>).
    pub service: Option<Arc<str>>,
    /// The host that it asked for (`Host`, or `:authority`), if it named one.
    pub host: Option<Arc<str>>,
}

impl Peer {
    /// Whether it is on this machine and asked for this machine by a name that no DNS server decides. A page
    /// of another site whose name was made to lead here (DNS rebinding) comes from this machine too, but by
    /// its own name.
    pub(crate) fn is_local(&self) -> Result<(), NotLocal> {
        // An IPv4 peer of a dual-stack socket shows as ::ffff:127.0.0.1.
        if !self.address.to_canonical().is_loopback() {
            return Err(NotLocal::Address);
        }
        if self.host.as_deref().is_none_or(is_local_host) { Ok(()) } else { Err(NotLocal::Host) }
    }
}

/// Why a peer is not a local one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLocal {
    /// It is on another machine.
    Address,
    /// It asked for another host.
    Host,
}

/// Whether a host, with or without a port, is a loopback address or `localhost` (RFC 6761, section 6.3).
fn is_local_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':').unwrap_or(rest)),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// What a service that is known by its certificate asks as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The tenant that pays.
    pub tenant: TenantName,
    /// What the service may do.
    pub role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts() {
        let check = |host: &str, expected: bool| assert_eq!(is_local_host(host), expected, "{host}");
        for host in
            ["localhost", "LocalHost:8080", "localhost.", "ml.localhost:1", "127.0.0.1", "127.9.9.9:80"]
        {
            check(host, true);
        }
        for host in ["[::1]", "[::1]:8080", "[::ffff:127.0.0.1]:1"] {
            check(host, true);
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:1", "notlocalhost"]
        {
            check(host, false);
        }
        for host in ["192.0.2.7", "[2001:db8::1]:8080", "0.0.0.0", "[::]", "localhost:1@evil.example"] {
            check(host, false);
        }
    }
}
