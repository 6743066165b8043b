//! JSON Web Tokens of a configured issuer (RFC 7519, and RFC 8725 for what to refuse).
//!
//! A token is accepted if it is signed with RS256 or ES256 by a key of the issuer's set (RFC 7517) whose kind
//! fits the algorithm, and if `iss`, `aud`, `exp` and the claims of tenant and roles are there and right. A
//! claim of a wrong type is wrong, also where it may be left out, and a member that stands there twice makes
//! a token malformed. A header that must be understood and is not
//! (`crit`, RFC 7515, section 4.1.11) refuses the token, and so does a `typ` of another kind of token (RFC
//! 8725, section 3.11) and a lifetime above the configured one. The key set is fetched ahead of its use,
//! again when a token names a key that is not in it (by one caller for all, and not again for a while), and
//! kept when the issuer does not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::accounts::TenantName;
use crate::distinct::Distinct;
use crate::plan::Plan;
use crate::principal::Role;
use units::WallTime;

/// Kinds of tokens (`typ`) that are accepted, in lower case and without `application/`: those of RFC 7519,
/// section 5.1, and of RFC 9068, section 2.1. A token need not say its kind.
const KINDS: [&str; 2] = ["jwt", "at+jwt"];

/// How long a token of a key that is not known waits for the issuer: while others are known, and while none
/// is.
const UNKNOWN_KEY_WAIT: Duration = Duration::from_millis(500);
const FIRST_KEYS_WAIT: Duration = Duration::from_secs(5);

