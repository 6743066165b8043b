//! Addresses to listen on.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The address that a text names: `127.0.0.1:8080`, `[::1]:8080`, or a host name and a port. A host with
/// several addresses is listened on at its first IPv4 address, which is what clients of an old kind try
/// alone, or else at its first.
///
/// # Errors
/// It is no address, or the name is not known.
pub fn resolve(text: &str) -> Result<SocketAddr, String> {
    let example = "expected an address and a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080";
    let is_named =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_named {
        return Err(example.to_owned());
    }
    let addresses: Vec<_> =
        text.to_socket_addrs().map_err(|error| format!("{text}: {error}; {example}"))?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| format!("{text}: the name has no address"))
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    resolve(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(resolve(text).ok().map(|address| address.to_string()).as_deref(), expected, "{text}");
        };
        check("127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("[::1]:8080", Some("[::1]:8080"));
        check("localhost:8080", Some("127.0.0.1:8080"));
        for malformed in ["", "8080", ":8080", "localhost", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x"] {
            check(malformed, None);
        }
    }
}
