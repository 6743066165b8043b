//! What a caller shows: `Authorization: Bearer tc_live_…`, `tc_test_…` or a JWT.

use std::fmt;

/// A credential of a well-formed `Authorization` header; not yet checked against anything.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key, `tc_live_…` (production) or `tc_test_…` (sandbox).
    ApiKey(String),
    /// A JSON Web Token in compact form: three base64url parts (RFC 7519 over RFC 7515).
    Jwt(String),
}

/// Why a header holds no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No `Authorization` header.
    #[error("no credentials: send `Authorization: Bearer <API key or JWT>`")]
    Missing,
    /// The header's scheme is not `Bearer`.
    #[error("unsupported authorization scheme: send `Authorization: Bearer <API key or JWT>`")]
    Scheme,
    /// The token is neither an API key nor a JWT by its form.
    #[error("malformed credentials: a token is an API key (`tc_live_…`, `tc_test_…`) or a JWT")]
    Malformed,
}

impl Credential {
    /// Longest token looked at, in bytes; a JWT with many claims stays well below it.
    const LENGTH_MAX: usize = 8 * 1024;

    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn parse(authorization: Option<&str>) -> Result<Self, CredentialError> {
        let token = bearer_token(authorization)?;
        if is_api_key(token) {
            Ok(Self::ApiKey(token.to_owned()))
        } else if is_compact_jwt(token) {
            Ok(Self::Jwt(token.to_owned()))
        } else {
            Err(CredentialError::Malformed)
        }
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750, section 2.1; the scheme's case is free, RFC
/// 9110, section 11.1). Never empty.
///
/// # Errors
/// There is no header, it has another scheme, or no token of a sensible length.
pub fn bearer_token(authorization: Option<&str>) -> Result<&str, CredentialError> {
    let header = authorization.ok_or(CredentialError::Missing)?.trim();
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(CredentialError::Scheme);
    }
    let token = token.trim();
    let is_usable = (1..=Credential::LENGTH_MAX).contains(&token.len());
    if is_usable { Ok(token) } else { Err(CredentialError::Malformed) }
}

/// Says the kind and never the secret, so that a credential can be logged by mistake without harm.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey(…)",
            Self::Jwt(_) => "Jwt(…)",
        })
    }
}

fn is_api_key(token: &str) -> bool {
    let secret = token.strip_prefix("tc_live_").or_else(|| token.strip_prefix("tc_test_"));
    secret.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

fn is_compact_jwt(token: &str) -> bool {
    let is_base64url = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    token.split('.').count() == 3 && token.split('.').all(is_base64url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let key = |s: &str| Ok(Credential::ApiKey(s.to_owned()));
        let jwt = |s: &str| Ok(Credential::Jwt(s.to_owned()));
        let check = |header: Option<&str>, expected: Result<Credential, CredentialError>| {
            assert_eq!(Credential::parse(header), expected, "{header:?}");
        };
        check(None, Err(CredentialError::Missing));
        check(Some(""), Err(CredentialError::Scheme));
        check(Some("Basic dXNlcjpwYXNz"), Err(CredentialError::Scheme));
        check(Some("tc_test_dev"), Err(CredentialError::Scheme));
        check(Some("Bearer"), Err(CredentialError::Malformed));
        check(Some("Bearer  "), Err(CredentialError::Malformed));
        check(Some("Bearer tc_test_"), Err(CredentialError::Malformed));
        check(Some("Bearer tc_prod_abc"), Err(CredentialError::Malformed));
        check(Some("Bearer tc_test_a b"), Err(CredentialError::Malformed));
        check(Some("Bearer a.b"), Err(CredentialError::Malformed));
        check(Some("Bearer a..c"), Err(CredentialError::Malformed));
        check(Some(&format!("Bearer tc_test_{}", "a".repeat(9000))), Err(CredentialError::Malformed));
        check(Some("Bearer tc_test_dev"), key("tc_test_dev"));
        check(Some("bearer tc_live_0aZ"), key("tc_live_0aZ"));
        check(Some("Bearer e30.e30.c2ln-_"), jwt("e30.e30.c2ln-_"));
    }

    #[test]
    fn debug_hides_the_secret() {
        for secret in ["tc_live_topsecret", "topsecret.topsecret.topsecret"] {
            let credential = Credential::parse(Some(&format!("Bearer {secret}")));
            assert!(!format!("{credential:?}").contains("topsecret"));
        }
    }
}
