//! What a kernel asks of a CPU: a vector of float32 lanes, and products of float32 or bfloat16 numbers.
//!
//! Kernels are written once over [`Vector`] and [`Product`]; an instruction set is one small type that
//! implements them. All functions are `inline(always)`: they end up inside an entry point that is compiled
//! for the instruction set.

use half::bf16;

/// A vector register of float32 lanes.
///
/// # Safety
/// All functions of an implementation may only run on a CPU that has its instruction set; pointers must be
/// valid for [`Self::LANES`] values (twice that where said so) and need no alignment.
#[allow(clippy::missing_safety_doc, reason = "the trait's contract is the same for every function")]
pub(crate) unsafe trait Vector: Copy {
    /// Values in a register; a power of two.
    const LANES: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `self * factor + addend`, with one rounding where the CPU can.
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self;
    /// To the nearest integer.
    unsafe fn round(self) -> Self;
    /// `self * 2^exponent` for whole exponents between -126 and 127.
    unsafe fn scale_by_power_of_two(self, exponent: Self) -> Self;
    unsafe fn sum(self) -> f32;
    unsafe fn largest(self) -> f32;

    /// Rounded to bfloat16, to nearest and ties to even.
    unsafe fn store_bf16(self, to: *mut bf16);
    unsafe fn load_bf16(from: *const bf16) -> Self;
    /// The even and the odd ones of `2 LANES` bfloat16 numbers.
    unsafe fn load_bf16_pairs(from: *const bf16) -> (Self, Self);

    /// Transposes a square of `LANES x LANES` words of 32 bits; `stride`s are in words, between rows.
    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: the caller vouches for LANES words in each of LANES rows of both squares; words may
                // be unaligned, as two bfloat16 numbers are only aligned to two bytes.
                unsafe {
                    let word = from.add(row * from_stride + column).read_unaligned();
                    to.add(column * to_stride + row).write_unaligned(word);
                }
            }
        }
    }
}

/// A number format of weights and activations. Sums are always float32.
pub(crate) trait Number: Copy + Default + Send + Sync + 'static {
    /// How many neighbouring numbers of the summed dimension one product takes at once.
    const STEP: usize;

    fn from_f32(value: f32) -> Self;
    fn to_f32(self) -> f32;

    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// # Safety
    /// As [`Vector::store`].
    unsafe fn store<V: Vector>(vector: V, to: *mut Self);
}

/// Sums of products of two numbers of a format.
///
/// # Safety
/// As [`Vector`]; in addition `left` must be valid for [`Number::STEP`] numbers and `right` for
/// `LANES * STEP`.
#[allow(clippy::missing_safety_doc, reason = "the trait's contract is the same for every function")]
pub(crate) unsafe trait Product<N: Number>: Vector {
    /// `STEP` numbers for each lane.
    type Pack: Copy;

    /// The same `STEP` numbers in every lane.
    unsafe fn left(from: *const N) -> Self::Pack;
    /// `STEP` numbers for each lane, lane after lane.
    unsafe fn right(from: *const N) -> Self::Pack;
    /// `self + left * right`, summed over the `STEP` numbers of each lane.
    unsafe fn add_product(self, left: Self::Pack, right: Self::Pack) -> Self;
}

impl Number for f32 {
    const STEP: usize = 1;

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the same contract.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector>(vector: V, to: *mut Self) {
        // SAFETY: the same contract.
        unsafe { vector.store(to) }
    }
}

impl Number for bf16 {
    const STEP: usize = 2;

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the same contract.
        unsafe { V::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector>(vector: V, to: *mut Self) {
        // SAFETY: the same contract.
        unsafe { vector.store_bf16(to) }
    }
}

// SAFETY: only calls functions of `Vector`, under the same contract.
unsafe impl<V: Vector> Product<f32> for V {
    type Pack = Self;

    #[inline(always)]
    unsafe fn left(from: *const f32) -> Self {
        // SAFETY: `from` is valid for one number.
        unsafe { Self::splat(*from) }
    }

    #[inline(always)]
    unsafe fn right(from: *const f32) -> Self {
        // SAFETY: `from` is valid for LANES numbers.
        unsafe { Self::load(from) }
    }

    #[inline(always)]
    unsafe fn add_product(self, left: Self, right: Self) -> Self {
        // SAFETY: no pointer involved.
        unsafe { left.multiply_add(right, self) }
    }
}

/// [`Product`] of bfloat16 numbers for a CPU without an instruction for it: widened to float32, which is
/// exact.
macro_rules! widened_bf16_product {
    ($vector:ty) => {
        // SAFETY: only calls functions of `Vector`, under the same contract.
        unsafe impl Product<bf16> for $vector {
            type Pack = (Self, Self);

            #[inline(always)]
            unsafe fn left(from: *const bf16) -> (Self, Self) {
                // SAFETY: `from` is valid for two numbers.
                unsafe { (Self::splat((*from).to_f32()), Self::splat((*from.add(1)).to_f32())) }
            }

            #[inline(always)]
            unsafe fn right(from: *const bf16) -> (Self, Self) {
                // SAFETY: `from` is valid for 2 LANES numbers.
                unsafe { Self::load_bf16_pairs(from) }
            }

            #[inline(always)]
            unsafe fn add_product(self, left: (Self, Self), right: (Self, Self)) -> Self {
                // SAFETY: no pointer involved.
                unsafe { left.1.multiply_add(right.1, left.0.multiply_add(right.0, self)) }
            }
        }
    };
}
pub(crate) use widened_bf16_product;
