//! What the multipliers could do: sums of products of registers, with no memory involved.

use super::vector::{Number, Product};

/// Sums in flight: enough to keep the multipliers busy, and with two operands few enough for sixteen
/// registers.
const SUMS: usize = 14;

/// Multiplies and adds `rounds` times in each of [`SUMS`] registers; returns the multiplications and
/// additions done.
///
/// # Safety
/// As [`super::vector::Vector`].
#[inline(always)]
pub(super) unsafe fn peak<V: Product<N>, N: Number>(rounds: usize) -> usize {
    // Products of zeros: nothing ever overflows, and the CPU takes as long as for any others. The compiler
    // must not know.
    let numbers = std::hint::black_box([N::default(); 64]);
    // SAFETY: 64 numbers are at least LANES * STEP in every format.
    let sum = unsafe {
        let (left, right) = (V::left(numbers.as_ptr()), V::right(numbers.as_ptr()));
        let mut sums = [V::splat(0.0); SUMS];
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = V::splat(index as f32);
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.add_product(left, right);
            }
        }
        sums.into_iter().map(|sum| sum.sum()).sum::<f32>()
    };
    std::hint::black_box(sum);
    2 * rounds * SUMS * V::LANES * N::STEP
}
