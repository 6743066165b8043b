//! Lengths in tokens.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// A number of tokens. Sums saturate; a difference below zero is a fault of whoever asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tokens(pub u32);

impl Add for Tokens {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// # Panics
/// In builds with debug assertions, if more is taken than there is. Otherwise nothing is left.
impl Sub for Tokens {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        debug_assert!(other <= self, "{} tokens less {}", self.0, other.0);
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Tokens {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(tokens: I) -> Self {
        tokens.fold(Self(0), Add::add)
    }
}
