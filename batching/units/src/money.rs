//! Money, in integers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of money in millionths of a US dollar: integers, so that sums are exact. Records and sums hold
/// the integer; people read and write it in dollars, such as `0.05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MicroDollars(pub u64);

/// Text that is no amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected dollars as a decimal string with at most 6 decimals, such as \"0.05\"")]
pub struct MoneyFormatError;

impl MicroDollars {
    /// What `count` cost if this is the price of a thousand: rounded to the nearest micro-dollar, halves up,
    /// once for them all. Saturates rather than wraps.
    #[must_use]
    pub fn of_thousand(self, count: u64) -> Self {
        let thousandths = u128::from(self.0) * u128::from(count);
        Self(u64::try_from((thousandths + 500) / 1000).unwrap_or(u64::MAX))
    }
}

impl FromStr for MicroDollars {
    type Err = MoneyFormatError;

    fn from_str(text: &str) -> Result<Self, MoneyFormatError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 6 {
            return Err(MoneyFormatError);
        }
        let parse = |digits: &str| digits.parse::<u64>().map_err(|_| MoneyFormatError);
        let micros = parse(&format!("{decimals:0<6}"))?;
        let dollars = parse(whole)?.checked_mul(1_000_000).and_then(|dollars| dollars.checked_add(micros));
        dollars.map(Self).ok_or(MoneyFormatError)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices() {
        let check = |thousand: u64, count: u64, price: u64| {
            assert_eq!(
                MicroDollars(thousand).of_thousand(count),
                MicroDollars(price),
                "{count} at {thousand}"
            );
        };
        check(100_000, 1, 100);
        check(20_000, 3, 60);
        check(0, 1_000_000, 0);
        // A price that is no multiple of $0.001 a thousand loses nothing over a thousand.
        check(1_500, 1, 2);
        check(1_500, 1000, 1_500);
        check(1_499, 1, 1);
        check(u64::MAX, u64::MAX, u64::MAX);
    }

    #[test]
    fn dollars_are_exact() {
        let check = |text: &str, expected: Result<u64, MoneyFormatError>| {
            assert_eq!(text.parse::<MicroDollars>().map(|price| price.0), expected, "{text}");
        };
        check("0.05", Ok(50_000));
        check("12", Ok(12_000_000));
        check("0.000001", Ok(1));
        check("1.10", Ok(1_100_000));
        for bad in ["", ".", "0.", ".5", "-1", "0.0000001", "1,5", "1e3", "99999999999999999999"] {
            check(bad, Err(MoneyFormatError));
        }
    }

    #[test]
    fn dollars_read_as_prices() {
        for text in ["0.05", "0.10", "12.00", "0.000001", "3.125"] {
            assert_eq!(text.parse::<MicroDollars>().map(|price| price.to_string()).as_deref(), Ok(text));
        }
    }
}
