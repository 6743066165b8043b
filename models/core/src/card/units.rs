//! Values of a card that have a unit or a format of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An amount of money in millionths of a US dollar. Written as a decimal string, such as `0.05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroDollars(pub u64);

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

/// Why a string is not a value of a card's own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not an amount of money.
    #[error("expected dollars as a decimal string with at most 6 decimals, such as \"0.05\"")]
    Dollars,
    /// Not a digest.
    #[error("expected a SHA-256 digest of 64 hexadecimal digits")]
    Digest,
}

impl FromStr for MicroDollars {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 6 {
            return Err(UnitError::Dollars);
        }
        let parse = |digits: &str| digits.parse::<u64>().map_err(|_| UnitError::Dollars);
        let micros = parse(&format!("{decimals:0<6}"))?;
        let dollars = parse(whole)?.checked_mul(1_000_000).and_then(|dollars| dollars.checked_add(micros));
        dollars.map(Self).ok_or(UnitError::Dollars)
    }
}

impl fmt::Display for MicroDollars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % 1_000_000);
        // Prices read as prices: at least cents, and no zeros behind them.
        let kept = decimals.trim_end_matches('0').len().max(2);
        write!(formatter, "{}.{}", self.0 / 1_000_000, &decimals[..kept])
    }
}

impl FromStr for Sha256Digest {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(UnitError::Digest);
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| UnitError::Digest)?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<'de> Deserialize<'de> for MicroDollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for MicroDollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact() {
        let check = |text: &str, expected: Result<u64, UnitError>| {
            assert_eq!(text.parse::<MicroDollars>().map(|price| price.0), expected, "{text}");
        };
        check("0.05", Ok(50_000));
        check("12", Ok(12_000_000));
        check("0.000001", Ok(1));
        check("1.10", Ok(1_100_000));
        for bad in ["", ".", "0.", ".5", "-1", "0.0000001", "1,5", "1e3", "99999999999999999999"] {
            check(bad, Err(UnitError::Dollars));
        }
    }

    #[test]
    fn dollars_read_as_prices() {
        for text in ["0.05", "0.10", "12.00", "0.000001", "3.125"] {
            assert_eq!(text.parse::<MicroDollars>().map(|price| price.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn digests_are_64_hexadecimal_digits() {
        let text = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
        assert_eq!(text.parse::<Sha256Digest>().map(|digest| digest.to_string()).as_deref(), Ok(text));
        for bad in ["", "53", &text.replace('a', "g"), &format!("{text}0"), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Sha256Digest>(), Err(UnitError::Digest), "{bad}");
        }
    }
}
