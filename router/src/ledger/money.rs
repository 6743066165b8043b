//! Money, in integers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of money in millionths of a US dollar: integers, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct MicroDollars(pub u64);

impl MicroDollars {
    /// What `count` cost if this is the price of a thousand: rounded to the nearest micro-dollar, halves up, once for them all.
    /// Saturates rather than wraps.
    #[must_use]
    pub fn of_thousand(self, count: u64) -> Self {
        let thousandths = u128::from(self.0) * u128::from(count);
        Self(u64::try_from((thousandths + 500) / 1000).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for MicroDollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
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
        assert_eq!(MicroDollars(12_000_345).to_string(), "$12.000345");
    }
}
