//! JSON Web Tokens of a configured issuer (RFC 7519, and RFC 8725 for what to refuse).
//!
//! A token is accepted if it is signed with RS256 or ES256 by a key of the issuer's set (RFC 7517) whose kind fits the algorithm,
//! and if `iss`, `aud`, `exp` and the claims of tenant and roles are there and right. The key set is fetched ahead of its use,
//! again when a token names a key that is not in it (by one caller for all, and not again for a while), and kept when the
//! issuer does not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::accounts::TenantName;
use crate::plan::Plan;
use crate::principal::Role;
use crate::wall_time::WallTime;

/// Which tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Claim that names the tenant.
    pub tenant_claim: String,
    /// Claim that names the plan. Without it the tenant's own plan counts.
    pub plan_claim: String,
    /// Claim with the roles: a list, or names with spaces between.
    pub roles_claim: String,
    /// How long after a fetch an unknown key does not cause another.
    pub fetch_pause: Duration,
}

/// Where the issuer's keys are.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The key set, as JSON.
    ///
    /// # Errors
    /// Why it cannot be had, for the log.
    async fn fetch(&self) -> Result<String, String>;
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is not a signed token.
    #[error("malformed JWT")]
    Malformed,
    /// Its algorithm is not one of those accepted.
    #[error("the JWT's algorithm is not accepted: RS256 and ES256 are")]
    Algorithm,
    /// It does not say by which key it is signed, or by one that the issuer does not have.
    #[error("the JWT's key is not one of the issuer's")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the JWT's signature is not valid")]
    Signature,
    /// A claim is missing or not what it must be.
    #[error("the JWT's claim `{0}` is missing or not accepted here")]
    Claim(&'static str),
    /// It was good until some time ago.
    #[error("the JWT has expired")]
    Expired,
    /// It will be good later.
    #[error("the JWT is not valid yet")]
    NotYetValid,
    /// The issuer's keys were never seen.
    #[error("the issuer's keys cannot be had at present; retry later")]
    NoKeys,
}

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) tenant: TenantName,
    pub(crate) plan: Option<Plan>,
    pub(crate) role: Role,
    /// Names the subject and says nothing of it.
    pub(crate) subject: String,
}

/// See the module.
pub struct JwtVerifier {
    config: JwtConfig,
    source: Arc<dyn KeySource>,
    keys: ArcSwap<HashMap<String, Key>>,
    /// When the keys were last fetched; held while they are.
    fetched_at: tokio::sync::Mutex<Option<WallTime>>,
}

/// A key, and the one algorithm it is good for.
struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

impl JwtVerifier {
    /// A verifier without keys; [`refresh`](Self::refresh) brings them, or the first token.
    pub fn new(config: JwtConfig, source: Arc<dyn KeySource>) -> Self {
        Self { config, source, keys: ArcSwap::default(), fetched_at: tokio::sync::Mutex::default() }
    }

    /// Fetches the keys. If that fails the known ones are kept.
    ///
    /// # Errors
    /// Why, for the log.
    pub async fn refresh(&self, now: WallTime) -> Result<(), String> {
        let mut fetched_at = self.fetched_at.lock().await;
        self.fetch(now, &mut fetched_at).await
    }

    /// What a token says, if it is accepted now.
    pub(crate) async fn verify(&self, token: &str, now: WallTime) -> Result<Bearer, JwtError> {
        let header = decode_header(token).map_err(|_| JwtError::Malformed)?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(JwtError::Algorithm);
        }
        let id = header.kid.ok_or(JwtError::UnknownKey)?;
        if !self.keys.load().contains_key(&id) {
            self.look_again(now).await;
        }
        let keys = self.keys.load();
        if keys.is_empty() {
            return Err(JwtError::NoKeys);
        }
        let key = keys.get(&id).ok_or(JwtError::UnknownKey)?;
        if key.algorithm != header.alg {
            return Err(JwtError::Algorithm);
        }
        // Claims are checked below, by the time that is told.
        let mut validation = Validation::new(key.algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let token = decode::<Map<String, Value>>(token, &key.decoding, &validation);
        self.read(&token.map_err(|_| JwtError::Signature)?.claims, now)
    }

    /// Fetches the keys because of one that is not known, unless that was done a moment ago.
    async fn look_again(&self, now: WallTime) {
        let mut fetched_at = self.fetched_at.lock().await;
        if fetched_at.is_none_or(|at| now.since(at) >= self.config.fetch_pause)
            && let Err(error) = self.fetch(now, &mut fetched_at).await
        {
            tracing::warn!(error, "the issuer's keys cannot be fetched; the known ones are kept");
        }
    }

    async fn fetch(&self, now: WallTime, fetched_at: &mut Option<WallTime>) -> Result<(), String> {
        *fetched_at = Some(now);
        let text = self.source.fetch().await?;
        let set: JwkSet = serde_json::from_str(&text).map_err(|error| format!("not a key set: {error}"))?;
        let keys: HashMap<String, Key> = set.keys.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err("the key set holds no key for RS256 or ES256 with an id".to_owned());
        }
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    fn read(&self, claims: &Map<String, Value>, now: WallTime) -> Result<Bearer, JwtError> {
        let JwtConfig { issuer, audience, leeway, tenant_claim, plan_claim, roles_claim, .. } = &self.config;
        if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(JwtError::Claim("iss"));
        }
        if !texts(claims.get("aud"), false).contains(&audience.as_str()) {
            return Err(JwtError::Claim("aud"));
        }
        let moment = |name| claims.get(name).and_then(Value::as_f64).map(|seconds| (seconds * 1e3) as u64);
        let expires_at = moment("exp").ok_or(JwtError::Claim("exp"))?;
        if now >= WallTime(expires_at).plus(*leeway) {
            return Err(JwtError::Expired);
        }
        let begins = ["nbf", "iat"].into_iter().filter_map(moment).max();
        if begins.is_some_and(|at| WallTime(at) > now.plus(*leeway)) {
            return Err(JwtError::NotYetValid);
        }
        let subject = claims.get("sub").and_then(Value::as_str).ok_or(JwtError::Claim("sub"))?;
        let subject = Sha256::digest(subject.as_bytes());
        let subject = subject.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        let tenant = claims.get(tenant_claim).and_then(Value::as_str).and_then(|name| name.parse().ok());
        let plan = match claims.get(plan_claim) {
            None => None,
            Some(plan) => Some(serde_json::from_value(plan.clone()).map_err(|_| JwtError::Claim("plan"))?),
        };
        let role = |name: &str| serde_json::from_value(Value::String(name.to_lowercase())).ok();
        let roles = texts(claims.get(roles_claim), true).into_iter().filter_map(role);
        Ok(Bearer {
            tenant: tenant.ok_or(JwtError::Claim("tenant"))?,
            plan,
            role: roles.max().ok_or(JwtError::Claim("roles"))?,
            subject: format!("jwt_{subject}"),
        })
    }
}

/// The texts of a claim: one or a list; where `is_split`, one may hold several with spaces between.
fn texts(claim: Option<&Value>, is_split: bool) -> Vec<&str> {
    match claim {
        Some(Value::String(text)) if is_split => text.split_whitespace().collect(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A key of a set, if it has an id and is for signatures of an algorithm accepted here.
fn key(jwk: &Jwk) -> Option<(String, Key)> {
    let id = jwk.common.key_id.clone()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    // A key that says what it is for is for nothing else.
    if jwk.common.key_algorithm.is_some_and(|named| named.to_string() != format!("{algorithm:?}")) {
        return None;
    }
    Some((id, Key { algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? }))
}
