//! From a credential to a principal.

use std::net::IpAddr;
use std::sync::Arc;

use batching::TenantId;
use subtle::ConstantTimeEq;

use crate::credential::{Credential, CredentialError};
use crate::plan::Plan;
use crate::principal::{KeyId, Principal, Role, Tenant};

/// The development tenant's API key. It is public, so it is only ever good on loopback.
pub const DEVELOPMENT_KEY: &str = "tc_test_dev";

/// The tenants this process knows, found by credential.
#[derive(Debug, Clone)]
pub struct Directory {
    development: Option<Tenant>,
}

/// Why nobody was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The header held no credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The key is well formed and belongs to nobody.
    #[error("invalid API key")]
    UnknownKey,
    /// The development key came from another machine.
    #[error("the development key is accepted from loopback addresses only")]
    NotLoopback,
    /// A JWT was shown, but no issuer is configured to check it against.
    #[error("JWTs are not accepted here: no issuer is configured; use an API key")]
    JwtNotConfigured,
}

impl Directory {
    /// A directory that knows nobody: every credential is refused.
    pub fn empty() -> Self {
        Self { development: None }
    }

    /// The directory of an unconfigured server: one tenant, `development`, whose key is
    /// [`DEVELOPMENT_KEY`], accepted from loopback peers only.
    pub fn development() -> Self {
        let tenant = Tenant { id: TenantId(0), name: Arc::from("development"), plan: Plan::Enterprise };
        Self { development: Some(tenant) }
    }

    /// Whether the public development key would be accepted.
    pub fn has_development_tenant(&self) -> bool {
        self.development.is_some()
    }

    pub(crate) fn find(
        &self,
        credential: &Credential,
        peer: IpAddr,
    ) -> Result<Principal, AuthenticationError> {
        let Credential::ApiKey(key) = credential else {
            return Err(AuthenticationError::JwtNotConfigured);
        };
        let tenant = self.development.as_ref().ok_or(AuthenticationError::UnknownKey)?;
        if !bool::from(key.as_bytes().ct_eq(DEVELOPMENT_KEY.as_bytes())) {
            return Err(AuthenticationError::UnknownKey);
        }
        // An IPv4 peer of a dual-stack socket shows as ::ffff:127.0.0.1.
        if !peer.to_canonical().is_loopback() {
            return Err(AuthenticationError::NotLoopback);
        }
        Ok(Principal { tenant: tenant.clone(), key: KeyId(Arc::from("dev")), role: Role::Owner })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn who_gets_in() {
        let check =
            |directory: &Directory, token: &str, peer: &str, expected: Option<AuthenticationError>| {
                let credential = Credential::parse(Some(&format!("Bearer {token}"))).expect("well formed");
                let found = directory.find(&credential, peer.parse().expect("address"));
                assert_eq!(found.err(), expected, "{token} from {peer}");
            };
        let dev = Directory::development();
        check(&dev, "tc_test_dev", "127.0.0.1", None);
        check(&dev, "tc_test_dev", "::1", None);
        check(&dev, "tc_test_dev", "::ffff:127.0.0.1", None);
        check(&dev, "tc_test_dev", "192.0.2.7", Some(AuthenticationError::NotLoopback));
        check(&dev, "tc_test_dev", "::ffff:192.0.2.7", Some(AuthenticationError::NotLoopback));
        check(&dev, "tc_test_other", "127.0.0.1", Some(AuthenticationError::UnknownKey));
        check(&dev, "tc_test_devx", "127.0.0.1", Some(AuthenticationError::UnknownKey));
        check(&dev, "a.b.c", "127.0.0.1", Some(AuthenticationError::JwtNotConfigured));
        check(&Directory::empty(), "tc_test_dev", "127.0.0.1", Some(AuthenticationError::UnknownKey));
    }

    #[test]
    fn development_principal() {
        let credential = Credential::ApiKey(DEVELOPMENT_KEY.to_owned());
        let principal =
            Directory::development().find(&credential, IpAddr::from([127, 0, 0, 1])).expect("accepted");
        assert_eq!(&*principal.tenant().name, "development");
        assert!(principal.has(Role::Viewer) && principal.has(Role::Editor) && principal.has(Role::Owner));
    }
}
