//! API keys: how they are made, recognised, and kept without being known.
//!
//! `tc_live_` or `tc_test_`, 22 random characters (131 bits) and a checksum of 6, all of the digits and
//! letters. The checksum is a CRC-32 of what stands before it, so that a mistyped key is refused without a
//! look-up, and so that scanners for leaked secrets can tell a key from other text (the scheme of GitHub's
//! tokens, 2021). What is stored is the HMAC-SHA256 (RFC 2104) of the key under the deployment's secret: who
//! steals the store has nothing to try keys against.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LENGTH: usize = 22;
const CHECKSUM_LENGTH: usize = 6;

/// Where a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Production: `tc_live_…`.
    Live,
    /// The sandbox: `tc_test_…`.
    Test,
}

/// A whole key; shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// What keys are hashed under. The same on every server that shares a store.
#[derive(Clone)]
pub struct KeySecret(Vec<u8>);

/// What is stored of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyHash([u8; 32]);

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct RandomError(getrandom::Error);

/// A secret that is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key secret has {0} bytes; at least {min} are needed", min = KeySecret::LENGTH_MIN)]
pub struct ShortSecret(usize);

impl Mode {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "tc_live_",
            Self::Test => "tc_test_",
        }
    }
}

impl ApiKey {
    /// A new random key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(mode: Mode) -> Result<Self, RandomError> {
        let mut text = mode.prefix().to_owned();
        let length = text.len() + RANDOM_LENGTH;
        while text.len() < length {
            // A byte of 248 or more is thrown away, so that every digit is as likely as every other.
            let random: [u8; 32] = random()?;
            let digits = random.iter().filter(|byte| **byte < 248).map(|byte| DIGITS[usize::from(byte % 62)]);
            text.extend(digits.map(char::from).take(length - text.len()));
        }
        let checksum = checksum(&text);
        Ok(Self(text + &checksum))
    }

    /// A key, if the text has the form and the checksum of one.
    pub fn parse(text: &str) -> Option<Self> {
        let body = [Mode::Live, Mode::Test].iter().find_map(|mode| text.strip_prefix(mode.prefix()))?;
        let is_plain = body.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_plain || body.len() != RANDOM_LENGTH + CHECKSUM_LENGTH {
            return None;
        }
        let (rest, given) = text.split_at(text.len() - CHECKSUM_LENGTH);
        (checksum(rest) == given).then(|| Self(text.to_owned()))
    }

    /// Where it is good for.
    pub fn mode(&self) -> Mode {
        if self.0.starts_with(Mode::Test.prefix()) { Mode::Test } else { Mode::Live }
    }

    /// The key itself, to be shown to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its last characters, by which its owner recognises it.
    pub fn ending(&self) -> String {
        self.0[self.0.len() - 4..].to_owned()
    }

    /// What is stored of it.
    pub fn hash(&self, secret: &KeySecret) -> KeyHash {
        KeyHash(secret.mac(self.0.as_bytes()).finalize().into_bytes().into())
    }
}

impl KeySecret {
    const LENGTH_MIN: usize = 32;

    /// A secret of given bytes, random and at least 32.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ShortSecret> {
        if bytes.len() < Self::LENGTH_MIN { Err(ShortSecret(bytes.len())) } else { Ok(Self(bytes)) }
    }

    /// A new random secret, and its bytes to be kept.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<(Self, Vec<u8>), RandomError> {
        let bytes = random::<32>()?.to_vec();
        Ok((Self(bytes.clone()), bytes))
    }

    /// Tells this secret from others, and nothing of it.
    pub fn fingerprint(&self) -> String {
        let hash = self.derive(&[b"fingerprint of the key secret"]);
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key or hash of another purpose, of parts that cannot be mistaken for one another: each goes in with
    /// its length.
    pub(crate) fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut message = Vec::new();
        for part in parts {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        self.mac(&message).finalize().into_bytes().into()
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length (RFC 2104, section 2), so the other branch is never taken.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        mac.update(message);
        mac
    }
}

/// Random bytes of the system's.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

impl KeyHash {
    /// Parts that hashes fall into, about as many in each.
    pub(crate) const PARTS: usize = 256;

    /// Into which one this falls, below [`PARTS`](Self::PARTS).
    pub(crate) fn part(&self) -> usize {
        usize::from(self.0[0])
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let problem = "expected 64 hexadecimal digits";
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(problem);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| problem)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| problem)?;
        }
        Ok(Self(bytes))
    }
}

impl subtle::ConstantTimeEq for KeyHash {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0[..].ct_eq(&other.0[..])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn made_and_recognised() {
        for (mode, prefix) in [(Mode::Live, "tc_live_"), (Mode::Test, "tc_test_")] {
            let key = ApiKey::generate(mode).unwrap();
            assert!(key.expose().starts_with(prefix) && key.expose().len() == 36, "{}", key.expose());
            assert_eq!(ApiKey::parse(key.expose()), Some(key.clone()));
            assert_ne!(ApiKey::generate(mode).unwrap(), key);
        }
    }

    #[test]
    fn digits_are_equally_likely() {
        let mut counts = [0u32; 62];
        for _ in 0..2_000 {
            let key = ApiKey::generate(Mode::Live).unwrap();
            for byte in key.expose()[8..30].bytes() {
                counts[DIGITS.iter().position(|digit| *digit == byte).unwrap()] += 1;
            }
        }
        // 44,000 digits, 710 expected of each: chi-squared with 61 degrees of freedom, beyond 120 once in
        // 100,000 runs.
        let expected = 2_000.0 * 22.0 / 62.0;
        let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        assert!(chi < 120.0, "{chi}");
    }

    proptest! {
        /// A key with any one character changed is no key.
        #[test]
        fn a_slip_is_noticed(at in 8usize..36, digit in 0usize..62) {
            let key = ApiKey::generate(Mode::Live).unwrap();
            let mut text = key.expose().as_bytes().to_vec();
            prop_assume!(text[at] != DIGITS[digit]);
            text[at] = DIGITS[digit];
            prop_assert_eq!(ApiKey::parse(std::str::from_utf8(&text).unwrap()), None);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            prop_assert_eq!(ApiKey::parse(&text), None);
            let _ = KeyHash::try_from(text);
        }
    }

    #[test]
    fn hashes() {
        let (secret, bytes) = KeySecret::generate().unwrap();
        let key = ApiKey::generate(Mode::Live).unwrap();
        let hash = key.hash(&secret);
        assert_eq!(hash, key.hash(&KeySecret::new(bytes).unwrap()));
        assert_ne!(hash, key.hash(&KeySecret::generate().unwrap().0));
        assert_ne!(hash, ApiKey::generate(Mode::Live).unwrap().hash(&secret));
        let text = String::from(hash);
        assert_eq!(KeyHash::try_from(text).unwrap(), hash);
        assert!(KeySecret::new(vec![7; 31]).is_err());
        // HMAC-SHA256 of RFC 4231, test case 2, through the same code.
        let mac = KeySecret(b"Jefe".to_vec()).mac(b"what do ya want for nothing?").finalize().into_bytes();
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = ApiKey::generate(Mode::Live).unwrap();
        let (secret, _) = KeySecret::generate().unwrap();
        let shown = format!("{key:?} {secret:?} {:?}", key.hash(&secret));
        assert_eq!(shown, "ApiKey(…) KeySecret(…) KeyHash(…)");
    }
}
