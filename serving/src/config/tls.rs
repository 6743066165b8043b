//! Configuration of TLS.

use std::path::PathBuf;

use garde::Validate;
use router::Role;
use router::accounts::TenantName;
use serde::Deserialize;

/// TLS of the API. All files are PEM; changed files are taken over without a restart.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate and what leads from it to a root.
    #[garde(skip)]
    pub certificate_file: PathBuf,
    /// Its private key.
    #[garde(skip)]
    pub key_file: PathBuf,
    /// The oldest version that is spoken.
    #[serde(default)]
    #[garde(skip)]
    pub version_min: TlsVersion,
    /// Clients may show certificates, and be known by them.
    #[garde(dive)]
    pub clients: Option<ClientCertificates>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Which certificates of clients are accepted, and whom they make known.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// Certificates of the authorities that sign them.
    #[garde(skip)]
    pub authority_file: PathBuf,
    /// Whether a client without one is turned away.
    #[serde(default)]
    #[garde(skip)]
    pub are_required: bool,
    /// Services by the SPIFFE ids of their certificates.
    #[serde(default)]
    #[garde(dive)]
    pub identities: Vec<Identity>,
}

/// A service, and for which tenant it asks.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its SPIFFE id, `spiffe://<trust domain>/<path>`: the one URI among the names of its certificate.
    #[garde(prefix("spiffe://"), length(max = 2048))]
    pub uri: String,
    /// The tenant that pays.
    #[garde(skip)]
    pub tenant: TenantName,
    /// What it may do.
    #[serde(default)]
    #[garde(skip)]
    pub role: Role,
}