/// Which tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Longest time from `iat` (or `nbf`, or now) to `exp`.
    pub lifetime_max: Duration,
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
    /// Its header demands what is not understood here, or it is another kind of token.
    #[error("the JWT's header `{0}` is not accepted here")]
    Header(&'static str),
    /// It does not say by which key it is signed, or by one that the issuer does not have.
    #[error("the JWT's key is not one of the issuer's")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the JWT's signature is not valid")]
    Signature,
    /// A claim is missing or not what it must be.
    #[error("the JWT's claim `{0}` is missing or not accepted here")]
    Claim(&'static str),
    /// It is good for too long a time.
    #[error("the JWT is good for a longer time than is accepted here")]
    Lifetime,
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

pub struct JwtVerifier {
    config: JwtConfig,
    source: Arc<dyn KeySource>,
    /// By id. Keys of different kinds may share one (RFC 7517, section 4.5).
    keys: ArcSwap<HashMap<String, Vec<Key>>>,
    /// Held while the keys are fetched.
    fetching: tokio::sync::Mutex<FetchState>,
}

/// How fetching the keys went.
#[derive(Default)]
struct FetchState {
    /// When they were last asked for.
    at: Option<WallTime>,
    /// How often they could not be had since they last could: the first time is logged.
    failures: u64,
}

/// A key set, of which keys that cannot be read are left out (RFC 7517, section 5).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A key, and the one algorithm it is good for.
struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

impl JwtVerifier {
    /// A verifier without keys; [`refresh`](Self::refresh) brings them, or the first token.
    pub fn new(config: JwtConfig, source: Arc<dyn KeySource>) -> Self {
        Self { config, source, keys: ArcSwap::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// Fetches the keys. If that fails the known ones are kept, and the first failure of several is logged.
    pub async fn refresh(&self, now: WallTime) {
        self.fetch(now, &mut *self.fetching.lock().await).await;
    }

    /// What a token says, if it is accepted now.
    pub(crate) async fn verify(self: &Arc<Self>, token: &str, now: WallTime) -> Result<Bearer, JwtError> {
        let header = decode_header(token).map_err(|_| JwtError::Malformed)?;
        check_members(token)?;
        check_header(&header)?;
        let id = header.kid.ok_or(JwtError::UnknownKey)?;
        if !self.keys.load().contains_key(&id) {
            // The fetch goes on without this caller, who does not wait for an issuer that is slow.
            let (verifier, has_keys) = (Arc::clone(self), !self.keys.load().is_empty());
            let looking = tokio::spawn(async move { verifier.look_again(now).await });
            let patience = if has_keys { UNKNOWN_KEY_WAIT } else { FIRST_KEYS_WAIT };
            let _ = tokio::time::timeout(patience, looking).await;
        }
        let keys = self.keys.load();
        if keys.is_empty() {
            return Err(JwtError::NoKeys);
        }
        let keys = keys.get(&id).ok_or(JwtError::UnknownKey)?;
        let key = keys.iter().find(|key| key.algorithm == header.alg).ok_or(JwtError::Algorithm)?;
        // Claims are checked below, by the time that is told.
        let mut validation = Validation::new(key.algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let token = decode::<Distinct>(token, &key.decoding, &validation);
        let token = token.map_err(|error| match error.kind() {
            // The signature was good by then.
            ErrorKind::Json(_) | ErrorKind::Utf8(_) => JwtError::Malformed,
            _ => JwtError::Signature,
        })?;
        let Value::Object(claims) = token.claims.0 else { return Err(JwtError::Malformed) };
        self.read(&claims, now)
    }

    /// Fetches the keys because of one that is not known, unless that was done a moment ago.
    async fn look_again(&self, now: WallTime) {
        let mut fetching = self.fetching.lock().await;
        if fetching.at.is_none_or(|at| now.since(at) >= self.config.fetch_pause) {
            self.fetch(now, &mut fetching).await;
        }
    }

    async fn fetch(&self, now: WallTime, fetching: &mut FetchState) {
        fetching.at = Some(now);
        match self.source.fetch().await.and_then(|text| keys(&text)) {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                let failures = std::mem::take(&mut fetching.failures);
                if failures > 0 {
                    tracing::info!(failures, "the issuer's keys can be fetched again");
                }
            }
            Err(error) => {
                fetching.failures += 1;
                if fetching.failures == 1 {
                    tracing::warn!(error, "the issuer's keys cannot be fetched; the known ones are kept");
                }
            }
        }
    }

    fn read(&self, claims: &Map<String, Value>, now: WallTime) -> Result<Bearer, JwtError> {
        let JwtConfig { issuer, audience, tenant_claim, plan_claim, roles_claim, .. } = &self.config;
        if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(JwtError::Claim("iss"));
        }
        let audiences = texts(claims.get("aud"), false).ok_or(JwtError::Claim("aud"))?;
        if !audiences.contains(&audience.as_str()) {
            return Err(JwtError::Claim("aud"));
        }
        self.check_times(claims, now)?;
        let subject = claims.get("sub").and_then(Value::as_str);
        let subject = subject.filter(|subject| !subject.is_empty() && !subject.contains(char::is_control));
        let subject = Sha256::digest(subject.ok_or(JwtError::Claim("sub"))?.as_bytes());
        let subject = subject.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        let tenant = claims.get(tenant_claim).and_then(Value::as_str).and_then(|name| name.parse().ok());
        let plan = claims.get(plan_claim).map(plan).transpose()?;
        let role = |name: &str| serde_json::from_value(Value::String(name.to_lowercase())).ok();
        let roles = texts(claims.get(roles_claim), true).ok_or(JwtError::Claim("roles"))?;
        Ok(Bearer {
            tenant: tenant.ok_or(JwtError::Claim("tenant"))?,
            plan,
            role: roles.into_iter().filter_map(role).max().ok_or(JwtError::Claim("roles"))?,
            subject: format!("jwt_{subject}"),
        })
    }

    fn check_times(&self, claims: &Map<String, Value>, now: WallTime) -> Result<(), JwtError> {
        let JwtConfig { leeway, lifetime_max, .. } = self.config;
        let expires_at = moment(claims, "exp")?.ok_or(JwtError::Claim("exp"))?;
        let (begins_at, issued_at) = (moment(claims, "nbf")?, moment(claims, "iat")?);
        if now >= expires_at.plus(leeway) {
            return Err(JwtError::Expired);
        }
        // One that is good at no time, however far clocks may differ.
        if begins_at.is_some_and(|at| at >= expires_at) {
            return Err(JwtError::Claim("nbf"));
        }
        if begins_at.max(issued_at).is_some_and(|at| at > now.plus(leeway)) {
            return Err(JwtError::NotYetValid);
        }
        // Without a beginning what is left of it counts.
        let begin = issued_at.or(begins_at).unwrap_or(now).min(now);
        let is_too_long = expires_at.since(begin) > lifetime_max.saturating_add(leeway);
        if is_too_long { Err(JwtError::Lifetime) } else { Ok(()) }
    }
}

/// Refuses members of a header that would have to be understood and are not, whatever their value: `crit`,
/// since no extension is understood here and an empty list, or none, is not allowed (RFC 7515, section
/// 4.1.11); `zip` (RFC 7516, section 4.1.3), and `b64` (RFC 7797). A content type says that another token is
/// in it (RFC 7519, section 5.2).
fn check_members(token: &str) -> Result<(), JwtError> {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtError::Malformed)?;
    let members: Distinct = serde_json::from_slice(&header).map_err(|_| JwtError::Malformed)?;
    let Value::Object(members) = members.0 else { return Err(JwtError::Malformed) };
    match ["crit", "zip", "b64", "cty"].into_iter().find(|name| members.contains_key(*name)) {
        Some(name) => Err(JwtError::Header(name)),
        None => Ok(()),
    }
}

/// Checks what a header says beside the key.
fn check_header(header: &Header) -> Result<(), JwtError> {
    let kind = header.typ.as_deref().map(str::to_ascii_lowercase);
    let kind = kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
    if kind.is_some_and(|kind| !KINDS.contains(&kind)) {
        return Err(JwtError::Header("typ"));
    }
    let is_accepted = matches!(header.alg, Algorithm::RS256 | Algorithm::ES256);
    if is_accepted { Ok(()) } else { Err(JwtError::Algorithm) }
}

/// A moment that a claim names, in seconds since 1970 (RFC 7519, section 2, NumericDate), if it is there.
fn moment(claims: &Map<String, Value>, name: &'static str) -> Result<Option<WallTime>, JwtError> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let seconds = claim.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(JwtError::Claim(name))?;
    // Saturates, which is later than any time that is accepted.
    Ok(Some(WallTime((seconds * 1e3) as u64)))
}

fn plan(claim: &Value) -> Result<Plan, JwtError> {
    let plan: Option<Plan> = serde_json::from_value(claim.clone()).ok();
    plan.filter(|plan| plan.check().is_ok()).ok_or(JwtError::Claim("plan"))
}

/// The texts of a claim: one or a list; where `is_split`, one may hold several with spaces between. None if
/// it is anything else.
fn texts(claim: Option<&Value>, is_split: bool) -> Option<Vec<&str>> {
    match claim? {
        Value::String(text) if is_split => Some(text.split_whitespace().collect()),
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The keys of a set that can be used, by id.
fn keys(text: &str) -> Result<HashMap<String, Vec<Key>>, String> {
    let set: KeySet = serde_json::from_str(text).map_err(|error| format!("not a key set: {error}"))?;
    let mut keys: HashMap<String, Vec<Key>> = HashMap::new();
    for value in set.keys {
        let Some((id, key)) = Jwk::deserialize(value).ok().as_ref().and_then(key) else { continue };
        keys.entry(id).or_default().push(key);
    }
    if keys.is_empty() {
        return Err("the key set holds no key for RS256 or ES256 with an id".to_owned());
    }
    Ok(keys)
}

/// A key of a set, if it has an id and is for signatures of an algorithm accepted here.
fn key(jwk: &Jwk) -> Option<(String, Key)> {
    let id = jwk.common.key_id.clone()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    // What a key may be used for, if it says so (RFC 7517, section 4.3).
    if jwk.common.key_operations.as_ref().is_some_and(|uses| !uses.contains(&KeyOperations::Verify)) {
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
