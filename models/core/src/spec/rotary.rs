//! Rotations of queries and keys by their positions, <https://arxiv.org/abs/2104.09864>.

/// A rotation: the `i`th pair of a head's numbers is turned by `position * inverse_frequencies[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// For each pair; numbers of a head beyond the pairs stay as they are. In float32, as transformers has
    /// them.
    pub inverse_frequencies: Vec<f32>,
    /// Which numbers are pairs.
    pub pairs: RotaryPairs,
}

/// Which of a head's first `2 n` numbers form `n` pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryPairs {
    /// `i` and `i + n`.
    Halves,
    /// `2 i` and `2 i + 1`.
    Neighbours,
}

/// Cosines and sines of a rotation's angles.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTable {
    /// `[positions, pairs]`
    pub cosines: Vec<f32>,
    /// `[positions, pairs]`
    pub sines: Vec<f32>,
}

impl Rotary {
    /// Frequencies `base^(-2 i / dimensions)` for halves of this many numbers of a head.
    pub fn new(base: f64, dimensions: usize) -> Self {
        let power = |pair: usize| (base as f32).powf((2 * pair) as f32 / dimensions as f32);
        let inverse_frequencies = (0..dimensions / 2).map(|pair| 1.0 / power(pair)).collect();
        Self { inverse_frequencies, pairs: RotaryPairs::Halves }
    }

    /// The same with all positions divided by a number.
    #[must_use]
    pub fn slowed(mut self, factor: f64) -> Self {
        self.inverse_frequencies.iter_mut().for_each(|frequency| *frequency /= factor as f32);
        self
    }

    /// Cosines and sines for the first positions. Angles are products in float32, as transformers has them:
    /// with exact ones, far positions would differ from its answers.
    pub fn table(&self, positions: usize) -> RotaryTable {
        let angles = |position: usize| {
            self.inverse_frequencies.iter().map(move |frequency| position as f32 * frequency)
        };
        let angles: Vec<f32> = (0..positions).flat_map(angles).collect();
        RotaryTable {
            cosines: angles.iter().map(|angle| angle.cos()).collect(),
            sines: angles.iter().map(|angle| angle.sin()).collect(),
        }
    }
}
